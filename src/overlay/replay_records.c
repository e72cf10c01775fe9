/* replay_records.c - what each record of a journal does; nothing in it is believed */
#include "metadata.h"
#include "overlay_state.h"
#include "replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	id = overlay_committed(r->ov, shard, name, len);
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
	       by_name_find(r->ov, shard, scratch, name, len) == SFT_NO_ID;
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
	if (blockmap_reserve(&r->ids, 1) < 0 || overlay_reserve(r->ov, 1) < 0)
		return -ENOMEM;
	struct overlay_entry *e = overlay_entry_new(name, len, scratch, shard);
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
		/* Whether it is in the file matters only if it is still in use at the end. */
		if (slots[i] >= SLOTS_MAX)
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
	uint32_t holder = by_name_find(r->ov, shard, scratch, name, len);

	if (!e || rec->bad || (!scratch && !shard_is_there(r, shard)) ||
	    (!scratch && overlay_check_name(name, len, NULL) < 0))
		return damaged();
	if (holder != SFT_NO_ID && holder != id)
		return damaged();
	char *copy = malloc((size_t)len + 1);
	if (!copy || overlay_reserve(r->ov, 1) < 0) {
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
		e = sft_metadata_copy(&copy, &borrowed);
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

int replay_record(struct replay *r, struct journal_record *rec)
{
	int e;

	if (rec->bad || rec->type >= sizeof(replays) / sizeof(replays[0]) || !replays[rec->type])
		return damaged();
	e = replays[rec->type](r, rec);
	return e == 0 && (rec->bad || rec->left) ? damaged() : e;
}
