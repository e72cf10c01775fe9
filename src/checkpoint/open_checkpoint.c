/*
 * open_checkpoint.c - one file, or a directory of shards with or without an index.json
 *
 * Find the shards' names (index or directory) -> open each -> merge their tensors by
 * name (duplicates.c).
 */
#include "checkpoint.h"
#include "hints.h"
#include "path.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_SUFFIX ".safetensors.index.json"
#define SHARD_SUFFIX ".safetensors"

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
	return e->d_name[0] != '.' && path_ends_with(e->d_name, SHARD_SUFFIX);
}

static int is_index_name(const struct dirent *e)
{
	return e->d_name[0] != '.' && path_ends_with(e->d_name, INDEX_SUFFIX);
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
		r = checkpoint_no_memory(err);
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
	if (n == 0) {
		r = sft_fail(err, ENOENT,
			     "no *" SHARD_SUFFIX " and no *" INDEX_SUFFIX " in this directory");
		hints_of_directory(ck->path, err);
	}
	for (int i = 0; r == 0 && i < n; i++) {
		if (add_name(ck, entries[i]->d_name) < 0)
			r = checkpoint_no_memory(err);
	}
	free_dirents(entries, n);
	return r;
}

/* Whether a file of the directory is valid and holds no tensors. */
static bool is_empty_shard(const struct sft_checkpoint *ck, const char *name)
{
	struct sft_file *file = NULL;
	char *path = NULL;
	bool empty = false;

	if (asprintf(&path, "%s/%s", ck->path, name) < 0)
		return false;
	if (sft_file_open(path, 0, &file, NULL) == 0)
		empty = sft_index_count(sft_file_index(file)) == 0;
	sft_file_free(file);
	free(path);
	return empty;
}

/*
 * An index that names no shard, as is left when all tensors were deleted: what is empty are its
 * shards, so that there is a place for a new tensor. A file with tensors is one that the index
 * leaves alone.
 */
static int scan_empty(struct sft_checkpoint *ck, struct sft_error *err)
{
	struct dirent **entries = NULL;
	int r = 0;
	int n = scandir(ck->path, &entries, is_shard_name, compare_dirents);
	if (n < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	for (int i = 0; r == 0 && i < n; i++) {
		if (is_empty_shard(ck, entries[i]->d_name) && add_name(ck, entries[i]->d_name) < 0)
			r = checkpoint_no_memory(err);
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
	if (!ck->is_directory && path_ends_with(source, ".index.json")) {
		/* Not the resolved name: in a hub's cache the index is a link to somewhere without
		 * the shards. */
		ck->path = path_resolve_dirname(source);
		ck->index_path = ck->path ? path_join(ck->path, path_base(source)) : NULL;
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
		return checkpoint_no_memory(err);
	for (size_t i = 0; i < ck->shard_count; i++) {
		char *path = NULL;
		struct sft_error e = { 0 };
		if (ck->is_directory && asprintf(&path, "%s/%s", ck->path, ck->names[i]) < 0)
			return checkpoint_no_memory(err);
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
	if (ck->missing &&
	    notes_add(&ck->warnings, "%zu of %zu shards are missing, their tensors are not shown",
		      ck->missing, ck->shard_count) < 0)
		return checkpoint_no_memory(err);
	return 0;
}

/* ---- the whole ---- */

static int list_shards(struct sft_checkpoint *ck, struct weight_map *map, struct sft_error *err)
{
	if (!ck->is_directory) {
		const char *slash = strrchr(ck->path, '/');
		return add_name(ck, slash ? slash + 1 : ck->path) < 0 ? checkpoint_no_memory(err)
								      : 0;
	}
	if (!ck->index_path)
		return scan_directory(ck, err);
	struct sft_error e = { 0 };
	if (weight_map_read(map, ck->index_path, &e) < 0)
		return sft_fail(err, e.errnum, "%s: %s", strrchr(ck->index_path, '/') + 1, e.msg);
	for (size_t i = 0; i < map->file_count; i++) {
		if (add_name(ck, map->files[i]) < 0)
			return checkpoint_no_memory(err);
	}
	return map->file_count ? 0 : scan_empty(ck, err);
}

int sft_checkpoint_open(const char *source, unsigned flags, struct sft_checkpoint **out,
			struct sft_error *err)
{
	struct weight_map map = { 0 };
	struct sft_checkpoint *ck = calloc(1, sizeof(*ck));
	if (!ck)
		return checkpoint_no_memory(err);
	ck->flags = flags;
	int r = resolve(ck, source, err);
	if (r == 0)
		r = list_shards(ck, &map, err);
	if (r == 0)
		r = open_shards(ck, err);
	if (r == 0)
		r = checkpoint_merge(ck, &map, err);
	for (size_t i = 0; r == 0 && i < ck->count; i++)
		ck->nbytes += ck->tensors[i]->nbytes;
	weight_map_free(&map);
	if (r < 0)
		sft_checkpoint_free(ck);
	else
		*out = ck;
	return r;
}
