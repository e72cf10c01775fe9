/* array.c - a .npy file that was written becomes a tensor */
#include "array.h"

#include "bytes.h"
#include "draft.h"
#include "npy.h"
#include "npy_parse.h"
#include "shown.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (1u << 20) /* bytes copied at once; a multiple of every item size */

static int parse(const struct fs *fs, uint32_t from, struct npy_array *array, struct sft_error *err)
{
	uint64_t size = sft_overlay_entry(fs->overlay, from)->nbytes;
	size_t n = size < NPY_HEADER_MAX + 12 ? (size_t)size : NPY_HEADER_MAX + 12;
	char *head = malloc(n + 1);
	if (!head)
		return -ENOMEM;
	int r = fs_tensor_read(fs, from, head, n, 0);
	if (r == 0)
		r = npy_parse(head, n, array, err);
	free(head);
	if (r == -EAGAIN)
		r = -EINVAL;
	/* Complete, and nothing behind it. */
	if (r == 0 && (size < array->data_offset || size - array->data_offset != array->nbytes)) {
		r = sft_fail(err, EINVAL, "has %llu bytes, but its header says %llu",
			     (unsigned long long)size,
			     (unsigned long long)(array->data_offset + array->nbytes));
		npy_array_free(array);
	}
	return r;
}

/* Reverse the bytes of each number; a complex one is two. */
static void swap_bytes(unsigned char *p, size_t n, size_t width)
{
	for (size_t i = 0; i + width <= n; i += width) {
		for (size_t a = i, b = i + width - 1; a < b; a++, b--) {
			unsigned char t = p[a];
			p[a] = p[b];
			p[b] = t;
		}
	}
}

static size_t number_width(const struct npy_array *a)
{
	return a->dtype == SFT_C64 ? a->itemsize / 2 : a->itemsize;
}

static int copy_straight(struct fs *fs, uint32_t from, uint32_t to, const struct npy_array *a,
			 unsigned char *buf)
{
	int r = 0;
	for (uint64_t at = 0; r == 0 && at < a->nbytes; at += PIECE) {
		size_t n = a->nbytes - at < PIECE ? (size_t)(a->nbytes - at) : PIECE;
		r = fs_tensor_read(fs, from, buf, n, a->data_offset + at);
		if (r == 0 && a->swap)
			swap_bytes(buf, n, number_width(a));
		if (r == 0)
			r = sft_overlay_write(fs->overlay, to, buf, n, at, NULL);
	}
	return r;
}

/*
 * Column-major to row-major. The array is read into memory once: element by element through the
 * overlay would take a read for each of them.
 */
static int copy_transposed(struct fs *fs, uint32_t from, uint32_t to, const struct npy_array *a,
			   unsigned char *buf)
{
	unsigned char *all = malloc(a->nbytes);
	uint64_t *at = calloc(a->rank, sizeof(*at)); /* the element's place in each dimension */
	uint64_t *stride =
		calloc(a->rank, sizeof(*stride)); /* in elements of the column-major array */
	int r = all && at && stride ? 0 : -ENOMEM;
	if (r == 0)
		r = fs_tensor_read(fs, from, all, a->nbytes, a->data_offset);
	if (r == 0 && a->swap)
		swap_bytes(all, a->nbytes, number_width(a));
	uint64_t source = 0, step = 1;
	for (uint32_t d = 0; r == 0 && d < a->rank; d++) {
		stride[d] = step;
		step *= a->shape[d];
	}
	for (uint64_t done = 0; r == 0 && done < a->nbytes;) {
		size_t n = 0;
		while (n < PIECE && done + n < a->nbytes) {
			memcpy(buf + n, all + source * a->itemsize, a->itemsize);
			n += a->itemsize;
			for (uint32_t d = a->rank; d-- > 0;) {
				source += stride[d];
				if (++at[d] < a->shape[d])
					break;
				source -= stride[d] * a->shape[d];
				at[d] = 0;
			}
		}
		r = sft_overlay_write(fs->overlay, to, buf, n, done, NULL);
		done += n;
	}
	free(stride);
	free(at);
	free(all);
	return r;
}

/*
 * Declare what the array is. Where numpy lacks the tensor's type it shows, and so writes, an
 * unsigned integer of its width, or for F4 and F6 the packed bytes in a row: then the tensor keeps
 * its type, and in the packed case its shape, which the array does not know.
 */
static int declare(struct fs *fs, uint32_t to, const struct npy_array *a,
		   const struct view_tensor *old, struct sft_error *err)
{
	enum sft_dtype dtype = (enum sft_dtype)a->dtype;
	const uint64_t *shape = a->shape;
	uint32_t rank = a->rank;
	if (old)
		dtype = npy_keep_dtype(dtype, (enum sft_dtype)old->dtype);
	if (sft_dtype_bits(dtype) % 8 && old->nbytes == a->nbytes && !old->problem) {
		shape = old->shape;
		rank = old->rank;
	} else if (sft_dtype_bits(dtype) % 8) {
		dtype = (enum sft_dtype)a->dtype;
	}
	return sft_overlay_declare(fs->overlay, to, dtype, shape, rank, err);
}

int edit_convert_npy(struct fs *fs, uint32_t from, uint32_t replaced, uint32_t *id,
		     struct sft_error *err)
{
	struct npy_array a = { 0 };
	struct view_tensor old;
	char reason[FS_REASON_MAX];
	uint32_t to = SFT_NO_ID;
	unsigned char *buf = malloc(PIECE);
	int r = buf ? parse(fs, from, &a, err) : -ENOMEM;
	if (r < 0) {
		free(buf);
		return r;
	}
	r = edit_draft_new(fs, NULL, &to);
	if (r == 0)
		r = a.fortran && a.nbytes ? copy_transposed(fs, from, to, &a, buf)
					  : copy_straight(fs, from, to, &a, buf);
	if (r == 0 && replaced != SFT_NO_ID)
		fs_tensor(fs, replaced, &old, reason);
	if (r == 0)
		r = declare(fs, to, &a, replaced == SFT_NO_ID ? NULL : &old, err);
	if (r < 0 && to != SFT_NO_ID)
		sft_overlay_remove(fs->overlay, to, NULL);
	else if (r == 0)
		*id = to;
	npy_array_free(&a);
	free(buf);
	return r;
}
