/*
 * journal_write.c - building records, appending them to the journal, making it durable
 *
 * A frame is appended with one write at the end of the whole frames. If that fails, the file is cut
 * back to there, so that no later frame can follow a torn one.
 */
#include "hash.h"
#include "io.h"
#include "num.h"
#include "path.h"
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ALLOCATE_AHEAD (64u << 10) /* bytes, so that a SYNC finds room on a full disk */

/* ---- building ---- */

void journal_start(struct journal_batch *b, enum journal_type type)
{
	if (b->buf.len == 0) {
		journal_u32(b, 0);
		journal_u32(b, JOURNAL_MAGIC);
	}
	b->start = b->buf.len;
	journal_u32(b, type);
	journal_u32(b, 0);
}

void journal_u32(struct journal_batch *b, uint32_t v)
{
	unsigned char bytes[8];

	sft_put_le64(bytes, v);
	sft_buf_add(&b->buf, bytes, 4);
}

void journal_u64(struct journal_batch *b, uint64_t v)
{
	unsigned char bytes[8];

	sft_put_le64(bytes, v);
	sft_buf_add(&b->buf, bytes, 8);
}

void journal_string(struct journal_batch *b, const char *s, size_t len)
{
	journal_u32(b, (uint32_t)len);
	sft_buf_add(&b->buf, s, len);
}

/* Put a length in front of what follows it. */
static void put_length(struct journal_batch *b, size_t at, size_t length)
{
	unsigned char bytes[8];

	sft_put_le64(bytes, length);
	memcpy(b->buf.data + at, bytes, 4);
}

void journal_finish(struct journal_batch *b)
{
	if (!b->buf.failed)
		put_length(b, b->start + 4, b->buf.len - b->start - 8);
}

void journal_close_frame(struct journal_batch *b, uint64_t offset)
{
	if (b->buf.failed || b->buf.len == 0)
		return;
	put_length(b, 0, b->buf.len - 8);
	journal_u64(b, hash_bytes(b->buf.data, b->buf.len, offset));
}

void journal_free(struct journal_batch *b)
{
	sft_buf_free(&b->buf);
	sft_buf_free(&b->bound);
}

void journal_put_bind(struct journal_batch *b, uint32_t id, const struct sft_tensor *t)
{
	journal_start(b, JOURNAL_BIND);
	journal_u32(b, id);
	journal_u32(b, t->shard);
	journal_string(b, t->name, t->name_len);
	journal_finish(b);
}

void journal_put_create(struct journal_batch *b, uint32_t id, uint32_t shard, bool scratch,
			const char *name, size_t len)
{
	journal_start(b, JOURNAL_CREATE);
	journal_u32(b, id);
	journal_u32(b, shard);
	journal_u32(b, scratch);
	journal_string(b, name, len);
	journal_finish(b);
}

void journal_put_length(struct journal_batch *b, uint32_t id, uint64_t length)
{
	journal_start(b, JOURNAL_LENGTH);
	journal_u32(b, id);
	journal_u64(b, length);
	journal_finish(b);
}

void journal_put_declare(struct journal_batch *b, uint32_t id, uint8_t dtype, const uint64_t *shape,
			 uint32_t rank)
{
	journal_start(b, JOURNAL_DECLARE);
	journal_u32(b, id);
	journal_u32(b, dtype);
	journal_u32(b, rank);
	for (uint32_t i = 0; i < rank; i++)
		journal_u64(b, shape[i]);
	journal_finish(b);
}

void journal_put_rename(struct journal_batch *b, uint32_t id, uint32_t shard, bool scratch,
			const char *name, size_t len)
{
	journal_start(b, JOURNAL_RENAME);
	journal_u32(b, id);
	journal_u32(b, shard);
	journal_u32(b, scratch);
	journal_string(b, name, len);
	journal_finish(b);
}

void journal_put_metadata(struct journal_batch *b, uint32_t shard,
			  const struct sft_metadata *metadata)
{
	journal_start(b, JOURNAL_METADATA);
	journal_u32(b, shard);
	journal_u32(b, metadata->present);
	journal_u32(b, metadata->count);
	for (uint32_t i = 0; i < metadata->count; i++) {
		journal_string(b, metadata->pairs[i].key, metadata->pairs[i].key_len);
		journal_string(b, metadata->pairs[i].value, metadata->pairs[i].value_len);
	}
	journal_finish(b);
}

/* ---- appending ---- */

int journal_broken(const struct staging *s, struct sft_error *err)
{

	if (s->removed)
		return sft_fail(err, EIO,
				"the staging in %s was removed by somebody else, so it takes no "
				"more edits; what is shown is not on disk any more: copy it",
				s->path);
	return sft_fail(err, EIO,
			"the staging in %s failed before, so it takes no more edits; what was "
			"staged until then is kept, and a new mount resumes it",
			s->path);
}

/* Have some room after the end. Best effort: without it a full disk is noticed later. */
static void allocate(struct staging *s, uint64_t end)
{
	if (end <= s->allocated)
		return;
	s->allocated = end + ALLOCATE_AHEAD;
	while (fallocate(s->journal, FALLOC_FL_KEEP_SIZE, (off_t)end, ALLOCATE_AHEAD) < 0 &&
	       errno == EINTR)
		;
}

/* Write the batch at the end of the journal; on failure cut it back. */
static int write_batch(struct staging *s, struct journal_batch *b)
{
	const struct sft_buf *buf = &b->buf;
	int r;

	journal_close_frame(b, s->journal_end);
	if (buf->failed)
		return -ENOMEM;
	if (buf->len > JOURNAL_FRAME_MAX)
		return -EFBIG;
	r = io_pwrite(s->journal, buf->data, buf->len, s->journal_end);
	if (r < 0) {
		if (io_ftruncate(s->journal, s->journal_end) < 0)
			s->broken = true;
		s->allocated = 0;
		return r;
	}
	s->journal_end += buf->len;
	allocate(s, s->journal_end);
	return 0;
}

int journal_append(struct staging *s, struct journal_batch *b, struct sft_error *err)
{
	int r = write_batch(s, b);

	return r < 0 ? sft_fail(err, -r, "cannot write the journal in %s: %s", s->path,
				strerror(-r))
		     : 0;
}

/* ---- durable ---- */

/* A failed fsync has thrown away what it could not write: nothing may be built on it. */
int journal_sync_failed(struct staging *s, int r, struct sft_error *err)
{
	s->broken = true;
	return sft_fail(err, -r, "cannot make the edits in %s durable: %s", s->path, strerror(-r));
}

int journal_sync_links(const struct staging *s)
{
	char *parent = path_dirname(s->path);
	int r = parent ? io_fsync(s->dir) : -ENOMEM;

	if (r == -EINVAL)
		r = 0;
	if (r == 0)
		r = io_fsync_dir(parent);
	free(parent);
	/* To search a directory is enough to have one in it; reading it may be forbidden. */
	return r == -EACCES ? 0 : r;
}

/* The journal as far as it is written; its name is durable since it was made. */
int journal_sync(struct staging *s, struct sft_error *err)
{
	int r = io_fdatasync(s->journal);

	return r < 0 ? journal_sync_failed(s, r, err) : 0;
}

/* What nobody finds any more is not durable: somebody has removed the staging under us. */
int journal_check_links(struct staging *s, struct sft_error *err)
{
	struct stat st;

	if ((fstat(s->journal, &st) == 0 && st.st_nlink == 0) ||
	    (fstat(s->blocks, &st) == 0 && st.st_nlink == 0) ||
	    (fstat(s->claim.lock, &st) == 0 && st.st_nlink == 0))
		s->broken = s->removed = true;
	return s->broken ? journal_broken(s, err) : 0;
}

/* Append one batch and make it durable; where that fails, take it back as far as that can be done.
 */
int journal_append_durably(struct staging *s, struct journal_batch *b, struct sft_error *err)
{
	uint64_t before = s->journal_end;
	int r = journal_append(s, b, err);

	journal_free(b);
	if (r < 0)
		return r;
	r = journal_sync(s, err);
	if (r == 0) {
		s->synced_end = s->journal_end;
		return 0;
	}
	if (io_ftruncate(s->journal, before) == 0) {
		s->journal_end = before;
		(void)io_fdatasync(s->journal);
	}
	return r;
}

int journal_take_back(struct staging *s, uint64_t end, struct sft_error *err)
{
	int r = io_ftruncate(s->journal, end);

	if (r == 0)
		r = io_fsync(s->journal);
	if (r < 0)
		return journal_sync_failed(s, r, err);
	s->journal_end = s->synced_end = end;
	s->allocated = 0;
	return 0;
}
