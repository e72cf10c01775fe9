/*
 * checkpoint.c - one file, or a directory of shards with or without an index.json
 *
 * Opening goes: find the shards' names (index or directory) -> open each -> merge their tensors by
 * name -> settle names that occur twice -> compare with the index.
 */
#include "sft.h"
#include "sort.h"
#include "weight_map.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_SUFFIX ".safetensors.index.json"
#define SHARD_SUFFIX ".safetensors"

struct sft_checkpoint {
	char *path;
	char *index_path;
	bool is_directory;
	unsigned flags;
	struct sft_shard *shards;
	struct sft_file **files; /* the shards', owned */
	char **names;		 /* the shards', owned */
	size_t shard_count, missing;
	const struct sft_tensor **tensors;
	size_t count;
	uint64_t nbytes;
	char **warnings;
	size_t warning_count;
};

static bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);
	return n >= m && strcmp(s + n - m, suffix) == 0;
}

static int no_memory(struct sft_error *err)
{
	return sft_fail(err, ENOMEM, "no memory");
}

__attribute__((format(printf, 2, 3))) static int warn(struct sft_checkpoint *ck, const char *fmt,
						      ...)
{
	char *line = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&line, fmt, ap);
	va_end(ap);
	char **grown =
		n < 0 ? NULL : realloc(ck->warnings, (ck->warning_count + 1) * sizeof(*grown));
	if (!grown) {
		if (n >= 0)
			free(line);
		return -ENOMEM;
	}
	ck->warnings = grown;
	ck->warnings[ck->warning_count++] = line;
	return 0;
}

/* ---- which files ---- */

static int add_name(struct sft_checkpoint *ck, const char *name)
{
	char **grown = realloc(ck->names, (ck->shard_count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	ck->names = grown;
	ck->names[ck->shard_count] = strdup(name);
	return ck->names[ck->shard_count++] ? 0 : -ENOMEM;
}

static int is_shard_name(const struct dirent *e)
{
	return e->d_name[0] != '.' && ends_with(e->d_name, SHARD_SUFFIX);
}

static int is_index_name(const struct dirent *e)
{
	return e->d_name[0] != '.' && ends_with(e->d_name, INDEX_SUFFIX);
}

/* Byte order, whatever the locale. */
static int compare_dirents(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void free_dirents(struct dirent **entries, int n)
{
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
}

/* Find the one index.json of a directory, if there is one. */
static int find_index(struct sft_checkpoint *ck, struct sft_error *err)
{
	struct dirent **entries = NULL;
	int r = 0;
	int n = scandir(ck->path, &entries, is_index_name, compare_dirents);
	if (n < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	if (n > 1)
		r = sft_fail(err, EBADMSG,
			     "%d index files, among them %s and %s: give one of them as the source",
			     n, entries[0]->d_name, entries[1]->d_name);
	else if (n == 1 && asprintf(&ck->index_path, "%s/%s", ck->path, entries[0]->d_name) < 0) {
		ck->index_path = NULL;
		r = no_memory(err);
	}
	free_dirents(entries, n);
	return r;
}

/* Without an index every *.safetensors counts. */
static int scan_directory(struct sft_checkpoint *ck, struct sft_error *err)
{
	struct dirent **entries = NULL;
	int r = 0;
	int n = scandir(ck->path, &entries, is_shard_name, compare_dirents);
	if (n < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	if (n == 0)
		r = sft_fail(err, ENOENT,
			     "no *" SHARD_SUFFIX " and no *" INDEX_SUFFIX " in this directory");
	for (int i = 0; r == 0 && i < n; i++) {
		if (add_name(ck, entries[i]->d_name) < 0)
			r = no_memory(err);
	}
	free_dirents(entries, n);
	return r;
}

/* Find out what kind of source it is, and ck->path, ck->index_path. */
static int resolve(struct sft_checkpoint *ck, const char *source, struct sft_error *err)
{
	struct stat st;
	if (stat(source, &st) < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	ck->is_directory = S_ISDIR(st.st_mode);
	if (!ck->is_directory && ends_with(source, ".index.json")) {
		/* Not the resolved name: in a hub's cache the index is a link to somewhere without
		 * the shards. */
		char *copy = strdup(source);
		if (!copy)
			return no_memory(err);
		char *slash = strrchr(copy, '/');
		const char *base = slash ? slash + 1 : copy;
		if (slash)
			*slash = '\0';
		ck->path = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
		if (ck->path && asprintf(&ck->index_path, "%s/%s", ck->path, base) < 0)
			ck->index_path = NULL;
		free(copy);
		ck->is_directory = true;
		return ck->index_path ? 0 : sft_fail(err, errno, "%s", strerror(errno));
	}
	ck->path = realpath(source, NULL);
	if (!ck->path)
		return sft_fail(err, errno, "%s", strerror(errno));
	return ck->is_directory ? find_index(ck, err) : 0;
}

/* ---- opening the shards ---- */

static int refuse_missing(const struct sft_checkpoint *ck, struct sft_error *err)
{
	struct sft_buf list = { 0 };
	size_t named = 0;
	for (size_t i = 0; i < ck->shard_count && list.len < 300; i++) {
		if (!ck->files[i]) {
			sft_buf_printf(&list, "%s%s", named ? ", " : "", ck->names[i]);
			named++;
		}
	}
	if (named < ck->missing)
		sft_buf_printf(&list, " and %zu more", ck->missing - named);
	int r = sft_fail(err, ENOENT,
			 "%zu of %zu shards missing (-o partial mounts without them): %s",
			 ck->missing, ck->shard_count, list.failed ? "" : list.data);
	sft_buf_free(&list);
	return r;
}

static int open_shards(struct sft_checkpoint *ck, struct sft_error *err)
{
	ck->files = calloc(ck->shard_count + 1, sizeof(*ck->files));
	ck->shards = calloc(ck->shard_count + 1, sizeof(*ck->shards));
	if (!ck->files || !ck->shards)
		return no_memory(err);
	for (size_t i = 0; i < ck->shard_count; i++) {
		char *path = NULL;
		struct sft_error e = { 0 };
		if (ck->is_directory && asprintf(&path, "%s/%s", ck->path, ck->names[i]) < 0)
			return no_memory(err);
		int r = sft_file_open(path ? path : ck->path, (uint32_t)i, &ck->files[i], &e);
		free(path);
		if (r == -ENOENT && ck->index_path) {
			ck->missing++;
		} else if (r < 0) {
			return ck->is_directory
				       ? sft_fail(err, e.errnum, "%s: %s", ck->names[i], e.msg)
				       : sft_fail(err, e.errnum, "%s", e.msg);
		}
		ck->shards[i] = (struct sft_shard){ ck->names[i], ck->files[i] };
	}
	if (ck->missing && !(ck->flags & SFT_PARTIAL))
		return refuse_missing(ck, err);
	if (ck->missing && warn(ck, "%zu of %zu shards are missing, their tensors are not shown",
				ck->missing, ck->shard_count) < 0)
		return no_memory(err);
	return 0;
}

/* ---- the tensors of all shards ---- */

static int compare_tensors(uint32_t a, uint32_t b, const void *ctx)
{
	const struct sft_tensor *const *t = ctx;
	int c = sft_name_compare(t[a]->name, t[a]->name_len, t[b]->name, t[b]->name_len);
	return c ? c : (t[a]->shard > t[b]->shard) - (t[a]->shard < t[b]->shard);
}

static int merge(struct sft_checkpoint *ck, struct sft_error *err)
{
	size_t total = 0, n = 0;
	for (size_t i = 0; i < ck->shard_count; i++)
		total += ck->files[i] ? sft_index_count(sft_file_index(ck->files[i])) : 0;
	if (total >= UINT32_MAX)
		return sft_fail(err, EFBIG, "%zu tensors are more than can be shown", total);
	const struct sft_tensor **all = calloc(total + 1, sizeof(*all));
	uint32_t *order = calloc(total + 1, sizeof(*order));
	int r = all && order ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < ck->shard_count; i++) {
		const struct sft_index *index = ck->files[i] ? sft_file_index(ck->files[i]) : NULL;
		for (size_t k = 0; index && k < sft_index_count(index); k++, n++) {
			all[n] = sft_index_at(index, k);
			order[n] = (uint32_t)n;
		}
	}
	if (r == 0)
		r = sft_sort(order, n, compare_tensors, all);
	ck->tensors = r == 0 ? calloc(total + 1, sizeof(*ck->tensors)) : NULL;
	for (size_t i = 0; ck->tensors && i < n; i++)
		ck->tensors[i] = all[order[i]];
	ck->count = n;
	free(order);
	free(all);
	return ck->tensors ? 0 : no_memory(err);
}

static bool same_name(const struct sft_tensor *a, const struct sft_tensor *b)
{
	return sft_name_compare(a->name, a->name_len, b->name, b->name_len) == 0;
}

/* Of the tensors [first, end), which bear one name, the one that the index means. */
static int settle(struct sft_checkpoint *ck, const struct weight_map *map, size_t first, size_t end,
		  const struct sft_tensor **owner, struct sft_error *err)
{
	const struct sft_tensor *a = ck->tensors[first], *b = ck->tensors[first + 1];
	struct sft_quoted q;
	sft_quote(&q, a->name, a->name_len);
	if (!ck->index_path)
		return sft_fail(
			err, EBADMSG,
			"tensor %s is in two files, %s and %s (layout=files shows each file as "
			"a directory)",
			q.text, ck->names[a->shard], ck->names[b->shard]);
	const struct weight_map_entry *e = weight_map_find(map, a->name, a->name_len);
	*owner = NULL;
	for (size_t i = first; e && i < end; i++) {
		if (strcmp(ck->names[ck->tensors[i]->shard], map->files[e->file]) == 0)
			*owner = ck->tensors[i];
	}
	if (!*owner)
		return sft_fail(err, EBADMSG,
				"tensor %s is in two files, %s and %s, and the index says neither",
				q.text, ck->names[a->shard], ck->names[b->shard]);
	if (warn(ck, "tensor %s is in two files, %s and %s; the index says %s", q.text,
		 ck->names[a->shard], ck->names[b->shard], map->files[e->file]) < 0)
		return no_memory(err);
	return 0;
}

/* Leave one tensor of each name, unless the same names are allowed. */
static int settle_all(struct sft_checkpoint *ck, const struct weight_map *map,
		      struct sft_error *err)
{
	size_t kept = 0;
	for (size_t i = 0, end; i < ck->count; i = end) {
		const struct sft_tensor *owner = ck->tensors[i];
		for (end = i + 1; end < ck->count && same_name(owner, ck->tensors[end]);)
			end++;
		if (end - i > 1) {
			int r = settle(ck, map, i, end, &owner, err);
			if (r < 0)
				return r;
		}
		ck->tensors[kept++] = owner;
	}
	ck->count = kept;
	return 0;
}

/* ---- what the index says against what the shards hold ---- */

struct difference {
	size_t count;
	struct sft_quoted first;
};

static void note_difference(struct difference *d, const char *name, size_t len)
{
	if (d->count++ == 0)
		sft_quote(&d->first, name, len);
}

static int warn_difference(struct sft_checkpoint *ck, const struct difference *d, const char *what,
			   struct sft_error *err)
{
	int r = 0;
	if (d->count == 1)
		r = warn(ck, "tensor %s %s", d->first.text, what);
	else if (d->count > 1)
		r = warn(ck, "tensor %s and %zu more: each %s", d->first.text, d->count - 1, what);
	return r < 0 ? no_memory(err) : 0;
}

static int compare_with_index(struct sft_checkpoint *ck, const struct weight_map *map,
			      struct sft_error *err)
{
	struct difference nowhere = { 0 }, elsewhere = { 0 }, unlisted = { 0 };
	for (size_t i = 0; i < map->count; i++) {
		const struct weight_map_entry *e = &map->entries[i];
		/* The shards are the index's files, in the same order. */
		const struct sft_file *file = ck->files[e->file];
		if (!file || sft_index_find(sft_file_index(file), e->name, e->name_len))
			continue;
		bool shown = sft_checkpoint_find(ck, e->name, e->name_len) != NULL;
		note_difference(shown ? &elsewhere : &nowhere, e->name, e->name_len);
	}
	for (size_t i = 0; i < ck->count; i++) {
		const struct sft_tensor *t = ck->tensors[i];
		if (!weight_map_find(map, t->name, t->name_len))
			note_difference(&unlisted, t->name, t->name_len);
	}
	int r = warn_difference(ck, &nowhere, "is listed in the index, and no shard has it", err);
	if (r == 0)
		r = warn_difference(ck, &elsewhere, "is in another shard than the index says", err);
	if (r == 0)
		r = warn_difference(ck, &unlisted, "is in a shard, and the index does not list it",
				    err);
	return r;
}

/* ---- the whole ---- */

static int list_shards(struct sft_checkpoint *ck, struct weight_map *map, struct sft_error *err)
{
	if (!ck->is_directory) {
		const char *slash = strrchr(ck->path, '/');
		return add_name(ck, slash ? slash + 1 : ck->path) < 0 ? no_memory(err) : 0;
	}
	if (!ck->index_path)
		return scan_directory(ck, err);
	struct sft_error e = { 0 };
	if (weight_map_read(map, ck->index_path, &e) < 0)
		return sft_fail(err, e.errnum, "%s: %s", strrchr(ck->index_path, '/') + 1, e.msg);
	for (size_t i = 0; i < map->file_count; i++) {
		if (add_name(ck, map->files[i]) < 0)
			return no_memory(err);
	}
	return 0;
}

int sft_checkpoint_open(const char *source, unsigned flags, struct sft_checkpoint **out,
			struct sft_error *err)
{
	struct weight_map map = { 0 };
	struct sft_checkpoint *ck = calloc(1, sizeof(*ck));
	if (!ck)
		return no_memory(err);
	ck->flags = flags;
	int r = resolve(ck, source, err);
	if (r == 0)
		r = list_shards(ck, &map, err);
	if (r == 0)
		r = open_shards(ck, err);
	if (r == 0)
		r = merge(ck, err);
	if (r == 0 && !(flags & SFT_SAME_NAMES))
		r = settle_all(ck, &map, err);
	if (r == 0 && ck->index_path)
		r = compare_with_index(ck, &map, err);
	for (size_t i = 0; r == 0 && i < ck->count; i++)
		ck->nbytes += ck->tensors[i]->nbytes;
	weight_map_free(&map);
	if (r < 0)
		sft_checkpoint_free(ck);
	else
		*out = ck;
	return r;
}

void sft_checkpoint_free(struct sft_checkpoint *ck)
{
	if (!ck)
		return;
	for (size_t i = 0; i < ck->shard_count; i++) {
		if (ck->files)
			sft_file_free(ck->files[i]);
		free(ck->names[i]);
	}
	for (size_t i = 0; i < ck->warning_count; i++)
		free(ck->warnings[i]);
	free(ck->warnings);
	free(ck->names);
	free(ck->files);
	free(ck->shards);
	free(ck->tensors);
	free(ck->index_path);
	free(ck->path);
	free(ck);
}

bool sft_checkpoint_is_directory(const struct sft_checkpoint *ck)
{
	return ck->is_directory;
}

const char *sft_checkpoint_index_path(const struct sft_checkpoint *ck)
{
	return ck->index_path;
}

const char *sft_checkpoint_path(const struct sft_checkpoint *ck)
{
	return ck->path;
}

size_t sft_checkpoint_shards(const struct sft_checkpoint *ck)
{
	return ck->shard_count;
}

const struct sft_shard *sft_checkpoint_shard(const struct sft_checkpoint *ck, size_t i)
{
	return &ck->shards[i];
}

size_t sft_checkpoint_count(const struct sft_checkpoint *ck)
{
	return ck->count;
}

const struct sft_tensor *sft_checkpoint_at(const struct sft_checkpoint *ck, size_t i)
{
	return ck->tensors[i];
}

const struct sft_tensor *sft_checkpoint_find(const struct sft_checkpoint *ck, const char *name,
					     size_t len)
{
	size_t low = 0, high = ck->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct sft_tensor *t = ck->tensors[mid];
		if (sft_name_compare(t->name, t->name_len, name, len) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == ck->count)
		return NULL;
	const struct sft_tensor *t = ck->tensors[low];
	return sft_name_compare(t->name, t->name_len, name, len) == 0 ? t : NULL;
}

uint64_t sft_checkpoint_nbytes(const struct sft_checkpoint *ck)
{
	return ck->nbytes;
}

uint64_t sft_checkpoint_offset(const struct sft_checkpoint *ck, const struct sft_tensor *t)
{
	return sft_file_data_offset(ck->files[t->shard]) + t->begin;
}

const char *sft_checkpoint_warning(const struct sft_checkpoint *ck, size_t i)
{
	return i < ck->warning_count ? ck->warnings[i] : NULL;
}
