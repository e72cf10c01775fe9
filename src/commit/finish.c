/*
 * finish.c - what follows the PREPARED record
 *
 * Everything that is likely to fail lies before that record: the new files are whole, durable and
 * read back. What is left is to rename them, to open the result and to drop the staging, and each
 * of these may be done again: by the next commit of this session (ov->prepared), or, if the process
 * is gone, by the next opening, which finds the record. Until then no edit is taken, since it would
 * be lost.
 *
 * Where not even the first rename works nothing has changed, and the commit is taken back: the
 * record is cut off, durably, then the temporaries go. If it cannot be, the staging is broken, and
 * the next opening finds a record whose files are gone and were never renamed, which is void.
 */
#include "commit.h"

#include <errno.h>
#include <stdlib.h>

void commit_prepared_free(struct commit_prepared *p)
{
	if (!p)
		return;
	prepared_free(p->targets, p->count);
	free(p->open);
	free(p);
}

/* Nothing was renamed. -ECANCELED, or `r` where the staging is broken. */
static int take_back(struct sft_overlay *ov, const struct prepared_places *places, int r)
{
	struct commit_prepared *p = ov->prepared;
	const bool whole = journal_take_back(&ov->staging, p->journal_end, NULL) == 0;

	prepared_remove_temporaries(places, p->targets, p->count);
	commit_prepared_free(p);
	ov->prepared = NULL;
	return whole ? -ECANCELED : r;
}

static int replace(struct sft_overlay *ov, struct sft_error *err)
{
	const struct commit_prepared *p = ov->prepared;
	const struct prepared_places places = { ov->staging.source_path, ov->options.output };
	int r = commit_roll_forward(&places, p->targets, p->count, err);

	if (r == -ENOENT)
		sft_fail(err, ENOENT, "the new files have gone before they could be renamed");
	if (r < 0) {
		int begun = prepared_look(&places, p->targets, p->count, NULL);

		if (begun == PREPARED_VOID || begun == PREPARED_READY)
			r = take_back(ov, &places, r);
	}
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
	r = staging_drop(&ov->staging, err);
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
