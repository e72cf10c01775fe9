/* bytes.h - files that are sent verbatim, and reading a tensor; under `lock` */
#ifndef BYTES_H
#define BYTES_H

#include "state.h"

/*
 * The bytes of a file that is sent verbatim (a tensor's, its .npy, model.safetensors): `head`,
 * then `body` bytes, which are regions.
 */
struct fs_bytes {
	const struct fs *fs;
	uint32_t id;			 /* of the tensor, without `merged` */
	const struct sft_merged *merged; /* or NULL */
	struct sft_buf own_head;	 /* to be freed */
	const struct sft_buf *head;
	uint64_t body;
};
static inline bool fs_is_bytes(uint64_t ino)
{
	enum tree_kind kind = tree_ino_kind(ino);
	return kind == TREE_TENSOR || kind == TREE_NPY || kind == TREE_MERGED;
}
/* For such a node. -ENOMEM, errors of fs_merged(). */
int fs_bytes_of(struct fs *fs, uint64_t ino, struct fs_bytes *out);
/* As sft_overlay_regions, of the body. */
size_t fs_bytes_regions(const struct fs_bytes *b, uint64_t offset, uint64_t length,
			struct sft_region *regions, size_t max);
/* Read exactly n bytes that lie inside the body. -EIO and the like. */
int fs_bytes_read(const struct fs_bytes *b, void *buf, size_t n, uint64_t offset);
/* Read exactly n bytes that lie inside the tensor. -EIO and the like. */
int fs_tensor_read(const struct fs *fs, uint32_t id, void *buf, size_t n, uint64_t offset);
/* The bytes of NAME.npy or NAME.f32.npy before the data. */
void fs_npy_head(const struct fs *fs, uint64_t ino, struct sft_buf *head);

#endif
