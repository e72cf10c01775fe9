/*
 * inplace.c - staged bytes into the source itself
 *
 * The staged blocks are durable before the first byte of the source changes, and the journal says
 * that they are being applied. So they are the redo log: whatever is interrupted is done again from
 * the start, and since a block goes to the same place each time and nothing is read from the
 * source, doing it twice is doing it once. That is why pieces that come from elsewhere in the
 * source are refused.
 */
#include "commit.h"
#include "io.h"
#include "sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- may it be done ---- */

static int refuse_moved(void *ctx, const struct commit_piece *p, struct sft_error *err)
{
	const struct sft_file *source = ctx;

	if (p->kind == SFT_REGION_SOURCE && !commit_piece_unchanged(p, source))
		return -EXDEV;
	return 0;
}

static bool same_inode(const struct sft_file *a, const struct sft_file *b)
{
	const struct stat *x = sft_file_stat(a), *y = sft_file_stat(b);

	return x->st_dev == y->st_dev && x->st_ino == y->st_ino;
}

/* Whether a scratch file still shows bytes of a source that would be written to; it may see them
 * through a checkpoint that an earlier commit has replaced. */
static bool scratch_needs(const struct sft_overlay *ov, const struct sft_file *source)
{
	for (uint32_t id = 0; id < ov->count; id++) {
		const struct overlay_entry *e = ov->entries[id];

		if (e->pub.live && e->pub.scratch && e->base && e->base_length &&
		    same_inode(e->base, source))
			return true;
	}
	return false;
}

/* Whether two shards are one file, by links: what is written to one changes the other. */
static bool is_shared(const struct sft_overlay *ov, size_t shard)
{
	const struct sft_file *source = sft_checkpoint_shard(ov->base, shard)->file;

	for (size_t i = 0; i < sft_checkpoint_shards(ov->base); i++) {
		const struct sft_file *other = sft_checkpoint_shard(ov->base, i)->file;

		if (i != shard && other && same_inode(other, source))
			return true;
	}
	return false;
}

static bool is_possible(const struct commit_job *job, const char **why)
{
	const struct sft_overlay *ov = job->ov;

	*why = "output= is another place than the source: writing new files";
	if (ov->options.output)
		return false;
	for (size_t i = 0; i < job->plan.count; i++) {
		const struct plan_shard *s = &job->plan.shards[i];
		const struct sft_file *source = sft_checkpoint_shard(ov->base, i)->file;

		if (!s->changed)
			continue;
		*why = "names, dtypes, shapes or metadata have changed: writing a new file";
		if (!s->same_layout)
			return false;
		*why = "bytes have moved from one tensor to another: writing a new file";
		if (commit_walk(ov, s, refuse_moved, (void *)(uintptr_t)source, NULL) < 0)
			return false;
		*why = "two shards are one file: writing a new file";
		if (is_shared(ov, i))
			return false;
		*why = "scratch files still show the old bytes: writing a new file";
		if (scratch_needs(ov, source))
			return false;
	}
	*why = NULL;
	return true;
}

/* The source of a shard, open for writing: the file that was opened for reading. */
static int open_source(const struct sft_overlay *ov, uint32_t shard, struct sft_error *err)
{
	const struct sft_shard *s = sft_checkpoint_shard(ov->base, shard);
	const struct stat *known = sft_file_stat(s->file);
	int fd = io_openat(AT_FDCWD, sft_file_path(s->file), O_RDWR | O_NOCTTY, 0);
	struct stat st;

	if (fd < 0)
		return sft_fail(err, -fd, "%s: cannot be opened for writing: %s", s->name,
				strerror(-fd));
	/* Not the time: an interrupted application has changed it. */
	if (fstat(fd, &st) == 0 && st.st_dev == known->st_dev && st.st_ino == known->st_ino &&
	    st.st_size == known->st_size)
		return fd;
	close(fd);
	return sft_fail(err, ESTALE, "%s: is not the file that was opened", s->name);
}

/* Open and measure the sources of what changed, then see whether all that they need is there. */
static int measure_rooms(const struct commit_job *job, struct inplace_room *rooms, const char **why,
			 struct sft_error *err)
{
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < job->plan.count; i++) {
		const struct plan_shard *s = &job->plan.shards[i];

		if (!s->changed)
			continue;
		rooms[n].fd = open_source(job->ov, (uint32_t)i, err);
		if (rooms[n].fd < 0)
			return rooms[n].fd;
		r = inplace_room_measure(&rooms[n++], job, s, err);
	}
	return r < 0 ? r : inplace_room_refuse(rooms, n, why, err);
}

static int take_rooms(const struct commit_job *job, struct inplace_room *rooms, const char **why,
		      struct sft_error *err)
{
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && !*why && i < job->plan.count; i++) {
		const struct plan_shard *s = &job->plan.shards[i];

		if (!s->changed)
			continue;
		r = inplace_room_take(&rooms[n++], job, s, why, err);
		if (r < 0)
			sft_wrap(err, "%s", sft_checkpoint_shard(job->ov->base, i)->name);
	}
	return r;
}

/*
 * Take the room that is needed. That changes the times of the sources for a moment, which the
 * journal says for as long, so that they are known again if we die before they are put back.
 */
static int note_and_take(const struct commit_job *job, struct inplace_room *rooms, const char **why,
			 struct sft_error *err)
{
	bool any = false;
	uint64_t end;
	int r, back;

	for (size_t i = 0; i < job->plan.count; i++)
		any = any || rooms[i].need;
	if (!any)
		return 0;
	r = sync_prepared(job->ov, JOURNAL_PREPARED_ROOM, NULL, 0, &end, err);
	if (r < 0)
		return r;
	r = take_rooms(job, rooms, why, err);
	back = journal_take_back(&job->ov->staging, end, r < 0 ? NULL : err);
	return r < 0 ? r : back;
}

int inplace_prepare(const struct commit_job *job, const char **why, struct sft_error *err)
{
	struct inplace_room *rooms;
	int r;

	if (!is_possible(job, why))
		return 0;
	rooms = calloc(job->plan.count + 1, sizeof(*rooms));
	if (!rooms)
		return sft_fail(err, ENOMEM, "no memory for the commit");
	for (size_t i = 0; i < job->plan.count; i++)
		rooms[i].fd = -1;
	r = measure_rooms(job, rooms, why, err);
	if (r == 0 && !*why)
		r = note_and_take(job, rooms, why, err);
	for (size_t i = 0; i < job->plan.count; i++) {
		if (rooms[i].fd >= 0)
			close(rooms[i].fd);
	}
	free(rooms);
	return r;
}

/* ---- doing it ---- */

struct apply {
	struct commit_job *job;
	const struct sft_file *source;
	const char *name;
	int fd;
};

static int measure(void *ctx, const struct commit_piece *p, struct sft_error *err)
{
	struct apply *a = ctx;

	if (p->kind != SFT_REGION_SOURCE)
		a->job->total += p->length;
	else if (!commit_piece_unchanged(p, a->source))
		return sft_fail(err, EINVAL, "%s: bytes have moved: this cannot be done in place",
				a->name);
	return 0;
}

static int apply(void *ctx, const struct commit_piece *p, struct sft_error *err)
{
	struct apply *a = ctx;
	int r = 0;

	if (p->kind == SFT_REGION_STAGED) {
		r = io_copy(a->job->ov->staging.blocks, p->in, a->fd, p->out, p->length,
			    commit_step, a->job);
	} else if (p->kind == SFT_REGION_ZERO) {
		r = commit_zero(a->fd, p->out, p->length);
		commit_step(a->job, p->length);
	}
	return r < 0 ? sft_fail(err, -r, "%s: cannot write %llu bytes at byte %llu: %s", a->name,
				(unsigned long long)p->length, (unsigned long long)p->out,
				strerror(-r))
		     : 0;
}

/* Measure a shard, or write and sync it. */
static int apply_shard(struct commit_job *job, const struct plan_shard *s, bool write,
		       struct sft_error *err)
{
	const struct sft_shard *shard = sft_checkpoint_shard(job->ov->base, s->shard);
	struct apply a = { job, shard->file, shard->name, -1 };
	int r;

	if (!s->changed)
		return 0;
	if (!s->same_layout)
		return sft_fail(err, EINVAL, "%s: its layout has changed", shard->name);
	if (!write)
		return commit_walk(job->ov, s, measure, &a, err);
	a.fd = open_source(job->ov, s->shard, err);
	if (a.fd < 0)
		return a.fd;
	r = commit_walk(job->ov, s, apply, &a, err);
	if (r == 0) {
		r = io_fsync(a.fd);
		if (r < 0)
			sft_fail(err, -r, "%s: cannot be synced: %s", shard->name, strerror(-r));
	}
	close(a.fd);
	return r;
}

int inplace_apply(struct sft_overlay *ov, const struct sft_progress *progress,
		  struct sft_error *err)
{
	struct commit_job job = { .ov = ov, .progress = progress };
	int r = plan_make(ov, &job.plan, err);

	for (size_t i = 0; r == 0 && i < job.plan.count; i++)
		r = apply_shard(&job, &job.plan.shards[i], false, err);
	for (size_t i = 0; r == 0 && i < job.plan.count; i++)
		r = apply_shard(&job, &job.plan.shards[i], true, err);
	plan_free(&job.plan);
	return r;
}
