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

static bool is_sorted(const struct sort *s, const uint32_t *items, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		if (s->compare(items[i - 1], items[i], s->ctx) > 0)
			return false;
	}
	return true;
}

/* Merge the sorted runs [0, mid) and [mid, n) of `from` into `to`. */
static void merge(const struct sort *s, uint32_t *to, const uint32_t *from, size_t mid, size_t n)
{
	size_t a = 0, b = mid;

	/* What makes nearly sorted input cheap: most runs follow each other already. */
	if (mid == n || s->compare(from[mid - 1], from[mid], s->ctx) <= 0) {
		memcpy(to, from, n * sizeof(*to));
		return;
	}
	while (a < mid && b < n)
		*to++ = s->compare(from[a], from[b], s->ctx) <= 0 ? from[a++] : from[b++];
	memcpy(to, from + a, (mid - a) * sizeof(*to));
	to += mid - a;
	memcpy(to, from + b, (n - b) * sizeof(*to));
}

int sft_sort(uint32_t *items, size_t n, sft_compare *compare, const void *ctx)
{
	const struct sort s = { compare, ctx };

	if (is_sorted(&s, items, n))
		return 0;
	uint32_t *scratch = malloc(n * sizeof(*scratch));
	if (!scratch)
		return -ENOMEM;
	uint32_t *from = items, *to = scratch;
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t at = 0; at < n; at += 2 * width) {
			size_t left = n - at;

			merge(&s, to + at, from + at, width < left ? width : left,
			      2 * width < left ? 2 * width : left);
		}
		uint32_t *swap = from;
		from = to;
		to = swap;
	}
	if (from != items)
		memcpy(items, from, n * sizeof(*items));
	free(scratch);
	return 0;
}
