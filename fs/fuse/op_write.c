/*
 * op_write.c - write, change attributes, flush, fsync
 *
 * Concurrency: see state.h. What a request does is done by edit/; here it is asked for, and
 * replied to.
 */
#include "commit_edits.h"
#include "edit.h"
#include "request.h"
#include "log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* ---- write, attributes ---- */

void fs_op_edit_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
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

void fs_op_edit_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
			struct fuse_file_info *fi)
{
	int r = edit_set_attr(fs_of(req), ino, attr, what_to_set(to_set, attr),
			      fi ? handle_of(fi) : NULL);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fs_op_edit_getattr(req, ino, fi);
}

/* ---- flush, fsync ---- */

void fs_op_edit_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_flush(fs_of(req), handle_of(fi)));
}

void fs_op_edit_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_finish_writing(fs_of(req), handle_of(fi), true));
}

void fs_op_edit_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -edit_finish_writing(fs_of(req), NULL, true));
}
