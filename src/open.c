/*
 * open.c - opening and closing an overlay
 *
 *   claim the staging, as far as it is there, and read its journal through
 *   -> finish a commit that is prepared -> open, check and lock the base
 *   -> claim what is left to claim -> replay
 *
 * The journal comes before the base: a base whose shards are half renamed is no checkpoint. Nothing
 * is made on the disk before the base is known to be one.
 */
#include "commit.h"
#include "hash_names.h"
#include "overlay_state.h"
#include "path.h"
#include "replay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

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
	o->staging = options->staging ? path_absolute(options->staging) : NULL;
	o->output = options->output ? path_absolute(options->output) : NULL;
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
		r = hash_names_check(ov->base, err);
		if (r < 0)
			return r;
	}
	/* The source stays ours where it is not the base, as long as it is there. */
	if (elsewhere && access(ov->staging.source_path, F_OK) == 0) {
		r = staging_lock(&ov->staging, ov->staging.source_path, err);
		if (r < 0)
			return r;
	}
	return staging_lock_base(&ov->staging, ov->base, err);
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
	(void)notes_add(&ov->notes, "resuming edits staged in %s: %u tensor%s, %llu bytes",
			ov->staging.path, tensors, tensors == 1 ? "" : "s",
			(unsigned long long)bytes);
	result = staging_read_result(&ov->staging);
	if (result)
		(void)notes_add(&ov->notes, "the last commit failed: %s", result);
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
	int r = identity_check(sum, ov->base, inplace || sum->room, err);

	/* What took room may have died before it put the times back: they are noted anew. */
	ov->staging.rewrite = ov->staging.rewrite || sum->room;
	if (r == 0)
		r = replay_journal(ov, sum, err);
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
	(void)notes_add(&ov->notes, "finished a commit that was interrupted");
	staging_clear(ov->staging.dir);
	staging_close_files(&ov->staging);
	journal_summary_free(sum);
	*found = false;
}

/* Whether the caller wants another output than the prepared commit had. */
static bool other_output(const struct sft_overlay *ov, const struct journal_summary *sum)
{
	const char *now = ov->options.output;

	return now && !(sum->output && staging_same_place(now, sum->output));
}

static int refuse_output(struct sft_error *err)
{
	return sft_fail(err, EINVAL,
			"a commit to another place was interrupted while it was changing files: "
			"without this output=, `safetensorfs recover` finishes it");
}

/* Who might change the files of a prepared commit has to stay away. */
static int lock_prepared(struct sft_overlay *ov, const struct journal_summary *sum,
			 struct sft_error *err)
{
	bool in_output = false;
	struct stat st;
	int r = staging_lock_names(&ov->staging, sum, err);

	for (size_t i = 0; i < sum->target_count; i++)
		in_output = in_output || sum->targets[i].in_output;
	if (r < 0 || !in_output ||
	    (stat(ov->staging.source_path, &st) < 0 && stat(sum->output, &st) < 0))
		return r;
	return staging_claim_output(&ov->staging, sum->output, S_ISDIR(st.st_mode), err);
}

/* Rename what a prepared commit did not come to rename; or, if nothing was renamed yet and it is
 * to go to another place now, undo it. */
static int finish_replace(struct sft_overlay *ov, struct journal_summary *sum, bool *found,
			  struct sft_error *err)
{
	const struct prepared_places places = { ov->staging.source_path, sum->output };
	struct sft_error e = { 0 };
	int r = lock_prepared(ov, sum, err);

	if (r < 0)
		return r;
	r = prepared_look(&places, sum->targets, sum->target_count, &e);
	if (r == -ESTALE && !prepared_is_begun(&places, sum->targets, sum->target_count)) {
		/* What has taken an output's place is no obstacle to who wants another one. */
		if (sum->output && other_output(ov, sum))
			r = PREPARED_VOID;
		else
			sft_hint(&e,
				 "nothing was changed yet: %s`safetensorfs discard` drops the "
				 "edits",
				 sum->output ? "output=PATH commits the edits to PATH, " : "");
	}
	if (r < 0)
		return sft_fail(err, e.errnum, "%s", e.msg);
	if (r == PREPARED_BEGUN && other_output(ov, sum))
		return refuse_output(err);
	if (r == PREPARED_VOID || other_output(ov, sum)) {
		prepared_remove_temporaries(&places, sum->targets, sum->target_count);
		/* The record must not stay to mean others. */
		ov->staging.rewrite = true;
		return 0;
	}
	r = commit_roll_forward(&places, sum->targets, sum->target_count, err);
	if (r == 0)
		r = staging_drop(&ov->staging, err);
	if (r == 0)
		forget_journal(ov, sum, found);
	return r;
}

/* What is prepared, before the base is opened. */
static int finish(struct sft_overlay *ov, struct journal_summary *sum, bool *found,
		  struct sft_error *err)
{
	if (!sum->prepared)
		return 0;
	if (sum->kind == JOURNAL_PREPARED_REPLACE)
		return finish_replace(ov, sum, found, err);
	return other_output(ov, sum) ? refuse_output(err) : 0;
}

/* Write the staged blocks into the source once more, then start again from what it is now. */
static int finish_inplace(struct sft_overlay *ov, struct journal_summary *sum, bool *found,
			  struct sft_error *err)
{
	int r = inplace_apply(ov, NULL, err);

	if (r == 0)
		r = staging_drop(&ov->staging, err);
	if (r < 0)
		return r;
	forget_journal(ov, sum, found);
	overlay_unload(ov);
	r = open_base(ov, NULL, err);
	return r == 0 ? overlay_load(ov, err) : r;
}

/* What a commit will write may be a part, or have a part, that is edited by itself. */
static int refuse_others(const struct sft_overlay *ov, struct sft_error *err)
{
	const char *output = ov->options.output;
	char *path = NULL;
	int r;

	if (output && sft_checkpoint_is_directory(ov->base))
		return staging_refuse_parts(output, ov->base, err);
	if (sft_checkpoint_is_directory(ov->base))
		return staging_refuse_parts(ov->staging.source_path, ov->base, err);
	path = output ? path_resolve_parent(output) : NULL;
	r = staging_refuse_whole(&ov->staging, path ? path : ov->staging.source_path, err);
	free(path);
	return r;
}

/* ---- the whole ---- */

static int open_overlay(struct sft_overlay *ov, struct journal_summary *sum, struct sft_error *err)
{
	bool found = false;
	int r = staging_claim(&ov->staging, false, err);

	if (r == 0 && ov->staging.dir >= 0)
		r = staging_load(&ov->staging, sum, &found, &ov->notes, err);
	if (r == 0 && found)
		r = finish(ov, sum, &found, err);
	if (r == 0 && found)
		r = take_options(ov, sum, err);
	if (r == 0)
		r = open_base(ov, found ? sum->base : NULL, err);
	if (r == 0)
		r = target_check(ov, err);
	if (r == 0)
		r = refuse_others(ov, err);
	if (r == 0 && !found)
		r = staging_refuse_foreign(&ov->staging, err);
	if (r == 0 && found && sum->output && other_output(ov, sum))
		staging_clear_output(sum->output, sft_checkpoint_is_directory(ov->base), sum->id);
	if (r == 0)
		r = staging_claim(&ov->staging, true, err);
	if (r == 0 && ov->options.output)
		r = staging_claim_output(&ov->staging, ov->options.output,
					 sft_checkpoint_is_directory(ov->base), err);
	if (r == 0)
		r = overlay_load(ov, err);
	if (r == 0 && found)
		r = resume(ov, sum, err);
	if (r == 0 && found && sum->prepared && sum->kind == JOURNAL_PREPARED_INPLACE)
		r = finish_inplace(ov, sum, &found, err);
	if (r == 0)
		commit_clean(ov);
	return r;
}

static struct sft_overlay *new_overlay(const char *source)
{
	struct sft_overlay *ov = calloc(1, sizeof(*ov));

	if (!ov)
		return NULL;
	ov->staging = (struct staging)STAGING_NONE;
	ov->source = strdup(source);
	ov->patch = malloc((size_t)2 * SFT_BLOCK);
	if (ov->source && ov->patch &&
	    getrandom(&ov->staging.id, sizeof(ov->staging.id), 0) == sizeof(ov->staging.id))
		return ov;
	sft_overlay_free(ov);
	return NULL;
}

int sft_overlay_open(const char *source, const struct sft_overlay_options *options,
		     struct sft_overlay **out, struct sft_error *err)
{
	struct journal_summary sum = { 0 };
	struct sft_overlay *ov = new_overlay(source);
	/* Of its own, for what fails on the way and is made up for must not be told. */
	struct sft_error e = { 0 };
	int r;

	if (!ov)
		return no_memory(err);
	r = copy_options(ov, options, &e);
	if (r == 0)
		r = staging_find(&ov->staging, ov->source, ov->options.staging, &e);
	if (r == 0)
		r = target_refuse_source(ov, &e);
	if (r == 0)
		r = open_overlay(ov, &sum, &e);
	journal_summary_free(&sum);
	if (r < 0) {
		sft_overlay_free(ov);
		return sft_fail(err, -r, "%s", e.errnum ? e.msg : strerror(-r));
	}
	ov->opened = true;
	*out = ov;
	return 0;
}

/* Take away what holds no edits. */
static void tidy(struct sft_overlay *ov)
{
	const struct staging *s = &ov->staging;

	if (s->dir >= 0 && ov->opened && !s->broken && !ov->prepared &&
	    (ov->next || !sft_overlay_dirty(ov)))
		staging_clear(s->dir);
	staging_let_go(&ov->staging);
}

void sft_overlay_free(struct sft_overlay *ov)
{
	if (!ov)
		return;
	tidy(ov);
	overlay_unload(ov);
	staging_unlock(&ov->staging);
	sft_checkpoint_free(ov->next);
	commit_prepared_free(ov->prepared);
	notes_free(&ov->notes);
	free(ov->source);
	free(ov->staging.source_path);
	free((char *)(uintptr_t)ov->options.staging);
	free((char *)(uintptr_t)ov->options.output);
	free(ov->patch);
	free(ov);
}

/* ---- discarding ---- */

/* As the next opening would. */
static int finish_commit(const char *source, const char *staging, const char *path,
			 struct sft_error *err)
{
	const struct sft_overlay_options options = { .staging = staging };
	struct sft_overlay *ov = NULL;
	struct sft_error e = { 0 };
	int r = sft_overlay_open(source, &options, &ov, &e);

	sft_overlay_free(ov);
	if (r == -ESTALE)
		return sft_fail(err, ESTALE, "%s; what is left of it is in %s", e.msg, path);
	return r < 0 ? sft_fail(err, -r, "%s", e.msg) : 1;
}

int sft_staging_discard(const char *source, const char *staging, bool drop, struct sft_buf *text,
			bool *found, struct sft_error *err)
{
	char *path;
	int r = staging_discard(source, staging, drop, text, found, &path, err);

	if (r == 1)
		r = finish_commit(source, staging, path ? path : "the staging", err);
	free(path);
	return r;
}
