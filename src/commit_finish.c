/*
 * commit_finish.c - what follows the PREPARED record
 *
 * Everything that is likely to fail lies before that record: the new files are whole, durable and
 * read back. What is left is to rename them, to open the result and to drop the staging, and each
 * of these may be done again: by the next commit of this session (ov->prepared), or, if the process
 * is gone, by the next opening, which finds the record. Until then no edit is taken, since it would
 * be lost.
 *
 * Where not even the first rename works nothing has changed, and the commit is taken back: a record
 * in the journal says so, durably, then the temporaries go. A record whose files are gone and were
 * never renamed counts as taken back too.
 */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void commit_prepared_free(struct commit_prepared *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++) {
		free(p->targets[i].temporary);
		free(p->targets[i].path);
	}
	free(p->targets);
	free(p->open);
	free(p);
}

/* ---- renaming ---- */

static bool is_prepared_file(const char *path, const struct commit_target *t)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_ino == t->ino &&
	       (uint64_t)st.st_size == t->size;
}

static size_t count_done(const struct commit_target *targets, size_t count)
{
	size_t done = 0;

	for (size_t i = 0; i < count; i++)
		done += is_prepared_file(targets[i].path, &targets[i]);
	return done;
}

/* Where one fails that is not the first, the others are tried: the more is done, the less is left.
 */
static int rename_all(const struct commit_target *targets, size_t count, struct sft_error *err)
{
	size_t done = count_done(targets, count);
	int first = 0;

	for (size_t i = 0; i < count; i++) {
		const struct commit_target *t = &targets[i];
		int r;

		if (is_prepared_file(t->path, t))
			continue;
		r = io_renameat(AT_FDCWD, t->temporary, t->path);
		if (r == 0) {
			done++;
			continue;
		}
		sft_fail(err, -r, "cannot rename %s to %s: %s", t->temporary, t->path,
			 strerror(-r));
		first = first ? first : r;
		if (done == 0)
			break;
	}
	return first;
}

int commit_roll_forward(const struct commit_target *targets, size_t count, struct sft_error *err)
{
	const struct commit_target *gone = NULL;
	int r;

	for (size_t i = 0; i < count && !gone; i++) {
		if (!is_prepared_file(targets[i].path, &targets[i]) &&
		    !is_prepared_file(targets[i].temporary, &targets[i]))
			gone = &targets[i];
	}
	if (gone && count_done(targets, count) == 0)
		return -ENOENT;
	if (gone)
		return sft_fail(
			err, ESTALE,
			"a commit was interrupted and cannot be finished: neither %s nor %s "
			"is the file that it wrote",
			gone->path, gone->temporary);
	r = rename_all(targets, count, err);
	return r < 0 ? r : commit_sync_dirs(targets, count, err);
}

/* ---- taking it back ---- */

/* Nothing was renamed. -ECANCELED, or `r` where the record stays and with it everything else. */
static int take_back(struct sft_overlay *ov, int r)
{
	struct commit_prepared *p = ov->prepared;

	if (journal_cancelled(ov, NULL) < 0)
		return r;
	for (size_t i = 0; i < p->count; i++)
		(void)io_unlinkat(AT_FDCWD, p->targets[i].temporary, 0);
	commit_prepared_free(p);
	ov->prepared = NULL;
	return -ECANCELED;
}

/* ---- the whole ---- */

static int replace(struct sft_overlay *ov, struct sft_error *err)
{
	const struct commit_prepared *p = ov->prepared;
	int r = commit_roll_forward(p->targets, p->count, err);

	if (r == -ENOENT)
		sft_fail(err, ENOENT, "the new files have gone before they could be renamed");
	if (r < 0 && count_done(p->targets, p->count) == 0)
		r = take_back(ov, r);
	return r;
}

static int finish(struct sft_overlay *ov, const struct sft_progress *progress,
		  struct sft_error *err)
{
	struct commit_prepared *p = ov->prepared;
	struct sft_checkpoint *next = NULL;
	int r;

	if (p->kind == JOURNAL_PREPARED_REPLACE)
		r = replace(ov, err);
	else
		r = inplace_apply(ov, progress, err);
	if (r < 0)
		return r;
	r = sft_checkpoint_open(p->open, ov->options.flags, &next, err);
	if (r < 0) {
		sft_wrap(err, "the new checkpoint is in place, but cannot be opened");
		return r;
	}
	r = staging_drop(ov, err);
	if (r < 0) {
		sft_wrap(err, "the new checkpoint is in place, but the staging cannot be dropped");
		sft_checkpoint_free(next);
		return r;
	}
	ov->next = next;
	commit_prepared_free(p);
	ov->prepared = NULL;
	return 0;
}

int commit_finish(struct sft_overlay *ov, const struct sft_progress *progress,
		  struct sft_error *err)
{
	int r;

	ov->staging.broken = false; /* it was our mark where this is the second attempt */
	r = finish(ov, progress, err);
	if (r < 0 && ov->prepared)
		ov->staging.broken = true;
	return r;
}
