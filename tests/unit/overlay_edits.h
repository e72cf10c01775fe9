/*
 * overlay_edits.h - random edits of an overlay and its model
 *
 * The seed is printed; SFT_SEED and SFT_ROUNDS set seed and length. Each edit but edit_commit() is
 * one call of the overlay, and one step.
 */
#ifndef OVERLAY_EDITS_H
#define OVERLAY_EDITS_H

#include "overlay_model.h"

#define NAMES 8
#define LENGTH_USUAL 300000u /* bytes: five blocks */
#define BURST 60	     /* edits of one tensor in a row: more blocks than a small map holds */

static inline uint32_t random_entry(const struct model *m)
{
	for (int tries = 0; m->count && tries < 50; tries++) {
		uint32_t id = (uint32_t)random_below(m->count);

		/* Young ones are more often alive. */
		if (random_below(2))
			id = m->count - 1 - (uint32_t)random_below(m->count < 20 ? m->count : 20);
		if (m->entries[id].live)
			return id;
	}
	return SFT_NO_ID;
}

static inline const char *random_name(bool scratch)
{
	static char names[4][8];
	static unsigned next;
	char *name = names[next++ % 4];

	snprintf(name, sizeof(names[0]), "%s%c", scratch ? "." : "",
		 (char)('a' + random_below(NAMES)));
	return name;
}

/* Lengths and offsets like to be at the edge of a block. */
static inline uint64_t random_length(uint64_t max)
{
	uint64_t n = random_below(max);

	if (random_below(3) == 0)
		n = n / SFT_BLOCK * SFT_BLOCK + random_below(3) - (n >= SFT_BLOCK);
	return n < max ? n : max - 1;
}

/* ---- one tensor ---- */

static inline void write_at(struct model *m, struct sft_overlay *ov, uint32_t id, uint64_t offset,
			    uint64_t n)
{
	static unsigned char bytes[LENGTH_USUAL];
	struct model_entry *e = &m->entries[id];

	for (uint64_t i = 0; i < n; i++)
		bytes[i] = (unsigned char)random_below(256);
	assert_int_equal(sft_overlay_write(ov, id, bytes, n, offset, NULL), 0);
	memcpy(e->bytes + offset, bytes, n);
	if (e->length < offset + n)
		e->length = offset + n;
}

static inline void edit_write(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m);
	uint64_t n = 1 + random_length(random_below(4) ? 300 : LENGTH_USUAL - 1);

	if (id != SFT_NO_ID)
		write_at(m, ov, id, random_length(LENGTH_USUAL - n + 1), n);
}

static inline void truncate_to(struct model *m, struct sft_overlay *ov, uint32_t id, uint64_t n)
{
	struct model_entry *e = &m->entries[id];

	assert_int_equal(sft_overlay_truncate(ov, id, n, NULL), 0);
	if (n < e->length)
		memset(e->bytes + n, 0, e->length - n);
	e->length = n;
}

static inline void edit_truncate(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m);

	if (id != SFT_NO_ID)
		truncate_to(m, ov, id, random_length(random_below(8) ? LENGTH_USUAL : LENGTH_MAX));
}

/* One of many edits of a tensor of many blocks; it is cut off within some that were written. */
static inline void edit_far(struct model *m, struct sft_overlay *ov, uint32_t id)
{
	static uint64_t wrote;
	uint64_t n = 1 + random_length(300);

	if (random_below(12) == 0) {
		truncate_to(m, ov, id,
			    random_below(2) ? wrote + random_below(100)
					    : random_length(LENGTH_MAX));
		return;
	}
	if (random_below(8))
		wrote = random_length(LENGTH_MAX - 500);
	write_at(m, ov, id, wrote, n);
}

static inline void edit_create(struct model *m, struct sft_overlay *ov)
{
	bool scratch = random_below(3) == 0;
	const char *name = random_name(scratch);
	bool taken = model_find(m, name, scratch) != SFT_NO_ID;
	uint32_t id;
	int r = sft_overlay_create(ov, name, strlen(name), scratch, SFT_SHARD_AUTO, &id, NULL);

	assert_int_equal(r, taken ? -EEXIST : 0);
	if (r < 0)
		return;
	assert_int_equal(id, m->count);
	model_add(m, name, scratch);
}

static inline void edit_remove(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m);

	if (id == SFT_NO_ID)
		return;
	assert_int_equal(sft_overlay_remove(ov, id, NULL), 0);
	model_remove(m, id);
}

static inline void model_rename(struct model *m, uint32_t id, const char *name, bool scratch)
{
	snprintf(m->entries[id].name, sizeof(m->entries[id].name), "%s", name);
	m->entries[id].scratch = scratch;
}

static inline void edit_rename(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m);
	bool scratch = random_below(4) == 0;
	const char *name = random_name(scratch);
	uint32_t holder = model_find(m, name, scratch);

	if (id == SFT_NO_ID)
		return;
	assert_int_equal(sft_overlay_rename(ov, id, name, strlen(name), scratch, SFT_SHARD_AUTO,
					    holder == id ? SFT_NO_ID : holder, NULL),
			 0);
	if (holder != SFT_NO_ID && holder != id)
		model_remove(m, holder);
	model_rename(m, id, name, scratch);
}

static inline void declare(struct model *m, struct sft_overlay *ov, uint32_t id, struct declared d)
{
	assert_int_equal(sft_overlay_declare(ov, id, d.dtype, d.shape, d.rank, NULL), 0);
	/* To declare what a committed tensor has anyway is nothing. */
	if (m->entries[id].own.is && !m->entries[id].declared.is &&
	    declared_equal(m->entries[id].own, d))
		return;
	m->entries[id].declared = d;
}

static inline void edit_declare(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m);
	struct declared d = { true, SFT_U8, { 0 }, (uint32_t)random_below(3) };

	if (id == SFT_NO_ID)
		return;
	if (random_below(3))
		d.dtype = SFT_U16;
	for (uint32_t i = 0; i < d.rank; i++)
		d.shape[i] = i ? 1 + random_below(2) : m->entries[id].length;
	declare(m, ov, id, d);
}

/* ---- metadata, and several changes as one step ---- */

struct random_metadata {
	struct sft_pair pair;
	struct sft_metadata metadata;
	char value[8];
};

/* The number of its content. */
static inline int metadata_make(struct random_metadata *r)
{
	int n = (int)random_below(3);

	r->pair = (struct sft_pair){ "k", r->value, 1, 0 };
	r->pair.value_len = (uint32_t)snprintf(r->value, sizeof(r->value), "%d", n);
	r->metadata = (struct sft_metadata){ .present = n > 0, .count = n > 0, .pairs = &r->pair };
	return n;
}

static inline void edit_metadata(struct model *m, struct sft_overlay *ov)
{
	struct random_metadata r;
	uint32_t shard = (uint32_t)random_below(SHARDS);

	m->metadata[shard] = metadata_make(&r);
	assert_int_equal(sft_overlay_set_metadata(ov, shard, &r.metadata, NULL), 0);
}

static inline void edit_all_metadata(struct model *m, struct sft_overlay *ov)
{
	struct random_metadata r[SHARDS];
	struct sft_change changes[SHARDS] = { 0 };

	for (uint32_t i = 0; i < SHARDS; i++) {
		m->metadata[i] = metadata_make(&r[i]);
		changes[i].kind = SFT_SET_METADATA;
		changes[i].shard = i;
		changes[i].metadata = &r[i].metadata;
	}
	assert_int_equal(sft_overlay_change(ov, changes, SHARDS, NULL), 0);
}

/* A tensor of a declared dtype and shape, and as long as these say. */
static inline void edit_create_whole(struct model *m, struct sft_overlay *ov)
{
	const char *name = random_name(false);
	struct declared d = { true, SFT_U16, { random_below(90000), 1 + random_below(2) }, 2 };
	struct sft_change change = {
		.kind = SFT_CREATE,
		.shard = SFT_SHARD_AUTO,
		.name = name,
		.name_len = strlen(name),
		.declared = true,
		.dtype = d.dtype,
		.shape = d.shape,
		.rank = d.rank,
		.nbytes = 2 * d.shape[0] * d.shape[1],
	};
	bool taken = model_find(m, name, false) != SFT_NO_ID;

	assert_int_equal(sft_overlay_change(ov, &change, 1, NULL), taken ? -EEXIST : 0);
	if (taken)
		return;
	assert_int_equal(change.id, m->count);
	struct model_entry *e = model_add(m, name, false);
	e->declared = d;
	e->length = change.nbytes;
}

static inline struct sft_change change_name(uint32_t id, const char *name, bool scratch)
{
	return (struct sft_change){
		.kind = SFT_RENAME,
		.id = id,
		.shard = SFT_SHARD_AUTO,
		.name = name,
		.name_len = strlen(name),
		.scratch = scratch,
	};
}

/* Over a tensor that somebody has open: that one goes on under a key. */
static inline void edit_rename_over(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m), holder;
	const char *name = random_name(false), *key = random_name(true);

	holder = model_find(m, name, false);
	if (id == SFT_NO_ID || holder == SFT_NO_ID || holder == id ||
	    model_find(m, key, true) != SFT_NO_ID)
		return;
	struct sft_change changes[] = {
		change_name(holder, key, true),
		change_name(id, name, false),
	};
	assert_int_equal(sft_overlay_change(ov, changes, 2, NULL), 0);
	model_rename(m, holder, key, true);
	model_rename(m, id, name, false);
}

/* As many at once as there are: each takes the name of the one before it. */
static inline void edit_rename_many(struct model *m, struct sft_overlay *ov)
{
	struct sft_change changes[NAMES + 1];
	char names[NAMES + 1][8];
	uint32_t ids[NAMES + 1], n = 0;

	for (uint32_t id = 0; id < m->count && n < NAMES; id++) {
		if (m->entries[id].live && !m->entries[id].scratch) {
			ids[n] = id;
			memcpy(names[n++], m->entries[id].name, 8);
		}
	}
	if (n < 2 || model_find(m, "new", false) != SFT_NO_ID)
		return;
	for (uint32_t i = 0; i < n; i++)
		changes[i] = change_name(ids[i], i ? names[i - 1] : "new", false);
	assert_int_equal(sft_overlay_change(ov, changes, n, NULL), 0);
	for (uint32_t i = 0; i < n; i++)
		model_rename(m, ids[i], i ? names[i - 1] : "new", false);
}

/* ---- commits ---- */

/* Declare what is there, so that a commit takes it. */
static inline void edit_fit(struct model *m, struct sft_overlay *ov, uint32_t id)
{
	struct model_entry *e = &m->entries[id];

	e->declared = (struct declared){ true, SFT_U8, { e->length }, 1 };
	assert_int_equal(sft_overlay_declare(ov, id, SFT_U8, e->declared.shape, 1, NULL), 0);
}

static inline void commit_all(struct model *m, struct sft_overlay *ov)
{
	const struct sft_checkpoint *was = sft_overlay_checkpoint(ov);
	struct sft_error err = { 0 };

	if (sft_overlay_commit(ov, &fixture_any, NULL, &err) < 0)
		fail_msg("commit: %s", err.msg);
	sft_overlay_adopt(ov);
	assert_false(sft_overlay_dirty(ov));
	const bool committed = sft_overlay_checkpoint(ov) != was;
	m->base_count = 0;
	for (uint32_t id = 0; id < m->count; id++) {
		struct model_entry *e = &m->entries[id];

		if (e->live && e->scratch && e->own.is && !e->declared.is && committed)
			e->declared = e->own;
		if (committed || !e->live)
			e->own.is = false;
		if (!e->live || e->scratch)
			continue;
		e->own = (struct declared){ true, SFT_U8, { e->length }, 1 };
		e->declared.is = false;
		memcpy(e->own_name, e->name, sizeof(e->own_name));
		memcpy(m->base[m->base_count].name, e->name, sizeof(e->name));
		m->base[m->base_count++].declared = e->own;
	}
}

static inline void edit_commit(struct model *m, struct sft_overlay *ov)
{
	for (uint32_t id = 0; id < m->count; id++) {
		if (m->entries[id].live && !m->entries[id].scratch)
			edit_fit(m, ov, id);
	}
	commit_all(m, ov);
}

/* ---- any of them ---- */

typedef void edit(struct model *m, struct sft_overlay *ov);

static const struct {
	edit *edit;
	unsigned weight;
} edits[] = {
	{ edit_write, 50 },	 { edit_truncate, 12 },	   { edit_create, 10 },
	{ edit_remove, 5 },	 { edit_rename, 14 },	   { edit_declare, 4 },
	{ edit_metadata, 2 },	 { edit_all_metadata, 2 }, { edit_create_whole, 4 },
	{ edit_rename_over, 8 }, { edit_rename_many, 3 },
};

static inline void random_edit(struct model *m, struct sft_overlay *ov)
{
	static uint32_t far;
	static unsigned burst;
	unsigned sum = 0, pick;

	if (burst == 0 && random_below(70) == 0) {
		far = random_entry(m);
		burst = BURST;
	}
	if (burst && burst-- && far < m->count && m->entries[far].live) {
		edit_far(m, ov, far);
		return;
	}
	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++)
		sum += edits[i].weight;
	pick = (unsigned)random_below(sum);
	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++) {
		if (pick < edits[i].weight) {
			edits[i].edit(m, ov);
			return;
		}
		pick -= edits[i].weight;
	}
}

/* ---- for the runs ---- */

static inline void seed(const char *what)
{
	const char *s = getenv("SFT_SEED");

	random_state = s ? strtoull(s, NULL, 10) : 20240607;
	print_message("%s: SFT_SEED=%" PRIu64 "\n", what, random_state);
	random_state = random_state * 0x9e3779b97f4a7c15u + 1;
}

static inline unsigned rounds(unsigned usual)
{
	const char *s = getenv("SFT_ROUNDS");

	return s ? (unsigned)strtoul(s, NULL, 10) : usual;
}

/* Shards of a few tensors, one of them of 100 blocks. */
static inline struct overlay_place place(void)
{
	static const uint64_t sizes[SHARDS][3] = {
		{ 3, 65536, 200000 },
		{ 0, 70000, 100ull * SFT_BLOCK },
		{ 1, 65535, 131073 },
	};
	struct overlay_place p = { .dir = fixture_make_dir() };

	p.source = strdup(p.dir);
	for (size_t i = 0; i < SHARDS; i++) {
		char name[] = "0.safetensors", *path;

		name[0] = (char)('0' + i);
		path = fixture_join(p.dir, name);
		overlay_big_shard(path, 3 * i, sizes[i], 3, false);
		free(path);
	}
	return p;
}

#endif
