/* fuzz_index.c - libFuzzer over the text of an index.json */
#include "weight_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

static void check_map(const struct weight_map *map)
{
	for (size_t i = 0; i < map->count; i++) {
		const struct weight_map_entry *e = &map->entries[i], *before = i ? e - 1 : NULL;
		REQUIRE(e->file < map->file_count);
		REQUIRE(e->name[e->name_len] == '\0');
		REQUIRE(weight_map_find(map, e->name, e->name_len) == e);
		REQUIRE(!before ||
			sft_name_compare(before->name, before->name_len, e->name, e->name_len) < 0);
	}
	for (size_t i = 0; i < map->file_count; i++) {
		const char *file = map->files[i];
		REQUIRE(*file && !strchr(file, '/') && strcmp(file, ".") && strcmp(file, ".."));
		REQUIRE(i == 0 || strcmp(map->files[i - 1], file) < 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct sft_error err = { 0 };
	struct weight_map map;
	/* Of its very length, so that reading behind it is caught. */
	char *text = malloc(size + !size);
	REQUIRE(text);
	memcpy(text, bytes, size);
	int r = weight_map_parse(&map, text, size, &err);
	REQUIRE(r == 0 || r == -EBADMSG);
	REQUIRE((r == 0) == (err.msg[0] == '\0'));
	if (r == 0)
		check_map(&map);
	weight_map_free(&map);
	free(text);
	return 0;
}
