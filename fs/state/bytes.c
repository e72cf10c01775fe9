/*
 * bytes.c - files that are sent verbatim: a head that is generated, then regions of the source, the
 * staging, or zeros
 */
#include "bytes.h"

#include "merged_file.h"
#include "npy.h"
#include "shown.h"

#include <errno.h>

static size_t tensor_regions(const struct fs *fs, uint32_t id, uint64_t offset, uint64_t length,
			     struct sft_region *regions, size_t max)
{
	if (fs->overlay)
		return sft_overlay_regions(fs->overlay, id, offset, length, regions, max);
	const struct sft_checkpoint *ck = fs->own_checkpoint;
	regions[0] = sft_checkpoint_region(ck, sft_checkpoint_at(ck, id), offset, length);
	return 1;
}

void fs_npy_head(const struct fs *fs, uint64_t ino, struct sft_buf *head)
{
	struct view_tensor t;
	char reason[FS_REASON_MAX];
	fs_tensor(fs, tree_entry(fs->tree, tree_ino_entry(ino))->id, &t, reason);
	if (tree_ino_kind(ino) == TREE_F32)
		npy_header_f32(head, t.shape, t.rank);
	else
		npy_header(head, t.dtype, t.shape, t.rank, t.nbytes);
}

int fs_bytes_of(struct fs *fs, uint64_t ino, struct fs_bytes *out)
{
	*out = (struct fs_bytes){ .fs = fs, .head = &out->own_head };
	if (tree_ino_kind(ino) == TREE_MERGED) {
		int r = fs_merged(fs, ino, &out->merged);
		if (r < 0)
			return r;
		out->head = sft_merged_head(out->merged);
		out->body = sft_merged_body(out->merged);
		return 0;
	}
	out->id = tree_entry(fs->tree, tree_ino_entry(ino))->id;
	out->body = fs_tensor_nbytes(fs, out->id);
	if (tree_ino_kind(ino) == TREE_NPY)
		fs_npy_head(fs, ino, &out->own_head);
	return out->own_head.failed ? -ENOMEM : 0;
}

size_t fs_bytes_regions(const struct fs_bytes *b, uint64_t offset, uint64_t length,
			struct sft_region *regions, size_t max)
{
	if (b->merged)
		return sft_merged_regions(b->merged, offset, length, regions, max);
	return tensor_regions(b->fs, b->id, offset, length, regions, max);
}

int fs_bytes_read(const struct fs_bytes *b, void *buf, size_t n, uint64_t offset)
{
	struct sft_region regions[16];
	char *at = buf;
	while (n) {
		size_t count = fs_bytes_regions(b, offset, n, regions, 16);
		if (count == 0)
			return -EIO;
		for (size_t i = 0; i < count; i++) {
			int r = sft_region_read(b->fs->overlay, &regions[i], at, NULL);
			if (r < 0)
				return r;
			at += regions[i].length;
			offset += regions[i].length;
			n -= (size_t)regions[i].length;
		}
	}
	return 0;
}

int fs_tensor_read(const struct fs *fs, uint32_t id, void *buf, size_t n, uint64_t offset)
{
	struct fs_bytes b = { .fs = fs, .id = id };
	return fs_bytes_read(&b, buf, n, offset);
}
