/*
 * duplicates.c - the tensors of all shards as one set
 *
 * Merge by name -> settle names that occur twice -> compare with the index.
 */
#include "checkpoint.h"
#include "sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	const struct sft_tensor **all = ck->tensors = calloc(total + 1, sizeof(*all));
	if (!all)
		return checkpoint_no_memory(err);
	for (size_t i = 0; i < ck->shard_count; i++) {
		const struct sft_index *index = ck->files[i] ? sft_file_index(ck->files[i]) : NULL;
		for (size_t k = 0; index && k < sft_index_count(index); k++)
			all[n++] = sft_index_at(index, k);
	}
	ck->count = n;
	if (sft_sort_array(all, n, sizeof(*all), compare_tensors, all) < 0)
		return checkpoint_no_memory(err);
	return 0;
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
	if (ck->settled++ == 0 &&
	    notes_add(&ck->warnings, "tensor %s is in two files, %s and %s; the index says %s",
		      q.text, ck->names[a->shard], ck->names[b->shard], map->files[e->file]) < 0)
		return checkpoint_no_memory(err);
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
	if (ck->settled > 1 &&
	    notes_add(&ck->warnings, "and %zu more tensors are in two files each",
		      ck->settled - 1) < 0)
		return checkpoint_no_memory(err);
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
		r = notes_add(&ck->warnings, "tensor %s %s", d->first.text, what);
	else if (d->count > 1)
		r = notes_add(&ck->warnings, "tensor %s and %zu more: each %s", d->first.text,
			      d->count - 1, what);
	return r < 0 ? checkpoint_no_memory(err) : 0;
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

int checkpoint_merge(struct sft_checkpoint *ck, const struct weight_map *map, struct sft_error *err)
{
	int r = merge(ck, err);
	if (r == 0 && !(ck->flags & SFT_SAME_NAMES))
		r = settle_all(ck, map, err);
	if (r == 0 && ck->index_path)
		r = compare_with_index(ck, map, err);
	return r;
}
