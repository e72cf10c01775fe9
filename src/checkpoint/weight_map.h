/* weight_map.h - which tensor is in which shard, as an index.json says; private to the library */
#ifndef SFT_WEIGHT_MAP_H
#define SFT_WEIGHT_MAP_H

#include "sft.h"

struct weight_map {
	struct weight_map_entry {
		const char *name; /* decoded */
		uint32_t name_len;
		uint32_t file; /* position in files */
	} * entries;	       /* in byte order of names */
	size_t count;
	const char **files; /* each once, in byte order */
	size_t file_count;
	char *strings; /* what the others point into */
};

/*
 * Read and validate the text of an index.json: strict JSON, an object whose `weight_map` maps names
 * to plain file names. EBADMSG where it does not, ENOMEM. Freed with weight_map_free, also after
 * a failure.
 */
int weight_map_parse(struct weight_map *map, const char *text, size_t len, struct sft_error *err);
/* The same from a file; EFBIG above SFT_HEADER_MAX bytes, and the errors of open(2). */
int weight_map_read(struct weight_map *map, const char *path, struct sft_error *err);
void weight_map_free(struct weight_map *map);

const struct weight_map_entry *weight_map_find(const struct weight_map *map, const char *name,
					       size_t len);

#endif
