/*
 * list.c - listings of directories, made when first asked for and kept until a change
 *
 * The order of the file names is not the order of the tensors: "a" comes before "a.b", but "a.json"
 * behind "a.b.json". It is close to it, though, and the sort makes use of that.
 */
#include "nodes.h"

#include "sort.h"

#include <stdlib.h>
#include <string.h>

/* A node while it is being sorted, in 32 bits: entry << 2 | one of these. */
enum { ITEM_ENTRY, ITEM_SIDECAR, ITEM_NPY };
#define ITEM_METADATA UINT32_MAX /* no entry has so high a number */

_Static_assert(TREE_ENTRY_MAX <= UINT32_MAX >> 2, "an entry's number leaves two bits");

static uint64_t item_ino(const struct tree *tree, uint32_t item, uint32_t dir)
{
	static const enum tree_kind kinds[] = {
		[ITEM_ENTRY] = TREE_TENSOR,
		[ITEM_SIDECAR] = TREE_SIDECAR,
		[ITEM_NPY] = TREE_NPY,
	};
	uint32_t entry = item >> 2;

	if (item == ITEM_METADATA)
		return tree_ino(dir, TREE_METADATA);
	if (tree->nodes[entry].e.flags & TREE_IS_DIR)
		return tree_ino(entry, TREE_DIR);
	return tree_ino(entry, kinds[item & 3]);
}

static unsigned char byte_at(const struct tree_text *text, size_t i)
{
	return (unsigned char)(i < text->base_len ? text->base[i]
						  : text->suffix[i - text->base_len]);
}

static int compare_items(uint32_t a, uint32_t b, const void *ctx)
{
	const struct tree *tree = ctx;
	uint64_t a_ino = item_ino(tree, a, TREE_ROOT), b_ino = item_ino(tree, b, TREE_ROOT);
	struct tree_text x = tree_text(tree, tree_ino_entry(a_ino), tree_ino_kind(a_ino));
	struct tree_text y = tree_text(tree, tree_ino_entry(b_ino), tree_ino_kind(b_ino));
	size_t i = x.base_len < y.base_len ? x.base_len : y.base_len;
	int order = memcmp(x.base, y.base, i);

	if (order)
		return order;
	for (; i < x.base_len + x.suffix_len && i < y.base_len + y.suffix_len; i++) {
		if (byte_at(&x, i) != byte_at(&y, i))
			return byte_at(&x, i) - byte_at(&y, i);
	}
	return x.base_len + x.suffix_len < y.base_len + y.suffix_len ? -1 : 1;
}

/* Put what the directory shows into `items`, which has room for it. Returns how many. */
static size_t collect(const struct tree *tree, uint32_t entry, uint32_t *items)
{
	size_t n = 0;

	if (tree->nodes[entry].e.flags & TREE_HAS_METADATA)
		items[n++] = ITEM_METADATA;
	for (uint32_t at = tree_dir_of(tree, entry)->first; at != TREE_NO_ENTRY;
	     at = tree->nodes[at].next) {
		uint8_t flags = tree->nodes[at].e.flags;

		items[n++] = at << 2 | ITEM_ENTRY;
		if (flags & (TREE_IS_DIR | TREE_SCRATCH))
			continue;
		if (!(flags & TREE_SIDECAR_HIDDEN))
			items[n++] = at << 2 | ITEM_SIDECAR;
		if (tree->list_npy)
			items[n++] = at << 2 | ITEM_NPY;
	}
	return n;
}

static struct tree_list *new_list(size_t count)
{
	struct tree_list *list = malloc(sizeof(*list) + count * sizeof(*list->inos));

	if (!list)
		return NULL;
	list->count = count;
	list->inos = (uint64_t *)(list + 1);
	list->refs = 1;
	return list;
}

static struct tree_list *list_dir(const struct tree *tree, uint32_t entry)
{
	size_t most = 3 * (size_t)tree_dir_of(tree, entry)->count + 1;
	uint32_t *items = malloc(most * sizeof(*items));
	struct tree_list *list = NULL;

	if (!items)
		return NULL;
	size_t n = collect(tree, entry, items);
	if (sft_sort(items, n, compare_items, tree) == 0)
		list = new_list(n);
	for (size_t i = 0; list && i < n; i++)
		list->inos[i] = item_ino(tree, items[i], entry);
	free(items);
	return list;
}

static struct tree_list *list_control(void)
{
	static const enum tree_kind kinds[] = { TREE_COMMIT, TREE_MERGED, TREE_PROGRESS,
						TREE_STATUS };
	size_t n = sizeof(kinds) / sizeof(*kinds);
	struct tree_list *list = new_list(n);

	for (size_t i = 0; list && i < n; i++)
		list->inos[i] = tree_ino(TREE_ROOT, kinds[i]);
	return list;
}

struct tree_list *tree_list(struct tree *tree, uint64_t dir_ino)
{
	bool control = tree_ino_kind(dir_ino) == TREE_CONTROL;
	uint32_t entry = tree_ino_entry(dir_ino);
	struct tree_list *list;

	pthread_mutex_lock(&tree->list_lock);
	struct tree_list **cached = control ? &tree->control_list : &tree_dir_of(tree, entry)->list;
	if (!*cached)
		*cached = control ? list_control() : list_dir(tree, entry);
	list = *cached;
	if (list)
		__atomic_add_fetch(&list->refs, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&tree->list_lock);
	return list;
}
