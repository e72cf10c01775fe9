/*
 * sync.c - the overlay's changes in the journal, and when they are durable
 */
#include "sync.h"
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PENDING_MAX 256u /* slots (16 MiB) that may wait for a sync before we do one for them */

/* ---- appending ---- */

uint32_t sync_bind(struct sft_overlay *ov, struct journal_batch *b, uint32_t id)
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
	journal_put_bind(b, e->journal_id, t);
	return e->journal_id;
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

int sync_append(struct sft_overlay *ov, struct journal_batch *b, struct sft_error *err)
{
	int r = journal_append(&ov->staging, b, err);

	if (r < 0)
		unbind(ov, b);
	journal_free(b);
	return r;
}

/* ---- durable ---- */

int sft_overlay_sync(struct sft_overlay *ov, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	struct staging *s = &ov->staging;
	int r = 0;

	if (s->broken)
		return journal_broken(s, err);
	if (s->journal < 0)
		return 0;
	r = journal_check_links(s, err);
	if (r < 0)
		return r;
	if (s->rewrite)
		return compact_journal(ov, err);
	if (s->synced_end == s->journal_end)
		return 0;
	if (s->stale_blocks)
		r = io_fdatasync(s->blocks);
	if (r < 0)
		return journal_sync_failed(s, r, err);
	s->stale_blocks = false;
	journal_start(&b, JOURNAL_SYNC);
	journal_finish(&b);
	r = sync_append(ov, &b, err);
	if (r == 0)
		r = journal_sync(s, err);
	if (r < 0)
		return r;
	s->synced_end = s->journal_end;
	slots_synced(&ov->slots);
	return 0;
}

/* ---- around an edit, and a commit ---- */

int sync_begin_edit(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;

	if (s->broken)
		return journal_broken(s, err);
	if (s->journal >= 0)
		return journal_check_links(s, err);
	if (s->blocks < 0) {
		int fd = io_openat(s->dir, "blocks", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);

		if (fd < 0)
			return sft_fail(err, -fd, "cannot stage in %s: %s", s->path, strerror(-fd));
		s->blocks = fd;
	}
	return compact_journal(ov, err);
}

void sync_end_edit(struct sft_overlay *ov)
{
	struct staging *s = &ov->staging;

	if (s->broken)
		return;
	if (ov->slots.pending_count > PENDING_MAX)
		(void)sft_overlay_sync(ov, NULL);
	else if (s->journal_end > s->rewrite_at && compact_journal(ov, NULL) < 0)
		s->rewrite_at = s->journal_end * 2;
	slots_reclaim(&ov->slots, s->blocks, false);
}

int sync_prepared(struct sft_overlay *ov, enum journal_kind kind,
		  const struct prepared_target *targets, size_t count, uint64_t *end,
		  struct sft_error *err)
{
	struct journal_batch b = { 0 };
	int r = ov->staging.journal < 0 ? sync_begin_edit(ov, err) : 0;

	if (r == 0)
		r = sft_overlay_sync(ov, err);
	if (r < 0)
		return r;
	*end = ov->staging.journal_end;
	prepared_put(&b, kind, targets, count);
	return journal_append_durably(&ov->staging, &b, err);
}
