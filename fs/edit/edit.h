/*
 * edit.h - the operations of an edit mount: what each means for tree and overlay; no FUSE here
 *
 *   open_file.c    open, create, release
 *   write_file.c   write, truncate, attributes, flush, fsync
 *   dir_entries.c  unlink, rename, mkdir, rmdir
 *
 * An operation gets first what can fail: memory, room in the tree, drafts. Then it changes the
 * overlay, by one step, which is made as a whole or not at all. Then it changes the tree, which
 * cannot fail any more. So the two always agree, and nothing has to be taken back.
 *
 * They are called without any lock. What the other headers of the folder declare is called "under
 * the change": between fs_change_begin() and fs_change_end().
 */
#ifndef EDIT_H
#define EDIT_H

#include "handles.h"
#include "state.h"

/* ---- open_file.c ---- */

/*
 * `flags` as for open(2). -ESTALE: the node has been removed or replaced, look its name up again;
 * -ENOENT, -EROFS, -EACCES, -ENOMEM; with O_TRUNC the errors of sft_overlay_truncate().
 */
int edit_open(struct fs *fs, uint64_t ino, int flags, struct fs_handle **out);
/* Make a file and open it for writing; its node is the handle's. -EEXIST, -EPERM, -EROFS, -EINVAL,
 * -ENOMEM, errors of the staging. */
int edit_create(struct fs *fs, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
		struct fs_handle **out);
/* The last close. Whatever can fail was done before, by edit_finish_writing(). */
void edit_release(struct fs *fs, struct fs_handle *h);

/* ---- write_file.c ---- */

int edit_write(struct fs *fs, struct fs_handle *h, const char *buf, size_t size, uint64_t offset);

enum {
	EDIT_SIZE = 1,
	EDIT_MODE = 2,
	EDIT_UID = 4,
	EDIT_GID = 8,
	EDIT_ATIME = 16,
	EDIT_MTIME = 32,
};
/* Set what `what` says of `attr`. `h` is the handle by which it comes, or NULL. */
int edit_set_attr(struct fs *fs, uint64_t ino, const struct stat *attr, unsigned what,
		  struct fs_handle *h);
/* As fs_node_attr(), but while a view is written its size is what was written. Under `lock`. */
int edit_attr(struct fs *fs, uint64_t ino, const struct fs_handle *h, struct stat *st);

/* The file is complete, as far as its writer says: a view that was written counts from now on, and
 * with `sync` all is durable. `h` may be NULL. */
int edit_finish_writing(struct fs *fs, struct fs_handle *h, bool sync);
/* The same at close(2), which ends what could be torn. */
int edit_flush(struct fs *fs, struct fs_handle *h);

/* ---- dir_entries.c ---- */

int edit_unlink(struct fs *fs, uint64_t parent, const char *name);
/* `flags` as for renameat2(2). */
int edit_rename(struct fs *fs, uint64_t parent, const char *name, uint64_t new_parent,
		const char *new_name, unsigned flags);
/* *ino is the new directory's. */
int edit_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
	       uint64_t *ino);
int edit_rmdir(struct fs *fs, uint64_t parent, const char *name);

#endif
