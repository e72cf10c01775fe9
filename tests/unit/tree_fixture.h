/* tree_fixture.h - trees of given or random names, and what must hold of every tree */
#ifndef TREE_FIXTURE_H
#define TREE_FIXTURE_H

#include "random_names.h"
#include "tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

struct fixture_item {
	char *name;
	uint32_t len, shard;
};

/* Zero-initialise, set layout and npy, add names, build. */
struct fixture {
	enum tree_layout layout;
	bool npy;
	struct fixture_item *items;
	size_t count, capacity;
	const char *shards[4]; /* "-" is a missing one */
	size_t shard_count;
	struct tree *tree;
};

static inline void fixture_shard(struct fixture *f, const char *file_name)
{
	f->shards[f->shard_count++] = file_name;
}

static inline void fixture_name(struct fixture *f, const char *name, size_t len, uint32_t shard)
{
	if (f->count == f->capacity) {
		f->capacity = f->capacity ? 2 * f->capacity : 16;
		f->items = realloc(f->items, f->capacity * sizeof(*f->items));
		assert_non_null(f->items);
	}
	struct fixture_item *item = &f->items[f->count++];
	item->name = malloc(len + 1);
	assert_non_null(item->name);
	memcpy(item->name, name, len);
	item->name[len] = '\0';
	item->len = (uint32_t)len;
	item->shard = shard;
}

static inline int fixture_compare(const void *a, const void *b)
{
	const struct fixture_item *x = a, *y = b;
	int order = memcmp(x->name, y->name, x->len < y->len ? x->len : y->len);

	if (!order)
		order = (x->len > y->len) - (x->len < y->len);
	return order ? order : (x->shard > y->shard) - (x->shard < y->shard);
}

/* Sort as the library does, and drop names that occur twice in a shard. */
static inline void fixture_sort(struct fixture *f)
{
	size_t kept = 0;

	if (f->count)
		qsort(f->items, f->count, sizeof(*f->items), fixture_compare);
	for (size_t i = 0; i < f->count; i++) {
		if (kept && fixture_compare(&f->items[i], &f->items[kept - 1]) == 0)
			free(f->items[i].name);
		else
			f->items[kept++] = f->items[i];
	}
	f->count = kept;
}

/* Random names, alike enough to share directories, the reserved one left out. */
static inline void fixture_random(struct fixture *f, uint64_t *seed, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char name[RANDOM_NAME_MAX];
		size_t len = random_name(seed, name);
		uint32_t shard = f->layout == TREE_FILES ? (uint32_t)random_below(seed, 2) : 0;

		if (len == 12 && memcmp(name, "__metadata__", 12) == 0)
			continue;
		fixture_name(f, name, len, shard);
	}
	fixture_sort(f);
}

static inline void fixture_item(void *ctx, size_t i, struct tree_item *item)
{
	struct fixture *f = ctx;

	*item = (struct tree_item){ .name = f->items[i].name,
				    .name_len = f->items[i].len,
				    .shard = f->items[i].shard,
				    .id = (uint32_t)i };
}

static inline const char *fixture_shard_name(void *ctx, size_t i)
{
	struct fixture *f = ctx;

	return strcmp(f->shards[i], "-") == 0 ? NULL : f->shards[i];
}

static inline int fixture_build(struct fixture *f, struct sft_error *err)
{
	const struct tree_source source = { .ctx = f,
					    .count = f->count,
					    .shards = f->shard_count,
					    .item = fixture_item,
					    .shard = fixture_shard_name };

	return tree_build(f->layout, f->npy, &source, &f->tree, err);
}

static inline void fixture_free(struct fixture *f)
{
	tree_free(f->tree);
	for (size_t i = 0; i < f->count; i++)
		free(f->items[i].name);
	free(f->items);
}

static inline uint64_t look(const struct tree *tree, uint64_t dir_ino, const char *name)
{
	return tree_lookup(tree, dir_ino, name, strlen(name));
}

/* Add the names in a directory, a space between. */
static inline void list_names(struct tree *tree, uint64_t dir_ino, struct sft_buf *out)
{
	struct tree_list *list = tree_list(tree, dir_ino);
	char name[TREE_NAME_MAX + 1];

	assert_non_null(list);
	for (size_t i = 0; i < list->count; i++) {
		size_t len = tree_name(tree, list->inos[i], name);

		sft_buf_printf(out, "%s%.*s", out->len ? " " : "", (int)len, name);
	}
	tree_list_put(list);
}

/* Add a node's path from the root, a slash behind a directory's. */
static inline void add_path(const struct tree *tree, uint64_t ino, struct sft_buf *out)
{
	char name[TREE_NAME_MAX + 1];

	if (tree_parent(tree, ino) != tree_ino(TREE_ROOT, TREE_DIR))
		add_path(tree, tree_parent(tree, ino), out);
	sft_buf_add(out, name, tree_name(tree, ino, name));
	if (tree_ino_kind(ino) == TREE_DIR)
		sft_buf_add(out, "/", 1);
}

/* All paths, each directory followed by what is in it. For trees that are not deep. */
static inline void list_below(struct tree *tree, uint64_t dir_ino, struct sft_buf *out)
{
	struct tree_list *list = tree_list(tree, dir_ino);

	assert_non_null(list);
	for (size_t i = 0; i < list->count; i++) {
		if (out->len)
			sft_buf_add(out, " ", 1);
		add_path(tree, list->inos[i], out);
		if (tree_ino_kind(list->inos[i]) == TREE_DIR)
			list_below(tree, list->inos[i], out);
	}
	tree_list_put(list);
}

static inline void list_paths(struct tree *tree, struct sft_buf *out)
{
	list_below(tree, tree_ino(TREE_ROOT, TREE_DIR), out);
}

/* What must hold of a directory's listing: order, no name twice, look-up and parent agree. */
static inline void check_dir(struct tree *tree, uint32_t entry)
{
	struct tree_list *list = tree_list(tree, tree_ino(entry, TREE_DIR));
	char name[TREE_NAME_MAX + 1], before[TREE_NAME_MAX + 1] = "";
	uint32_t subdirs = 0;
	bool empty = true;

	assert_non_null(list);
	for (size_t i = 0; i < list->count; i++) {
		uint64_t ino = list->inos[i];
		size_t len = tree_name(tree, ino, name);

		assert_true(len > 0 && len == strlen(name) && !strchr(name, '/'));
		assert_true(strcmp(before, name) < 0);
		memcpy(before, name, len + 1);
		assert_true(tree_lookup(tree, tree_ino(entry, TREE_DIR), name, len) == ino);
		assert_true(tree_parent(tree, ino) == tree_ino(entry, TREE_DIR));
		subdirs += tree_ino_kind(ino) == TREE_DIR;
		empty = empty && tree_ino_kind(ino) == TREE_METADATA;
	}
	assert_int_equal(tree_subdirs(tree, entry), subdirs);
	assert_int_equal(tree_dir_empty(tree, entry), empty);
	tree_list_put(list);
}

static inline void check_tree(struct tree *tree)
{
	for (uint32_t i = 0; i < tree_count(tree); i++) {
		uint8_t flags = tree_entry(tree, i)->flags;

		if (flags & TREE_IS_DIR && !(flags & TREE_DEAD))
			check_dir(tree, i);
	}
}

/* Every tensor that the tree was built with has its name by the tree's reckoning. */
static inline void check_tensor_names(const struct fixture *f)
{
	size_t tensors = 0;

	for (uint32_t i = 0; i < tree_count(f->tree); i++) {
		const struct tree_entry *e = tree_entry(f->tree, i);
		struct sft_buf name = { 0 };

		if (e->flags & TREE_IS_DIR)
			continue;
		assert_int_equal(tree_tensor_name(f->tree, e->parent, e->name, e->name_len, &name),
				 0);
		assert_int_equal(name.len, f->items[e->id].len);
		if (name.len)
			assert_memory_equal(name.data, f->items[e->id].name, name.len);
		sft_buf_free(&name);
		tensors++;
	}
	assert_int_equal(tensors, f->count);
}

#endif
