/* entries.c - entries: making them, what is derived of them, what differs from the base */
#include "overlay_state.h"
#include "utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* ---- names ---- */

int overlay_check_name(const char *name, size_t len, struct sft_error *err)
{
	static const char reserved[] = "__metadata__";
	struct sft_quoted q;

	for (size_t i = 0, n; i < len; i += n) {
		n = sft_utf8_char(name + i, len - i);
		if (n == 0)
			return sft_fail(err, EINVAL, "tensor name %s: not valid UTF-8 at byte %zu",
					sft_quote(&q, name, len), i);
	}
	if (len == sizeof(reserved) - 1 && memcmp(name, reserved, len) == 0)
		return sft_fail(err, EINVAL, "tensor name \"%s\": reserved for the metadata",
				reserved);
	if (len > SFT_HEADER_MAX)
		return sft_fail(err, EINVAL, "tensor name of %zu bytes: no header can hold it",
				len);
	return 0;
}

/* ---- entries ---- */

static char *copy_name(const char *name, size_t len)
{
	char *copy = malloc(len + 1);

	if (!copy)
		return NULL;
	if (len)
		memcpy(copy, name, len);
	copy[len] = '\0';
	return copy;
}

struct overlay_entry *overlay_entry_new(const char *name, size_t len, bool scratch, uint32_t shard)
{
	struct overlay_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->own_name = copy_name(name, len);
	if (!e->own_name) {
		free(e);
		return NULL;
	}
	e->pub.name = e->own_name;
	e->pub.name_len = (uint32_t)len;
	e->pub.shard = shard;
	e->pub.scratch = scratch;
	e->pub.live = true;
	e->journal_id = SFT_NO_ID;
	return e;
}

void overlay_entry_free(struct overlay_entry *e)
{
	if (!e)
		return;
	free(e->own_name);
	free(e->declared);
	blockmap_free(&e->blocks);
	free(e);
}

struct overlay_entry *overlay_live(const struct sft_overlay *ov, uint32_t id, struct sft_error *err)
{
	if (id < ov->count && ov->entries[id]->pub.live)
		return ov->entries[id];
	sft_fail(err, EINVAL, "tensor number %u: removed or never there", id);
	return NULL;
}

size_t overlay_lower_bound(const struct sft_overlay *ov, uint32_t shard, const char *name,
			   size_t len)
{
	size_t low = 0, high = sft_checkpoint_count(ov->base);

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct sft_tensor *t = sft_checkpoint_at(ov->base, mid);
		int c = sft_name_compare(t->name, t->name_len, name, len);

		if (c < 0 || (c == 0 && shard != SFT_SHARD_AUTO && t->shard < shard))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

uint32_t overlay_committed(const struct sft_overlay *ov, uint32_t shard, const char *name,
			   size_t len)
{
	size_t i;

	if (!(ov->options.flags & SFT_SAME_NAMES))
		shard = SFT_SHARD_AUTO;
	i = overlay_lower_bound(ov, shard, name, len);
	if (i == sft_checkpoint_count(ov->base))
		return SFT_NO_ID;
	const struct sft_tensor *t = sft_checkpoint_at(ov->base, i);
	if (!sft_name_equal(t->name, t->name_len, name, len) ||
	    (shard != SFT_SHARD_AUTO && t->shard != shard))
		return SFT_NO_ID;
	return (uint32_t)i;
}

/* ---- what is derived ---- */

void overlay_resolve(const struct sft_overlay *ov, struct overlay_entry *e)
{
	uint32_t i;

	if (e->retired)
		return;
	e->like = e->pub.committed;
	if (e->like || e->pub.scratch)
		return;
	i = overlay_committed(ov, e->pub.shard, e->pub.name, e->pub.name_len);
	if (i != SFT_NO_ID)
		e->like = sft_checkpoint_at(ov->base, i);
}

static void set_declared(struct overlay_entry *e)
{
	if (e->has_declared) { /* dtype and rank stand in pub */
		e->pub.shape = e->declared;
	} else if (e->like) {
		e->pub.dtype = e->like->dtype;
		e->pub.shape = e->like->shape;
		e->pub.rank = e->like->rank;
	} else {
		e->pub.dtype = SFT_U8;
		e->pub.shape = &e->pub.nbytes;
		e->pub.rank = 1;
	}
}

/* Whether name, shard, dtype or shape differ from the committed tensor's. */
static bool differs_in_header(const struct sft_entry *p)
{
	const struct sft_tensor *c = p->committed;

	return p->shard != c->shard || p->dtype != c->dtype || p->rank != c->rank ||
	       !sft_name_equal(p->name, p->name_len, c->name, c->name_len) ||
	       (p->rank && memcmp(p->shape, c->shape, p->rank * sizeof(*p->shape)) != 0);
}

/* Whether a commit would refuse it. What nobody declared fits by itself. */
static bool has_problem(const struct overlay_entry *e)
{
	uint64_t nbytes;

	if (!e->pub.live || e->pub.scratch || (!e->has_declared && !e->like))
		return false;
	return sft_shape_nbytes((enum sft_dtype)e->pub.dtype, e->pub.shape, e->pub.rank, &nbytes,
				NULL) < 0 ||
	       nbytes != e->pub.nbytes;
}

void overlay_refresh(struct sft_overlay *ov, struct overlay_entry *e)
{
	const struct sft_tensor *c = e->pub.committed;

	set_declared(e);
	ov->problem_count -= e->problem;
	e->problem = has_problem(e);
	ov->problem_count += e->problem;
	e->changed = e->pub.live && (!c || e->blocks.count || e->pub.nbytes != c->nbytes ||
				     e->base_length != c->nbytes);
	e->pub.staged =
		e->pub.live && !e->pub.scratch && (e->changed || differs_in_header(&e->pub));
}

bool sft_overlay_problem(const struct sft_overlay *ov, uint32_t id, char *reason, size_t size)
{
	const struct sft_entry *p = sft_overlay_entry(ov, id);
	struct sft_error err = { 0 };
	struct sft_buf shape = { 0 };
	uint64_t nbytes = 0;

	if (id >= ov->count || !ov->entries[id]->problem)
		return false;
	if (sft_shape_nbytes((enum sft_dtype)p->dtype, p->shape, p->rank, &nbytes, &err) < 0) {
		snprintf(reason, size, "%s", err.msg);
		return true;
	}
	/* Shapes can be long; what is cut here the sidecar shows. */
	sft_buf_printf(&shape, "%s [", sft_dtype_name((enum sft_dtype)p->dtype));
	for (uint32_t i = 0; i < p->rank && shape.len < 100; i++)
		sft_buf_printf(&shape, "%s%llu", i ? "," : "", (unsigned long long)p->shape[i]);
	sft_buf_printf(&shape, shape.len < 100 ? "]" : "...]");
	snprintf(reason, size, "has %llu bytes, but %s takes %llu", (unsigned long long)p->nbytes,
		 shape.failed ? "its shape" : shape.data, (unsigned long long)nbytes);
	sft_buf_free(&shape);
	return true;
}

/* Whether a committed tensor whose entry is no tensor any more counts as deleted: a new one of its
 * name counts in its place. */
static bool is_gone(const struct sft_overlay *ov, const struct sft_tensor *t)
{
	uint32_t id = by_name_find(ov, t->shard, false, t->name, t->name_len);

	return id == SFT_NO_ID || ov->entries[id]->pub.committed;
}

void sft_overlay_staged(const struct sft_overlay *ov, uint32_t *tensors, uint64_t *bytes)
{
	*tensors = 0;
	*bytes = 0;
	for (uint32_t id = 0; id < ov->count; id++) {
		const struct overlay_entry *e = ov->entries[id];

		if (e->pub.live && !e->pub.scratch) {
			*tensors += e->pub.staged;
			*bytes += (uint64_t)e->blocks.count * SFT_BLOCK;
		} else if (e->pub.committed) {
			*tensors += is_gone(ov, e->pub.committed);
		}
	}
}

uint64_t sft_overlay_generation(const struct sft_overlay *ov)
{
	return ov->generation;
}

bool sft_overlay_dirty(const struct sft_overlay *ov)
{
	uint32_t tensors;
	uint64_t bytes;

	for (size_t i = 0; i < ov->shard_count; i++) {
		if (ov->metadata_staged[i])
			return true;
	}
	sft_overlay_staged(ov, &tensors, &bytes);
	return tensors > 0;
}

/* ---- all of it ---- */

/* Look-ups must not be slowed down by names made for it, so the hash has a secret key. */
static void make_key(uint64_t key[2])
{
	struct timespec now;

	if (getrandom(key, 2 * sizeof(*key), GRND_NONBLOCK) == 2 * sizeof(*key))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	key[0] = (uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec;
	key[1] = (uint64_t)(uintptr_t)key;
}

static int load_metadata(struct sft_overlay *ov)
{
	ov->shard_count = sft_checkpoint_shards(ov->base);
	ov->metadata = calloc(ov->shard_count + 1, sizeof(*ov->metadata));
	ov->metadata_staged = calloc(ov->shard_count + 1, sizeof(*ov->metadata_staged));
	if (!ov->metadata || !ov->metadata_staged)
		return -ENOMEM;
	for (size_t i = 0; i < ov->shard_count; i++) {
		const struct sft_file *file = sft_checkpoint_shard(ov->base, i)->file;

		if (file)
			ov->metadata[i] = *sft_index_metadata(sft_file_index(file));
	}
	return 0;
}

static void load_entry(struct sft_overlay *ov, uint32_t id)
{
	const struct sft_tensor *t = sft_checkpoint_at(ov->base, id);
	struct overlay_entry *e = &ov->first_entries[id];

	*e = (struct overlay_entry){
		.pub = { .name = t->name,
			 .committed = t,
			 .nbytes = t->nbytes,
			 .name_len = t->name_len,
			 .shard = t->shard,
			 .live = true },
		.like = t,
		.base = sft_checkpoint_shard(ov->base, t->shard)->file,
		.base_offset = sft_checkpoint_offset(ov->base, t),
		.base_length = t->nbytes,
		.journal_id = SFT_NO_ID,
	};
	set_declared(e);
	ov->entries[id] = e;
	by_name_add(ov, id);
}

int overlay_load(struct sft_overlay *ov, struct sft_error *err)
{
	uint32_t count = (uint32_t)sft_checkpoint_count(ov->base);

	make_key(ov->hash_key);
	ov->entries = calloc((size_t)count + 1, sizeof(struct overlay_entry *));
	ov->first_entries = calloc((size_t)count + 1, sizeof(*ov->first_entries));
	if (!ov->entries || !ov->first_entries || load_metadata(ov) < 0 ||
	    by_name_reserve(ov, count) < 0)
		return sft_fail(err, ENOMEM, "no memory for the entries of %u tensors", count);
	ov->capacity = count + 1;
	for (; ov->count < count; ov->count++)
		load_entry(ov, ov->count);
	ov->first_count = count;
	return 0;
}

void overlay_clear(struct sft_overlay *ov)
{
	for (uint32_t id = 0; id < ov->count; id++) {
		struct overlay_entry *e = ov->entries[id];

		if (id >= ov->first_count) {
			overlay_entry_free(e);
			continue;
		}
		free(e->own_name);
		free(e->declared);
		blockmap_free(&e->blocks);
	}
	free(ov->entries);
	free(ov->first_entries);
	ov->entries = NULL;
	ov->first_entries = NULL;
	ov->count = ov->capacity = ov->first_count = ov->problem_count = ov->next_journal_id = 0;
	for (size_t i = 0; i < ov->shard_count; i++) {
		if (ov->metadata_staged && ov->metadata_staged[i])
			sft_metadata_free(&ov->metadata[i]);
	}
	free(ov->metadata);
	free(ov->metadata_staged);
	ov->metadata = NULL;
	ov->metadata_staged = NULL;
	ov->shard_count = 0;
	free(ov->by_name);
	ov->by_name = NULL;
	ov->by_name_capacity = ov->by_name_used = 0;
	slots_free(&ov->slots);
}

void overlay_unload(struct sft_overlay *ov)
{
	overlay_clear(ov);
	for (size_t i = 0; i < ov->retired_count; i++)
		sft_checkpoint_free(ov->retired[i]);
	free(ov->retired);
	ov->retired = NULL;
	ov->retired_count = 0;
	sft_checkpoint_free(ov->base);
	ov->base = NULL;
}

int overlay_reserve(struct sft_overlay *ov, uint32_t more)
{
	if ((uint64_t)ov->count + more > ov->capacity) {
		uint64_t capacity = (uint64_t)ov->capacity + ov->capacity / 2 + 16 + more;
		struct overlay_entry **grown;

		if (capacity >= SFT_NO_ID)
			return -ENOSPC;
		grown = realloc(ov->entries, capacity * sizeof(struct overlay_entry *));
		if (!grown)
			return -ENOMEM;
		ov->entries = grown;
		ov->capacity = (uint32_t)capacity;
	}
	/* A rename takes its old name away before it gives the new one. */
	return by_name_reserve(ov, more);
}

int overlay_reserve_retired(struct sft_overlay *ov)
{
	struct sft_checkpoint **grown =
		realloc(ov->retired, (ov->retired_count + 1) * sizeof(struct sft_checkpoint *));

	if (!grown)
		return -ENOMEM;
	ov->retired = grown;
	return 0;
}
