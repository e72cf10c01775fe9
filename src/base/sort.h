/* sort.h - a stable sort without the C library's worst cases; internal to the library */
#ifndef SFT_SORT_H
#define SFT_SORT_H

#include <stddef.h>
#include <stdint.h>

/* Compares two numbered things: negative, 0 or positive, as for qsort. */
typedef int sft_compare(uint32_t a, uint32_t b, const void *ctx);

/*
 * Sort n numbers of things, stably. At most n log2(n) comparisons whatever the input (qsort may
 * turn quadratic where it cannot allocate), about 2n where it is nearly sorted, n - 1 where it is
 * sorted. Takes up to 32n bytes while it runs. 0 or -ENOMEM.
 */
int sft_sort(uint32_t *items, size_t n, sft_compare *compare, const void *ctx);

struct sft_sort_item {
	/* Things with different prefixes are in the order of these, so that most comparisons need
	 * not touch the things, which are slow to reach. Where they are equal, `compare` decides.
	 */
	uint64_t prefix;
	uint32_t item;
};

/* The same with prefixes, for large n. Takes 16n bytes while it runs, none where it is sorted. */
int sft_sort_items(struct sft_sort_item *items, size_t n, sft_compare *compare, const void *ctx);

/* Sort an array of n things of `size` bytes each, stably, by their positions in it as it is before.
 * Takes a copy of it and 36n bytes while it runs. 0 or -ENOMEM, and then it is as it was. */
int sft_sort_array(void *array, size_t n, size_t size, sft_compare *compare, const void *ctx);

/* How many bytes at the start of two strings are the same. */
size_t sft_sort_common(const char *a, size_t a_len, const char *b, size_t b_len);

/* The prefix for byte order of strings that all begin with the same `skip` bytes. */
uint64_t sft_sort_prefix(const char *s, size_t len, size_t skip);

#endif
