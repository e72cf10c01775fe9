/*
 * fs.h - requests of the kernel, and the tables of who answers them
 *
 * Only who includes this knows of FUSE: ops.c and ops_dir.c for reading, ops_edit.c for what only
 * edit mounts answer, and session.c. What a request means for tree and overlay is done by what
 * state.h and edit.h declare.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include "operations.h"
#include "state.h"

/* What FUSE takes for "for ever". */
#define FS_FOREVER 1e9

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- ops.c, ops_dir.c: reading ---- */

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		struct fuse_file_info *fi);
void fs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		   struct fuse_file_info *fi);
void fs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi);
void fs_op_statfs(fuse_req_t req, fuse_ino_t ino);
void fs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_op_init(void *userdata, struct fuse_conn_info *conn);

/* Fill a reply to LOOKUP and its kin. 0 or -errno. Under `lock`. */
int fs_entry_param(struct fs *fs, uint64_t ino, struct fuse_entry_param *e);

/* Reply with [offset, offset + size) of a text. */
void fs_reply_text(fuse_req_t req, const struct sft_buf *text, size_t size, off_t offset);

#endif
