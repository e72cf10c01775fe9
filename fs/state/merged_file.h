/* merged_file.h - .safetensorfs/model.safetensors; under `lock` */
#ifndef MERGED_FILE_H
#define MERGED_FILE_H

#include "state.h"

/* The inode number that a node of the tree has now. */
uint64_t fs_current_ino(const struct fs *fs, uint64_t ino);
/* What model.safetensors is, if the inode number is the present one's; -ESTALE for an earlier
 * one's, errors of sft_merged_make(). */
int fs_merged(struct fs *fs, uint64_t ino, const struct sft_merged **out);
/* Forget what it was made of. Under the exclusive lock, after sft_overlay_adopt(), or at the end.
 */
void fs_merged_drop(struct fs *fs);

#endif
