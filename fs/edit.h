/*
 * edit.h - what only edit mounts have: handles, changed attributes, the end of a mount
 *
 *   edit.c        state, building the tree over an overlay, the end
 *   ops_edit.c    open, create, write, truncate, fsync, release, xattrs
 *   ops_name.c    unlink, rename, mkdir, rmdir
 *   edit_text.c   sidecars, metadata and .npy as they are written and closed
 */
#ifndef EDIT_H
#define EDIT_H

#include "fs.h"

extern const struct fuse_lowlevel_ops edit_ops;

int edit_build_tree(struct fs *fs, struct sft_error *err);

/*
 * After the loop: commit unless the connection was killed under an open writer. `code` is the
 * session's so far, `by_signal` whether a signal ended it. Returns the exit code of the daemon.
 */
int edit_end(struct fs *fs, int code, bool by_signal);

void edit_free(struct fs *fs);

#endif
