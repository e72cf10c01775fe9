/*
 * sync.c - appending to the journal and making it durable
 *
 * A frame is appended with one write at the end of the whole frames. If that fails, the file is cut
 * back to there, so that no later frame can follow a torn one.
 */
#include "journal.h"
#include "hash.h"
#include "num.h"
#include "overlay_state.h"
#include "slots.h"

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
	journal_u64(b, bytes_hash(b->buf.data, b->buf.len, offset));
}

void journal_free(struct journal_batch *b)
{
	sft_buf_free(&b->buf);
	sft_buf_free(&b->bound);
}

uint32_t journal_id(struct sft_overlay *ov, struct journal_batch *b, uint32_t id)
{
	struct overlay_entry *e = ov->entries[id];
	const struct sft_tensor *t = e->pub.committed;

	if (e->journal_id != SFT_NO_ID)
		return e->journal_id;
	sft_buf_add(&b->bound, &id, sizeof(id));
	if (b->bound.failed) { /* it could not be taken back: the batch must not be written */
		b->buf.failed = true;
		return SFT_NO_ID;
	}
	e->journal_id = ov->next_journal_id++;
	journal_start(b, JOURNAL_BIND);
	journal_u32(b, e->journal_id);
	journal_u32(b, t->shard);
	journal_string(b, t->name, t->name_len);
	journal_finish(b);
	return e->journal_id;
}

void journal_put_create(struct journal_batch *b, uint32_t id, const struct overlay_entry *e)
{
	journal_start(b, JOURNAL_CREATE);
	journal_u32(b, id);
	journal_u32(b, e->pub.shard);
	journal_u32(b, e->pub.scratch);
	journal_string(b, e->pub.name, e->pub.name_len);
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

int journal_broken(const struct sft_overlay *ov, struct sft_error *err)
{
	const struct staging *s = &ov->staging;

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

/* What the batch binds, the journal does not know after all. */
static void unbind(struct sft_overlay *ov, const struct journal_batch *b)
{
	for (size_t at = 0; !b->bound.failed && at < b->bound.len; at += sizeof(uint32_t)) {
		uint32_t id;

		memcpy(&id, b->bound.data + at, sizeof(id));
		ov->entries[id]->journal_id = SFT_NO_ID;
	}
}

int journal_append(struct sft_overlay *ov, struct journal_batch *b, struct sft_error *err)
{
	int r = write_batch(&ov->staging, b);

	if (r < 0)
		unbind(ov, b);
	journal_free(b);
	return r < 0 ? sft_fail(err, -r, "cannot write the journal in %s: %s", ov->staging.path,
				strerror(-r))
		     : 0;
}

/* ---- durable ---- */

/* A failed fsync has thrown away what it could not write: nothing may be built on it. */
static int sync_failed(struct sft_overlay *ov, int r, struct sft_error *err)
{
	ov->staging.broken = true;
	return sft_fail(err, -r, "cannot make the edits in %s durable: %s", ov->staging.path,
			strerror(-r));
}

int journal_sync_links(const struct staging *s)
{
	char *parent = io_dirname(s->path);
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
static int sync_journal(struct sft_overlay *ov, struct sft_error *err)
{
	int r = io_fdatasync(ov->staging.journal);

	return r < 0 ? sync_failed(ov, r, err) : 0;
}

/* What nobody finds any more is not durable: somebody has removed the staging under us. */
int journal_check_links(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	struct stat st;

	if ((fstat(s->journal, &st) == 0 && st.st_nlink == 0) ||
	    (fstat(s->blocks, &st) == 0 && st.st_nlink == 0) ||
	    (fstat(ov->claim.lock, &st) == 0 && st.st_nlink == 0))
		s->broken = s->removed = true;
	return s->broken ? journal_broken(ov, err) : 0;
}

int sft_overlay_sync(struct sft_overlay *ov, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	struct staging *s = &ov->staging;
	int r = 0;

	if (s->broken)
		return journal_broken(ov, err);
	if (s->journal < 0)
		return 0;
	r = journal_check_links(ov, err);
	if (r < 0)
		return r;
	if (s->rewrite)
		return journal_rewrite(ov, err);
	if (s->synced_end == s->journal_end)
		return 0;
	if (s->stale_blocks)
		r = io_fdatasync(s->blocks);
	if (r < 0)
		return sync_failed(ov, r, err);
	s->stale_blocks = false;
	journal_start(&b, JOURNAL_SYNC);
	journal_finish(&b);
	r = journal_append(ov, &b, err);
	if (r == 0)
		r = sync_journal(ov, err);
	if (r < 0)
		return r;
	s->synced_end = s->journal_end;
	slots_synced(&ov->slots);
	return 0;
}

/* Append one batch and make it durable; where that fails, take it back as far as that can be done.
 */
static int append_durably(struct sft_overlay *ov, struct journal_batch *b, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	uint64_t before = s->journal_end;
	int r = journal_append(ov, b, err);

	if (r < 0)
		return r;
	r = sync_journal(ov, err);
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

int journal_prepared(struct sft_overlay *ov, enum journal_kind kind,
		     const struct commit_target *targets, size_t count, uint64_t *end,
		     struct sft_error *err)
{
	struct journal_batch b = { 0 };
	int r = ov->staging.journal < 0 ? edit_begin(ov, err) : 0;

	if (r == 0)
		r = sft_overlay_sync(ov, err);
	if (r < 0)
		return r;
	*end = ov->staging.journal_end;
	journal_start(&b, JOURNAL_PREPARED);
	journal_u32(&b, kind);
	journal_u32(&b, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		journal_u32(&b, (targets[i].in_output ? JOURNAL_IN_OUTPUT : 0u) |
					(targets[i].text ? JOURNAL_IS_TEXT : 0u));
		journal_string(&b, targets[i].name, strlen(targets[i].name));
		journal_string(&b, targets[i].temporary, strlen(targets[i].temporary));
		identity_put_id(&b, &targets[i].old);
		identity_put_id(&b, &targets[i].new);
	}
	journal_finish(&b);
	return append_durably(ov, &b, err);
}

int journal_take_back(struct sft_overlay *ov, uint64_t end, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	int r = io_ftruncate(s->journal, end);

	if (r == 0)
		r = io_fsync(s->journal);
	if (r < 0)
		return sync_failed(ov, r, err);
	s->journal_end = s->synced_end = end;
	s->allocated = 0;
	return 0;
}
