/* staging.h - the staging directory: where it is, what is in it, its lock; private */
#ifndef SFT_STAGING_H
#define SFT_STAGING_H

#include "journal.h"

/*
 * Where a source's edits are staged. *source_path is the source, absolute and resolved (for an
 * index.json its directory), as far as it is there; *path the staging directory, absolute; both are
 * malloced. `staging` NULL: the default place. ENOMEM, errors of realpath(3).
 */
int staging_locate(const char *source, const char *staging, char **source_path, char **path,
		   struct sft_error *err);
/* A path made absolute by the working directory; malloced, NULL where memory runs out. */
char *staging_absolute(const char *path);

/* EEXIST where the journal in a directory that the user has named is another source's. */
int staging_refuse_others(const struct sft_overlay *ov, const struct journal_summary *sum,
			  struct sft_error *err);
/*
 * In a directory that the user has named there may be files of his own that are called like ours.
 * EEXIST where its journal, open as ov->staging.journal, is not one, or shows nothing while others
 * are not as ours are.
 */
int staging_refuse_strangers(const struct sft_overlay *ov, struct sft_error *err);
/* Open and lock the directory, if it is there; ov->staging.dir stays -1 if not. */
int staging_open(struct sft_overlay *ov, struct sft_error *err);
/* Make it, open and lock it, unless that is done. EACCES, EROFS with a hint. */
int staging_make(struct sft_overlay *ov, struct sft_error *err);
/*
 * Open the journal and the blocks and read the journal through. *found: it holds edits or a
 * prepared commit. Otherwise whatever an earlier process left is removed.
 */
int staging_load(struct sft_overlay *ov, struct journal_summary *sum, bool *found,
		 struct sft_error *err);
/* Remove everything we may have put there, journal first. Best effort. */
void staging_clear(int dir);
/* The same, and the directory where it is ours. Closes the files. */
void staging_remove(struct sft_overlay *ov);
/* Close the journal and the blocks; the next edit begins new ones. */
void staging_close_files(struct staging *s);
/* The same, and the directory, which unlocks it. */
void staging_close(struct staging *s);
/* The line in the `result` file, malloced, or NULL. */
char *staging_read_result(int dir);

/* ---- staging_lock.c ---- */

/* EBUSY, naming the process, where one edits the source, also with another staging directory. */
int staging_check_source(const char *source_path, struct sft_error *err);
/* Lock the staging directory. EBUSY says what it is in use for. */
int staging_lock_dir(const struct sft_overlay *ov, int fd, struct sft_error *err);
/* Lock the shards, and the directory, of ov->base; ESTALE where one was replaced meanwhile. */
int staging_lock_base(struct sft_overlay *ov, struct sft_error *err);
/* After a commit: lock what is not yet, and let go of files that are gone. Best effort. */
void staging_lock_again(struct sft_overlay *ov);
void staging_unlock(struct sft_overlay *ov);

/* ---- hub.c ---- */

/* EPERM where a file of the checkpoint, or the source, lies in a hub cache's blobs/. */
int hub_check(const struct sft_checkpoint *ck, struct sft_error *err);

#endif
