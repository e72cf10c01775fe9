/* op_lookup.c - from a name to a node, and its attributes */
#include "edit.h"
#include "merged_file.h"
#include "node.h"
#include "request.h"

#include <errno.h>
#include <string.h>

/*
 * For how long the kernel may keep what it has learnt of a node. In an edit mount views change when
 * something else is written; a tensor's file only by itself, but which one has its name changes
 * with NAME.npy as well, and no one can tell the kernel so from within a request. With allow_root
 * the kernel lets everybody in, and it is libfuse that refuses requests: what is never asked for is
 * not refused.
 */
static double name_timeout(const struct fs *fs, uint64_t ino)
{
	enum tree_kind kind = tree_ino_kind(ino);
	if (fs->opt->allow_root || kind == TREE_STATUS || kind == TREE_PROGRESS)
		return 0;
	return !fs->overlay || kind == TREE_DIR ? FS_FOREVER : 0;
}

static double attr_timeout(const struct fs *fs, uint64_t ino)
{
	if (tree_ino_kind(ino) == TREE_TENSOR)
		return fs->opt->allow_root ? 0 : FS_FOREVER;
	return name_timeout(fs, ino);
}

int fs_entry_param(struct fs *fs, uint64_t ino, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	int r = fs_node_attr(fs, ino, &e->attr);
	e->ino = ino;
	e->entry_timeout = name_timeout(fs, ino);
	e->attr_timeout = attr_timeout(fs, ino);
	return r;
}

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e = { .entry_timeout = fs->opt->allow_root ? 0 : FS_FOREVER };
	size_t len = strlen(name);
	/* Whatever is made or renamed is looked up first, so this holds for those too. */
	if (len > TREE_NAME_MAX) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	fs_read_lock(fs);
	uint64_t ino = tree_lookup(fs->tree, parent, name, len);
	if (ino && !fs_node_exists(fs, ino))
		ino = 0;
	ino = fs_current_ino(fs, ino);
	int r = ino ? fs_entry_param(fs, ino, &e) : fs->overlay ? -ENOENT : 0;
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &e); /* ino 0: the kernel remembers that it is not there */
}

void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat st;
	fs_read_lock(fs);
	int r = fs_node_attr(fs, ino, &st);
	double timeout = attr_timeout(fs, ino);
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, timeout);
}

void fs_op_edit_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	fs_read_lock(fs);
	int r = fs_entry_param(fs, ino, &e);
	if (r == 0 && fi)
		r = edit_attr(fs, ino, handle_of(fi), &e.attr);
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &e.attr, e.attr_timeout);
}
