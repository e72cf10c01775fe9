/*
 * ops_edit.c - requests that only edit mounts answer
 *
 * Concurrency: see state.h. What a request does is done by edit_*.c; here it is asked for, and
 * replied to.
 */
#include "bytes.h"
#include "commit_edits.h"
#include "edit.h"
#include "request.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct fs_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct fs_handle *)(uintptr_t)fi->fh;
}

/* ---- open, create, release ---- */

static void set_open_info(struct fs *fs, struct fs_handle *h, struct fuse_file_info *fi)
{
	enum tree_kind kind = tree_ino_kind(h->ino);
	/* The kernel knows of every change to a tensor's file; nobody tells it of one to a view. A
	 * text is read as it was when opened; arrays and model.safetensors through the page cache,
	 * so that they can be mapped, and as old as what is there since they were opened last. */
	fi->keep_cache = kind == TREE_TENSOR;
	fi->direct_io = fs->opt->direct_io || (!fs_is_bytes(h->ino) && kind != TREE_F32) ||
			(kind == TREE_NPY && h->writable);
	fi->fh = (uintptr_t)h;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fs_handle *h;
	int r = edit_open(fs, ino, fi->flags, &h);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	set_open_info(fs, h, fi);
	if (fuse_reply_open(req, fi) < 0)
		edit_release(fs, h); /* interrupted: there will be no release */
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fuse_entry_param e;
	struct fs_handle *h;
	int r = edit_create(fs, parent, name, mode, ctx->uid, ctx->gid, &h);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fs_read_lock(fs);
	r = fs_entry_param(fs, h->ino, &e);
	fs_unlock(fs);
	set_open_info(fs, h, fi);
	if (r < 0)
		fuse_reply_err(req, -r);
	if (r < 0 || fuse_reply_create(req, &e, fi) < 0)
		edit_release(fs, h);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	edit_release(fs_of(req), handle_of(fi));
	fuse_reply_err(req, 0);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	fs_read_lock(fs);
	struct tree_list *list = tree_list(fs->tree, ino);
	fs_unlock(fs);
	if (!list) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)list;
	if (fuse_reply_open(req, fi) < 0)
		tree_list_put(list);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	tree_list_put((struct tree_list *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

/* ---- write, attributes ---- */

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct sft_error err = { 0 }; /* goes to the log; but who asks is advised */
	int r = tree_ino_kind(ino) == TREE_COMMIT
			? fs_commit(fs, fs_commit_allows_empty(buf, size), &err)
			: edit_write(fs, handle_of(fi), buf, size, (uint64_t)offset);
	/* The kernel tells that only to a program that asks: msync, fsync, close. */
	if (r < 0 && fi->writepage) {
		atomic_store(&fs->mapped_lost, -r);
		log_error(fs->opt->mountpoint,
			  "what a program wrote through a mapping could not be staged: %s",
			  strerror(-r));
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, size);
}

/* What libfuse calls the bits of setattr, and we. "Now" is a time like any other. */
static unsigned what_to_set(int to_set, struct stat *attr)
{
	static const struct {
		int fuse;
		unsigned what;
	} bits[] = {
		{ FUSE_SET_ATTR_SIZE, EDIT_SIZE },   { FUSE_SET_ATTR_MODE, EDIT_MODE },
		{ FUSE_SET_ATTR_UID, EDIT_UID },     { FUSE_SET_ATTR_GID, EDIT_GID },
		{ FUSE_SET_ATTR_ATIME, EDIT_ATIME }, { FUSE_SET_ATTR_MTIME, EDIT_MTIME },
	};
	unsigned what = 0;
	for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++)
		what |= to_set & bits[i].fuse ? bits[i].what : 0;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		clock_gettime(CLOCK_REALTIME, &attr->st_atim);
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		clock_gettime(CLOCK_REALTIME, &attr->st_mtim);
	return what;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
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

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	int r = edit_set_attr(fs_of(req), ino, attr, what_to_set(to_set, attr),
			      fi ? handle_of(fi) : NULL);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		op_getattr(req, ino, fi);
}

/* ---- read ---- */

static void read_draft(fuse_req_t req, struct fs *fs, const struct fs_handle *h, size_t size,
		       off_t offset)
{
	size_t done = 0;
	char *buf = malloc(size);
	int r = buf ? sft_overlay_read(fs->overlay, h->draft, buf, size, (uint64_t)offset, &done,
				       NULL)
		    : -ENOMEM;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, buf, done);
	free(buf);
}

/* From a copy: once the reply is on its way the reader may close, and the handle is gone. */
static void read_text(fuse_req_t req, const struct fs_handle *h, size_t size, off_t offset)
{
	struct sft_buf piece = { 0 };
	if ((uint64_t)offset < h->text.len) {
		size_t left = h->text.len - (size_t)offset;
		sft_buf_add(&piece, h->text.data + offset, left < size ? left : size);
	}
	fs_reply_text(req, &piece, size, 0);
	sft_buf_free(&piece);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fs_handle *h = handle_of(fi);
	bool has_bytes = fs_is_bytes(ino) || tree_ino_kind(ino) == TREE_F32;
	fs_read_lock(fs);
	bool drafted = h->draft != SFT_NO_ID;
	if (drafted)
		read_draft(req, fs, h, size, offset);
	else if (!has_bytes)
		read_text(req, h, size, offset);
	fs_unlock(fs);
	if (!drafted && has_bytes)
		fs_op_read(req, ino, size, offset, fi);
}

/* ---- flush, fsync ---- */

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_flush(fs_of(req), handle_of(fi)));
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_finish_writing(fs_of(req), handle_of(fi), true));
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_finish_writing(fs_of(req), NULL, true));
}

/* ---- names ---- */

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -edit_unlink(fs_of(req), parent, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned int flags)
{
	fuse_reply_err(req, -edit_rename(fs_of(req), parent, name, new_parent, new_name, flags));
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
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

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, -edit_rmdir(fs_of(req), parent, name));
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	fuse_reply_err(req, EPERM);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops fs_ops_edit = {
	.init = fs_op_init,
	.lookup = fs_op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = fs_op_readdir,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = fs_op_statfs,
	.getxattr = fs_op_getxattr,
	.listxattr = fs_op_listxattr,
	.unlink = op_unlink,
	.rename = op_rename,
	.mkdir = op_mkdir,
	.rmdir = op_rmdir,
	.mknod = op_mknod,
	.symlink = op_symlink,
	.link = op_link,
};
