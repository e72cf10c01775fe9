/*
 * view.h - what is shown of a tensor besides its bytes: sidecar, metadata, numpy views; no FUSE
 * here
 */
#ifndef VIEW_H
#define VIEW_H

#include "sft.h"

/* A tensor as the views need it, whether committed or staged. Borrows everything. */
struct view_tensor {
	const char *name;
	const uint64_t *shape;
	const char *file;    /* shard's file name */
	const char *problem; /* NULL, or why a commit would refuse it */
	uint64_t nbytes;
	uint64_t offset;	  /* absolute, in the file */
	uint64_t begin;		  /* data_offsets[0] */
	uint64_t declared_nbytes; /* data_offsets[1] - data_offsets[0] */
	uint32_t name_len, rank;
	uint8_t dtype;
	bool staged;
	bool placed; /* false: not in the file yet; offset and data_offsets are then null */
};

/* The sidecar of design: one pretty-printed object, newline at the end. */
void view_sidecar(struct sft_buf *out, const struct view_tensor *t);
/* The same object inside an array: each line behind `indent` spaces, no newline at the end. */
void view_sidecar_item(struct sft_buf *out, const struct view_tensor *t, unsigned indent);

/* __metadata__.json of one file: pretty-printed, newline at the end. */
void view_metadata(struct sft_buf *out, const struct sft_metadata *metadata);
/* Of a directory: shard file name to metadata, for those that are `present`. */
void view_metadata_shards(struct sft_buf *out, const char *const *names,
			  const struct sft_metadata *const *metadata, size_t count);

/* ---- numpy (npy.c) ---- */

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
/* Whether NAME.f32.npy exists: F16, BF16, the F8 types and F4. */
bool npy_has_f32(enum sft_dtype dtype);
/* Widen `count` elements (of F4 an even number), exactly; NaNs keep sign and payload where float32
 * holds them. `in` holds count elements of the dtype, little-endian, of F4 the first of each two in
 * the low bits; `out` is little-endian float32. */
void npy_widen(enum sft_dtype dtype, const void *in, float *out, size_t count);

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
/*
 * The dtype to give a tensor whose type was `old` when an array of dtype `npy` is written over it:
 * `old` where npy lacks that type and the array is the unsigned integer of its width.
 */
enum sft_dtype npy_keep_dtype(enum sft_dtype npy, enum sft_dtype old);

#endif
