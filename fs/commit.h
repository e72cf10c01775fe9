/*
 * commit.h - committing a mount's edits, whoever asks for it: the control file, a signal,
 * unmounting
 */
#ifndef COMMIT_H
#define COMMIT_H

#include "fs.h"

/*
 * Commit what has been written so far; 0 too where there was nothing to do. Takes `edit` for the
 * whole of it and `lock` for the change of base. The result is kept for status, and logged. -EROFS
 * in a read-only mount.
 */
int fs_commit(struct fs *fs, struct sft_error *err);

/* The value of `last_commit` in status. Under the shared lock. */
void fs_last_commit(const struct fs *fs, struct sft_buf *json);

#endif
