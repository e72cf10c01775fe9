/* sort.c - bottom-up merge sort */
#include "sort.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct sort {
	sft_compare *compare;
	const void *ctx;
};

/* Whether `a` may stay before `b`. */
static bool in_order(const struct sort *s, const struct sft_sort_item *a,
		     const struct sft_sort_item *b)
{
	if (a->prefix != b->prefix)
		return a->prefix < b->prefix;
	return s->compare(a->item, b->item, s->ctx) <= 0;
}

static bool is_sorted(const struct sort *s, const struct sft_sort_item *items, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		if (!in_order(s, &items[i - 1], &items[i]))
			return false;
	}
	return true;
}

/* Merge the sorted runs [0, mid) and [mid, n) of `from` into `to`. */
static void merge(const struct sort *s, struct sft_sort_item *to, const struct sft_sort_item *from,
		  size_t mid, size_t n)
{
	size_t a = 0, b = mid;

	/* What makes nearly sorted input cheap: most runs follow each other already. */
	if (mid == n || in_order(s, &from[mid - 1], &from[mid])) {
		memcpy(to, from, n * sizeof(*to));
		return;
	}
	while (a < mid && b < n)
		*to++ = in_order(s, &from[a], &from[b]) ? from[a++] : from[b++];
	memcpy(to, from + a, (mid - a) * sizeof(*to));
	to += mid - a;
	memcpy(to, from + b, (n - b) * sizeof(*to));
}

int sft_sort_items(struct sft_sort_item *items, size_t n, sft_compare *compare, const void *ctx)
{
	const struct sort s = { compare, ctx };

	if (is_sorted(&s, items, n))
		return 0;
	struct sft_sort_item *scratch = malloc(n * sizeof(*scratch));
	if (!scratch)
		return -ENOMEM;
	struct sft_sort_item *from = items, *to = scratch;
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t at = 0; at < n; at += 2 * width) {
			size_t left = n - at;

			merge(&s, to + at, from + at, width < left ? width : left,
			      2 * width < left ? 2 * width : left);
		}
		struct sft_sort_item *swap = from;
		from = to;
		to = swap;
	}
	if (from != items)
		memcpy(items, from, n * sizeof(*items));
	free(scratch);
	return 0;
}

int sft_sort(uint32_t *items, size_t n, sft_compare *compare, const void *ctx)
{
	struct sft_sort_item *copy = malloc((n + 1) * sizeof(*copy));
	int r = -ENOMEM;

	if (!copy)
		goto out;
	for (size_t i = 0; i < n; i++)
		copy[i] = (struct sft_sort_item){ 0, items[i] };
	r = sft_sort_items(copy, n, compare, ctx);
	if (r)
		goto out;
	for (size_t i = 0; i < n; i++)
		items[i] = copy[i].item;
out:
	free(copy);
	return r;
}

size_t sft_sort_common(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t n = a_len < b_len ? a_len : b_len, i = 0;

	while (i < n && a[i] == b[i])
		i++;
	return i;
}

uint64_t sft_sort_prefix(const char *s, size_t len, size_t skip)
{
	uint64_t prefix = 0;

	for (size_t i = skip; i < skip + 8; i++)
		prefix = prefix << 8 | (i < len ? (unsigned char)s[i] : 0);
	return prefix;
}

int sft_sort_array(void *array, size_t n, size_t size, sft_compare *compare, const void *ctx)
{
	uint32_t *order = calloc(n + 1, sizeof(*order));
	char *sorted = calloc(n + 1, size);
	int r = order && sorted ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++)
		order[i] = (uint32_t)i;
	if (r == 0)
		r = sft_sort(order, n, compare, ctx);
	for (size_t i = 0; r == 0 && i < n; i++)
		memcpy(sorted + i * size, (char *)array + order[i] * size, size);
	if (r == 0)
		memcpy(array, sorted, n * size);
	free(sorted);
	free(order);
	return r;
}
