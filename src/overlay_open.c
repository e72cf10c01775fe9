/*
 * overlay_open.c - opening and closing an overlay
 *
 *   lock the staging directory, if it is there, and read its journal through
 *   -> finish a commit that is prepared -> open, check and lock the base -> replay
 *
 * The journal comes before the base: a base whose shards are half renamed is no checkpoint.
 */
#include "overlay_state.h"
#include "slots.h"
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void overlay_note(struct sft_overlay *ov, const char *fmt, ...)
{
	char **grown = realloc(ov->notes, (ov->note_count + 1) * sizeof(char *));
	char *line = NULL;
	va_list ap;
	int n;

	if (!grown)
		return;
	ov->notes = grown;
	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n >= 0)
		ov->notes[ov->note_count++] = line;
}

/* ---- options ---- */

static int no_memory(struct sft_error *err)
{
	return sft_fail(err, ENOMEM, "no memory for the overlay");
}

/* Copy the options: the process may change its directory before they are used. */
static int copy_options(struct sft_overlay *ov, const struct sft_overlay_options *options,
			struct sft_error *err)
{
	struct sft_overlay_options *o = &ov->options;

	o->inplace = options->inplace;
	o->flags = options->flags;
	o->staging = options->staging ? staging_absolute(options->staging) : NULL;
	o->output = options->output ? staging_absolute(options->output) : NULL;
	if ((options->staging && !o->staging) || (options->output && !o->output))
		return no_memory(err);
	return 0;
}

/* What is not said now is as it was when the edits were staged; what is said goes into the journal,
 * for it may be the next to recover them. */
static int take_options(struct sft_overlay *ov, const struct journal_summary *sum,
			struct sft_error *err)
{
	struct sft_overlay_options *o = &ov->options;
	const char *was = sum->output ? sum->output : "";

	if (!o->output && sum->output) {
		o->output = strdup(sum->output);
		if (!o->output)
			return no_memory(err);
	}
	if (strcmp(o->output ? o->output : "", was) != 0 || (o->inplace && !sum->inplace) ||
	    (o->flags | sum->flags) != sum->flags)
		ov->staging.rewrite = true;
	o->inplace = o->inplace || sum->inplace;
	o->flags |= sum->flags;
	return 0;
}

/* ---- the base ---- */

/* Open and lock what the edits are based on: the source, or, after a commit with output=, that. */
static int open_base(struct sft_overlay *ov, const char *elsewhere, struct sft_error *err)
{
	int r = sft_checkpoint_open(elsewhere ? elsewhere : ov->source, ov->options.flags,
				    &ov->base, err);

	if (r < 0 && elsewhere)
		sft_wrap(err, "%s, which the staged edits are based on", elsewhere);
	if (r < 0)
		return r;
	ov->base_is_output = elsewhere;
	if (!ov->options.output) {
		r = hub_check(ov->base, err);
		if (r < 0)
			return r;
	}
	/* The source stays ours where it is not the base, as long as it is there. */
	if (elsewhere && staging_lock(ov, ov->source_path, err) == -EBUSY)
		return -EBUSY;
	return staging_lock_base(ov, err);
}

/* ---- what is staged ---- */

static void note_resumed(struct sft_overlay *ov)
{
	uint32_t tensors;
	uint64_t bytes;
	char *result;

	if (!sft_overlay_dirty(ov))
		return;
	sft_overlay_staged(ov, &tensors, &bytes);
	overlay_note(ov, "resuming edits staged in %s: %u tensor%s, %llu bytes", ov->staging.path,
		     tensors, tensors == 1 ? "" : "s", (unsigned long long)bytes);
	result = staging_read_result(ov->staging.dir);
	if (result)
		overlay_note(ov, "the last commit failed: %s", result);
	free(result);
}

/* Make what was replayed the durable state, which the rules for slots start from. */
static int settle(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	/* Whoever renamed the journal may have died before its name was durable. */
	int r = journal_sync_links(s);

	r = r < 0 ? sft_fail(err, -r, "cannot make the staging in %s durable: %s", s->path,
			     strerror(-r))
		  : sft_overlay_sync(ov, err);
	if (r == 0)
		slots_reclaim(&ov->slots, s->blocks, false);
	return r;
}

static int resume(struct sft_overlay *ov, const struct journal_summary *sum, struct sft_error *err)
{
	const bool inplace = sum->prepared && sum->kind == JOURNAL_PREPARED_INPLACE;
	int r = identity_check(sum, ov->base, inplace, err);

	if (r == 0)
		r = journal_replay(ov, sum, err);
	if (r == 0 && !inplace)
		r = settle(ov, err);
	if (r == 0 && !inplace)
		note_resumed(ov);
	return r;
}

/* ---- interrupted commits ---- */

/* The journal is done with. */
static void forget_journal(struct sft_overlay *ov, struct journal_summary *sum, bool *found)
{
	overlay_note(ov, "finished a commit that was interrupted");
	staging_clear(ov->staging.dir);
	staging_close_files(&ov->staging);
	journal_summary_free(sum);
	*found = false;
}

/* Rename what a prepared commit did not come to rename. */
static int finish_replace(struct sft_overlay *ov, struct journal_summary *sum, bool *found,
			  struct sft_error *err)
{
	struct sft_error e = { 0 };
	int r = commit_roll_forward(sum->targets, sum->target_count, &e);

	if (r == -ENOENT && e.errnum == 0) {
		/* It was undone, or came to nothing: the record must not stay to mean others. */
		ov->staging.rewrite = true;
		return 0;
	}
	if (r < 0)
		return sft_fail(err, -r, "%s", e.msg);
	r = staging_drop(ov, err);
	if (r == 0)
		forget_journal(ov, sum, found);
	return r;
}

/* Write the staged blocks into the source once more, then start again from what it is now. */
static int finish_inplace(struct sft_overlay *ov, struct journal_summary *sum, bool *found,
			  struct sft_error *err)
{
	int r = inplace_apply(ov, NULL, err);

	if (r == 0)
		r = staging_drop(ov, err);
	if (r < 0)
		return r;
	forget_journal(ov, sum, found);
	state_free(ov);
	r = open_base(ov, NULL, err);
	return r == 0 ? state_load(ov, err) : r;
}

/* ---- the whole ---- */

static int open_overlay(struct sft_overlay *ov, struct journal_summary *sum, struct sft_error *err)
{
	bool found = false;
	int r = staging_open(ov, err);

	if (r == 0 && ov->staging.dir >= 0)
		r = staging_load(ov, sum, &found, err);
	if (r == 0 && found && sum->prepared && sum->kind == JOURNAL_PREPARED_REPLACE)
		r = finish_replace(ov, sum, &found, err);
	if (r == 0 && found)
		r = take_options(ov, sum, err);
	if (r == 0)
		r = open_base(ov, found ? sum->base : NULL, err);
	if (r == 0)
		r = target_check(ov, err);
	if (r == 0)
		r = staging_make(ov, err);
	if (r == 0)
		r = state_load(ov, err);
	if (r == 0 && found)
		r = resume(ov, sum, err);
	if (r == 0 && found && sum->prepared && sum->kind == JOURNAL_PREPARED_INPLACE)
		r = finish_inplace(ov, sum, &found, err);
	if (r == 0)
		commit_clean(ov);
	return r;
}

int sft_overlay_open(const char *source, const struct sft_overlay_options *options,
		     struct sft_overlay **out, struct sft_error *err)
{
	struct journal_summary sum = { 0 };
	struct sft_overlay *ov = calloc(1, sizeof(*ov));
	int r;

	if (!ov)
		return no_memory(err);
	ov->staging.dir = ov->staging.blocks = ov->staging.journal = -1;
	ov->source = strdup(source);
	ov->patch = malloc((size_t)2 * SFT_BLOCK);
	r = ov->source && ov->patch ? copy_options(ov, options, err) : no_memory(err);
	if (r == 0)
		r = staging_locate(source, ov->options.staging, &ov->source_path, &ov->staging.path,
				   err);
	if (r == 0)
		r = target_refuse_source(ov, err);
	if (r == 0)
		r = open_overlay(ov, &sum, err);
	journal_summary_free(&sum);
	if (r < 0) {
		sft_overlay_free(ov);
		return r;
	}
	ov->opened = true;
	*out = ov;
	return 0;
}

/* Take away what holds no edits. Where opening failed, only what it has just made. */
static void tidy(struct sft_overlay *ov)
{
	struct staging *s = &ov->staging;

	if (s->dir < 0 || s->broken || ov->prepared)
		return;
	if (ov->opened && (ov->next || !sft_overlay_dirty(ov)))
		staging_remove(ov);
	else if (!ov->opened && s->own_dir)
		(void)io_unlinkat(AT_FDCWD, s->path, AT_REMOVEDIR); /* only if it is empty */
}

void sft_overlay_free(struct sft_overlay *ov)
{
	if (!ov)
		return;
	tidy(ov);
	state_free(ov);
	staging_close(&ov->staging);
	staging_unlock(ov);
	sft_checkpoint_free(ov->next);
	commit_prepared_free(ov->prepared);
	for (size_t i = 0; i < ov->note_count; i++)
		free(ov->notes[i]);
	free(ov->notes);
	free(ov->staging.path);
	free(ov->source);
	free(ov->source_path);
	free((char *)(uintptr_t)ov->options.staging);
	free((char *)(uintptr_t)ov->options.output);
	free(ov->patch);
	free(ov);
}
