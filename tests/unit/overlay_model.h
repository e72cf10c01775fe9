/*
 * overlay_model.h - a model in memory to hold an overlay against
 *
 * The model knows nothing of blocks and journals: a list of names and bytes. What makes the edits
 * is in overlay_edits.h.
 */
#ifndef OVERLAY_MODEL_H
#define OVERLAY_MODEL_H

#include "overlay_fixture.h"

#include "slots.h"

#define ENTRIES 4000
#define SHARDS 3
#define LENGTH_MAX (120u * SFT_BLOCK) /* bytes */

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

static inline bool declared_equal(struct declared a, struct declared b)
{
	return a.dtype == b.dtype && a.rank == b.rank && (a.rank < 1 || a.shape[0] == b.shape[0]) &&
	       (a.rank < 2 || a.shape[1] == b.shape[1]);
}

struct model_entry {
	char name[8];
	bool live, scratch;
	unsigned char *bytes; /* of LENGTH_MAX, zeros from the length on; NULL: not live */
	uint64_t length;
	struct declared declared, own; /* own: of the committed tensor that it is */
	char own_name[8];
};

struct model {
	struct model_entry entries[ENTRIES]; /* by id */
	uint32_t count;
	struct {
		char name[8];
		struct declared declared;
	} base[ENTRIES];
	uint32_t base_count;
	int metadata[SHARDS]; /* a number for its content */
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

static inline void model_remove(struct model *m, uint32_t id)
{
	m->entries[id].live = false;
	free(m->entries[id].bytes);
	m->entries[id].bytes = NULL;
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

static inline int model_metadata(const struct sft_overlay *ov, uint32_t shard)
{
	const struct sft_metadata *md = sft_overlay_metadata(ov, shard);

	return md->present && md->count ? atoi(md->pairs[0].value) : 0;
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

		if (!p->live) {
			model_remove(m, id);
			continue;
		}
		e->length = p->nbytes;
		if (p->rank)
			memcpy(now.shape, p->shape, p->rank * sizeof(*now.shape));
		if (ov->entries[id]->has_declared)
			e->declared = now;
		for (uint32_t i = 0; p->committed && i < m->base_count; i++) {
			if (strcmp(m->base[i].name, p->committed->name) == 0) {
				e->own = m->base[i].declared;
				memcpy(e->own_name, m->base[i].name, sizeof(e->own_name));
			}
		}
		assert_int_equal(sft_overlay_read(ov, id, e->bytes, LENGTH_MAX, 0, &done, NULL), 0);
		assert_int_equal(done, e->length);
	}
	for (uint32_t i = 0; i < SHARDS; i++)
		m->metadata[i] = model_metadata(ov, i);
}

/*
 * What becomes of it when the overlay is closed: scratch files go, but for committed tensors that
 * were put aside and whose names are free.
 */
static inline void model_close(struct model *m)
{
	for (uint32_t id = 0; id < m->count; id++) {
		struct model_entry *e = &m->entries[id];

		if (!e->live || !e->scratch)
			continue;
		if (e->own.is && model_find(m, e->own_name, false) == SFT_NO_ID) {
			memcpy(e->name, e->own_name, sizeof(e->name));
			e->scratch = false;
		} else {
			model_remove(m, id);
		}
	}
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
	for (uint32_t i = 0; i < SHARDS; i++)
		assert_int_equal(model_metadata(ov, i), m->metadata[i]);
}

/* Ids are others after a replay; what is there has to be the same, without scratch files. */
static inline void compare_shown(const struct model *m, const struct sft_overlay *ov)
{
	static struct model now;
	uint32_t live = 0;

	model_load(&now, ov);
	for (uint32_t id = 0; id < m->count; id++)
		live += m->entries[id].live;
	for (uint32_t id = 0; id < now.count; id++) {
		const struct model_entry *e = &now.entries[id];
		uint32_t was = model_find(m, e->name, false);

		if (!e->live)
			continue;
		live--;
		assert_int_not_equal(was, SFT_NO_ID);
		assert_int_equal(e->length, m->entries[was].length);
		assert_memory_equal(e->bytes, m->entries[was].bytes, e->length);
		assert_true(declared_equal(model_declared(&now, e),
					   model_declared(m, &m->entries[was])));
	}
	assert_int_equal(live, 0);
	assert_memory_equal(now.metadata, m->metadata, sizeof(now.metadata));
	model_clear(&now);
}

/* Slots are in use once, unused once or pending once; or holes, which opening does not count. */
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
		assert_true(seen[i] <= 1);
	free(seen);
}

#endif
