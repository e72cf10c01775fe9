/*
 * overlay_order.c - live tensors in byte order of their names, to choose a shard for a new one
 *
 * Made only when it is first needed, which a checkpoint of one file never does. A sorted list of
 * ids in chunks: finding is two binary searches, adding and removing move at most a chunk.
 */
#include "overlay_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 512u /* ids; a full chunk is split in halves */

struct chunk {
	uint32_t count;
	uint32_t ids[CHUNK];
};

struct overlay_order {
	struct chunk **chunks; /* none is empty */
	uint32_t count, capacity;
	struct chunk *spare; /* for the next split */
};

/* By name, then by shard. */
static int compare(const struct sft_overlay *ov, uint32_t id, const char *name, size_t len,
		   uint32_t shard)
{
	const struct sft_entry *p = &ov->entries[id]->pub;
	int c = sft_name_compare(p->name, p->name_len, name, len);

	return c ? c : (p->shard > shard) - (p->shard < shard);
}

/* The last chunk whose first id is below the key; the first chunk where none is. */
static uint32_t find_chunk(const struct sft_overlay *ov, const char *name, size_t len,
			   uint32_t shard)
{
	const struct overlay_order *o = ov->order;
	uint32_t low = 0, high = o->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (compare(ov, o->chunks[mid]->ids[0], name, len, shard) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low ? low - 1 : 0;
}

/* How many ids of the chunk are below the key. */
static uint32_t find_in_chunk(const struct sft_overlay *ov, const struct chunk *c, const char *name,
			      size_t len, uint32_t shard)
{
	uint32_t low = 0, high = c->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (compare(ov, c->ids[mid], name, len, shard) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int order_reserve(struct sft_overlay *ov)
{
	struct overlay_order *o = ov->order;

	if (!o)
		return 0;
	if (!o->spare)
		o->spare = malloc(sizeof(*o->spare));
	if (!o->spare)
		return -ENOMEM;
	if (o->count == o->capacity) {
		uint32_t capacity = o->capacity * 2 + 16;
		struct chunk **grown = realloc(o->chunks, capacity * sizeof(struct chunk *));

		if (!grown)
			return -ENOMEM;
		o->chunks = grown;
		o->capacity = capacity;
	}
	return 0;
}

/* Put the spare chunk at a position of the list. */
static struct chunk *insert_chunk(struct overlay_order *o, uint32_t at)
{
	struct chunk *c = o->spare;

	memmove(o->chunks + at + 1, o->chunks + at, (o->count - at) * sizeof(struct chunk *));
	o->chunks[at] = c;
	o->count++;
	o->spare = NULL;
	c->count = 0;
	return c;
}

void order_add(struct sft_overlay *ov, uint32_t id)
{
	const struct sft_entry *p = &ov->entries[id]->pub;
	struct overlay_order *o = ov->order;
	struct chunk *c;
	uint32_t i, at;

	if (!o || p->scratch)
		return;
	i = find_chunk(ov, p->name, p->name_len, p->shard);
	c = o->count ? o->chunks[i] : insert_chunk(o, 0);
	if (c->count == CHUNK) {
		struct chunk *upper = insert_chunk(o, i + 1);

		upper->count = CHUNK / 2;
		c->count -= upper->count;
		memcpy(upper->ids, c->ids + c->count, upper->count * sizeof(*c->ids));
		if (compare(ov, upper->ids[0], p->name, p->name_len, p->shard) < 0)
			c = upper;
	}
	at = find_in_chunk(ov, c, p->name, p->name_len, p->shard);
	memmove(c->ids + at + 1, c->ids + at, (c->count - at) * sizeof(*c->ids));
	c->ids[at] = id;
	c->count++;
}

void order_remove(struct sft_overlay *ov, uint32_t id)
{
	const struct sft_entry *p = &ov->entries[id]->pub;
	struct overlay_order *o = ov->order;
	uint32_t i, at;

	if (!o || p->scratch)
		return;
	i = find_chunk(ov, p->name, p->name_len, p->shard);
	at = find_in_chunk(ov, o->chunks[i], p->name, p->name_len, p->shard);
	if (at == o->chunks[i]->count) { /* it is the first of the next one */
		i++;
		at = 0;
	}
	struct chunk *c = o->chunks[i];
	memmove(c->ids + at, c->ids + at + 1, (c->count - at - 1) * sizeof(*c->ids));
	if (--c->count)
		return;
	o->count--;
	memmove(o->chunks + i, o->chunks + i + 1, (o->count - i) * sizeof(struct chunk *));
	if (o->spare)
		free(c);
	else
		o->spare = c;
}

uint32_t order_before(const struct sft_overlay *ov, const char *name, size_t len)
{
	uint32_t i, at;

	if (ov->order->count == 0)
		return SFT_NO_ID;
	i = find_chunk(ov, name, len, 0);
	at = find_in_chunk(ov, ov->order->chunks[i], name, len, 0);
	return at ? ov->order->chunks[i]->ids[at - 1] : SFT_NO_ID;
}

int order_build(struct sft_overlay *ov)
{
	if (ov->order)
		return 0;
	ov->order = calloc(1, sizeof(*ov->order));
	if (!ov->order)
		return -ENOMEM;
	for (uint32_t id = 0; id < ov->count; id++) {
		if (!ov->entries[id]->pub.live)
			continue;
		if (order_reserve(ov) < 0) {
			order_free(ov);
			return -ENOMEM;
		}
		order_add(ov, id);
	}
	return 0;
}

void order_free(struct sft_overlay *ov)
{
	if (!ov->order)
		return;
	for (uint32_t i = 0; i < ov->order->count; i++)
		free(ov->order->chunks[i]);
	free(ov->order->chunks);
	free(ov->order->spare);
	free(ov->order);
	ov->order = NULL;
}

/* ---- the shard of a new tensor ---- */

static bool is_there(const struct sft_overlay *ov, uint32_t shard)
{
	return shard < ov->shard_count && sft_checkpoint_shard(ov->base, shard)->file;
}

/* The first shard that is not missing, and how many there are. */
static uint32_t first_shard(const struct sft_overlay *ov, uint32_t *present)
{
	uint32_t first = SFT_SHARD_AUTO;

	*present = 0;
	for (uint32_t i = (uint32_t)ov->shard_count; i-- > 0;) {
		if (is_there(ov, i)) {
			first = i;
			++*present;
		}
	}
	return first;
}

int order_choose_shard(struct sft_overlay *ov, const char *name, size_t len, uint32_t wanted,
		       uint32_t replaced, uint32_t *shard, struct sft_error *err)
{
	uint32_t present, first = first_shard(ov, &present), id;
	struct sft_quoted q;

	if (wanted != SFT_SHARD_AUTO && !is_there(ov, wanted))
		return sft_fail(err, EINVAL, "tensor %s: shard %u is missing",
				sft_quote(&q, name, len), wanted);
	if (present == 0)
		return sft_fail(err, EINVAL, "tensor %s: there is no shard to put it into",
				sft_quote(&q, name, len));
	*shard = wanted != SFT_SHARD_AUTO ? wanted : first;
	if (wanted != SFT_SHARD_AUTO || present == 1)
		return 0;
	id = state_committed(ov, SFT_SHARD_AUTO, name, len);
	/* Where several shards may have the name, it is the one of the replaced that is meant. */
	if (replaced != SFT_NO_ID && (id == SFT_NO_ID || ov->options.flags & SFT_SAME_NAMES)) {
		*shard = ov->entries[replaced]->pub.shard;
		return 0;
	}
	if (id != SFT_NO_ID) {
		*shard = sft_checkpoint_at(ov->base, id)->shard;
		return 0;
	}
	if (order_build(ov) < 0)
		return sft_fail(err, ENOMEM, "no memory to order the tensors");
	id = order_before(ov, name, len);
	if (id != SFT_NO_ID)
		*shard = ov->entries[id]->pub.shard;
	return 0;
}
