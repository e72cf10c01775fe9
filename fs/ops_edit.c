/*
 * ops_edit.c - what is done with open files of an edit mount: write, truncate, attributes, flush,
 * fsync
 *
 * Concurrency: see fs.h. A write goes fs_op_write -> sft_overlay_write under fs_change_begin();
 * when it returns, the edit is in the staging directory. What is written to a sidecar, metadata or
 * .npy file goes to a draft instead, and counts from flush, fsync or a rename on (draft.c).
 *
 * What reaches the user: errors of write, flush and fsync do, those of release do not; so all work
 * is done before release.
 */
#include "commit.h"
#include "edit.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static void set_unflushed(struct fs *fs, struct edit_handle *h, bool unflushed)
{
	pthread_mutex_lock(&fs->edits->lock);
	h->unflushed = unflushed;
	pthread_mutex_unlock(&fs->edits->lock);
}

/* ---- write, truncate, attributes ---- */

/* How a change of what gathers for a view ended: until it is empty again, one that failed is why
 * it is not whole. */
static void note_draft(struct edit_handle *h, int r, bool emptied)
{
	if (!edit_is_view(h->ino) && h->pending == TREE_NO_ENTRY)
		return;
	if (r == 0 && emptied) {
		h->failed = 0;
		h->failure_logged = false;
	} else if (r < 0 && !h->failed) {
		h->failed = r;
	}
}

static int write_bytes(struct fs *fs, struct edit_handle *h, const char *buf, size_t size,
		       uint64_t offset, bool append)
{
	if (h->draft == SFT_NO_ID && !edit_is_view(h->ino)) {
		/* We know where it ends; of one that was replaced the kernel may not. */
		if (append)
			offset = fs_tensor_nbytes(fs, edit_id(fs, h->ino));
		int r = sft_overlay_write(fs->overlay, edit_id(fs, h->ino), buf, size, offset,
					  NULL);
		h->changed = true;
		note_draft(h, r, false);
		edit_touch(fs, h->ino);
		return r;
	}
	int r = edit_draft_need(fs, h, false);
	if (r == 0)
		r = sft_overlay_write(fs->overlay, h->draft, buf, size, offset, NULL);
	h->changed = true;
	note_draft(h, r, false);
	return r;
}

static void fs_op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
			struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = edit_handle(fi);
	struct sft_error err = { 0 };
	int r;
	if (tree_ino_kind(ino) == TREE_COMMIT) {
		r = fs_commit(fs, fs_commit_allows_empty(buf, size), &err);
	} else {
		fs_change_begin(fs);
		r = write_bytes(fs, h, buf, size, (uint64_t)offset,
				fi->flags & O_APPEND && !fi->writepage);
		fs_change_end(fs);
		set_unflushed(fs, h, true);
	}
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

static int set_size(struct fs *fs, uint64_t ino, uint64_t size, struct edit_handle *h)
{
	if (tree_ino_kind(ino) == TREE_COMMIT)
		return 0; /* `echo >` truncates */
	if (tree_ino_kind(ino) == TREE_TENSOR) {
		int r = sft_overlay_truncate(fs->overlay, edit_id(fs, ino), size, NULL);
		edit_touch(fs, ino);
		if (h) {
			h->changed = true;
			note_draft(h, r, size == 0);
		}
		return r;
	}
	if (!edit_is_view(ino) || !h)
		return tree_ino_kind(ino) == TREE_F32 ? -EROFS : -EINVAL;
	int r = edit_draft_need(fs, h, size == 0);
	if (r == 0)
		r = sft_overlay_truncate(fs->overlay, h->draft, size, NULL);
	/* Emptying it is the beginning of writing it, not the end. */
	h->changed = size != 0;
	note_draft(h, r, size == 0);
	return r;
}

static void set_times(struct edit_node *n, const struct stat *st, int to_set,
		      const struct stat *now)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (!n->has_times) {
		n->atime = now->st_atim;
		n->mtime = now->st_mtim;
	}
	if (to_set & FUSE_SET_ATTR_ATIME)
		n->atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? t : st->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME)
		n->mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? t : st->st_mtim;
	n->ctime = t;
	n->has_times = true;
}

/* chmod, chown and times hold for the life of the mount. */
static int set_node(struct fs *fs, uint64_t ino, const struct stat *st, int to_set)
{
	struct stat now;
	int r = tree_ino_kind(ino) == TREE_MERGED ? -EPERM : fs_node_attr(fs, ino, &now);
	if (r < 0)
		return r;
	pthread_mutex_lock(&fs->edits->lock);
	struct edit_node *n = edit_node(fs, ino);
	if (n && to_set & FUSE_SET_ATTR_MODE) {
		n->mode = st->st_mode & 07777;
		n->has_mode = true;
	}
	if (n && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		n->uid = to_set & FUSE_SET_ATTR_UID ? st->st_uid : now.st_uid;
		n->gid = to_set & FUSE_SET_ATTR_GID ? st->st_gid : now.st_gid;
		n->has_owner = true;
	}
	if (n && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))
		set_times(n, st, to_set, &now);
	pthread_mutex_unlock(&fs->edits->lock);
	return n ? 0 : -ENOMEM;
}

/* While a view is written its size is what was written. */
static void draft_size(const struct fs *fs, const struct edit_handle *h, struct stat *st)
{
	if (h && h->draft != SFT_NO_ID)
		st->st_size = (off_t)fs_tensor_nbytes(fs, h->draft);
}

static void fs_op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
			  struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = fi ? edit_handle(fi) : NULL;
	struct fuse_entry_param e;
	const int node_bits = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
			      FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME;
	int r = 0;
	fs_change_begin(fs);
	if (!fs_node_exists(fs, ino))
		r = -ENOENT;
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(fs, ino, (uint64_t)attr->st_size, h);
	if (r == 0 && to_set & node_bits)
		r = set_node(fs, ino, attr, to_set);
	if (r == 0)
		r = fs_entry_param(fs, ino, &e);
	if (r == 0)
		draft_size(fs, h, &e.attr);
	fs_change_end(fs);
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE && h)
		set_unflushed(fs, h, true);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

static void fs_op_edit_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	fs_read_lock(fs);
	int r = fs_entry_param(fs, ino, &e);
	if (r == 0 && fi)
		draft_size(fs, edit_handle(fi), &e.attr);
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* ---- read ---- */

static void read_draft(fuse_req_t req, struct fs *fs, const struct edit_handle *h, size_t size,
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
static void read_text(fuse_req_t req, const struct edit_handle *h, size_t size, off_t offset)
{
	struct sft_buf piece = { 0 };
	if ((uint64_t)offset < h->text.len) {
		size_t left = h->text.len - (size_t)offset;
		sft_buf_add(&piece, h->text.data + offset, left < size ? left : size);
	}
	fs_reply_text(req, &piece, size, 0);
	sft_buf_free(&piece);
}

static void fs_op_edit_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct edit_handle *h = edit_handle(fi);
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

/* ---- flush, fsync, release ---- */

int edit_finish_writing(struct fs *fs, struct edit_handle *h, bool sync)
{
	uint64_t replaced = 0;
	struct sft_error err = { 0 };
	int r = 0;
	fs_change_begin(fs);
	if (h && h->writable)
		r = edit_draft_apply(fs, h, &replaced);
	pthread_rwlock_unlock(&fs->lock);
	/* A sync may take long: readers go on, only changes wait. */
	if (r == 0 && sync)
		r = sft_overlay_sync(fs->overlay, &err);
	pthread_mutex_unlock(&fs->edit);
	if (replaced)
		edit_forget_cached(fs, replaced);
	return r;
}

static void fs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = edit_handle(fi);
	int r = h->writable ? edit_finish_writing(fs, h, false) : 0;
	set_unflushed(fs, h, false);
	fuse_reply_err(req, -r);
}

static void fs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_finish_writing(fs_of(req), edit_handle(fi), true));
}

static void fs_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_finish_writing(fs_of(req), NULL, true));
}

const struct fuse_lowlevel_ops edit_ops = {
	.init = fs_op_init,
	.lookup = fs_op_lookup,
	.getattr = fs_op_edit_getattr,
	.setattr = fs_op_setattr,
	.open = fs_op_open,
	.create = fs_op_create,
	.read = fs_op_edit_read,
	.write = fs_op_write,
	.flush = fs_op_flush,
	.fsync = fs_op_fsync,
	.release = fs_op_release,
	.opendir = fs_op_opendir,
	.readdir = fs_op_readdir,
	.readdirplus = fs_op_readdirplus,
	.releasedir = fs_op_releasedir,
	.fsyncdir = fs_op_fsyncdir,
	.statfs = fs_op_statfs,
	.getxattr = fs_op_getxattr,
	.listxattr = fs_op_listxattr,
	.unlink = fs_op_unlink,
	.rename = fs_op_rename,
	.mkdir = fs_op_mkdir,
	.rmdir = fs_op_rmdir,
	.mknod = fs_op_mknod,
	.symlink = fs_op_symlink,
	.link = fs_op_link,
};
