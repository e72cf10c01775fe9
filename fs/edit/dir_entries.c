/*
 * dir_entries.c - names of an edit mount: unlink, rename, mkdir, rmdir
 *
 * A file that is renamed onto the name of a view (sidecar, metadata, .npy) is read as that view, as
 * if it had been written there and closed: so do sed -i, rsync and many editors save. A view that
 * is renamed away leaves a file with its text behind, as an editor's backup.
 */
#include "edit.h"

#include "classify.h"
#include "content.h"
#include "draft.h"
#include "inodes.h"
#include "keys.h"
#include "mount_tree.h"
#include "names.h"
#include "node.h"
#include "step.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- unlink ---- */

/* Editors remove a sidecar before they write it; dtype and shape stay. */
static void hide_sidecar(struct fs *fs, uint32_t entry)
{
	tree_set_flags(fs->tree, entry, tree_entry(fs->tree, entry)->flags | TREE_SIDECAR_HIDDEN);
}

static int remove_node(struct fs *fs, uint64_t ino)
{
	uint32_t entry = tree_ino_entry(ino);
	enum tree_kind kind = tree_ino_kind(ino);
	struct edit_step step = { 0 };
	if (kind == TREE_TENSOR)
		edit_step_remove(fs, &step, entry);
	else if (kind == TREE_METADATA)
		edit_step_no_metadata(fs, &step, entry);
	else if (kind != TREE_SIDECAR)
		return -EPERM;
	int r = edit_step_make(fs, &step, NULL);
	edit_step_free(&step);
	if (r < 0)
		return r;
	if (kind == TREE_TENSOR)
		tree_remove(fs->tree, entry);
	else if (kind == TREE_METADATA)
		fs_mark_metadata(fs);
	else
		hide_sidecar(fs, entry);
	return 0;
}

int edit_unlink(struct fs *fs, uint64_t parent, const char *name)
{
	fs_change_begin(fs);
	uint64_t ino = tree_lookup(fs->tree, parent, name, strlen(name));
	int r = !ino				    ? -ENOENT
		: tree_ino_kind(ino) == TREE_DIR    ? -EISDIR
		: tree_ino_kind(parent) != TREE_DIR ? -EPERM
						    : remove_node(fs, ino);
	fs_change_end(fs);
	return r;
}

/* ---- rename: files ---- */

struct target {
	struct edit_name name;
	const char *file_name;
	uint64_t ino; /* what has the name now, or 0 */
};

/*
 * The overlay file `id` gets the target's name, instead of what has it now; `step` may have changes
 * that go along. Its entry in the tree is `entry`, or a new one.
 */
static int move_there(struct fs *fs, uint32_t id, uint32_t entry, const struct target *t,
		      struct edit_step *step)
{
	bool scratch = t->name.target == TARGET_SCRATCH;
	uint8_t flags = scratch ? TREE_SCRATCH : 0;
	struct sft_buf name = { 0 };
	struct tree_room room = { 0 };
	int r = edit_overlay_name(fs, &t->name, t->file_name, &name);
	if (r == 0)
		r = tree_reserve(fs->tree, t->file_name, strlen(t->file_name), &room);
	if (r == 0) {
		if (t->name.entry != TREE_NO_ENTRY)
			edit_step_remove(fs, step, t->name.entry);
		edit_step_rename(step, id, &name, scratch, edit_shard(fs, t->name.parent));
		r = edit_step_make(fs, step, NULL);
	}
	if (r == 0 && t->name.entry != TREE_NO_ENTRY)
		tree_remove(fs->tree, t->name.entry);
	if (r == 0 && entry != TREE_NO_ENTRY)
		tree_place(fs->tree, entry, t->name.parent, &room, flags);
	else if (r == 0)
		tree_put(fs->tree, t->name.parent, &room, flags, id);
	tree_room_free(&room);
	sft_buf_free(&name);
	return r;
}

/* A file to the name of a view: its bytes become what the view says, and it is gone. */
static int move_onto_view(struct fs *fs, uint32_t entry, const struct target *t,
			  struct edit_step *step)
{
	/* The view may be the file's own: then an array takes its place, and a sidecar would be of
	 * no tensor. */
	bool own = t->name.entry == entry;
	if (own && t->name.target != TARGET_NPY)
		return -EINVAL;
	uint32_t from = tree_entry(fs->tree, entry)->id, made;
	if (!own)
		edit_step_remove(fs, step, entry);
	int r = edit_apply(fs, &t->name, t->file_name, from, step, &made);
	if (r == 0 && !own)
		tree_remove(fs->tree, entry);
	return r;
}

static int rename_file(struct fs *fs, uint32_t entry, const struct target *t,
		       struct edit_step *step)
{
	if (edit_target_is_drafted(t->name.target))
		return move_onto_view(fs, entry, t, step);
	return move_there(fs, tree_entry(fs->tree, entry)->id, entry, t, step);
}

/* A sidecar or the metadata to another name: a file with its text goes there, and the view hides.
 */
static int rename_view(struct fs *fs, uint64_t ino, const struct target *t, struct edit_step *step)
{
	struct sft_buf text = { 0 };
	uint32_t draft, made;
	bool is_metadata = tree_ino_kind(ino) == TREE_METADATA;
	fs_node_text(fs, ino, &text);
	int r = text.failed ? -ENOMEM : edit_draft_new(fs, &text, &draft);
	sft_buf_free(&text);
	if (r < 0)
		return r;
	if (is_metadata)
		edit_step_no_metadata(fs, step, tree_ino_entry(ino));
	if (edit_target_is_drafted(t->name.target)) {
		edit_step_add(step, (struct sft_change){ .kind = SFT_REMOVE, .id = draft });
		r = edit_apply(fs, &t->name, t->file_name, draft, step, &made);
	} else {
		r = move_there(fs, draft, TREE_NO_ENTRY, t, step);
	}
	if (r < 0)
		edit_draft_drop(fs, draft);
	else if (is_metadata)
		fs_mark_metadata(fs);
	else
		hide_sidecar(fs, tree_ino_entry(ino));
	return r;
}

/* ---- rename: directories (layout=tree) ---- */

static bool lies_in(const struct fs *fs, uint32_t entry, uint32_t dir)
{
	while (entry != TREE_ROOT && entry != dir)
		entry = tree_entry(fs->tree, entry)->parent;
	return entry == dir;
}

/* What the names of all tensors, or the keys of all scratch files, in a directory begin with. */
struct prefixes {
	struct sft_buf tensor, scratch;
};

static int prefixes_of(const struct fs *fs, uint32_t parent, const char *name, size_t len,
		       struct prefixes *out)
{
	fs_key_path(fs, parent, name, len, &out->scratch);
	sft_buf_add(&out->scratch, "/", 1);
	return out->scratch.failed ? -ENOMEM
				   : tree_dir_prefix(fs->tree, parent, name, len, &out->tensor);
}

static void prefixes_free(struct prefixes *p)
{
	sft_buf_free(&p->tensor);
	sft_buf_free(&p->scratch);
}

/* A change of each name in a directory, whose names are added to `names`; as long as that grows,
 * the changes have only the lengths. */
static void rename_contents(const struct fs *fs, uint32_t dir, const struct prefixes *was,
			    const struct prefixes *is, struct sft_buf *names,
			    struct edit_step *step)
{
	for (uint32_t i = 0; i < tree_count(fs->tree); i++) {
		const struct tree_entry *e = tree_entry(fs->tree, i);
		if (e->flags & (TREE_DEAD | TREE_IS_DIR) || !lies_in(fs, i, dir))
			continue;
		bool scratch = e->flags & TREE_SCRATCH;
		const struct sft_entry *o = sft_overlay_entry(fs->overlay, e->id);
		const struct sft_buf *before = scratch ? &was->scratch : &was->tensor;
		const struct sft_buf *after = scratch ? &is->scratch : &is->tensor;
		sft_buf_add(names, after->data, after->len);
		sft_buf_add(names, o->name + before->len, o->name_len - before->len);
		edit_step_add(step, (struct sft_change){ .kind = SFT_RENAME,
							 .id = e->id,
							 .name_len = after->len + o->name_len -
								     before->len,
							 .scratch = scratch,
							 .shard = SFT_SHARD_AUTO });
	}
	size_t at = 0;
	for (size_t i = 0; !names->failed && i < step->count; i++) {
		step->changes[i].name = names->data + at;
		at += step->changes[i].name_len;
	}
	step->failed = step->failed || names->failed;
}

static bool valid_directory_name(const char *name)
{
	char decoded[TREE_NAME_MAX + 1];
	size_t n = strlen(name), len;
	return n <= TREE_NAME_MAX && !strchr(name, '.') && name_decode(name, n, decoded, &len);
}

static int check_directory(const struct fs *fs, uint32_t dir, const struct target *t)
{
	if (fs->opt->layout != TREE_TREE)
		return -EPERM;
	if (!valid_directory_name(t->file_name) || lies_in(fs, t->name.parent, dir))
		return -EINVAL;
	if (t->ino && tree_ino_kind(t->ino) != TREE_DIR)
		return -ENOTDIR;
	if (t->ino && !tree_dir_empty(fs->tree, tree_ino_entry(t->ino)))
		return -ENOTEMPTY;
	return 0;
}

/* Everything in the directory gets the name that its new place says, in one step. */
static int rename_directory(struct fs *fs, uint32_t dir, const struct target *t,
			    struct edit_step *step)
{
	struct prefixes was = { 0 }, is = { 0 };
	struct sft_buf names = { 0 };
	struct tree_room room = { 0 };
	const struct tree_entry *e = tree_entry(fs->tree, dir);
	size_t len = strlen(t->file_name);
	int r = check_directory(fs, dir, t);
	if (r < 0)
		return r;
	r = prefixes_of(fs, e->parent, e->name, e->name_len, &was);
	if (r == 0)
		r = prefixes_of(fs, t->name.parent, t->file_name, len, &is);
	if (r == 0)
		r = tree_reserve(fs->tree, t->file_name, len, &room);
	if (r == 0) {
		rename_contents(fs, dir, &was, &is, &names, step);
		r = edit_step_make(fs, step, NULL);
	}
	if (r == 0) {
		if (t->ino)
			tree_remove(fs->tree, tree_ino_entry(t->ino));
		tree_place(fs->tree, dir, t->name.parent, &room, tree_entry(fs->tree, dir)->flags);
	}
	tree_room_free(&room);
	sft_buf_free(&names);
	prefixes_free(&is);
	prefixes_free(&was);
	return r;
}

static int rename_node(struct fs *fs, uint64_t ino, const struct target *t, struct edit_step *step)
{
	bool onto_dir = t->ino && tree_ino_kind(t->ino) == TREE_DIR;
	if (t->name.target == TARGET_FORBIDDEN)
		return -EPERM;
	if (tree_ino_kind(ino) == TREE_DIR)
		return rename_directory(fs, tree_ino_entry(ino), t, step);
	if (onto_dir)
		return -EISDIR;
	if (tree_ino_kind(ino) != TREE_TENSOR && tree_ino_kind(ino) != TREE_SIDECAR &&
	    tree_ino_kind(ino) != TREE_METADATA)
		return -EPERM;
	if (t->name.target == TARGET_F32)
		return -EROFS;
	return tree_ino_kind(ino) == TREE_TENSOR ? rename_file(fs, tree_ino_entry(ino), t, step)
						 : rename_view(fs, ino, t, step);
}

int edit_rename(struct fs *fs, uint64_t parent, const char *name, uint64_t new_parent,
		const char *new_name, unsigned flags)
{
	struct target t = { .file_name = new_name };
	struct edit_step step = { 0 };
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
		r = rename_node(fs, ino, &t, &step);
	edit_step_free(&step);
	fs_change_end(fs);
	return r;
}

/* ---- directories ---- */

static int make_directory(struct fs *fs, uint64_t parent, const char *name, uint64_t *ino)
{
	size_t len = strlen(name);
	if (fs->opt->layout != TREE_TREE || tree_ino_kind(parent) != TREE_DIR)
		return -EPERM;
	if (tree_lookup(fs->tree, parent, name, len))
		return -EEXIST;
	if (!valid_directory_name(name))
		return -EINVAL;
	*ino = tree_ino(tree_count(fs->tree), TREE_DIR);
	return fs_inode(fs, *ino) ? tree_add(fs->tree, tree_ino_entry(parent), name, len,
					     TREE_IS_DIR, SFT_NO_ID, NULL)
				  : -ENOMEM;
}

int edit_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
	       uint64_t *ino)
{
	fs_change_begin(fs);
	int r = make_directory(fs, parent, name, ino);
	if (r == 0)
		fs_inode_set_owner(fs, fs_inode(fs, *ino), mode, uid, gid);
	fs_change_end(fs);
	return r;
}

static int remove_directory(struct fs *fs, uint64_t ino)
{
	if (!ino)
		return -ENOENT;
	if (tree_ino_kind(ino) != TREE_DIR)
		return tree_ino_kind(ino) == TREE_CONTROL ? -EPERM : -ENOTDIR;
	if (fs->opt->layout != TREE_TREE)
		return -EPERM;
	if (!tree_dir_empty(fs->tree, tree_ino_entry(ino)))
		return -ENOTEMPTY;
	tree_remove(fs->tree, tree_ino_entry(ino));
	return 0;
}

int edit_rmdir(struct fs *fs, uint64_t parent, const char *name)
{
	fs_change_begin(fs);
	int r = remove_directory(fs, tree_lookup(fs->tree, parent, name, strlen(name)));
	fs_change_end(fs);
	return r;
}
