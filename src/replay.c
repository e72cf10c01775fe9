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
#include "journal.h"
#include "hash.h"
#include "overlay_state.h"
#include "slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ATTEMPTS 8 /* to find the end; then it is the last SYNC */

/* A slot as an unsynced record says it is. */
struct doubt {
	uint64_t frame; /* where the record's frame begins */
	uint64_t hash;
};

struct replay {
	struct sft_overlay *ov;
	struct blockmap ids;  /* journal id -> overlay id */
	uint64_t end;	      /* frames that begin here or later do not count */
	uint64_t synced;      /* frames that end here or before are trusted */
	uint64_t file_slots;  /* in the blocks file, the last one perhaps in part */
	uint64_t file_blocks; /* of them as many as have room on the disk */
	uint64_t named;	      /* slots below this are named by some record */
	uint32_t next_id;     /* above all ids of the journal */
	struct blockmap last; /* slot -> its latest doubt */
	struct doubt *doubts;
	uint32_t doubt_count, doubt_capacity;
};

typedef int replay_one(struct replay *r, struct journal_record *rec);

static int damaged(void)
{
	return -EBADMSG;
}

/* The live entry that the record is about. */
static struct overlay_entry *get_entry(struct replay *r, struct journal_record *rec, uint32_t *id)
{
	uint32_t jid = journal_get_u32(rec);

	if (rec->bad || !blockmap_find(&r->ids, jid, id) || !r->ov->entries[*id]->pub.live)
		return NULL;
	return r->ov->entries[*id];
}

static bool shard_is_there(const struct replay *r, uint32_t shard)
{
	return shard < r->ov->shard_count && sft_checkpoint_shard(r->ov->base, shard)->file;
}

/* Give an entry its number in the journal. Memory was reserved. */
static void put_id(struct replay *r, uint32_t jid, uint32_t id)
{
	blockmap_put(&r->ids, jid, id);
	if (jid >= r->next_id)
		r->next_id = jid + 1;
}

static bool is_new_id(const struct replay *r, uint32_t jid)
{
	uint32_t id;

	return jid < SFT_NO_ID - 1 && !blockmap_find(&r->ids, jid, &id);
}

static int replay_bind(struct replay *r, struct journal_record *rec)
{
	uint32_t jid = journal_get_u32(rec), shard = journal_get_u32(rec), len, id;
	const char *name = journal_get_string(rec, &len);

	if (rec->bad || !is_new_id(r, jid))
		return damaged();
	id = state_committed(r->ov, shard, name, len);
	if (id == SFT_NO_ID || r->ov->entries[id]->journal_id != SFT_NO_ID ||
	    sft_checkpoint_at(r->ov->base, id)->shard != shard)
		return damaged();
	if (blockmap_reserve(&r->ids, 1) < 0)
		return -ENOMEM;
	put_id(r, jid, id);
	r->ov->entries[id]->journal_id = jid;
	return 0;
}

static bool name_is_free(struct replay *r, uint32_t shard, bool scratch, const char *name,
			 size_t len)
{
	return (scratch || overlay_check_name(name, len, NULL) == 0) &&
	       names_find(r->ov, shard, scratch, name, len) == SFT_NO_ID;
}

static int replay_create(struct replay *r, struct journal_record *rec)
{
	uint32_t jid = journal_get_u32(rec), shard = journal_get_u32(rec);
	bool scratch = journal_get_u32(rec);
	uint32_t len;
	const char *name = journal_get_string(rec, &len);

	if (rec->bad || !is_new_id(r, jid) || (!scratch && !shard_is_there(r, shard)) ||
	    !name_is_free(r, shard, scratch, name, len))
		return damaged();
	if (blockmap_reserve(&r->ids, 1) < 0 || state_reserve(r->ov, 1) < 0)
		return -ENOMEM;
	struct overlay_entry *e = entry_new(name, len, scratch, shard);
	if (!e)
		return -ENOMEM;
	put_id(r, jid, apply_create(r->ov, e, jid));
	return 0;
}

/* ---- bytes ---- */

/* Note what the slots of an unsynced record are to hold. */
static int doubt(struct replay *r, const struct journal_record *rec, const uint32_t *slots,
		 const uint64_t *hashes, uint32_t count)
{
	if (count > UINT32_MAX - 1 - r->doubt_count)
		return -ENOMEM;
	if (r->doubt_count + count > r->doubt_capacity) {
		uint64_t capacity = (uint64_t)r->doubt_capacity * 2 + count;
		struct doubt *grown = realloc(r->doubts, capacity * sizeof(*grown));

		if (!grown || capacity > UINT32_MAX) {
			r->doubts = grown ? grown : r->doubts;
			return -ENOMEM;
		}
		r->doubts = grown;
		r->doubt_capacity = (uint32_t)capacity;
	}
	if (blockmap_reserve(&r->last, count) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		r->doubts[r->doubt_count] = (struct doubt){ rec->begin, hashes[i] };
		blockmap_put(&r->last, slots[i], r->doubt_count++);
	}
	return 0;
}

static int replay_blocks(struct replay *r, struct journal_record *rec)
{
	const bool hashed = rec->type == JOURNAL_DATA;
	const bool trusted = rec->end <= r->synced;
	uint32_t id, *slots = NULL;
	uint64_t *hashes = NULL;
	struct overlay_entry *e = get_entry(r, rec, &id);
	uint32_t first = journal_get_u32(rec), count = journal_get_u32(rec);
	uint64_t length = journal_get_u64(rec);
	int result = 0;

	if (!e || rec->bad || length > OVERLAY_SIZE_MAX || (!hashed && !trusted) ||
	    rec->left != (size_t)count * (hashed ? 12 : 4) ||
	    (uint64_t)first + count > length / SFT_BLOCK + (length % SFT_BLOCK != 0))
		return damaged();
	slots = malloc(((size_t)count + 1) * sizeof(*slots));
	hashes = malloc(((size_t)count + 1) * sizeof(*hashes));
	if (!slots || !hashes || blockmap_reserve(&e->blocks, count) < 0)
		result = -ENOMEM;
	for (uint32_t i = 0; result == 0 && i < count; i++) {
		slots[i] = journal_get_u32(rec);
		if (slots[i] >= SLOTS_MAX || (trusted && slots[i] >= r->file_slots))
			result = damaged();
		else if (slots[i] >= r->named)
			r->named = slots[i] + 1ull;
	}
	for (uint32_t i = 0; result == 0 && hashed && i < count; i++)
		hashes[i] = journal_get_u64(rec);
	if (result == 0 && !trusted)
		result = doubt(r, rec, slots, hashes, count);
	if (result == 0)
		apply_data(r->ov, e, length, first, slots, count);
	free(slots);
	free(hashes);
	return result;
}

static int replay_length(struct replay *r, struct journal_record *rec)
{
	uint32_t id;
	struct overlay_entry *e = get_entry(r, rec, &id);
	uint64_t length = journal_get_u64(rec);

	if (!e || rec->bad || length > OVERLAY_SIZE_MAX)
		return damaged();
	apply_length(r->ov, e, length);
	return 0;
}

/* ---- the rest ---- */

static int replay_declare(struct replay *r, struct journal_record *rec)
{
	uint32_t id;
	struct overlay_entry *e = get_entry(r, rec, &id);
	uint32_t dtype = journal_get_u32(rec), rank = journal_get_u32(rec);
	uint64_t *shape = NULL;

	if (!e || rec->bad || dtype >= SFT_DTYPE_COUNT || rec->left != (size_t)rank * 8)
		return damaged();
	if (rank) {
		shape = malloc(rank * sizeof(*shape));
		if (!shape)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < rank; i++)
		shape[i] = journal_get_u64(rec);
	apply_declare(r->ov, e, (uint8_t)dtype, shape, rank);
	return 0;
}

static int replay_remove(struct replay *r, struct journal_record *rec)
{
	uint32_t id;

	if (!get_entry(r, rec, &id))
		return damaged();
	apply_remove(r->ov, id);
	return 0;
}

static int replay_rename(struct replay *r, struct journal_record *rec)
{
	uint32_t id, len;
	struct overlay_entry *e = get_entry(r, rec, &id);
	uint32_t shard = journal_get_u32(rec);
	bool scratch = journal_get_u32(rec);
	const char *name = journal_get_string(rec, &len);
	uint32_t holder = names_find(r->ov, shard, scratch, name, len);

	if (!e || rec->bad || (!scratch && !shard_is_there(r, shard)) ||
	    (!scratch && overlay_check_name(name, len, NULL) < 0))
		return damaged();
	if (holder != SFT_NO_ID && holder != id)
		return damaged();
	char *copy = malloc((size_t)len + 1);
	if (!copy || state_reserve(r->ov, 1) < 0) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, name, len);
	copy[len] = '\0';
	apply_rename(r->ov, id, copy, len, scratch, shard);
	return 0;
}

static int replay_metadata(struct replay *r, struct journal_record *rec)
{
	struct sft_metadata borrowed = { 0 }, copy;
	uint32_t shard = journal_get_u32(rec);
	int e = 0;

	borrowed.present = journal_get_u32(rec);
	borrowed.count = journal_get_u32(rec);
	if (rec->bad || !shard_is_there(r, shard) || borrowed.count > rec->left / 8)
		return damaged();
	borrowed.pairs = calloc((size_t)borrowed.count + 1, sizeof(*borrowed.pairs));
	if (!borrowed.pairs)
		return -ENOMEM;
	for (uint32_t i = 0; i < borrowed.count; i++) {
		struct sft_pair *p = &borrowed.pairs[i];

		p->key = journal_get_string(rec, &p->key_len);
		p->value = journal_get_string(rec, &p->value_len);
	}
	if (rec->bad)
		e = damaged();
	if (e == 0)
		e = metadata_copy(&copy, &borrowed);
	if (e == 0)
		apply_metadata(r->ov, shard, &copy);
	free(borrowed.pairs);
	return e;
}

/* ---- all records ---- */

static int nothing_to_do(struct replay *r, struct journal_record *rec)
{
	rec->left = 0;
	return 0;
}

static replay_one *const replays[] = {
	[JOURNAL_HEADER] = nothing_to_do,   [JOURNAL_BIND] = replay_bind,
	[JOURNAL_CREATE] = replay_create,   [JOURNAL_DATA] = replay_blocks,
	[JOURNAL_BLOCKS] = replay_blocks,   [JOURNAL_LENGTH] = replay_length,
	[JOURNAL_DECLARE] = replay_declare, [JOURNAL_REMOVE] = replay_remove,
	[JOURNAL_RENAME] = replay_rename,   [JOURNAL_METADATA] = replay_metadata,
	[JOURNAL_SYNC] = nothing_to_do,	    [JOURNAL_PREPARED] = nothing_to_do,
};

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
		if (rec.bad || rec.type >= sizeof(replays) / sizeof(replays[0]) ||
		    !replays[rec.type])
			e = damaged();
		else
			e = replays[rec.type](r, &rec);
		if (e == 0 && (rec.bad || rec.left))
			e = damaged();
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
	return e < 0 ? e : bytes_hash(buf, SFT_BLOCK, 0) == hash;
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
		state_clear(r->ov);
		e = state_load(r->ov, err);
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
	       names_find(ov, c->shard, false, c->name, c->name_len) == SFT_NO_ID;
}

static int bring_back(struct sft_overlay *ov, uint32_t id)
{
	const struct sft_tensor *c = ov->entries[id]->pub.committed;
	char *copy = malloc((size_t)c->name_len + 1);
	struct sft_quoted was, is;

	if (!copy || state_reserve(ov, 0) < 0) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, c->name, c->name_len);
	copy[c->name_len] = '\0';
	overlay_note(ov, "tensor %s, which was put aside as %s when the process died, is back",
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
			if (slot >= end || bit_get(used, slot))
				return sft_fail(err, EBADMSG,
						"the journal in %s is damaged: slot %u",
						ov->staging.path, slot);
			bit_set(used, slot);
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
	r->file_blocks = (uint64_t)st.st_blocks * 512 / SFT_BLOCK;
	return 0;
}

int journal_replay(struct sft_overlay *ov, const struct journal_summary *sum, struct sft_error *err)
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
		overlay_note(ov,
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
