/*
 * request.h - requests of the kernel, by file of who answers them; private to fuse/
 *
 * `fs_op_edit_*` are for edit mounts alone. What a request means for tree and overlay is done by
 * what state/ and edit/ declare.
 */
#ifndef REQUEST_H
#define REQUEST_H

#include "handles.h"
#include "operations.h"
#include "state.h"

/* What FUSE takes for "for ever". */
#define FS_FOREVER 1e9

static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct fs_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct fs_handle *)(uintptr_t)fi->fh;
}

/* Fill a reply to LOOKUP and its kin. 0 or -errno. Under `lock`. (op_lookup.c) */
int fs_entry_param(struct fs *fs, uint64_t ino, struct fuse_entry_param *e);

/* ---- init.c ---- */

void fs_op_init(void *userdata, struct fuse_conn_info *conn);

/* ---- op_lookup.c ---- */

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_edit_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ---- op_open.c ---- */

void fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_edit_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_edit_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		       struct fuse_file_info *fi);
void fs_op_edit_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_edit_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_edit_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ---- op_read.c ---- */

void fs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		struct fuse_file_info *fi);
void fs_op_edit_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		     struct fuse_file_info *fi);

/* ---- op_list.c ---- */

void fs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		   struct fuse_file_info *fi);
void fs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi);

/* ---- op_write.c ---- */

void fs_op_edit_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		      struct fuse_file_info *fi);
void fs_op_edit_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
			struct fuse_file_info *fi);
void fs_op_edit_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_edit_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fs_op_edit_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* ---- op_names.c ---- */

void fs_op_edit_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_edit_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		       const char *new_name, unsigned int flags);
void fs_op_edit_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_op_edit_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_edit_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fs_op_edit_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void fs_op_edit_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);

/* ---- op_xattr.c ---- */

void fs_op_statfs(fuse_req_t req, fuse_ino_t ino);
void fs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

#endif
