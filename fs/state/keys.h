/* keys.h - what the overlay calls a file that is no tensor */
#ifndef KEYS_H
#define KEYS_H

#include "state.h"

/* A key for a scratch file that has no name in the tree, into `key`; returns its length. Under the
 * change. */
#define FS_KEY_MAX 32
size_t fs_key_hidden(struct fs *fs, char key[FS_KEY_MAX]);
/* The path of a file below the mountpoint: the key of a scratch file, which has no other name. */
void fs_key_path(const struct fs *fs, uint32_t parent, const char *name, size_t len,
		 struct sft_buf *key);

#endif
