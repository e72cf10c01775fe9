/* op_names.c - unlink, rename, directories, and what is no file of ours */
#include "edit.h"
#include "request.h"

#include <errno.h>

void fs_op_edit_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -edit_unlink(fs_of(req), parent, name));
}

void fs_op_edit_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		       const char *new_name, unsigned int flags)
{
	fuse_reply_err(req, -edit_rename(fs_of(req), parent, name, new_parent, new_name, flags));
}

void fs_op_edit_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fuse_entry_param e;
	uint64_t ino;
	int r = edit_mkdir(fs, parent, name, mode, ctx->uid, ctx->gid, &ino);
	if (r == 0) {
		fs_read_lock(fs);
		r = fs_entry_param(fs, ino, &e);
		fs_unlock(fs);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &e);
}

void fs_op_edit_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -edit_rmdir(fs_of(req), parent, name));
}

void fs_op_edit_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	fuse_reply_err(req, EPERM);
}

void fs_op_edit_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

void fs_op_edit_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	fuse_reply_err(req, EPERM);
}
