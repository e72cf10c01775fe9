/*
 * compact.c - the whole state as a new journal: the first one, and when one is compacted
 *
 * It is written beside the old one and renamed over it. What the journal calls a tensor is then its
 * overlay id. Names are given in two steps, as tensors may have exchanged theirs.
 */
#include "io.h"
#include "sort.h"
#include "sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLUSH_AT (1u << 20)   /* bytes of records to collect before they are written */
#define BLOCKS_MAX (1u << 16) /* in one record */

struct rewrite {
	const struct sft_overlay *ov;
	struct journal_batch b;
	int fd;
	uint64_t end; /* bytes written */
};

static int flush(struct rewrite *w)
{
	int r;

	journal_close_frame(&w->b, w->end);
	r = w->b.buf.failed ? -ENOMEM : io_pwrite(w->fd, w->b.buf.data, w->b.buf.len, w->end);
	w->end += w->b.buf.len;
	w->b.buf.len = 0;
	return r;
}

static int flush_when_full(struct rewrite *w)
{
	return w->b.buf.failed || w->b.buf.len >= FLUSH_AT ? flush(w) : 0;
}

static void put_header(struct rewrite *w)
{
	const struct sft_overlay *ov = w->ov;
	const struct sft_overlay_options *o = &ov->options;
	const char *output = o->output ? o->output : "";
	const char *base = ov->base_is_output ? sft_checkpoint_path(ov->base) : "";
	/* An index.json by name: where there are several, the directory would not do. */
	if (ov->base_is_output && sft_checkpoint_index_path(ov->base))
		base = sft_checkpoint_index_path(ov->base);

	journal_start(&w->b, JOURNAL_HEADER);
	journal_u32(&w->b, JOURNAL_VERSION);
	journal_u32(&w->b, o->flags);
	journal_u32(&w->b, o->inplace ? JOURNAL_INPLACE : 0);
	journal_u64(&w->b, ov->staging.id);
	journal_string(&w->b, ov->staging.source_path, strlen(ov->staging.source_path));
	journal_string(&w->b, base, strlen(base));
	journal_string(&w->b, output, strlen(output));
	identity_put(&w->b, ov->base);
	journal_finish(&w->b);
}

/* Whether the entry is anything else than what an empty journal gives. */
static bool is_touched(const struct overlay_entry *e)
{
	if (!e->pub.committed)
		return e->pub.live;
	return !e->pub.live || e->changed || e->own_name || e->has_declared || e->pub.scratch ||
	       e->pub.shard != e->pub.committed->shard;
}

static bool is_renamed(const struct overlay_entry *e)
{
	return e->pub.committed && e->pub.live &&
	       (e->own_name || e->pub.scratch || e->pub.shard != e->pub.committed->shard);
}

/* Bind it, and take its committed name away where another may have it now. */
static void put_first(struct rewrite *w, uint32_t id, const struct overlay_entry *e)
{
	const struct sft_tensor *t = e->pub.committed;
	char aside[16];

	if (!t)
		return;
	journal_put_bind(&w->b, id, t);
	if (!e->pub.live) {
		journal_start(&w->b, JOURNAL_REMOVE);
		journal_u32(&w->b, id);
		journal_finish(&w->b);
	} else if (is_renamed(e)) {
		/* A scratch name that no caller has: keys with a NUL in front are ours. */
		memcpy(aside, "\0aside", 6);
		memcpy(aside + 6, &id, sizeof(id));
		journal_put_rename(&w->b, id, t->shard, true, aside, 6 + sizeof(id));
	}
}

static int compare_places(uint32_t a, uint32_t b, const void *ctx)
{
	const struct blockmap_place *p = ctx;

	return (p[a].block > p[b].block) - (p[a].block < p[b].block);
}

/* The used places of a blockmap in the order of blocks; malloced, `count` long. */
static uint32_t *sorted_places(const struct blockmap *map)
{
	uint32_t *order = malloc(((size_t)map->count + 1) * sizeof(*order));
	uint32_t n = 0;

	for (uint32_t i = 0; order && i < map->capacity; i++) {
		if (map->places[i].slot != UINT32_MAX)
			order[n++] = i;
	}
	if (order && sft_sort(order, n, compare_places, map->places) == 0)
		return order;
	free(order);
	return NULL;
}

static int put_blocks(struct rewrite *w, uint32_t id, const struct overlay_entry *e)
{
	const struct blockmap_place *p = e->blocks.places;
	uint32_t *order = e->blocks.count ? sorted_places(&e->blocks) : NULL;
	int r = 0;

	if (!order)
		return e->blocks.count ? -ENOMEM : 0;
	for (uint32_t i = 0, run; r == 0 && i < e->blocks.count; i += run) {
		for (run = 1; i + run < e->blocks.count && run < BLOCKS_MAX; run++) {
			if (p[order[i + run]].block != p[order[i]].block + run)
				break;
		}
		journal_start(&w->b, JOURNAL_BLOCKS);
		journal_u32(&w->b, id);
		journal_u32(&w->b, p[order[i]].block);
		journal_u32(&w->b, run);
		journal_u64(&w->b, e->pub.nbytes);
		for (uint32_t k = 0; k < run; k++)
			journal_u32(&w->b, p[order[i + k]].slot);
		journal_finish(&w->b);
		r = flush_when_full(w);
	}
	free(order);
	return r;
}

/* All that is left to say of it. */
static int put_second(struct rewrite *w, uint32_t id, const struct overlay_entry *e)
{
	const struct sft_entry *p = &e->pub;
	uint64_t length = p->committed ? p->committed->nbytes : 0;

	if (!p->live)
		return 0;
	if (!p->committed)
		journal_put_create(&w->b, id, p->shard, p->scratch, p->name, p->name_len);
	else if (is_renamed(e))
		journal_put_rename(&w->b, id, p->shard, p->scratch, p->name, p->name_len);
	/* What was cut off once reads as zeros for good. */
	if (p->committed && e->base_length < length) {
		journal_put_length(&w->b, id, e->base_length);
		length = e->base_length;
	}
	if (p->nbytes != length)
		journal_put_length(&w->b, id, p->nbytes);
	if (e->has_declared)
		journal_put_declare(&w->b, id, p->dtype, e->declared, p->rank);
	return put_blocks(w, id, e);
}

static int put_state(struct rewrite *w)
{
	const struct sft_overlay *ov = w->ov;
	int r = 0;

	put_header(w);
	r = flush(w);
	for (uint32_t id = 0; r == 0 && id < ov->count; id++) {
		if (is_touched(ov->entries[id]))
			put_first(w, id, ov->entries[id]);
		r = flush_when_full(w);
	}
	for (uint32_t id = 0; r == 0 && id < ov->count; id++) {
		if (is_touched(ov->entries[id]))
			r = put_second(w, id, ov->entries[id]);
		if (r == 0)
			r = flush_when_full(w);
	}
	for (uint32_t i = 0; i < ov->shard_count; i++) {
		if (ov->metadata_staged[i])
			journal_put_metadata(&w->b, i, &ov->metadata[i]);
	}
	if (r == 0)
		r = flush(w);
	journal_start(&w->b, JOURNAL_SYNC);
	journal_finish(&w->b);
	return r == 0 ? flush(w) : r;
}

/* The new journal is the journal. */
static void take_over(struct sft_overlay *ov, const struct rewrite *w)
{
	struct staging *s = &ov->staging;

	if (s->journal >= 0)
		close(s->journal);
	s->journal = w->fd;
	s->journal_end = s->synced_end = w->end;
	s->allocated = 0;
	s->rewrite = false;
	s->rewrite_at = w->end * 4 > JOURNAL_COMPACT_MIN ? w->end * 4 : JOURNAL_COMPACT_MIN;
	for (uint32_t id = 0; id < ov->count; id++)
		ov->entries[id]->journal_id = is_touched(ov->entries[id]) ? id : SFT_NO_ID;
	ov->next_journal_id = ov->count;
}

static int fail(struct sft_overlay *ov, int r, struct sft_error *err)
{
	return sft_fail(err, -r, "cannot write the journal in %s: %s", ov->staging.path,
			strerror(-r));
}

/* Write and sync journal.new, and rename it. Nothing is lost if that fails. */
static int write_new(struct rewrite *w, int dir)
{
	int r;

	(void)io_unlinkat(dir, "journal.new", 0);
	w->fd = io_openat(dir, "journal.new", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (w->fd < 0)
		return w->fd;
	r = put_state(w);
	journal_free(&w->b);
	if (r == 0)
		r = io_fsync(w->fd);
	if (r == 0)
		r = io_renameat(dir, "journal.new", "journal");
	if (r < 0) {
		close(w->fd);
		(void)io_unlinkat(dir, "journal.new", 0);
	}
	return r;
}

int compact_journal(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	struct rewrite w = { .ov = ov };
	/* Its records of blocks have no hashes, and so must not be in doubt. */
	int r = s->stale_blocks ? io_fdatasync(s->blocks) : 0;

	if (r < 0) {
		s->broken = true;
		return fail(ov, r, err);
	}
	s->stale_blocks = false;
	r = write_new(&w, s->dir);
	if (r < 0)
		return fail(ov, r, err);
	take_over(ov, &w);
	r = journal_sync_links(s);
	if (r < 0) {
		s->broken = true;
		return fail(ov, r, err);
	}
	slots_synced(&ov->slots);
	return 0;
}
