/* tensors.c - the immutable set of tensors of one header, and looking one up */
#include "tensors.h"
#include "sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare_names(uint32_t a, uint32_t b, const void *ctx)
{
	const struct sft_tensor *x = (const struct sft_tensor *)ctx + a;
	const struct sft_tensor *y = (const struct sft_tensor *)ctx + b;

	return sft_name_compare(x->name, x->name_len, y->name, y->name_len);
}

/* The tensors' numbers, with the sorting prefix of each name. */
static void set_items(const struct sft_index *index, struct sft_sort_item *items)
{
	const struct sft_tensor *t = index->tensors;
	size_t common = index->count ? t[0].name_len : 0;

	for (size_t i = 0; i < index->count; i++)
		common = sft_sort_common(t[0].name, common, t[i].name, t[i].name_len);
	for (size_t i = 0; i < index->count; i++) {
		items[i].item = (uint32_t)i;
		items[i].prefix = sft_sort_prefix(t[i].name, t[i].name_len, common);
	}
}

int sft_index_sort(struct sft_index *index, struct sft_error *err)
{
	size_t n = index->count, moved = 0;
	struct sft_sort_item *items = malloc((n + 1) * sizeof(*items));
	struct sft_tensor *sorted = NULL;
	int r = -ENOMEM;

	if (!items)
		goto out;
	set_items(index, items);
	r = sft_sort_items(items, n, compare_names, index->tensors);
	if (r)
		goto out;
	while (moved < n && items[moved].item == moved)
		moved++;
	if (moved == n) /* they were in order, as in most files of one dtype */
		goto out;
	sorted = malloc(n * sizeof(*sorted));
	if (!sorted) {
		r = -ENOMEM;
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		sorted[i] = index->tensors[items[i].item];
	free(index->tensors);
	index->tensors = sorted;
out:
	free(items);
	return r ? sft_fail(err, -r, "out of memory for %zu tensors", n) : 0;
}

void sft_index_free(struct sft_index *index)
{
	if (!index)
		return;
	sft_metadata_free(&index->metadata);
	free(index->tensors);
	free(index->names);
	free(index->shapes);
	free(index);
}

size_t sft_index_count(const struct sft_index *index)
{
	return index->count;
}

const struct sft_tensor *sft_index_at(const struct sft_index *index, size_t i)
{
	return &index->tensors[i];
}

const struct sft_tensor *sft_index_find(const struct sft_index *index, const char *name, size_t len)
{
	size_t low = 0, high = index->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct sft_tensor *t = &index->tensors[mid];
		int r = sft_name_compare(name, len, t->name, t->name_len);

		if (r == 0)
			return t;
		if (r < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

const char *sft_tensor_keys(const struct sft_tensor *tensor)
{
	return tensor->has_keys ? tensor->name + tensor->name_len + 1 : "";
}

const struct sft_metadata *sft_index_metadata(const struct sft_index *index)
{
	return &index->metadata;
}
