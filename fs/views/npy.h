/* npy.h - the headers of the numpy views, and which type numpy has for which of ours */
#ifndef NPY_H
#define NPY_H

#include "sft.h"

/*
 * The bytes before the data of NAME.npy: magic, version 1.0 (2.0 where the header does not fit),
 * dict, padding; a multiple of 64. Types that numpy lacks come as the unsigned integer of their
 * width; F4 and F6 as packed |u1 in one dimension. Source: numpy's format specification
 * (numpy.lib.format).
 */
void npy_header(struct sft_buf *out, enum sft_dtype dtype, const uint64_t *shape, uint32_t rank,
		uint64_t nbytes);
/* The same for NAME.f32.npy. */
void npy_header_f32(struct sft_buf *out, const uint64_t *shape, uint32_t rank);
/* The dtype for a type code of numpy, such as "f4". False where there is none of that type. */
bool npy_type_find(const char *code, size_t len, enum sft_dtype *dtype);
/*
 * The dtype to give a tensor whose type was `old` when an array of dtype `npy` is written over it:
 * `old` where npy lacks that type and the array is the unsigned integer of its width.
 */
enum sft_dtype npy_keep_dtype(enum sft_dtype npy, enum sft_dtype old);

#endif
