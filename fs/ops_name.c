/*
 * ops_name.c - names of an edit mount: unlink, rename, mkdir, rmdir
 *
 * A file that is renamed onto the name of a view (sidecar, metadata, .npy) is read as that view, as
 * if it had been written there and closed: so do sed -i, rsync and many editors save. A view that
 * is renamed away leaves a file with its text behind, as an editor's backup.
 */
#include "edit.h"
#include "names.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

/* ---- unlink ---- */

static int remove_node(struct fs *fs, uint64_t ino)
{
	uint32_t entry = tree_ino_entry(ino);
	uint8_t flags = tree_entry(fs->tree, entry)->flags;
	switch (tree_ino_kind(ino)) {
	case TREE_TENSOR:
		return edit_remove_entry(fs, entry);
	case TREE_SIDECAR:
		/* Editors remove before they write; dtype and shape stay. */
		tree_set_flags(fs->tree, entry, flags | TREE_SIDECAR_HIDDEN);
		return 0;
	case TREE_METADATA:
		return edit_remove_metadata(fs, entry);
	default:
		return -EPERM;
	}
}

void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	fs_change_begin(fs);
	uint64_t ino = tree_lookup(fs->tree, parent, name, strlen(name));
	int r = !ino				    ? -ENOENT
		: tree_ino_kind(ino) == TREE_DIR    ? -EISDIR
		: tree_ino_kind(parent) != TREE_DIR ? -EPERM
						    : remove_node(fs, ino);
	fs_change_end(fs);
	fuse_reply_err(req, -r);
}

/* ---- rename: files ---- */

struct target {
	struct edit_name name;
	const char *file_name;
	uint64_t ino; /* what has the name now, or 0 */
};

/*
 * Give overlay id `id` the target's name. What has it now goes, but its bytes stay for who has it
 * open: then it moves aside first, and back where the rename fails.
 */
static int replace_target(struct fs *fs, uint32_t id, const struct target *t,
			  const struct sft_buf *name, bool scratch, uint32_t shard)
{
	const char *text = name->data ? name->data : "";
	char key[EDIT_KEY_MAX];
	if (t->name.entry == TREE_NO_ENTRY)
		return sft_overlay_rename(fs->overlay, id, text, name->len, scratch, shard,
					  SFT_NO_ID, NULL);
	uint32_t old = tree_entry(fs->tree, t->name.entry)->id;
	uint32_t old_shard = sft_overlay_entry(fs->overlay, old)->shard;
	if (!edit_is_open(fs, tree_ino(t->name.entry, TREE_TENSOR)))
		return sft_overlay_rename(fs->overlay, id, text, name->len, scratch, shard, old,
					  NULL);
	int r = sft_overlay_rename(fs->overlay, old, key, edit_hidden_key(fs, key), true,
				   SFT_SHARD_AUTO, SFT_NO_ID, NULL);
	if (r < 0)
		return r;
	r = sft_overlay_rename(fs->overlay, id, text, name->len, scratch, shard, SFT_NO_ID, NULL);
	if (r < 0 && sft_overlay_rename(fs->overlay, old, text, name->len, scratch, old_shard,
					SFT_NO_ID, NULL) < 0)
		tree_remove(fs->tree, t->name.entry);
	return r;
}

/* A tensor or scratch file to the name of a tensor or scratch file. */
static int rename_entry(struct fs *fs, uint32_t entry, const struct target *t)
{
	bool scratch = t->name.target == TARGET_SCRATCH;
	size_t len = strlen(t->file_name);
	struct sft_buf name = { 0 };
	uint32_t shard = SFT_SHARD_AUTO;
	int r = 0;
	if (fs->opt->layout == TREE_FILES)
		shard = tree_entry(fs->tree, t->name.parent)->id;
	if (scratch)
		edit_scratch_key(fs, t->name.parent, t->file_name, len, &name);
	else
		r = tree_tensor_name(fs->tree, t->name.parent, t->file_name, len, &name);
	if (r == 0 && name.failed)
		r = -ENOMEM;
	if (r == 0)
		r = replace_target(fs, tree_entry(fs->tree, entry)->id, t, &name, scratch, shard);
	sft_buf_free(&name);
	if (r < 0)
		return r;
	if (t->name.entry != TREE_NO_ENTRY)
		tree_remove(fs->tree, t->name.entry);
	return tree_move(fs->tree, entry, t->name.parent, t->file_name, len,
			 scratch ? TREE_SCRATCH : 0);
}

/* A file to the name of a view: its bytes become what the view says, and it is gone. */
static int rename_onto_view(struct fs *fs, uint32_t entry, const struct target *t,
			    uint64_t *replaced)
{
	/* The kernel will take this inode for the view's; of a committed tensor it would never ask
	 * again. */
	if (fs_tensor_is_committed(fs, tree_ino(entry, TREE_TENSOR)))
		return -EINVAL;
	int r = edit_apply(fs, &t->name, t->file_name, tree_entry(fs->tree, entry)->id, replaced);
	return r < 0 ? r : edit_remove_entry(fs, entry);
}

static int rename_file(struct fs *fs, uint32_t entry, const struct target *t, uint64_t *replaced)
{
	switch (t->name.target) {
	case TARGET_TENSOR:
	case TARGET_SCRATCH:
		return rename_entry(fs, entry, t);
	case TARGET_SIDECAR:
	case TARGET_METADATA:
	case TARGET_NPY:
		return rename_onto_view(fs, entry, t, replaced);
	case TARGET_F32:
		return -EROFS;
	default:
		return -EPERM;
	}
}

/* A sidecar or the metadata to another name: a file with its text goes there, and the view hides.
 */
static int rename_view(struct fs *fs, uint64_t ino, const struct target *t, uint64_t *replaced)
{
	struct sft_buf text = { 0 };
	struct target away = *t;
	char key[EDIT_KEY_MAX], name[EDIT_KEY_MAX + 8];
	uint32_t entry = TREE_NO_ENTRY;
	fs_node_text(fs, ino, &text);
	/* First to a scratch name that nobody has, so that the rest is an ordinary rename. */
	size_t n = edit_hidden_key(fs, key);
	memcpy(name, ".view-", 6);
	memcpy(name + 6, key + 1, n - 1);
	int r = text.failed ? -ENOMEM
			    : edit_create_scratch(fs, t->name.parent, name, n + 5, &entry);
	if (r == 0)
		r = sft_overlay_write(fs->overlay, tree_entry(fs->tree, entry)->id, text.data,
				      text.len, 0, NULL);
	if (r == 0)
		r = rename_file(fs, entry, &away, replaced);
	if (r == 0)
		r = remove_node(fs, ino);
	else if (entry != TREE_NO_ENTRY)
		edit_remove_entry(fs, entry);
	sft_buf_free(&text);
	return r;
}

/* ---- rename: directories (layout=tree) ---- */

static bool lies_in(const struct fs *fs, uint32_t entry, uint32_t dir)
{
	while (entry != TREE_ROOT && entry != dir)
		entry = tree_entry(fs->tree, entry)->parent;
	return entry == dir;
}

/* Give everything in the directory the name that its new place says. */
static int rename_contents(struct fs *fs, uint32_t dir)
{
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < tree_count(fs->tree); i++) {
		const struct tree_entry *e = tree_entry(fs->tree, i);
		struct sft_buf name = { 0 };
		if (e->flags & (TREE_DEAD | TREE_IS_DIR) || !lies_in(fs, i, dir))
			continue;
		bool scratch = e->flags & TREE_SCRATCH;
		if (scratch)
			edit_scratch_key(fs, e->parent, e->name, e->name_len, &name);
		else
			r = tree_tensor_name(fs->tree, e->parent, e->name, e->name_len, &name);
		if (r == 0)
			r = name.failed
				    ? -ENOMEM
				    : sft_overlay_rename(fs->overlay, e->id,
							 name.data ? name.data : "", name.len,
							 scratch, SFT_SHARD_AUTO, SFT_NO_ID, NULL);
		sft_buf_free(&name);
	}
	return r;
}

static bool valid_directory_name(const char *name)
{
	char decoded[TREE_NAME_MAX + 1];
	size_t n = strlen(name), len;
	return n <= TREE_NAME_MAX && !strchr(name, '.') && name_decode(name, n, decoded, &len);
}

static int rename_directory(struct fs *fs, uint32_t dir, const struct target *t)
{
	struct tree_entry old = *tree_entry(fs->tree, dir);
	char old_name[TREE_NAME_MAX + 1];
	if (fs->opt->layout != TREE_TREE)
		return -EPERM;
	if (!valid_directory_name(t->file_name))
		return -EINVAL;
	if (lies_in(fs, t->name.parent, dir))
		return -EINVAL;
	if (t->ino && tree_ino_kind(t->ino) != TREE_DIR)
		return -ENOTDIR;
	if (t->ino && !tree_dir_empty(fs->tree, tree_ino_entry(t->ino)))
		return -ENOTEMPTY;
	size_t n = tree_name(fs->tree, tree_ino(dir, TREE_DIR), old_name);
	if (t->ino)
		tree_remove(fs->tree, tree_ino_entry(t->ino));
	int r = tree_move(fs->tree, dir, t->name.parent, t->file_name, strlen(t->file_name),
			  old.flags);
	if (r < 0)
		return r;
	r = rename_contents(fs, dir);
	/* A name that cannot be had, or no room to note it: everything goes back. */
	if (r < 0 && tree_move(fs->tree, dir, old.parent, old_name, n, old.flags) == 0)
		rename_contents(fs, dir);
	return r;
}

static int rename_node(struct fs *fs, uint64_t ino, const struct target *t, uint64_t *replaced)
{
	bool onto_dir = t->ino && tree_ino_kind(t->ino) == TREE_DIR;
	if (t->name.target == TARGET_FORBIDDEN)
		return -EPERM;
	switch (tree_ino_kind(ino)) {
	case TREE_DIR:
		return rename_directory(fs, tree_ino_entry(ino), t);
	case TREE_TENSOR:
		return onto_dir ? -EISDIR : rename_file(fs, tree_ino_entry(ino), t, replaced);
	case TREE_SIDECAR:
	case TREE_METADATA:
		return onto_dir ? -EISDIR : rename_view(fs, ino, t, replaced);
	default:
		return -EPERM;
	}
}

void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		  const char *new_name, unsigned int flags)
{
	struct fs *fs = fs_of(req);
	struct target t = { .file_name = new_name };
	uint64_t replaced = 0;
	int r;
	fs_change_begin(fs);
	uint64_t ino = tree_lookup(fs->tree, parent, name, strlen(name));
	t.ino = tree_lookup(fs->tree, new_parent, new_name, strlen(new_name));
	edit_classify(fs, new_parent, new_name, &t.name);
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		r = -EINVAL;
	else if (!ino)
		r = -ENOENT;
	else if (t.ino && flags & RENAME_NOREPLACE)
		r = -EEXIST;
	else if (t.ino == ino)
		r = 0;
	else
		r = rename_node(fs, ino, &t, &replaced);
	fs_change_end(fs);
	if (replaced)
		edit_forget_cached(fs, replaced);
	fuse_reply_err(req, -r);
}

/* ---- directories, and what cannot be ---- */

static int make_directory(struct fs *fs, uint64_t parent, const char *name, uint32_t *entry)
{
	if (fs->opt->layout != TREE_TREE || tree_ino_kind(parent) != TREE_DIR)
		return -EPERM;
	if (tree_lookup(fs->tree, parent, name, strlen(name)))
		return -EEXIST;
	if (!valid_directory_name(name))
		return -EINVAL;
	return tree_add(fs->tree, tree_ino_entry(parent), name, strlen(name), TREE_IS_DIR,
			SFT_NO_ID, entry);
}

void fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fuse_entry_param e;
	uint32_t entry;
	fs_change_begin(fs);
	int r = make_directory(fs, parent, name, &entry);
	if (r == 0) {
		uint64_t ino = tree_ino(entry, TREE_DIR);
		edit_set_owner(fs, ino, mode, ctx->uid, ctx->gid);
		r = fs_entry_param(fs, ino, &e);
	}
	fs_change_end(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &e);
}

void fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	int r = 0;
	fs_change_begin(fs);
	uint64_t ino = tree_lookup(fs->tree, parent, name, strlen(name));
	if (!ino)
		r = -ENOENT;
	else if (tree_ino_kind(ino) != TREE_DIR)
		r = tree_ino_kind(ino) == TREE_CONTROL ? -EPERM : -ENOTDIR;
	else if (fs->opt->layout != TREE_TREE)
		r = -EPERM;
	else if (!tree_dir_empty(fs->tree, tree_ino_entry(ino)))
		r = -ENOTEMPTY;
	else
		tree_remove(fs->tree, tree_ino_entry(ino));
	fs_change_end(fs);
	fuse_reply_err(req, -r);
}

void fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	fuse_reply_err(req, EPERM);
}

void fs_op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

void fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	fuse_reply_err(req, EPERM);
}
