/*
 * compare.h - two tensors of one dtype, element by element; no files and no FUSE here
 */
#ifndef COMPARE_H
#define COMPARE_H

#include "sft.h"

/* Pieces of a tensor begin at multiples of this many bytes: whole elements of every dtype, and
 * whole groups of the F6 types. */
#define COMPARE_ALIGN 24u

/* What differs between a and b. */
struct compare {
	uint64_t elements;  /* how many differ in their bits */
	uint64_t first;	    /* the lowest of them; valid where there is one */
	uint64_t nonfinite; /* how many of them are NaN or infinite on either side */
	double max_abs;	    /* the largest |a - b| of the others; below 0 where there is none */
	double max_rel;	    /* the largest |a - b| / |a| of those with a != 0; likewise */
};

void compare_init(struct compare *c);
/*
 * Add the differences between `n` bytes at `a` and at `b`, whose first element is number `at` of
 * the tensor; n is a multiple of COMPARE_ALIGN, or ends where the tensor does. Pieces come in
 * ascending order. F4 and F6 elements are packed from the low bits up. The maxima are computed in
 * double, of C64 by modulus, and are at most DBL_MAX.
 */
void compare_bytes(struct compare *c, enum sft_dtype dtype, uint64_t at, const void *a,
		   const void *b, size_t n);
/* Add what differs in one part of a tensor to what differs in others. */
void compare_add(struct compare *sum, const struct compare *part);
/* Whether there are maxima: of the dtypes that can be widened to double. */
bool compare_is_float(enum sft_dtype dtype);

#endif
