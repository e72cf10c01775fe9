/* mount_tree.h - the tree of a mount: what it is built of */
#ifndef MOUNT_TREE_H
#define MOUNT_TREE_H

#include "state.h"

/* Errors of tree_build(). */
int fs_build_tree(struct fs *fs, struct sft_error *err);
/* Set TREE_HAS_METADATA on the directories whose checkpoint has some. Under the change. */
void fs_mark_metadata(struct fs *fs);

#endif
