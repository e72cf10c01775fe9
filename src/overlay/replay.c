/*
 * replay.c - from the journal back to the overlay
 *
 * Records up to the last SYNC are trusted as they are. What follows it counts up to the first frame
 * of which a block is not what was written: so the result is what was there after some step, and
 * never a mixture. Blocks are looked at when all has been replayed: a slot may be named twice if it
 * was given up in between (slots.c), and what counts is what is still in use at the end. If one is
 * wrong, the journal ends before the frame that names it, and is replayed once more up to there.
 *
 * That a frame has a right hash does not make it sensible: whatever does not fit the state is
 * refused.
 */
#include "replay.h"
#include "hash.h"
#include "io.h"
#include "overlay_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ATTEMPTS 8 /* to find the end; then it is the last SYNC */

static int replay_records(struct replay *r, struct sft_error *err)
{
	struct journal_reader reader;
	struct journal_record rec;
	int e = journal_open(&reader, r->ov->staging.journal);

	for (unsigned long n = 1; e >= 0 && (e = journal_next(&reader, &rec)) > 0; n++) {
		if (rec.begin >= r->end) {
			e = 0;
			break;
		}
		e = replay_record(r, &rec);
		if (e == -EBADMSG)
			sft_fail(err, EBADMSG,
				 "record %lu of the journal in %s does not fit: it is damaged", n,
				 r->ov->staging.path);
	}
	journal_close(&reader);
	return e < 0 ? sft_fail(err, -e, "cannot read the journal in %s: %s", r->ov->staging.path,
				strerror(-e))
		     : 0;
}

/* ---- the end of what counts ---- */

/* Whether a slot holds what the record says; 1, 0 or -errno. `buf` has room for a block. */
static int holds(const struct replay *r, uint32_t slot, uint64_t hash, unsigned char *buf)
{
	int e;

	if (slot >= r->file_slots)
		return 0;
	e = io_pread(r->ov->staging.blocks, buf, SFT_BLOCK, (uint64_t)slot * SFT_BLOCK);
	if (e == -EIO && slot == r->file_slots - 1)
		return 0; /* it is there in part */
	return e < 0 ? e : hash_bytes(buf, SFT_BLOCK, 0) == hash;
}

/* The first frame that names a slot in use which does not hold what it says, into *first, which is
 * left alone if there is none. -errno. */
static int find_wrong(const struct replay *r, uint64_t *first)
{
	unsigned char *buf = r->doubt_count ? malloc(SFT_BLOCK) : NULL;
	int e = r->doubt_count && !buf ? -ENOMEM : 0;

	for (uint32_t id = 0; buf && e >= 0 && id < r->ov->count; id++) {
		const struct blockmap *map = &r->ov->entries[id]->blocks;

		for (uint32_t i = 0; e >= 0 && i < map->capacity; i++) {
			uint32_t slot = map->places[i].slot, at;

			if (slot == UINT32_MAX || !blockmap_find(&r->last, slot, &at) ||
			    r->doubts[at].frame >= *first)
				continue;
			e = holds(r, slot, r->doubts[at].hash, buf);
			if (e == 0)
				*first = r->doubts[at].frame;
		}
	}
	free(buf);
	return e < 0 ? e : 0;
}

static void replay_free(struct replay *r)
{
	blockmap_free(&r->ids);
	blockmap_free(&r->last);
	free(r->doubts);
	r->doubts = NULL;
	r->doubt_count = r->doubt_capacity = r->next_id = 0;
}

/* Replay as much as is whole; r->end says how much that is. */
static int replay_whole(struct replay *r, struct sft_error *err)
{
	for (int attempt = 1;; attempt++) {
		uint64_t end = r->end;
		int e = replay_records(r, err);

		if (e == 0)
			e = find_wrong(r, &end);
		if (e < 0 || end == r->end)
			return e;
		r->end = attempt < ATTEMPTS ? end : r->synced;
		replay_free(r);
		overlay_clear(r->ov);
		e = overlay_load(r->ov, err);
		if (e < 0)
			return e;
	}
}

/* ---- scratch files ---- */

/* Whether a scratch file is a committed tensor that was put aside, as editors do before they write
 * it anew, and its name is free again. A key with a slash in front is no file's name: that tensor
 * was removed while it was open. */
static bool can_come_back(const struct sft_overlay *ov, const struct sft_entry *e)
{
	const struct sft_tensor *c = e->committed;

	return c && (e->name_len == 0 || e->name[0] != '/') &&
	       by_name_find(ov, c->shard, false, c->name, c->name_len) == SFT_NO_ID;
}

static int bring_back(struct sft_overlay *ov, uint32_t id)
{
	const struct sft_tensor *c = ov->entries[id]->pub.committed;
	char *copy = malloc((size_t)c->name_len + 1);
	struct sft_quoted was, is;

	if (!copy || overlay_reserve(ov, 0) < 0) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, c->name, c->name_len);
	copy[c->name_len] = '\0';
	(void)notes_add(&ov->notes,
			"tensor %s, which was put aside as %s when the process died, is back",
			sft_quote(&was, c->name, c->name_len),
			sft_quote(&is, ov->entries[id]->pub.name, ov->entries[id]->pub.name_len));
	apply_rename(ov, id, copy, c->name_len, false, c->shard);
	return 0;
}

/* Scratch files do not outlive their process. The journal has to forget them too, before another
 * one of the same key is made. */
static int drop_scratch(struct sft_overlay *ov)
{
	int r = 0;

	for (uint32_t id = 0; r == 0 && id < ov->count; id++) {
		const struct sft_entry *e = &ov->entries[id]->pub;

		if (!e->live || !e->scratch)
			continue;
		if (can_come_back(ov, e))
			r = bring_back(ov, id);
		else
			apply_remove(ov, id);
		ov->staging.rewrite = true;
	}
	return r;
}

/* ---- slots ---- */

/* Which slots are in use; none may be twice. */
static int mark_slots(const struct replay *r, uint32_t end, uint8_t *used, struct sft_error *err)
{
	const struct sft_overlay *ov = r->ov;

	for (uint32_t id = 0; id < ov->count; id++) {
		const struct blockmap *map = &ov->entries[id]->blocks;

		for (uint32_t i = 0; i < map->capacity; i++) {
			uint32_t slot = map->places[i].slot;

			if (slot == UINT32_MAX)
				continue;
			if (slot >= end || slots_bit_get(used, slot))
				return sft_fail(err, EBADMSG,
						"the journal in %s is damaged: slot %u",
						ov->staging.path, slot);
			slots_bit_set(used, slot);
		}
	}
	return 0;
}

/*
 * Set up the slots. The blocks file ends with the last slot that any record names: what follows it
 * was written by a step that death has cut short. Nor does it end with a part of a slot.
 */
static int collect_slots(const struct replay *r, struct sft_error *err)
{
	struct sft_overlay *ov = r->ov;
	uint32_t end = (uint32_t)(r->named < r->file_slots ? r->named : r->file_slots);
	uint8_t *used = calloc((size_t)end / 8 + 1, 1);
	int e = used ? mark_slots(r, end, used, err) : -ENOMEM;

	if (e == 0)
		e = slots_set(&ov->slots, end, used, r->file_blocks);
	free(used);
	if (e == 0)
		e = io_ftruncate(ov->staging.blocks, (uint64_t)end * SFT_BLOCK);
	return e;
}

static int count_slots(struct replay *r, struct sft_error *err)
{
	const struct staging *s = &r->ov->staging;
	struct stat st;

	if (fstat(s->blocks, &st) < 0)
		return sft_fail(err, errno, "cannot read the staging: %s", strerror(errno));
	r->file_slots = (uint64_t)st.st_size / SFT_BLOCK + (st.st_size % SFT_BLOCK != 0);
	r->file_blocks = (uint64_t)st.st_blocks * 512 / DISK_BLOCK;
	return 0;
}

int replay_journal(struct sft_overlay *ov, const struct journal_summary *sum, struct sft_error *err)
{
	struct replay r = { .ov = ov, .end = sum->end, .synced = sum->synced };
	struct staging *s = &ov->staging;
	int e = count_slots(&r, err);

	/* Whoever wrote the last SYNC may have died while it was on its way to the disk; from here
	 * on it is taken for durable. */
	if (e == 0 && sum->synced)
		e = io_fdatasync(s->journal);
	if (e == 0)
		e = replay_whole(&r, err);
	if (e == 0)
		e = drop_scratch(ov);
	if (e == 0)
		e = collect_slots(&r, err);
	ov->next_journal_id = r.next_id;
	replay_free(&r);
	if (e < 0)
		return sft_fail(err, -e, "%s", strerror(-e));
	if (r.end < sum->end)
		(void)notes_add(&ov->notes,
				"the last %llu bytes of the journal are left out: not all of what "
				"they write is on disk, as after a power cut",
				(unsigned long long)(sum->end - r.end));
	s->journal_end = r.end;
	s->synced_end = sum->synced;
	s->rewrite_at = JOURNAL_COMPACT_MIN;
	s->stale_blocks = true;
	/* What is left out must not come back between what is appended from now on. */
	if (r.end < sum->end || sum->left_out)
		s->rewrite = true;
	return 0;
}
