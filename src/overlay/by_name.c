/*
 * by_name.c - live entries by name: tensors, and apart from them scratch files
 *
 * Open addressing with linear probing over ids, at most three quarters full. Removing moves later
 * ids back, so there are no tombstones; each entry keeps its hash for that.
 */
#include "overlay_state.h"
#include "siphash.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 16u

/* Tensors of one name in several shards must not end up in one chain. */
static uint32_t key_shard(const struct sft_overlay *ov, uint32_t shard, bool scratch)
{
	return ov->options.flags & SFT_SAME_NAMES && !scratch ? shard : 0;
}

uint32_t by_name_hash(const struct sft_overlay *ov, uint32_t shard, bool scratch, const char *name,
		      size_t len)
{
	uint64_t h = siphash13(ov->hash_key, name, len);

	h += ((uint64_t)key_shard(ov, shard, scratch) << 1 | scratch) * 0x9e3779b97f4a7c15u;
	return (uint32_t)(h ^ h >> 32);
}

static uint32_t home(const struct sft_overlay *ov, uint32_t hash)
{
	return (uint32_t)((uint64_t)hash * ov->by_name_capacity >> 32);
}

static uint32_t after(const struct sft_overlay *ov, uint32_t i)
{
	return i + 1 == ov->by_name_capacity ? 0 : i + 1;
}

static void put(struct sft_overlay *ov, uint32_t id)
{
	uint32_t i = home(ov, ov->entries[id]->name_hash);

	while (ov->by_name[i] != SFT_NO_ID)
		i = after(ov, i);
	ov->by_name[i] = id;
}

int by_name_reserve(struct sft_overlay *ov, uint32_t more)
{
	uint64_t need = (uint64_t)ov->by_name_used + more, capacity = ov->by_name_capacity;
	uint32_t *old = ov->by_name, old_capacity = ov->by_name_capacity;

	if (need <= capacity / 4 * 3)
		return 0;
	if (capacity < CAPACITY_MIN)
		capacity = CAPACITY_MIN;
	while (need > capacity / 4 * 3)
		capacity *= 2;
	if (capacity > UINT32_MAX)
		return -ENOMEM;
	uint32_t *grown = malloc(capacity * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	for (size_t i = 0; i < capacity; i++)
		grown[i] = SFT_NO_ID;
	ov->by_name = grown;
	ov->by_name_capacity = (uint32_t)capacity;
	for (uint32_t i = 0; i < old_capacity; i++) {
		if (old[i] != SFT_NO_ID)
			put(ov, old[i]);
	}
	free(old);
	return 0;
}

void by_name_add(struct sft_overlay *ov, uint32_t id)
{
	struct overlay_entry *e = ov->entries[id];

	e->name_hash = by_name_hash(ov, e->pub.shard, e->pub.scratch, e->pub.name, e->pub.name_len);
	put(ov, id);
	ov->by_name_used++;
}

void by_name_remove(struct sft_overlay *ov, uint32_t id)
{
	uint32_t hole = home(ov, ov->entries[id]->name_hash);

	while (ov->by_name[hole] != id)
		hole = after(ov, hole);
	for (uint32_t i = after(ov, hole); ov->by_name[i] != SFT_NO_ID; i = after(ov, i)) {
		uint32_t h = home(ov, ov->entries[ov->by_name[i]]->name_hash);
		bool reachable = hole < i ? h > hole && h <= i : h > hole || h <= i;

		if (reachable)
			continue;
		ov->by_name[hole] = ov->by_name[i];
		hole = i;
	}
	ov->by_name[hole] = SFT_NO_ID;
	ov->by_name_used--;
}

uint32_t by_name_find(const struct sft_overlay *ov, uint32_t shard, bool scratch, const char *name,
		      size_t len)
{
	const bool by_shard = ov->options.flags & SFT_SAME_NAMES && !scratch;
	uint32_t hash = by_name_hash(ov, shard, scratch, name, len);

	if (ov->by_name_used == 0)
		return SFT_NO_ID;
	for (uint32_t i = home(ov, hash); ov->by_name[i] != SFT_NO_ID; i = after(ov, i)) {
		const struct overlay_entry *e = ov->entries[ov->by_name[i]];

		if (e->name_hash == hash && e->pub.scratch == scratch &&
		    (!by_shard || e->pub.shard == shard) && overlay_entry_is(e, name, len))
			return ov->by_name[i];
	}
	return SFT_NO_ID;
}

uint32_t sft_overlay_find(const struct sft_overlay *ov, uint32_t shard, const char *name,
			  size_t len)
{
	uint32_t id = SFT_NO_ID;

	if (shard != SFT_SHARD_AUTO || !(ov->options.flags & SFT_SAME_NAMES))
		return by_name_find(ov, shard, false, name, len);
	for (uint32_t i = 0; id == SFT_NO_ID && i < ov->shard_count; i++)
		id = by_name_find(ov, i, false, name, len);
	return id;
}
