/* npy_parse.h - the header of a .npy file that somebody wrote */
#ifndef NPY_PARSE_H
#define NPY_PARSE_H

#include "sft.h"

/* What a .npy header says of the array behind it. */
struct npy_array {
	uint64_t data_offset; /* bytes from the start of the file */
	uint64_t nbytes;      /* of data */
	uint64_t *shape;      /* malloced; free with npy_array_free */
	uint32_t rank;
	uint32_t itemsize; /* bytes */
	uint8_t dtype;	   /* enum sft_dtype */
	bool swap;	   /* big-endian: reverse the bytes of each number (C64: of each half) */
	bool fortran;	   /* column-major, and the order matters (two dimensions or more) */
};
#define NPY_HEADER_MAX 65536u /* bytes of a header that we read */
/*
 * Parse the first `len` bytes of a .npy file (all of the header must be in them; give up to
 * NPY_HEADER_MAX + 12). Versions 1.0 to 3.0. EINVAL with the reason: not a .npy, object or
 * structured or string dtype, a header that is no plain dict, overflow. EAGAIN: `len` ends inside
 * the header.
 */
int npy_parse(const void *bytes, size_t len, struct npy_array *array, struct sft_error *err);
void npy_array_free(struct npy_array *array);

#endif
