/* tensor_name.c - the tensor name that a file name stands for */
#include "nodes.h"

#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Add what a file name, or a component of a path in layout=tree, decodes to. */
static int add_decoded(const struct tree *tree, const char *file, size_t len, struct sft_buf *name)
{
	char decoded[NAME_ENCODED_MAX + 1];
	const struct cut_name *cut = tree_cut_find(tree, file, len);
	size_t n;

	if (cut) {
		sft_buf_add(name, cut->name, cut->name_len);
		return 0;
	}
	if (len > NAME_ENCODED_MAX || !name_decode(file, len, decoded, &n))
		return -EINVAL;
	if (tree->layout == TREE_TREE && memchr(decoded, '.', n))
		return -EINVAL; /* a dot would have been a directory's end */
	sft_buf_add(name, decoded, n);
	return 0;
}

/* Add the names of the directories from below the root down to `dir`, a dot behind each. */
static int add_directories(const struct tree *tree, uint32_t dir, struct sft_buf *name)
{
	size_t depth = 0;
	int ret = 0;

	for (uint32_t at = dir; at != TREE_ROOT; at = tree->nodes[at].e.parent)
		depth++;
	uint32_t *path = malloc((depth + 1) * sizeof(*path));
	if (!path)
		return -ENOMEM;
	for (size_t i = depth; i > 0; dir = tree->nodes[dir].e.parent)
		path[--i] = dir;
	for (size_t i = 0; i < depth && !ret; i++) {
		const struct tree_entry *e = &tree->nodes[path[i]].e;

		ret = add_decoded(tree, e->name, e->name_len, name);
		sft_buf_add(name, ".", 1);
	}
	free(path);
	return ret;
}

/* The length of a file's name without the `%` that tells it from a directory. */
static size_t without_mark(const struct tree *tree, uint32_t parent, const char *file, size_t len)
{
	if (len < 2 || file[len - 1] != '%')
		return len;
	uint32_t other = tree_find(tree, parent, file, len - 1);
	if (other == TREE_NO_ENTRY || !(tree->nodes[other].e.flags & TREE_IS_DIR))
		return len;
	return len - 1;
}

int tree_tensor_name(const struct tree *tree, uint32_t parent, const char *file_name, size_t len,
		     struct sft_buf *name)
{
	size_t start = name->len;
	int ret = 0;

	if (tree->layout == TREE_FILES && parent == TREE_ROOT)
		return -EINVAL;
	if (tree->layout == TREE_TREE) {
		ret = add_directories(tree, parent, name);
		len = without_mark(tree, parent, file_name, len);
	}
	if (!ret)
		ret = add_decoded(tree, file_name, len, name);
	if (name->failed)
		return -ENOMEM;
	if (!ret && name->len - start == strlen(METADATA_NAME) &&
	    memcmp(name->data + start, METADATA_NAME, strlen(METADATA_NAME)) == 0)
		return -EINVAL;
	return ret;
}

int tree_dir_prefix(const struct tree *tree, uint32_t parent, const char *file_name, size_t len,
		    struct sft_buf *prefix)
{
	int ret = add_directories(tree, parent, prefix);

	if (!ret)
		ret = add_decoded(tree, file_name, len, prefix);
	sft_buf_add(prefix, ".", 1);
	return prefix->failed ? -ENOMEM : ret;
}
