/*
 * replay.c - from the journal back to the overlay
 *
 * Records up to the last SYNC are trusted as they are. Behind it a DATA record counts block by
 * block, where the slot still has the hash that the record gives: a block that does not was never
 * synced (slots.c). That a record has a right hash of its own does not make it sensible: whatever
 * does not fit the state is refused.
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

struct replay {
	struct sft_overlay *ov;
	struct blockmap ids;  /* journal id -> overlay id */
	uint64_t trusted_end; /* records that end here or before are synced */
	uint64_t file_slots;  /* in the blocks file */
	uint32_t next_id;     /* above all ids of the journal */
	struct blockmap last; /* slot -> the last DATA behind trusted_end that names it */
	uint32_t data_count;  /* DATA records behind trusted_end, up to the present one */
	bool skipped;	      /* a block was left out */
	unsigned char *buf;   /* a block */
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
	if (blockmap_reserve(&r->ids, 1) < 0 || state_reserve(r->ov) < 0)
		return -ENOMEM;
	struct overlay_entry *e = entry_new(name, len, scratch, shard);
	if (!e)
		return -ENOMEM;
	put_id(r, jid, apply_create(r->ov, e, jid));
	return 0;
}

/* ---- bytes ---- */

/*
 * Find out which record is the last to name each slot that is not synced. The others need not be
 * checked, which is what takes the time after many small writes: a slot is named again only when
 * the journal has given it up, and has other bytes then.
 */
static int find_last(struct replay *r)
{
	struct journal_reader reader;
	struct journal_record rec;
	uint32_t n = 0;
	int e = journal_open(&reader, r->ov->staging.journal);

	reader.offset = r->trusted_end;
	while (e >= 0 && (e = journal_next(&reader, &rec)) > 0) {
		if (rec.type != JOURNAL_DATA)
			continue;
		n++;
		(void)journal_get_u64(&rec); /* id, first block */
		uint32_t count = journal_get_u32(&rec);
		(void)journal_get_u64(&rec); /* length */
		if (rec.bad || count > rec.left / 12)
			break; /* replay refuses it */
		if (blockmap_reserve(&r->last, count) < 0)
			e = -ENOMEM;
		for (uint32_t i = 0; e > 0 && i < count; i++)
			blockmap_put(&r->last, journal_get_u32(&rec), n);
	}
	journal_close(&reader);
	return e < 0 ? e : 0;
}

/* Whether a slot has the bytes that the record says; 1, 0 or -errno. */
static int slot_holds(struct replay *r, uint32_t slot, uint64_t hash)
{
	uint32_t last;
	int e;

	if (slot >= r->file_slots || !blockmap_find(&r->last, slot, &last) || last != r->data_count)
		return 0;
	e = io_pread(r->ov->staging.blocks, r->buf, SFT_BLOCK, (uint64_t)slot * SFT_BLOCK);
	return e < 0 ? e : bytes_hash(r->buf, SFT_BLOCK, 0) == hash;
}

static int apply_verified(struct replay *r, struct overlay_entry *e, uint64_t length,
			  uint32_t first, const uint32_t *slots, const uint64_t *hashes,
			  uint32_t count)
{
	apply_length(r->ov, e, length);
	for (uint32_t i = 0; i < count; i++) {
		int holds = slot_holds(r, slots[i], hashes[i]);

		if (holds < 0)
			return holds;
		if (holds)
			apply_data(r->ov, e, length, first + i, &slots[i], 1);
		else
			r->skipped = true;
	}
	return 0;
}

static int replay_blocks(struct replay *r, struct journal_record *rec)
{
	const bool hashed = rec->type == JOURNAL_DATA;
	const bool trusted = rec->end <= r->trusted_end;
	uint32_t id, *slots = NULL;
	uint64_t *hashes = NULL;
	struct overlay_entry *e = get_entry(r, rec, &id);
	uint32_t first = journal_get_u32(rec), count = journal_get_u32(rec);
	uint64_t length = journal_get_u64(rec);
	int result = -ENOMEM;

	if (!e || rec->bad || length > OVERLAY_SIZE_MAX || (!hashed && !trusted) ||
	    rec->left != (size_t)count * (hashed ? 12 : 4) ||
	    (uint64_t)first + count > length / SFT_BLOCK + (length % SFT_BLOCK != 0))
		return damaged();
	slots = malloc(((size_t)count + 1) * sizeof(*slots));
	hashes = malloc(((size_t)count + 1) * sizeof(*hashes));
	if (!slots || !hashes || blockmap_reserve(&e->blocks, count) < 0)
		goto out;
	for (uint32_t i = 0; i < count; i++)
		slots[i] = journal_get_u32(rec);
	for (uint32_t i = 0; hashed && i < count; i++)
		hashes[i] = journal_get_u64(rec);
	result = 0;
	r->data_count += !trusted;
	for (uint32_t i = 0; i < count; i++) {
		if (slots[i] == UINT32_MAX)
			result = damaged();
	}
	if (result == 0 && trusted)
		apply_data(r->ov, e, length, first, slots, count);
	else if (result == 0)
		result = apply_verified(r, e, length, first, slots, hashes, count);
out:
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
	uint32_t id, replaced = SFT_NO_ID, len;
	struct overlay_entry *e = get_entry(r, rec, &id);
	uint32_t shard = journal_get_u32(rec);
	bool scratch = journal_get_u32(rec);
	uint32_t replaced_jid = journal_get_u32(rec);
	const char *name = journal_get_string(rec, &len);
	uint32_t holder = names_find(r->ov, shard, scratch, name, len);

	if (!e || rec->bad || (!scratch && !shard_is_there(r, shard)) ||
	    (!scratch && overlay_check_name(name, len, NULL) < 0))
		return damaged();
	if (replaced_jid != SFT_NO_ID && (!blockmap_find(&r->ids, replaced_jid, &replaced) ||
					  !r->ov->entries[replaced]->pub.live || replaced == id))
		return damaged();
	if (holder != SFT_NO_ID && holder != id && holder != replaced)
		return damaged();
	char *copy = malloc((size_t)len + 1);
	if (!copy || state_reserve(r->ov) < 0) {
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, name, len);
	copy[len] = '\0';
	apply_rename(r->ov, id, copy, len, scratch, shard, replaced);
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
	[JOURNAL_HEADER] = nothing_to_do,    [JOURNAL_BIND] = replay_bind,
	[JOURNAL_CREATE] = replay_create,    [JOURNAL_DATA] = replay_blocks,
	[JOURNAL_BLOCKS] = replay_blocks,    [JOURNAL_LENGTH] = replay_length,
	[JOURNAL_DECLARE] = replay_declare,  [JOURNAL_REMOVE] = replay_remove,
	[JOURNAL_RENAME] = replay_rename,    [JOURNAL_METADATA] = replay_metadata,
	[JOURNAL_SYNC] = nothing_to_do,	     [JOURNAL_PREPARED] = nothing_to_do,
	[JOURNAL_CANCELLED] = nothing_to_do,
};

static int replay_records(struct replay *r, struct sft_error *err)
{
	struct journal_reader reader;
	struct journal_record rec;
	int e = journal_open(&reader, r->ov->staging.journal);

	for (unsigned long n = 1; e >= 0 && (e = journal_next(&reader, &rec)) > 0; n++) {
		if (rec.type >= sizeof(replays) / sizeof(replays[0]) || !replays[rec.type])
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

/* An editor may have died between putting the old tensor aside and writing the new one. */
static void note_put_aside(struct sft_overlay *ov, const struct sft_entry *e)
{
	const struct sft_tensor *c = e->committed;
	struct sft_quoted was, is;

	/* A key with a slash in front is no file's name: that tensor was removed while it was open.
	 */
	if (c && (e->name_len == 0 || e->name[0] != '/') &&
	    names_find(ov, c->shard, false, c->name, c->name_len) == SFT_NO_ID)
		overlay_note(ov,
			     "tensor %s was put aside as %s when the process died, and is deleted "
			     "by what is staged",
			     sft_quote(&was, c->name, c->name_len),
			     sft_quote(&is, e->name, e->name_len));
}

/* Scratch files do not outlive their process. The journal has to forget them too, before another
 * one of the same key is made. */
static void drop_scratch(struct sft_overlay *ov)
{
	for (uint32_t id = 0; id < ov->count; id++) {
		if (!ov->entries[id]->pub.live || !ov->entries[id]->pub.scratch)
			continue;
		note_put_aside(ov, &ov->entries[id]->pub);
		apply_remove(ov, id);
		ov->staging.rewrite = true;
	}
}

/* Which slots are in use; none may be twice. */
static int collect_slots(struct replay *r, struct sft_error *err)
{
	struct sft_overlay *ov = r->ov;
	uint8_t *used = calloc((size_t)r->file_slots / 8 + 1, 1);
	int e = used ? 0 : -ENOMEM;

	for (uint32_t id = 0; e == 0 && id < ov->count; id++) {
		const struct blockmap *map = &ov->entries[id]->blocks;

		for (uint32_t i = 0; e == 0 && i < map->capacity; i++) {
			uint32_t slot = map->places[i].slot;

			if (slot == UINT32_MAX)
				continue;
			if (slot >= r->file_slots || bit_get(used, slot))
				e = sft_fail(err, EBADMSG, "the journal in %s is damaged: slot %u",
					     ov->staging.path, slot);
			else
				bit_set(used, slot);
		}
	}
	if (e == 0)
		e = slots_set(&ov->slots, (uint32_t)r->file_slots, used);
	free(used);
	return e;
}

/*
 * Where a block was left out, the one that stays may have bytes behind the end of its tensor, which
 * must not come back when it grows.
 */
static int cut_tails(struct sft_overlay *ov, struct sft_error *err)
{
	int e = 0;

	for (uint32_t id = 0; e == 0 && id < ov->count; id++) {
		bool done;

		if (ov->entries[id]->pub.live)
			e = edit_cut_tail(ov, id, ov->entries[id]->pub.nbytes, &done, err);
	}
	return e;
}

int journal_replay(struct sft_overlay *ov, const struct journal_summary *sum, struct sft_error *err)
{
	struct replay r = { .ov = ov, .trusted_end = sum->synced };
	struct staging *s = &ov->staging;
	struct stat st;
	int e;

	if (fstat(s->blocks, &st) < 0)
		return sft_fail(err, errno, "cannot read the staging: %s", strerror(errno));
	r.file_slots = (uint64_t)st.st_size / SFT_BLOCK;
	if (r.file_slots > SLOTS_MAX)
		return sft_fail(err, EFBIG, "the blocks in %s are more than can be", s->path);
	r.buf = malloc(SFT_BLOCK);
	e = r.buf ? 0 : -ENOMEM;
	/* Whoever wrote the last SYNC may have died while it was on its way to the disk; from here
	 * on it is taken for durable. */
	if (e == 0 && sum->synced)
		e = io_fdatasync(s->journal);
	if (e == 0)
		e = find_last(&r);
	if (e == 0)
		e = replay_records(&r, err);
	if (e == 0) {
		drop_scratch(ov);
		e = collect_slots(&r, err);
	}
	free(r.buf);
	blockmap_free(&r.ids);
	blockmap_free(&r.last);
	if (e < 0)
		return sft_fail(err, -e, "%s", strerror(-e));
	ov->next_journal_id = r.next_id;
	s->journal_end = sum->end;
	s->synced_end = sum->synced;
	s->rewrite_at = JOURNAL_COMPACT_MIN;
	s->stale_blocks = true;
	if (io_ftruncate(s->journal, sum->end) < 0)
		s->rewrite = true;
	if (r.skipped) {
		s->rewrite = true;
		e = cut_tails(ov, err);
	}
	return e;
}
