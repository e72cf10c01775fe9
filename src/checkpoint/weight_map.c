/* weight_map.c - the weight_map of an index.json */
#include "weight_map.h"
#include "io.h"
#include "json.h"
#include "sort.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A name that open(2) resolves inside the directory, and nowhere else. */
static bool is_plain_file_name(const char *name, size_t len)
{
	return len > 0 && len <= NAME_MAX && !memchr(name, '/', len) && !memchr(name, '\0', len) &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int compare_entries(uint32_t a, uint32_t b, const void *ctx)
{
	const struct weight_map_entry *e = ctx;
	return sft_name_compare(e[a].name, e[a].name_len, e[b].name, e[b].name_len);
}

static int compare_files(uint32_t a, uint32_t b, const void *ctx)
{
	const char *const *values = ctx;
	return strcmp(values[a], values[b]);
}

/* Decode keys and values into map->strings: entries in the text's order, values[i] beside them. */
static int decode(struct weight_map *map, const struct sft_json *j, unsigned object,
		  const char **values, struct sft_error *err)
{
	char *out = map->strings;
	unsigned token = object + 1;
	for (size_t i = 0; i < map->count; i++) {
		struct weight_map_entry *e = &map->entries[i];
		e->name = out;
		e->name_len = (uint32_t)sft_json_decode(j, token, out);
		out += e->name_len + 1;
		struct sft_quoted q, v;
		token++;
		if (!sft_json_is_string(j, token))
			return sft_fail(err, EBADMSG, "weight_map: %s: not a string",
					sft_quote(&q, e->name, e->name_len));
		size_t len = sft_json_decode(j, token, out);
		if (!is_plain_file_name(out, len))
			return sft_fail(err, EBADMSG, "weight_map: %s: %s is not a plain file name",
					sft_quote(&q, e->name, e->name_len),
					sft_quote(&v, out, len));
		values[i] = out;
		out += len + 1;
		token++;
	}
	return 0;
}

/* Sort the entries by name, and number the files in byte order. */
static int arrange(struct weight_map *map, const char **values, struct sft_error *err)
{
	size_t n = map->count;
	int r = -ENOMEM;
	uint32_t *order = calloc(n, sizeof(*order));
	map->files = calloc(n, sizeof(*map->files));
	if (!order || !map->files)
		goto out;
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	r = sft_sort(order, n, compare_files, values);
	if (r < 0)
		goto out;
	for (size_t i = 0; i < n; i++) {
		const char *file = values[order[i]];
		if (map->file_count == 0 || strcmp(map->files[map->file_count - 1], file) != 0)
			map->files[map->file_count++] = file;
		map->entries[order[i]].file = (uint32_t)(map->file_count - 1);
	}
	r = sft_sort_array(map->entries, n, sizeof(*map->entries), compare_entries, map->entries);
out:
	free(order);
	return r < 0 ? sft_fail(err, -r, "no memory for the index") : 0;
}

int weight_map_parse(struct weight_map *map, const char *text, size_t len, struct sft_error *err)
{
	struct sft_json j = { 0 };
	const char **values = NULL;
	memset(map, 0, sizeof(*map));
	int r = sft_json_parse(&j, text, len, 0, err);
	if (r < 0)
		goto out;
	unsigned object = sft_json_get(&j, 0, "weight_map");
	if (object == 0 || j.tokens[object].type != JSMN_OBJECT) {
		r = sft_fail(err, EBADMSG,
			     object ? "weight_map is not an object" : "has no weight_map");
		goto out;
	}
	map->count = (size_t)j.tokens[object].size;
	if (map->count == 0)
		goto out;
	map->entries = calloc(map->count, sizeof(*map->entries));
	values = calloc(map->count, sizeof(*values));
	/* Decoded strings are no longer than the text, and their NULs fit where quotes were. */
	map->strings = malloc(len + 1);
	if (!map->entries || !values || !map->strings) {
		r = sft_fail(err, ENOMEM, "no memory for the index");
		goto out;
	}
	r = decode(map, &j, object, values, err);
	if (r == 0)
		r = arrange(map, values, err);
out:
	free(values);
	sft_json_free(&j);
	return r;
}

int weight_map_read(struct weight_map *map, const char *path, struct sft_error *err)
{
	struct stat st;
	char *text = NULL;
	ssize_t len;
	int r = 0;
	memset(map, 0, sizeof(*map));
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = sft_fail(err, errno, "%s", strerror(errno));
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		r = sft_fail(err, EINVAL, "is not a regular file");
		goto out;
	}
	if (st.st_size > (off_t)SFT_HEADER_MAX) {
		r = sft_fail(err, EFBIG, "has %lld bytes, above %u", (long long)st.st_size,
			     SFT_HEADER_MAX);
		goto out;
	}
	text = malloc((size_t)st.st_size + 1);
	if (!text) {
		r = sft_fail(err, ENOMEM, "no memory for the index");
		goto out;
	}
	len = io_read(fd, text, (size_t)st.st_size);
	if (len < 0) {
		r = sft_fail(err, (int)-len, "%s", strerror((int)-len));
		goto out;
	}
	r = weight_map_parse(map, text, (size_t)len, err);
out:
	free(text);
	if (fd >= 0)
		close(fd);
	return r;
}

void weight_map_free(struct weight_map *map)
{
	free(map->entries);
	free(map->files);
	free(map->strings);
	memset(map, 0, sizeof(*map));
}

const struct weight_map_entry *weight_map_find(const struct weight_map *map, const char *name,
					       size_t len)
{
	size_t low = 0, high = map->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct weight_map_entry *e = &map->entries[mid];
		int c = sft_name_compare(name, len, e->name, e->name_len);
		if (c == 0)
			return e;
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}
