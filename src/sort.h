/* sort.h - a stable sort without the C library's worst cases */
#ifndef SFT_SORT_H
#define SFT_SORT_H

#include <stddef.h>
#include <stdint.h>

/* Negative, 0 or positive, as for qsort. */
typedef int sft_compare(uint32_t a, uint32_t b, const void *ctx);

/*
 * Sort n numbers, stably. At most n log2(n) comparisons whatever the input (qsort may turn
 * quadratic where it cannot allocate), about 2n where it is nearly sorted, n - 1 where it is
 * sorted. Takes 4n bytes while it runs, none where it is sorted already. 0 or -ENOMEM.
 */
int sft_sort(uint32_t *items, size_t n, sft_compare *compare, const void *ctx);

#endif
