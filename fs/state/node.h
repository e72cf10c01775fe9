/* node.h - a node: whether it is there, its attributes, its text; under `lock` */
#ifndef NODE_H
#define NODE_H

#include "state.h"

/*
 * Whether a node can be used: 0; -ENOENT: there is no such node, or it is the F32 node of a dtype
 * that has no such view; -ESTALE: it was removed or replaced, and nobody had it open. Who had keeps
 * it, under the same inode number (edit_step_remove()).
 */
int fs_node_check(const struct fs *fs, uint64_t ino);
static inline bool fs_node_exists(const struct fs *fs, uint64_t ino)
{
	return fs_node_check(fs, ino) == 0;
}
/* The text of a node that is generated: sidecar, metadata, status, progress. False for others.
 */
bool fs_node_text(struct fs *fs, uint64_t ino, struct sft_buf *text);
/* Errors of fs_node_check(), -ENOMEM. */
int fs_node_attr(struct fs *fs, uint64_t ino, struct stat *st);

#endif
