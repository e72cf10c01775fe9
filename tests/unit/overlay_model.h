/*
 * overlay_model.h - random edits against a model in memory
 *
 * The model knows nothing of blocks and journals: a list of names and bytes. The seed is printed;
 * SFT_SEED and SFT_ROUNDS set seed and length.
 */
#ifndef OVERLAY_MODEL_H
#define OVERLAY_MODEL_H

#include "overlay_fixture.h"

#include "slots.h"

#define ENTRIES 4000
#define NAMES 8
#define LENGTH_MAX 300000u /* bytes: five blocks */

static uint64_t random_state;

static inline uint64_t random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 11) % n;
}

/* ---- the model ---- */

struct declared {
	bool is;
	uint8_t dtype;
	uint64_t shape[2];
	uint32_t rank;
};

struct model_entry {
	char name[8];
	bool live, scratch;
	unsigned char *bytes; /* of LENGTH_MAX; behind the length zeros */
	uint64_t length;
	struct declared declared, own; /* own: of the committed tensor that it is */
};

struct model {
	struct model_entry entries[ENTRIES]; /* by id */
	uint32_t count;
	struct {
		char name[8];
		struct declared declared;
	} base[ENTRIES];
	uint32_t base_count;
	int metadata; /* a number for its content */
};

static inline struct model_entry *model_add(struct model *m, const char *name, bool scratch)
{
	struct model_entry *e = &m->entries[m->count++];

	assert_true(m->count < ENTRIES);
	*e = (struct model_entry){ .live = true, .scratch = scratch };
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->bytes = calloc(1, LENGTH_MAX);
	return e;
}

static inline void model_clear(struct model *m)
{
	for (uint32_t i = 0; i < m->count; i++)
		free(m->entries[i].bytes);
	m->count = 0;
}

static inline uint32_t model_find(const struct model *m, const char *name, bool scratch)
{
	for (uint32_t i = 0; i < m->count; i++) {
		const struct model_entry *e = &m->entries[i];

		if (e->live && e->scratch == scratch && strcmp(e->name, name) == 0)
			return i;
	}
	return SFT_NO_ID;
}

/* What the tensor's dtype and shape are to be. */
static inline struct declared model_declared(const struct model *m, const struct model_entry *e)
{
	if (e->declared.is)
		return e->declared;
	if (e->own.is)
		return e->own;
	for (uint32_t i = 0; !e->scratch && i < m->base_count; i++) {
		if (strcmp(m->base[i].name, e->name) == 0)
			return m->base[i].declared;
	}
	return (struct declared){ true, SFT_U8, { e->length }, 1 };
}

/* Take the overlay's state for the model's: at first, and after a crash. */
static inline void model_load(struct model *m, const struct sft_overlay *ov)
{
	const struct sft_checkpoint *ck = sft_overlay_checkpoint(ov);

	model_clear(m);
	m->base_count = 0;
	for (size_t i = 0; i < sft_checkpoint_count(ck); i++) {
		const struct sft_tensor *t = sft_checkpoint_at(ck, i);
		struct declared d = { true, t->dtype, { 0 }, t->rank };

		if (t->rank)
			memcpy(d.shape, t->shape, t->rank * sizeof(*t->shape));
		snprintf(m->base[m->base_count].name, 8, "%s", t->name);
		m->base[m->base_count++].declared = d;
	}
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *p = sft_overlay_entry(ov, id);
		struct model_entry *e = model_add(m, p->name, p->scratch);
		struct declared now = { true, p->dtype, { 0 }, p->rank };
		size_t done;

		e->live = p->live;
		e->length = p->nbytes;
		if (p->rank)
			memcpy(now.shape, p->shape, p->rank * sizeof(*now.shape));
		if (ov->entries[id]->has_declared)
			e->declared = now;
		for (uint32_t i = 0; p->committed && i < m->base_count; i++) {
			if (strcmp(m->base[i].name, p->committed->name) == 0)
				e->own = m->base[i].declared;
		}
		assert_int_equal(sft_overlay_read(ov, id, e->bytes, LENGTH_MAX, 0, &done, NULL), 0);
		assert_int_equal(done, e->length);
	}
	const struct sft_metadata *md = sft_overlay_metadata(ov, 0);
	m->metadata = md->present && md->count ? atoi(md->pairs[0].value) : 0;
}

/* ---- comparing ---- */

static inline void compare_entry(const struct model *m, const struct sft_overlay *ov, uint32_t id)
{
	static unsigned char bytes[LENGTH_MAX + 1];
	const struct model_entry *e = &m->entries[id];
	const struct sft_entry *p = sft_overlay_entry(ov, id);
	struct declared d = model_declared(m, e);
	size_t done;

	assert_int_equal(p->live, e->live);
	if (!e->live)
		return;
	assert_string_equal(p->name, e->name);
	assert_int_equal(p->scratch, e->scratch);
	assert_int_equal(p->nbytes, e->length);
	assert_int_equal(p->dtype, d.dtype);
	assert_int_equal(p->rank, d.rank);
	if (d.rank)
		assert_memory_equal(p->shape, d.shape, d.rank * sizeof(*d.shape));
	assert_int_equal(sft_overlay_read(ov, id, bytes, sizeof(bytes), 0, &done, NULL), 0);
	assert_int_equal(done, e->length);
	assert_memory_equal(bytes, e->bytes, e->length);
	if (e->length == 0)
		return;
	/* A piece of it by itself. */
	uint64_t from = random_below(e->length), n = 1 + random_below(LENGTH_MAX);
	uint64_t want = n < e->length - from ? n : e->length - from;
	assert_int_equal(sft_overlay_read(ov, id, bytes, n, from, &done, NULL), 0);
	assert_int_equal(done, want);
	assert_memory_equal(bytes, e->bytes + from, want);
}

static inline void compare(const struct model *m, const struct sft_overlay *ov)
{
	const struct sft_metadata *md = sft_overlay_metadata(ov, 0);
	uint32_t problems = 0;

	assert_int_equal(sft_overlay_count(ov), m->count);
	for (uint32_t id = 0; id < m->count; id++) {
		const struct model_entry *e = &m->entries[id];
		struct declared d = model_declared(m, e);
		uint64_t n;

		compare_entry(m, ov, id);
		problems += e->live && !e->scratch &&
			    (sft_shape_nbytes(d.dtype, d.shape, d.rank, &n, NULL) < 0 ||
			     n != e->length);
		if (e->live && !e->scratch)
			assert_int_equal(sft_overlay_find(ov, 0, e->name, strlen(e->name)), id);
	}
	assert_int_equal(sft_overlay_problems(ov), problems);
	assert_int_equal(md->present && md->count ? atoi(md->pairs[0].value) : 0, m->metadata);
}

/* Slots are in use once, unused once or pending once. */
static inline void check_slots(const struct sft_overlay *ov)
{
	const struct slots *s = &ov->slots;
	uint8_t *seen = calloc(s->end + 1, 1);

	for (uint32_t id = 0; id < ov->count; id++) {
		const struct blockmap *map = &ov->entries[id]->blocks;

		for (uint32_t i = 0; i < map->capacity; i++) {
			if (map->places[i].slot != UINT32_MAX)
				seen[map->places[i].slot]++;
		}
	}
	for (uint32_t i = 0; i < s->unused_count; i++)
		seen[s->unused[i]]++;
	for (uint32_t i = 0; i < s->pending_count; i++)
		seen[s->pending[i]]++;
	for (uint32_t i = 0; i < s->end; i++)
		assert_int_equal(seen[i], 1);
	free(seen);
}

/* ---- edits ---- */

static inline uint32_t random_entry(const struct model *m,
				    bool (*wanted)(const struct model_entry *))
{
	for (int tries = 0; m->count && tries < 50; tries++) {
		uint32_t id = (uint32_t)random_below(m->count);

		/* Young ones are more often alive. */
		if (random_below(2))
			id = m->count - 1 - (uint32_t)random_below(m->count < 20 ? m->count : 20);
		if (m->entries[id].live && wanted(&m->entries[id]))
			return id;
	}
	return SFT_NO_ID;
}

static inline bool any(const struct model_entry *e)
{
	(void)e;
	return true;
}

static inline const char *random_name(bool scratch)
{
	static char name[8];

	snprintf(name, sizeof(name), "%s%c", scratch ? "." : "", (char)('a' + random_below(NAMES)));
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

static inline void edit_write(struct model *m, struct sft_overlay *ov)
{
	static unsigned char bytes[LENGTH_MAX];
	uint32_t id = random_entry(m, any);
	uint64_t n = 1 + random_length(random_below(4) ? 300 : LENGTH_MAX - 1);
	uint64_t offset = random_length(LENGTH_MAX - n + 1);

	if (id == SFT_NO_ID)
		return;
	for (uint64_t i = 0; i < n; i++)
		bytes[i] = (unsigned char)random_below(256);
	assert_int_equal(sft_overlay_write(ov, id, bytes, n, offset, NULL), 0);
	struct model_entry *e = &m->entries[id];
	memcpy(e->bytes + offset, bytes, n);
	if (e->length < offset + n)
		e->length = offset + n;
}

static inline void edit_truncate(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m, any);
	uint64_t n = random_length(LENGTH_MAX);

	if (id == SFT_NO_ID)
		return;
	assert_int_equal(sft_overlay_truncate(ov, id, n, NULL), 0);
	memset(m->entries[id].bytes + n, 0, LENGTH_MAX - n);
	m->entries[id].length = n;
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
	uint32_t id = random_entry(m, any);

	if (id == SFT_NO_ID)
		return;
	assert_int_equal(sft_overlay_remove(ov, id, NULL), 0);
	m->entries[id].live = false;
}

static inline void edit_rename(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m, any);
	bool scratch = random_below(4) == 0;
	const char *name = random_name(scratch);
	uint32_t holder = model_find(m, name, scratch);

	if (id == SFT_NO_ID)
		return;
	struct model_entry *e = &m->entries[id];
	assert_int_equal(sft_overlay_rename(ov, id, name, strlen(name), scratch, SFT_SHARD_AUTO,
					    holder == id ? SFT_NO_ID : holder, NULL),
			 0);
	if (holder != SFT_NO_ID && holder != id)
		m->entries[holder].live = false;
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->scratch = scratch;
}

static inline void edit_declare(struct model *m, struct sft_overlay *ov)
{
	uint32_t id = random_entry(m, any);
	struct declared d = { true, SFT_U8, { 0 }, (uint32_t)random_below(3) };

	if (id == SFT_NO_ID)
		return;
	if (random_below(3))
		d.dtype = SFT_U16;
	for (uint32_t i = 0; i < d.rank; i++)
		d.shape[i] = i ? 1 + random_below(2) : m->entries[id].length;
	assert_int_equal(sft_overlay_declare(ov, id, d.dtype, d.shape, d.rank, NULL), 0);
	struct declared now = model_declared(m, &m->entries[id]);
	/* To declare what a committed tensor has anyway is nothing. */
	if (m->entries[id].own.is && !m->entries[id].declared.is &&
	    memcmp(&now, &d, sizeof(now)) == 0)
		return;
	m->entries[id].declared = d;
}

static inline void edit_metadata(struct model *m, struct sft_overlay *ov)
{
	char value[8];
	struct sft_pair pair = { "k", value, 1, 0 };
	struct sft_metadata md = { .count = 1, .pairs = &pair };

	m->metadata = (int)random_below(3);
	pair.value_len = (uint32_t)snprintf(value, sizeof(value), "%d", m->metadata);
	md.present = m->metadata > 0;
	md.count = md.present;
	assert_int_equal(sft_overlay_set_metadata(ov, 0, &md, NULL), 0);
}

/* Mend what would be refused, then commit. */
static inline void edit_commit(struct model *m, struct sft_overlay *ov)
{
	struct sft_error err = { 0 };

	for (uint32_t id = 0; id < m->count; id++) {
		struct model_entry *e = &m->entries[id];

		if (!e->live || e->scratch)
			continue;
		e->declared = (struct declared){ true, SFT_U8, { e->length }, 1 };
		assert_int_equal(sft_overlay_declare(ov, id, SFT_U8, e->declared.shape, 1, NULL),
				 0);
	}
	if (sft_overlay_commit(ov, &fixture_any, NULL, &err) < 0)
		fail_msg("commit: %s", err.msg);
	const bool committed = ov->next;
	sft_overlay_adopt(ov);
	assert_false(sft_overlay_dirty(ov));
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
		memcpy(m->base[m->base_count].name, e->name, sizeof(e->name));
		m->base[m->base_count++].declared = e->own;
	}
}

typedef void edit(struct model *m, struct sft_overlay *ov);

static const struct {
	edit *edit;
	unsigned weight;
} edits[] = {
	{ edit_write, 50 },  { edit_truncate, 12 }, { edit_create, 10 },  { edit_remove, 5 },
	{ edit_rename, 14 }, { edit_declare, 4 },   { edit_metadata, 2 },
};

static inline void random_edit(struct model *m, struct sft_overlay *ov)
{
	unsigned sum = 0, pick;

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

static inline struct overlay_place place(void)
{
	const uint64_t sizes[] = { 3, 65536, 200000, 0, 70000 };
	struct overlay_place p = { .dir = fixture_make_dir() };

	p.source = fixture_join(p.dir, "m.safetensors");
	overlay_big_checkpoint(p.source, sizes, 5, false);
	return p;
}

#endif
