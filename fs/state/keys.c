/* keys.c - what the overlay calls a file that is no tensor */
#include "keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t fs_key_hidden(struct fs *fs, char key[FS_KEY_MAX])
{
	/* No path in the mount begins with a slash. */
	key[0] = '/';
	return 1 + (size_t)snprintf(key + 1, FS_KEY_MAX - 1, "%llx",
				    (unsigned long long)++fs->edits->serial);
}

/* From the end on, since a file knows what it is in. */
void fs_key_path(const struct fs *fs, uint32_t parent, const char *name, size_t len,
		 struct sft_buf *key)
{
	size_t n = len;
	for (uint32_t at = parent; at != TREE_ROOT; at = tree_entry(fs->tree, at)->parent)
		n += tree_entry(fs->tree, at)->name_len + 1u;
	char *path = malloc(n + 1), *end = path ? path + n - len : NULL;
	if (!path) {
		key->failed = true;
		return;
	}
	memcpy(end, name, len);
	for (uint32_t at = parent; at != TREE_ROOT; at = tree_entry(fs->tree, at)->parent) {
		const struct tree_entry *e = tree_entry(fs->tree, at);
		*--end = '/';
		end -= e->name_len;
		memcpy(end, e->name, e->name_len);
	}
	sft_buf_add(key, path, n);
	free(path);
}
