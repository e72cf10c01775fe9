/*
 * blockmap.c - which slot each staged block of a tensor is in
 *
 * A hash table with linear probing, between three eighths and three quarters full: at most 22 bytes
 * a block, 32 while it grows. Removing moves later places back, so that there are no tombstones.
 */
#include "blockmap.h"

#include <errno.h>
#include <stdlib.h>

#define EMPTY UINT32_MAX
#define CAPACITY_MIN 8u

/* Blocks come in runs: a multiplication spreads them, and the high bits are its best. */
static uint32_t home(const struct blockmap *map, uint32_t block)
{
	return (uint32_t)(((uint64_t)(block * 0x9e3779b1u) * map->capacity) >> 32);
}

static uint32_t after(const struct blockmap *map, uint32_t i)
{
	return i + 1 == map->capacity ? 0 : i + 1;
}

/* The place of a block, or the empty one where it would go. There is always an empty one. */
static uint32_t place_of(const struct blockmap *map, uint32_t block)
{
	uint32_t i = home(map, block);

	while (map->places[i].slot != EMPTY && map->places[i].block != block)
		i = after(map, i);
	return i;
}

bool blockmap_find(const struct blockmap *map, uint32_t block, uint32_t *slot)
{
	if (map->count == 0)
		return false;
	uint32_t i = place_of(map, block);
	if (map->places[i].slot == EMPTY)
		return false;
	*slot = map->places[i].slot;
	return true;
}

int blockmap_reserve(struct blockmap *map, uint32_t more)
{
	struct blockmap grown = { 0 };
	uint64_t need = (uint64_t)map->count + more, capacity = map->capacity;

	if (need <= (uint64_t)map->capacity / 4 * 3)
		return 0;
	if (capacity < CAPACITY_MIN)
		capacity = CAPACITY_MIN;
	while (need > capacity / 4 * 3)
		capacity *= 2;
	if (capacity > UINT32_MAX)
		return -ENOMEM;
	grown.places = malloc(capacity * sizeof(*grown.places));
	if (!grown.places)
		return -ENOMEM;
	grown.capacity = (uint32_t)capacity;
	for (uint32_t i = 0; i < grown.capacity; i++)
		grown.places[i].slot = EMPTY;
	for (uint32_t i = 0; i < map->capacity; i++) {
		if (map->places[i].slot != EMPTY)
			blockmap_put(&grown, map->places[i].block, map->places[i].slot);
	}
	free(map->places);
	*map = grown;
	return 0;
}

void blockmap_put(struct blockmap *map, uint32_t block, uint32_t slot)
{
	uint32_t i = place_of(map, block);

	if (map->places[i].slot == EMPTY)
		map->count++;
	map->places[i] = (struct blockmap_place){ block, slot };
}

void blockmap_remove(struct blockmap *map, uint32_t block)
{
	if (map->count == 0)
		return;
	uint32_t hole = place_of(map, block);
	if (map->places[hole].slot == EMPTY)
		return;
	map->count--;
	/* Move back what could not be found any more: whatever does not have its home between the
	 * hole and itself, round the end. */
	for (uint32_t i = after(map, hole); map->places[i].slot != EMPTY; i = after(map, i)) {
		uint32_t h = home(map, map->places[i].block);
		bool reachable = hole < i ? h > hole && h <= i : h > hole || h <= i;

		if (reachable)
			continue;
		map->places[hole] = map->places[i];
		hole = i;
	}
	map->places[hole].slot = EMPTY;
}

void blockmap_free(struct blockmap *map)
{
	free(map->places);
	*map = (struct blockmap){ 0 };
}

uint64_t blockmap_next(const struct blockmap *map, uint64_t first, uint64_t end)
{
	uint64_t next = end;
	uint32_t slot;

	if (map->count == 0)
		return end;
	/* Look up one after the other as long as that is less than looking at every place. */
	for (uint32_t i = 0; i < map->capacity; i++, first++) {
		if (first >= end)
			return end;
		if (blockmap_find(map, (uint32_t)first, &slot))
			return first;
	}
	for (uint32_t i = 0; i < map->capacity; i++) {
		const struct blockmap_place *p = &map->places[i];

		if (p->slot != EMPTY && p->block >= first && p->block < next)
			next = p->block;
	}
	return next;
}
