/* op_open.c - open, create, release; also of directories */
#include "bytes.h"
#include "edit.h"
#include "request.h"

#include <errno.h>

/* ---- read-only ---- */

/* Where nothing has to be known of open files, the kernel need not ask: 36 us become 1.5. */
void fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct options *o = fs_of(req)->opt;
	if (!o->direct_io && !o->allow_root) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fi->direct_io = o->direct_io;
	fi->keep_cache = tree_ino_kind(ino) != TREE_STATUS && tree_ino_kind(ino) != TREE_PROGRESS;
	fuse_reply_open(req, fi);
}

void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->cache_readdir = fi->keep_cache = 1;
	if (fs_of(req)->opt->allow_root)
		fuse_reply_open(req, fi);
	else
		fuse_reply_err(req, ENOSYS);
}

/* ---- edit ---- */

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

void fs_op_edit_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
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

void fs_op_edit_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
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

void fs_op_edit_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	edit_release(fs_of(req), handle_of(fi));
	fuse_reply_err(req, 0);
}

void fs_op_edit_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
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

void fs_op_edit_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	tree_list_put((struct tree_list *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}
