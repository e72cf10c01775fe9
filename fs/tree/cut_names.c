/* cut_names.c - file names that had to be cut, and which names they stand for */
#include "nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t *cut_bucket(const struct tree *tree, const char *file, size_t len)
{
	/* No entry has this parent: cut names are hashed apart from entries. */
	uint32_t hash = tree_hash(tree, TREE_NO_ENTRY, file, len);

	return &tree->cut_buckets[hash & (tree->cut_bucket_count - 1)];
}

const struct cut_name *tree_cut_find(const struct tree *tree, const char *file, size_t len)
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
	const struct cut_name *known = tree_cut_find(tree, file, len);
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
