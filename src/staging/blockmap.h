/* blockmap.h - which slot each staged block of a tensor is in */
#ifndef SFT_BLOCKMAP_H
#define SFT_BLOCKMAP_H

#include <stdbool.h>
#include <stdint.h>

/* Open addressing, 8 bytes a place: block number -> slot. Zero-initialise. */
struct blockmap {
	struct blockmap_place {
		uint32_t block, slot; /* slot UINT32_MAX: empty */
	} * places;
	uint32_t count, capacity;
};
bool blockmap_find(const struct blockmap *map, uint32_t block, uint32_t *slot);
int blockmap_reserve(struct blockmap *map, uint32_t more); /* -ENOMEM; put then cannot fail */
void blockmap_put(struct blockmap *map, uint32_t block, uint32_t slot);
void blockmap_remove(struct blockmap *map, uint32_t block);
void blockmap_free(struct blockmap *map);
/* The lowest staged block in [first, end), or `end`, which is at most 2^32. */
uint64_t blockmap_next(const struct blockmap *map, uint64_t first, uint64_t end);

#endif
