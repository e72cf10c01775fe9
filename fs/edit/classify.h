/* classify.h - what a name in a directory means to somebody who writes a file there */
#ifndef CLASSIFY_H
#define CLASSIFY_H

#include "state.h"

enum edit_target {
	TARGET_TENSOR,
	TARGET_SCRATCH,
	TARGET_SIDECAR,
	TARGET_METADATA,
	TARGET_NPY,
	TARGET_FORBIDDEN, /* reserved, or no files belong there: EPERM */
	TARGET_F32,	  /* EROFS */
};

struct edit_name {
	enum edit_target target;
	uint32_t parent;
	size_t base_len; /* of a view: the length of the tensor's file name */
	uint32_t entry;	 /* the tensor's or scratch file's entry, or TREE_NO_ENTRY */
};
void edit_classify(const struct fs *fs, uint64_t parent, const char *name, struct edit_name *out);
static inline bool edit_target_is_drafted(enum edit_target target)
{
	return target == TARGET_SIDECAR || target == TARGET_METADATA || target == TARGET_NPY;
}
/* What the overlay is to call a tensor or scratch file of this name; added to `out`. -EINVAL where
 * it is no encoding, -ENOMEM. */
int edit_overlay_name(const struct fs *fs, const struct edit_name *name, const char *file_name,
		      struct sft_buf *out);
/* The shard of a new tensor there, or SFT_SHARD_AUTO. */
uint32_t edit_shard(const struct fs *fs, uint32_t parent);

/* Sidecar, metadata and .npy: files that count when they are complete. */
static inline bool edit_is_drafted(uint64_t ino)
{
	enum tree_kind kind = tree_ino_kind(ino);
	return kind == TREE_SIDECAR || kind == TREE_METADATA || kind == TREE_NPY;
}

#endif
