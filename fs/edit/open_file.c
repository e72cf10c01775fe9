/* open_file.c - opening, creating and releasing the files of an edit mount */
#include "edit.h"

#include "classify.h"
#include "gather.h"
#include "inodes.h"
#include "mount_tree.h"
#include "node.h"
#include "shown.h"
#include "step.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* ---- release ---- */

/* Bytes that were kept for who had the file open. */
static bool is_orphan(const struct fs *fs, const struct tree_entry *e)
{
	const struct sft_entry *o = sft_overlay_entry(fs->overlay, e->id);
	return e->flags & TREE_DEAD && o->live && o->scratch && o->name[0] == '/';
}

/* What a handle leaves behind: its draft, the stand-in for a view, the bytes of a removed file. */
static void tidy_up(struct fs *fs, struct fs_handle *h)
{
	struct edit_step step = { 0 };
	uint32_t draft = h->draft, entry = tree_ino_entry(h->ino);
	enum tree_kind kind = tree_ino_kind(h->ino);
	bool pending = h->pending;
	fs_change_begin(fs);
	bool last = fs_handle_free(fs, h);
	const struct tree_entry *e = tree_entry(fs->tree, entry);
	bool stands_in = pending && !(e->flags & TREE_DEAD);
	if (draft != SFT_NO_ID)
		edit_step_add(&step, (struct sft_change){ .kind = SFT_REMOVE, .id = draft });
	if (stands_in)
		edit_step_remove(fs, &step, entry);
	else if (last && !(e->flags & TREE_IS_DIR) && is_orphan(fs, e))
		edit_step_add(&step, (struct sft_change){ .kind = SFT_REMOVE, .id = e->id });
	/* Where it fails the bytes stay as long as the mount. */
	if (edit_step_make(fs, &step, NULL) == 0 && stands_in)
		tree_remove(fs->tree, entry);
	edit_step_free(&step);
	if (kind == TREE_METADATA)
		fs_mark_metadata(fs); /* one that was created and never good is not there */
	fs_change_end(fs);
}

void edit_release(struct fs *fs, struct fs_handle *h)
{
	bool needs_change = h->draft != SFT_NO_ID || h->pending;
	/* Stored through a mapping, so no flush followed. */
	if (needs_change && h->unflushed)
		(void)edit_finish_writing(fs, h, false);
	fs_read_lock(fs);
	needs_change =
		needs_change || tree_entry(fs->tree, tree_ino_entry(h->ino))->flags & TREE_DEAD;
	/* A commit holds `edit` for long; who has only read need not wait for it. Under the lock:
	 * who removes the file must see that it is not open any more. */
	if (!needs_change)
		fs_handle_free(fs, h);
	fs_unlock(fs);
	if (needs_change)
		tidy_up(fs, h);
}

/* ---- open ---- */

static int truncate_on_open(struct fs *fs, struct fs_handle *h)
{
	int r = 0;
	fs_change_begin(fs);
	if (tree_ino_kind(h->ino) == TREE_TENSOR) {
		r = sft_overlay_truncate(fs->overlay, fs_tensor_id(fs, h->ino), 0, NULL);
		if (r == 0)
			fs_inode_touch(fs, h->node);
	} else if (edit_is_drafted(h->ino)) {
		r = edit_draft_need(fs, h, true);
	}
	fs_change_end(fs);
	return r;
}

static int open_error(uint64_t ino, bool writable)
{
	enum tree_kind kind = tree_ino_kind(ino);
	if (writable && kind == TREE_F32)
		return -EROFS;
	if (writable && (kind == TREE_STATUS || kind == TREE_PROGRESS || kind == TREE_MERGED))
		return -EACCES;
	return 0;
}

int edit_open(struct fs *fs, uint64_t ino, int flags, struct fs_handle **out)
{
	bool writable = (flags & O_ACCMODE) != O_RDONLY;
	int r = open_error(ino, writable);
	if (r < 0)
		return r;
	struct fs_handle *h = fs_handle_new(fs, ino, writable);
	if (!h)
		return -ENOMEM;
	fs_read_lock(fs);
	r = fs_node_check(fs, ino);
	if (r == 0 && !fs_handle_fits(fs, h))
		r = -ESTALE;
	if (r == 0 && fs_node_text(fs, ino, &h->text) && h->text.failed)
		r = -ENOMEM;
	fs_unlock(fs);
	if (r == 0 && writable && flags & O_TRUNC)
		r = truncate_on_open(fs, h);
	if (r < 0)
		tidy_up(fs, h); /* who removed the file meanwhile left its bytes to us */
	else
		*out = h;
	return r;
}

/* ---- create ---- */

/* A tensor's or scratch file, with the handle that has it open. */
static int create_file(struct fs *fs, const struct edit_name *name, const char *file_name,
		       struct fs_handle **out)
{
	bool scratch = name->target == TARGET_SCRATCH;
	struct sft_buf full = { 0 };
	struct tree_room room = { 0 };
	struct fs_handle *h = NULL;
	uint32_t id;
	int r = edit_overlay_name(fs, name, file_name, &full);
	if (r == 0)
		r = tree_reserve(fs->tree, file_name, name->base_len, &room);
	if (r == 0) {
		h = fs_handle_new(fs, tree_ino(tree_count(fs->tree), TREE_TENSOR), true);
		r = h ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = sft_overlay_create(fs->overlay, full.data ? full.data : "", full.len, scratch,
				       scratch ? SFT_SHARD_AUTO : edit_shard(fs, name->parent), &id,
				       NULL);
	if (r == 0) {
		tree_put(fs->tree, name->parent, &room, scratch ? TREE_SCRATCH : 0, id);
		*out = h;
	} else if (h) {
		fs_handle_free(fs, h);
	}
	tree_room_free(&room);
	sft_buf_free(&full);
	return r;
}

/* What stands for a view that has no tensor yet. Whether the name is a good one is said now, not at
 * the end. */
static int create_pending(struct fs *fs, const struct edit_name *name, const char *file_name,
			  struct fs_handle **out)
{
	struct edit_name file = { TARGET_SCRATCH, name->parent, strlen(file_name), TREE_NO_ENTRY };
	struct sft_buf full = { 0 };
	int r = edit_overlay_name(fs, name, file_name, &full);
	sft_buf_free(&full);
	if (r == 0)
		r = create_file(fs, &file, file_name, out);
	if (r == 0) {
		(*out)->pending = true;
		(*out)->kind = name->target == TARGET_NPY ? TREE_NPY : TREE_SIDECAR;
	}
	return r;
}

/* The metadata, a sidecar that was hidden, or the .npy of a tensor. */
static int create_view(struct fs *fs, uint64_t ino, struct fs_handle **out)
{
	uint32_t entry = tree_ino_entry(ino);
	uint8_t flags = tree_entry(fs->tree, entry)->flags;
	struct fs_handle *h = fs_handle_new(fs, ino, true);
	if (!h)
		return -ENOMEM;
	int r = edit_draft_need(fs, h, true);
	if (r < 0) {
		fs_handle_free(fs, h);
		return r;
	}
	if (tree_ino_kind(ino) == TREE_METADATA)
		tree_set_flags(fs->tree, entry, flags | TREE_HAS_METADATA);
	else
		tree_set_flags(fs->tree, entry, (uint8_t)(flags & ~TREE_SIDECAR_HIDDEN));
	*out = h;
	return 0;
}

static int create_node(struct fs *fs, uint64_t parent, const char *file_name,
		       struct fs_handle **out)
{
	struct edit_name name;
	if (tree_lookup(fs->tree, parent, file_name, strlen(file_name)))
		return -EEXIST;
	edit_classify(fs, parent, file_name, &name);
	switch (name.target) {
	case TARGET_FORBIDDEN:
		return -EPERM;
	case TARGET_F32:
		return -EROFS;
	case TARGET_TENSOR:
	case TARGET_SCRATCH:
		return create_file(fs, &name, file_name, out);
	case TARGET_METADATA:
		return create_view(fs, tree_ino(name.parent, TREE_METADATA), out);
	default:
		break;
	}
	if (name.entry == TREE_NO_ENTRY)
		return create_pending(fs, &name, file_name, out);
	return create_view(
		fs, tree_ino(name.entry, name.target == TARGET_NPY ? TREE_NPY : TREE_SIDECAR), out);
}

int edit_create(struct fs *fs, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
		struct fs_handle **out)
{
	fs_change_begin(fs);
	int r = create_node(fs, parent, name, out);
	if (r == 0)
		fs_inode_set_owner(fs, (*out)->node, mode, uid, gid);
	fs_change_end(fs);
	return r;
}
