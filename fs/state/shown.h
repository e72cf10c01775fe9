/*
 * shown.h - tensors by id, as they are shown: from the checkpoint, or in an edit mount from the
 * overlay over it; under `lock`
 */
#ifndef SHOWN_H
#define SHOWN_H

#include "sidecar.h"
#include "state.h"

/* What overlay and checkpoint both say of a tensor. Borrows from them. */
struct fs_shown {
	const char *name;
	const uint64_t *shape;
	const struct sft_tensor *committed; /* NULL: it is new */
	uint64_t nbytes;
	uint32_t name_len, rank, shard;
	uint8_t dtype;
	bool staged;
};
struct fs_shown fs_shown(const struct fs *fs, uint32_t id);

#define FS_REASON_MAX 256

/* Everything the views show. `reason` holds the problem, if there is one. */
void fs_tensor(const struct fs *fs, uint32_t id, struct view_tensor *out,
	       char reason[FS_REASON_MAX]);
static inline uint64_t fs_tensor_nbytes(const struct fs *fs, uint32_t id)
{
	return fs_shown(fs, id).nbytes;
}
/* The id of the tensor or scratch file whose node, or whose view's node, this is. */
static inline uint32_t fs_tensor_id(const struct fs *fs, uint64_t ino)
{
	return tree_entry(fs->tree, tree_ino_entry(ino))->id;
}

/* Metadata of a shard as it is now; never NULL. */
const struct sft_metadata *fs_metadata(const struct fs *fs, uint32_t shard);
/* How many tensors are shown, and their bytes. */
void fs_totals(const struct fs *fs, size_t *tensors, uint64_t *bytes);

#endif
