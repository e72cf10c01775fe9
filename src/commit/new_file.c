/*
 * new_file.c - a planned shard into its temporary, and the reading back of it
 *
 * The plan's tensors are walked in the order of the new file as pieces: unchanged bytes of the
 * source, staged blocks, zeros. What the walk gives is first measured (space, progress), then
 * written.
 */
#include "commit.h"
#include "file.h"
#include "io.h"
#include "weight_map.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REPORT_BYTES (4u << 20)

void commit_step(void *ctx, uint64_t n)
{
	struct commit_job *job = ctx;

	job->done += n;
	if (!job->progress || !job->progress->report)
		return;
	if (job->done - job->reported < REPORT_BYTES && job->done < job->total)
		return;
	job->reported = job->done;
	job->progress->report(job->progress->ctx, job->done, job->total);
}

/* ---- the pieces of a new file ---- */

struct walk {
	commit_visit *visit;
	void *ctx;
	struct commit_piece piece; /* not visited yet */
};

static int flush(struct walk *w, struct sft_error *err)
{
	int r = w->piece.length ? w->visit(w->ctx, &w->piece, err) : 0;

	w->piece.length = 0;
	return r;
}

/* The next bytes of the new file: a piece of their own, or more of the last one. */
static int push(struct walk *w, const struct sft_region *region, uint64_t out,
		struct sft_error *err)
{
	struct commit_piece *p = &w->piece;
	const struct sft_region last = { p->kind, p->file, p->in, p->length };
	int r = 0;

	if (p->length && plan_region_goes_on(&last, region)) {
		p->length += region->length;
		return 0;
	}
	r = flush(w, err);
	*p = (struct commit_piece){ region->kind, region->file, region->offset, out,
				    region->length };
	return r;
}

static int push_tensor(struct walk *w, const struct sft_overlay *ov, const struct plan_shard *s,
		       const struct plan_tensor *t, struct sft_error *err)
{
	uint64_t done = 0, at = s->header_length + t->h.begin;
	struct sft_quoted q;
	int r = 0;

	while (r == 0 && done < t->h.nbytes) {
		struct sft_region regions[64];
		size_t n = plan_regions(ov->base, ov, t->id, t->committed, done, t->h.nbytes - done,
					regions, 64);

		if (n == 0)
			return sft_fail(err, EIO, "tensor %s: its bytes end before %llu",
					sft_quote(&q, t->h.name, t->h.name_len),
					(unsigned long long)t->h.nbytes);
		for (size_t i = 0; r == 0 && i < n; i++) {
			r = push(w, &regions[i], at + done, err);
			done += regions[i].length;
		}
	}
	return r;
}

int commit_walk(const struct sft_overlay *ov, const struct plan_shard *s, commit_visit *visit,
		void *ctx, struct sft_error *err)
{
	struct walk w = { .visit = visit, .ctx = ctx };
	struct sft_region kept = { SFT_REGION_SOURCE,
				   sft_checkpoint_shard(ov->base, s->shard)->file, 0,
				   s->changed ? s->header_length : s->file_size };
	int r = s->same_layout ? push(&w, &kept, 0, err) : 0;

	for (size_t i = 0; r == 0 && s->changed && i < s->count; i++)
		r = push_tensor(&w, ov, s, &s->tensors[i], err);
	return r < 0 ? r : flush(&w, err);
}

bool commit_piece_unchanged(const struct commit_piece *p, const struct sft_file *source)
{
	return p->kind == SFT_REGION_SOURCE && p->file == source && p->in == p->out;
}

/* ---- sources with holes ---- */

static bool has_holes(const struct sft_file *file)
{
	const struct stat *st = sft_file_stat(file);

	return (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
}

/*
 * The first stretch of data in [*at, end) of a file: *at and *length are set to it; false where
 * only a hole is left. A file system that cannot say has no holes. (One that was truncated
 * meanwhile has nothing but a hole: what follows the copying finds that out by the file's size and
 * time.)
 */
static bool next_data(const struct sft_file *file, uint64_t *at, uint64_t end, uint64_t *length)
{
	off_t data, hole;

	*length = end - *at;
	if (*at >= end)
		return false;
	if (!has_holes(file))
		return true;
	data = lseek(sft_file_fd(file), (off_t)*at, SEEK_DATA);
	if (data < 0)
		return errno != ENXIO;
	if ((uint64_t)data >= end)
		return false;
	hole = lseek(sft_file_fd(file), data, SEEK_HOLE);
	*at = (uint64_t)data;
	*length = (hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole) - *at;
	return true;
}

/* ---- measuring ---- */

struct measure {
	struct commit_file *file;
	uint64_t bytes, need;
};

static int measure(void *ctx, const struct commit_piece *p, struct sft_error *err)
{
	struct measure *m = ctx;
	const struct commit_file *f = m->file;
	uint64_t at = p->in, length;

	(void)err;
	if (p->kind == SFT_REGION_ZERO || (f->cloned && commit_piece_unchanged(p, f->source)))
		return 0;
	if (p->kind == SFT_REGION_STAGED) {
		m->bytes += p->length;
		m->need += p->length;
		return 0;
	}
	for (; next_data(p->file, &at, p->in + p->length, &length); at += length) {
		m->bytes += length;
		/* Blocks that lie alike in both files will be shared, but for both ends. */
		if (f->reflinks && p->file == f->source && (p->in - p->out) % f->block == 0)
			m->need += length < 2ull * f->block ? length : 2ull * f->block;
		else
			m->need += length;
	}
	return 0;
}

/* ---- writing ---- */

struct writer {
	struct commit_job *job;
	const struct commit_file *file;
	int fd;
};

int commit_zero(int fd, uint64_t offset, uint64_t n)
{
	static const char zeros[65536];
	int r = TEMP_FAILURE_RETRY(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)n));

	if (r == 0 || n == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	for (r = 0; r == 0 && n;) {
		size_t part = n < sizeof(zeros) ? (size_t)n : sizeof(zeros);

		r = io_pwrite(fd, zeros, part, offset);
		offset += part;
		n -= part;
	}
	return r;
}

/* Copy in two steps where that lets the second one share blocks. */
static int copy(const struct writer *w, int in, uint64_t from, uint64_t to, uint64_t n)
{
	const uint64_t block = w->file->block;
	uint64_t head = 0;
	int r = 0;

	if (w->file->reflinks && (from - to) % block == 0 && from % block != 0) {
		head = block - from % block;
		head = head < n ? head : n;
		r = io_copy(in, from, w->fd, to, head, commit_step, w->job);
	}
	if (r == 0 && n > head)
		r = io_copy(in, from + head, w->fd, to + head, n - head, commit_step, w->job);
	return r;
}

static int write_source(const struct writer *w, const struct commit_piece *p)
{
	uint64_t at = p->in, end = p->in + p->length, length;
	int r = 0;

	/* Holes stay holes; but in a clone there may be other bytes where they should be. */
	if (w->file->cloned)
		return copy(w, sft_file_fd(p->file), p->in, p->out, p->length);
	for (; r == 0 && next_data(p->file, &at, end, &length); at += length)
		r = copy(w, sft_file_fd(p->file), at, p->out + (at - p->in), length);
	return r;
}

static int write_piece(void *ctx, const struct commit_piece *p, struct sft_error *err)
{
	const struct writer *w = ctx;
	const struct commit_file *f = w->file;
	int r = 0;

	if (f->cloned && commit_piece_unchanged(p, f->source))
		return 0;
	switch (p->kind) {
	case SFT_REGION_SOURCE:
		r = write_source(w, p);
		break;
	case SFT_REGION_STAGED:
		r = copy(w, w->job->ov->staging.blocks, p->in, p->out, p->length);
		break;
	case SFT_REGION_ZERO: /* a new file is all zeros */
		r = f->cloned ? commit_zero(w->fd, p->out, p->length) : 0;
		break;
	}
	return r < 0 ? sft_fail(err, -r, "cannot write %s: %s", f->temporary, strerror(-r)) : 0;
}

static int write_shard(struct commit_job *job, const struct commit_file *f, int fd,
		       struct sft_error *err)
{
	const struct plan_shard *s = f->shard;
	struct writer w = { job, f, fd };
	int r = 0;

	if (!f->cloned)
		r = io_ftruncate(fd, s->file_size);
	if (r == 0 && s->header) {
		r = io_pwrite(fd, s->header, s->header_length, 0);
		commit_step(job, s->header_length);
	}
	if (r < 0)
		return sft_fail(err, -r, "cannot write %s: %s", f->temporary, strerror(-r));
	return commit_walk(job->ov, s, write_piece, &w, err);
}

static int write_index(struct commit_job *job, const struct commit_file *f, int fd,
		       struct sft_error *err)
{
	int r = io_pwrite(fd, f->text.data, f->text.len, 0);

	commit_step(job, f->text.len);
	return r < 0 ? sft_fail(err, -r, "cannot write %s: %s", f->temporary, strerror(-r)) : 0;
}

static int copy_index_attributes(const struct commit_job *job, int to, struct sft_error *err)
{
	int from = open(sft_checkpoint_index_path(job->ov->base), O_RDONLY | O_CLOEXEC);
	int r;

	if (from < 0)
		return sft_fail(err, errno, "cannot open the index: %s", strerror(errno));
	r = commit_copy_attributes(from, to, err);
	close(from);
	return r;
}

int commit_write(struct commit_job *job, struct commit_file *f, struct sft_error *err)
{
	const int fd = f->fd;
	int r;

	r = f->shard ? write_shard(job, f, fd, err) : write_index(job, f, fd, err);
	if (r == 0)
		r = f->shard ? commit_copy_attributes(sft_file_fd(f->source), fd, err)
			     : copy_index_attributes(job, fd, err);
	if (r == 0) {
		r = io_fsync(fd);
		if (r < 0)
			sft_fail(err, -r, "cannot sync %s: %s", f->temporary, strerror(-r));
	}
	return r;
}

/* ---- before ---- */

/* Share the source's blocks where that can be: all of the file for the same layout; else only to
 * see whether ranges could be shared. */
static int try_clone(struct commit_file *f, int fd, struct sft_error *err)
{
	struct stat st;
	int r = 0;

	if (fstat(fd, &st) == 0 && st.st_blksize > 0)
		f->block = (uint32_t)st.st_blksize;
	if (!f->source || TEMP_FAILURE_RETRY(ioctl(fd, FICLONE, sft_file_fd(f->source))) < 0)
		return 0;
	f->reflinks = true;
	f->cloned = f->shard->same_layout;
	if (!f->cloned)
		r = io_ftruncate(fd, 0);
	return r < 0 ? sft_fail(err, -r, "cannot truncate %s: %s", f->temporary, strerror(-r)) : 0;
}

int commit_create(struct commit_job *job, struct commit_file *f, struct sft_error *err)
{
	struct measure m = { .file = f, .bytes = f->text.len, .need = f->text.len };
	int fd, r = io_unlinkat(AT_FDCWD, f->temporary, 0);

	if (r < 0 && r != -ENOENT)
		return sft_fail(err, -r, "cannot remove %s: %s", f->temporary, strerror(-r));
	fd = io_openat(AT_FDCWD, f->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0)
		return sft_fail(err, -fd, "cannot create %s: %s", f->temporary, strerror(-fd));
	f->created = true;
	f->fd = fd;
	f->block = 4096;
	r = try_clone(f, fd, err);
	if (r == 0 && f->shard) {
		m.bytes = m.need = f->shard->header ? f->shard->header_length : 0;
		r = commit_walk(job->ov, f->shard, measure, &m, err);
	}
	f->bytes = m.bytes;
	f->need = m.need;
	job->total += m.bytes;
	return r;
}

/* ---- after ---- */

static bool as_planned(const struct plan_tensor *t, const struct sft_tensor *found)
{
	return found && found->dtype == t->h.dtype && found->rank == t->h.rank &&
	       found->begin == t->h.begin && found->nbytes == t->h.nbytes &&
	       (t->h.rank == 0 ||
		memcmp(found->shape, t->h.shape, t->h.rank * sizeof(*t->h.shape)) == 0);
}

static int compare_with_plan(const struct commit_file *f, const struct sft_index *index,
			     struct sft_error *err)
{
	const struct plan_shard *s = f->shard;
	struct sft_quoted q;

	if (f->id.size != s->file_size)
		return sft_fail(err, EIO, "read back, %s has %llu bytes instead of %llu",
				f->temporary, (unsigned long long)f->id.size,
				(unsigned long long)s->file_size);
	if (sft_index_count(index) != s->count)
		return sft_fail(err, EIO, "read back, %s has %zu tensors instead of %zu",
				f->temporary, sft_index_count(index), s->count);
	for (size_t i = 0; i < s->count; i++) {
		const struct plan_tensor *t = &s->tensors[i];

		if (!as_planned(t, sft_index_find(index, t->h.name, t->h.name_len)))
			return sft_fail(err, EIO,
					"read back, %s does not have tensor %s as it was written",
					f->temporary, sft_quote(&q, t->h.name, t->h.name_len));
	}
	return 0;
}

static int verify_index(struct commit_file *f, struct sft_error *err)
{
	struct weight_map map = { 0 };
	struct sft_error e = { 0 };
	char *text;
	int r;

	if (f->id.size != f->text.len)
		return sft_fail(err, EIO, "read back, %s has %llu bytes instead of %zu",
				f->temporary, (unsigned long long)f->id.size, f->text.len);
	text = malloc(f->text.len + 1);
	r = text ? io_pread(f->fd, text, f->text.len, 0) : -ENOMEM;
	if (r < 0)
		sft_fail(&e, -r, "%s", strerror(-r));
	else
		weight_map_parse(&map, text, f->text.len, &e);
	weight_map_free(&map);
	free(text);
	return e.errnum ? sft_fail(err, e.errnum, "cannot read back %s: %s", f->temporary, e.msg)
			: 0;
}

static int verify_shard(struct commit_file *f, struct sft_error *err)
{
	struct sft_error e = { 0 };
	struct sft_file *file;
	int fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0), r;

	if (fd < 0)
		return sft_fail(err, errno, "cannot read back %s: %s", f->temporary,
				strerror(errno));
	if (sft_file_open_fd(fd, f->temporary, f->shard->shard, &file, &e) < 0)
		return sft_fail(err, e.errnum, "cannot read back %s: %s", f->temporary, e.msg);
	r = compare_with_plan(f, sft_file_index(file), err);
	sft_file_free(file);
	return r;
}

int commit_verify(struct commit_file *f, struct sft_error *err)
{
	int r = identity_of_fd(f->fd, !f->shard, &f->id);

	if (r < 0)
		return sft_fail(err, -r, "cannot read back %s: %s", f->temporary, strerror(-r));
	return f->shard ? verify_shard(f, err) : verify_index(f, err);
}
