/*
 * commit_edits.h - committing a mount's edits, whoever asks for it: the control file, a signal,
 * unmounting
 */
#ifndef COMMIT_EDITS_H
#define COMMIT_EDITS_H

#include "state.h"

/*
 * Commit what has been written so far; 0 too where there was nothing to do. Takes `edit` for the
 * whole of it and `lock` for the change of base. The result is kept for status, and logged. -EROFS
 * in a read-only mount. With `allow_empty` also where no tensor would be left.
 */
int fs_commit(struct fs *fs, bool allow_empty, struct sft_error *err);
/* Whether a text that was written to the control file has the word that asks for that. */
bool fs_commit_allows_empty(const char *text, size_t len);

/* Scratch files are kept while mounted, and no longer: all of them go, in one step. */
void edit_drop_scratch(struct fs *fs);
/* Log every tensor that blocks a commit; the commit's error has room for one. */
void edit_log_problems(const struct sft_overlay *ov, const char *source);

#endif
