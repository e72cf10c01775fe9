/*
 * commit.c - from staged edits to a new checkpoint: the steps and their order
 *
 *   refuse            tensors with problems, or none at all; a source that has changed
 *   write             each changed shard and the index into a temporary beside its target, with the
 *                     old one's attributes, synced and read back
 *   prepare           a record in the journal, durably: from here on the commit is to be finished
 *   finish            renames, the index last; directories synced; staging dropped
 * (finish.c)
 *
 * Before the record any failure removes the temporaries, and neither source nor staging has
 * changed.
 */
#include "commit.h"
#include "io.h"
#include "sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the record ---- */

/* What the commit replaces is what was opened; of an output, what is there now. */
static int old_id(const struct commit_file *f, bool in_output, struct file_id *id)
{
	if (f->source && !in_output) {
		*id = identity_of_file(f->source);
		return 0;
	}
	return identity_of_path(f->path, !f->shard, id);
}

static int add_target(struct commit_prepared *p, const struct commit_file *f, bool in_output)
{
	struct prepared_target *t = &p->targets[p->count++];

	t->in_output = in_output;
	t->text = !f->shard;
	t->name = strdup(f->name);
	t->temporary = strdup(strrchr(f->temporary, '/') + 1);
	t->new = f->id;
	return t->name && t->temporary ? old_id(f, in_output, &t->old) : -ENOMEM;
}

static struct commit_prepared *make_prepared(struct commit_job *job, enum journal_kind kind,
					     struct sft_error *err)
{
	struct commit_prepared *p = calloc(1, sizeof(*p));
	int r = 0;

	if (!p) {
		sft_fail(err, ENOMEM, "no memory for the commit");
		return NULL;
	}
	p->kind = kind;
	p->targets = calloc(job->count + 1, sizeof(*p->targets));
	p->open = job->open;
	job->open = NULL;
	if (!p->targets || !p->open)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < job->count; i++)
		r = add_target(p, &job->files[i], job->ov->options.output);
	if (r == 0)
		return p;
	sft_fail(err, -r, "cannot prepare the commit: %s", strerror(-r));
	commit_prepared_free(p);
	return NULL;
}

/*
 * Shards are locked with their directory, a single file by itself: the new one from before it takes
 * the old one's place, so that at no time somebody else can have it.
 */
static void lock_new_file(struct commit_job *job)
{
	if (sft_checkpoint_is_directory(job->ov->base) || job->count == 0)
		return;
	(void)staging_lock_fd(&job->ov->staging, job->files[0].fd, NULL);
	job->files[0].fd = -1;
}

/* Write the record and do what it says. */
static int prepare_and_finish(struct commit_job *job, enum journal_kind kind, struct sft_error *err)
{
	struct sft_overlay *ov = job->ov;
	struct sft_error e = { 0 };
	struct commit_prepared *p = make_prepared(job, kind, &e);
	int r;

	if (!p)
		return sft_fail(err, e.errnum, "%s", e.msg);
	lock_new_file(job);
	r = sync_prepared(ov, kind, p->targets, p->count, &p->journal_end, err);
	if (r < 0) {
		commit_prepared_free(p);
		return r;
	}
	ov->prepared = p;
	return commit_finish(ov, job->progress, err);
}

/* ---- new files ---- */

static int sync_dirs(const struct commit_job *job, struct sft_error *err)
{
	char **paths = calloc(job->count + 1, sizeof(*paths));
	int r;

	if (!paths)
		return sft_fail(err, ENOMEM, "no memory for the commit");
	for (size_t i = 0; i < job->count; i++)
		paths[i] = job->files[i].path;
	r = commit_sync_dirs(paths, job->count, err);
	free(paths);
	return r;
}

static int replace(struct commit_job *job, struct sft_error *err)
{
	int r = commit_choose_files(job, err);

	for (size_t i = 0; r == 0 && i < job->count; i++)
		r = commit_create(job, &job->files[i], err);
	if (r == 0)
		r = commit_refuse_space(job, err);
	for (size_t i = 0; r == 0 && i < job->count; i++)
		r = commit_write(job, &job->files[i], err);
	for (size_t i = 0; r == 0 && i < job->count; i++)
		r = commit_verify(&job->files[i], err);
	/* Copying may have taken long. */
	if (r == 0)
		r = commit_refuse_stale(job->ov, err);
	/* The temporaries' names too must be there after a power cut, for the record to make sense.
	 */
	if (r == 0)
		r = sync_dirs(job, err);
	return r < 0 ? r : prepare_and_finish(job, JOURNAL_PREPARED_REPLACE, err);
}

static int inplace(struct commit_job *job, struct sft_error *err)
{
	const char *index = sft_checkpoint_index_path(job->ov->base);

	job->open = strdup(index ? index : sft_checkpoint_path(job->ov->base));
	return prepare_and_finish(job, JOURNAL_PREPARED_INPLACE, err);
}

/* Drop what was written, unless a PREPARED record speaks of it. */
static void job_free(struct commit_job *job, bool failed)
{
	const bool remove = failed && !job->ov->prepared;

	for (size_t i = 0; i < job->count; i++) {
		struct commit_file *f = &job->files[i];

		if (remove && f->created)
			(void)io_unlinkat(AT_FDCWD, f->temporary, 0);
		if (f->fd >= 0)
			close(f->fd);
		sft_buf_free(&f->text);
		free(f->name);
		free(f->temporary);
		free(f->path);
	}
	if (remove && job->made) {
		staging_drop_output(&job->ov->staging);
		(void)io_unlinkat(AT_FDCWD, job->made, AT_REMOVEDIR);
	}
	free(job->files);
	free(job->made);
	free(job->open);
	plan_free(&job->plan);
}

/* ---- the whole ---- */

static int commit(struct sft_overlay *ov, const struct sft_commit_options *options, char *note,
		  struct sft_error *err)
{
	struct commit_job job = { .ov = ov, .progress = &options->progress };
	const char *why = NULL;
	int r = plan_make(ov, &job.plan, err);

	if (r == 0 && !options->allow_empty)
		r = commit_refuse_empty(&job, err);
	if (r == 0)
		r = commit_refuse_stale(ov, err);
	if (r == 0)
		r = commit_refuse_limits(&job, err);
	if (r == 0)
		r = sft_overlay_sync(ov, err);
	if (r == 0 && ov->options.inplace)
		r = inplace_prepare(&job, &why, err);
	if (r == 0)
		r = ov->options.inplace && !why ? inplace(&job, err) : replace(&job, err);
	if (note && why)
		snprintf(note, COMMIT_NOTE_SIZE, "%s", why);
	job_free(&job, r < 0);
	return r;
}

int sft_overlay_commit(struct sft_overlay *ov, const struct sft_commit_options *options, char *note,
		       struct sft_error *err)
{
	static const struct sft_commit_options none;
	struct sft_error e = { 0 };
	int r = -ECANCELED;

	options = options ? options : &none;
	if (note)
		note[0] = '\0';
	if (ov->prepared)
		r = commit_finish(ov, &options->progress, &e);
	else if (ov->staging.broken)
		r = journal_broken(&ov->staging, &e);
	else if (!sft_overlay_dirty(ov))
		return 0;
	/* Nothing to finish, or taken back. */
	if (r == -ECANCELED) {
		e = (struct sft_error){ 0 };
		r = commit(ov, options, note, &e);
	}
	if (r == 0)
		return 0;
	staging_result(&ov->staging, e.msg);
	return sft_fail(err, e.errnum, "%s", e.msg);
}
