/* tensor_name.c - file names that had to be cut, and the tensor name that a file name stands for */
#include "nodes.h"

#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- cut names ---- */

static uint32_t *cut_bucket(const struct tree *tree, const char *file, size_t len)
{
	/* No entry has this parent: cut names are hashed apart from entries. */
	uint32_t hash = tree_hash(tree, TREE_NO_ENTRY, file, len);

	return &tree->cut_buckets[hash & (tree->cut_bucket_count - 1)];
}

static const struct cut_name *cut_find(const struct tree *tree, const char *file, size_t len)
{
	if (!tree->cut_count)
		return NULL;
	for (uint32_t at = *cut_bucket(tree, file, len); at != TREE_NO_ENTRY;
	     at = tree->cuts[at].chain) {
		const struct cut_name *cut = &tree->cuts[at];

		if (strlen(cut->file_name) == len && memcmp(cut->file_name, file, len) == 0)
			return cut;
	}
	return NULL;
}

static void cut_hash_add(struct tree *tree, uint32_t i)
{
	struct cut_name *cut = &tree->cuts[i];
	uint32_t *bucket = cut_bucket(tree, cut->file_name, strlen(cut->file_name));

	cut->chain = *bucket;
	*bucket = i;
}

/* Make room for one more cut name, with as many buckets as names. */
static int cuts_grow(struct tree *tree)
{
	size_t capacity = tree->cut_capacity ? 2 * (size_t)tree->cut_capacity : 16;

	if (tree->cut_count < tree->cut_capacity)
		return 0;
	struct cut_name *cuts = realloc(tree->cuts, capacity * sizeof(*cuts));
	if (!cuts)
		return -ENOMEM;
	tree->cuts = cuts;
	uint32_t *buckets = realloc(tree->cut_buckets, capacity * sizeof(*buckets));
	if (!buckets)
		return -ENOMEM;
	memset(buckets, 0xff, capacity * sizeof(*buckets));
	tree->cut_buckets = buckets;
	tree->cut_bucket_count = tree->cut_capacity = (uint32_t)capacity;
	for (uint32_t i = 0; i < tree->cut_count; i++)
		cut_hash_add(tree, i);
	return 0;
}

int tree_cut_intern(struct tree *tree, const char *file, size_t len, const char *name,
		    uint32_t name_len, const char **file_name, struct sft_error *err)
{
	const struct cut_name *known = cut_find(tree, file, len);
	struct tree_stored copy;
	struct sft_quoted q[3];

	if (known && (known->name_len != name_len || memcmp(known->name, name, name_len) != 0))
		return sft_fail(err, EEXIST,
				"the names %s and %s both come to the file name %s, "
				"since their hashes are equal",
				sft_quote(&q[0], known->name, known->name_len),
				sft_quote(&q[1], name, name_len), sft_quote(&q[2], file, len));
	if (!known) {
		if (cuts_grow(tree) || tree_store_copy(&copy, file, len))
			return sft_fail(err, ENOMEM, "out of memory");
		tree->cuts[tree->cut_count] = (struct cut_name){ .file_name = copy.name,
								 .name = name,
								 .name_len = name_len };
		cut_hash_add(tree, tree->cut_count);
		known = &tree->cuts[tree->cut_count++];
	}
	*file_name = known->file_name;
	return 0;
}

void tree_cuts_free(struct tree *tree)
{
	for (uint32_t i = 0; i < tree->cut_count; i++)
		free((char *)tree->cuts[i].file_name);
	free(tree->cuts);
	free(tree->cut_buckets);
}

/* ---- file names to tensor names ---- */

/* Add what a file name, or a component of a path in layout=tree, decodes to. */
static int add_decoded(const struct tree *tree, const char *file, size_t len, struct sft_buf *name)
{
	char decoded[NAME_ENCODED_MAX + 1];
	const struct cut_name *cut = cut_find(tree, file, len);
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
