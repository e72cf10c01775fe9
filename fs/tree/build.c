/* build.c - from the tensors of a checkpoint to entries, by the layout */
#include "nodes.h"

#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A directory that the name before this one is in. */
struct open_dir {
	size_t end; /* of the name's part up to and with the dot behind the directory's component */
	uint32_t entry;
};

struct builder {
	struct tree *tree;
	const struct tree_source *source;
	struct sft_error *err;
	uint32_t *shard_dirs; /* TREE_FILES: entry of each shard's directory, or TREE_NO_ENTRY */
	/* TREE_TREE: names come sorted, so most directories of a name are those of the one before.
	 */
	struct tree_item before;
	struct open_dir *open;
	size_t depth, capacity;
	size_t dirs, dirs_max; /* directories so far, and how many there may be */
};

static int no_memory(struct builder *b)
{
	return sft_fail(b->err, ENOMEM, "out of memory");
}

/* Encode a name or component; `borrow` says that it outlives the tree. */
static int store_name(struct builder *b, const char *name, size_t len, bool borrow,
		      struct tree_stored *out)
{
	char encoded[NAME_ENCODED_MAX + 1];
	bool cut;
	size_t n = name_encode(name, len, encoded, &cut);

	if (len == 0) { /* a directory for each dot of a name that is nothing else */
		*out = (struct tree_stored){ .name = "%", .len = 1 };
		return 0;
	}
	if (cut && borrow) {
		*out = (struct tree_stored){ .len = (uint8_t)n };
		return tree_cut_intern(b->tree, encoded, n, name, (uint32_t)len, &out->name,
				       b->err);
	}
	if (borrow && n == len) { /* every escape makes a name longer */
		*out = (struct tree_stored){ .name = name, .len = (uint8_t)n };
		return 0;
	}
	return tree_store_copy(out, encoded, n) ? no_memory(b) : 0;
}

static int insert(struct builder *b, uint32_t parent, struct tree_stored name, uint8_t flags,
		  uint32_t id, uint32_t *entry)
{
	int ret = tree_insert(b->tree, parent, name, flags, id, entry);

	if (ret == -ENOSPC)
		return sft_fail(b->err, ENOSPC, "more than %u files and directories",
				TREE_ENTRY_MAX);
	return ret ? no_memory(b) : 0;
}

/* Put a `%` behind a name: in layout=tree, a file's where a directory has the name. */
static int mark_name(struct builder *b, struct tree_stored *name)
{
	char marked[NAME_ENCODED_MAX + 1];
	struct tree_stored plain = *name;

	memcpy(marked, plain.name, plain.len);
	marked[plain.len] = '%';
	int ret = tree_store_copy(name, marked, plain.len + 1u);
	if (plain.owned && !ret)
		free((char *)plain.name);
	return ret ? no_memory(b) : 0;
}

/* ---- the tensors' files ---- */

static int add_tensor(struct builder *b, uint32_t parent, const struct tree_item *item,
		      const char *component, size_t len)
{
	struct tree_stored name = { 0 };
	struct sft_quoted q;
	int ret = store_name(b, component, len, true, &name);

	if (ret)
		return ret;
	uint32_t taken = tree_find(b->tree, parent, name.name, name.len);
	if (taken != TREE_NO_ENTRY && b->tree->nodes[taken].e.flags & TREE_IS_DIR) {
		ret = mark_name(b, &name);
		if (ret)
			goto fail;
		taken = tree_find(b->tree, parent, name.name, name.len);
	}
	if (taken != TREE_NO_ENTRY) {
		ret = sft_fail(b->err, EEXIST, "tensor %s: the name occurs twice",
			       sft_quote(&q, item->name, item->name_len));
		goto fail;
	}
	return insert(b, parent, name, 0, item->id, NULL);
fail:
	if (name.owned)
		free((char *)name.name);
	return ret;
}

/* ---- layout=tree ---- */

/* The file that has the name a directory needs gets a `%`. */
static int make_way(struct builder *b, uint32_t file)
{
	const struct tree_entry *e = &b->tree->nodes[file].e;
	struct tree_stored name = { .name = e->name, .len = e->name_len };
	int ret = mark_name(b, &name);

	if (!ret)
		tree_relocate(b->tree, file, e->parent, name, e->flags);
	return ret;
}

/* A name costs its header a byte for each directory, and us a hundred. */
static int refuse_too_deep(struct builder *b, const struct tree_item *item)
{
	struct sft_quoted q;
	size_t dots = 0;

	for (uint32_t i = 0; i < item->name_len; i++)
		dots += item->name[i] == '.';
	return sft_fail(b->err, E2BIG,
			"tensor %s: has %zu dots, and with a directory for each there would be "
			"more than %zu directories for %zu tensor%s; mount it with another layout",
			sft_quote(&q, item->name, item->name_len), dots, b->dirs_max,
			b->source->count, b->source->count == 1 ? "" : "s");
}

static int open_component(struct builder *b, const struct tree_item *item, uint32_t parent,
			  const char *component, size_t len, uint32_t *entry)
{
	struct tree_stored name = { 0 };
	int ret = store_name(b, component, len, true, &name);

	if (ret)
		return ret;
	*entry = tree_find(b->tree, parent, name.name, name.len);
	if (*entry != TREE_NO_ENTRY && !(b->tree->nodes[*entry].e.flags & TREE_IS_DIR)) {
		ret = make_way(b, *entry);
		*entry = TREE_NO_ENTRY;
	}
	if (!ret && *entry == TREE_NO_ENTRY && b->dirs++ == b->dirs_max)
		ret = refuse_too_deep(b, item);
	if (!ret && *entry == TREE_NO_ENTRY)
		return insert(b, parent, name, TREE_IS_DIR, 0, entry);
	if (name.owned)
		free((char *)name.name);
	return ret;
}

static int push_dir(struct builder *b, size_t end, uint32_t entry)
{
	if (b->depth == b->capacity) {
		size_t capacity = b->capacity ? 2 * b->capacity : 16;
		struct open_dir *open = realloc(b->open, capacity * sizeof(*open));

		if (!open)
			return no_memory(b);
		b->open = open;
		b->capacity = capacity;
	}
	b->open[b->depth++] = (struct open_dir){ end, entry };
	return 0;
}

/* Leave the directories that this name is not in. */
static void pop_dirs(struct builder *b, const struct tree_item *item)
{
	size_t most = item->name_len < b->before.name_len ? item->name_len : b->before.name_len;
	size_t common = 0;

	while (common < most && item->name[common] == b->before.name[common])
		common++;
	while (b->depth && b->open[b->depth - 1].end > common)
		b->depth--;
}

static int add_in_tree(struct builder *b, const struct tree_item *item)
{
	const char *end = item->name + item->name_len, *at, *dot;
	uint32_t dir;
	int ret;

	pop_dirs(b, item);
	dir = b->depth ? b->open[b->depth - 1].entry : TREE_ROOT;
	at = item->name + (b->depth ? b->open[b->depth - 1].end : 0);
	while ((dot = memchr(at, '.', (size_t)(end - at))) != NULL) {
		ret = open_component(b, item, dir, at, (size_t)(dot - at), &dir);
		if (!ret)
			ret = push_dir(b, (size_t)(dot + 1 - item->name), dir);
		if (ret)
			return ret;
		at = dot + 1;
	}
	b->before = *item;
	return add_tensor(b, dir, item, at, (size_t)(end - at));
}

/* ---- layout=files ---- */

static int add_shards(struct builder *b)
{
	size_t n = b->source->shards;
	struct sft_quoted q;

	b->shard_dirs = malloc((n + 1) * sizeof(*b->shard_dirs));
	if (!b->shard_dirs)
		return no_memory(b);
	for (size_t i = 0; i < n; i++) {
		const char *file = b->source->shard(b->source->ctx, i);
		struct tree_stored name = { 0 };
		int ret;

		b->shard_dirs[i] = TREE_NO_ENTRY;
		if (!file)
			continue;
		ret = store_name(b, file, strlen(file), false, &name);
		if (ret)
			return ret;
		if (tree_find(b->tree, TREE_ROOT, name.name, name.len) != TREE_NO_ENTRY) {
			if (name.owned)
				free((char *)name.name);
			return sft_fail(b->err, EEXIST, "%s: the shard occurs twice",
					sft_quote(&q, file, strlen(file)));
		}
		ret = insert(b, TREE_ROOT, name, TREE_IS_DIR, (uint32_t)i, &b->shard_dirs[i]);
		if (ret)
			return ret;
	}
	return 0;
}

static int add_in_shard(struct builder *b, const struct tree_item *item)
{
	struct sft_quoted q;

	if (item->shard >= b->source->shards || b->shard_dirs[item->shard] == TREE_NO_ENTRY)
		return sft_fail(b->err, EINVAL, "tensor %s: its shard is missing",
				sft_quote(&q, item->name, item->name_len));
	return add_tensor(b, b->shard_dirs[item->shard], item, item->name, item->name_len);
}

/* ---- all of it ---- */

static int add_items(struct builder *b)
{
	int ret = b->tree->layout == TREE_FILES ? add_shards(b) : 0;

	for (size_t i = 0; i < b->source->count && !ret; i++) {
		struct tree_item item;

		b->source->item(b->source->ctx, i, &item);
		switch (b->tree->layout) {
		case TREE_FLAT:
			ret = add_tensor(b, TREE_ROOT, &item, item.name, item.name_len);
			break;
		case TREE_TREE:
			ret = add_in_tree(b, &item);
			break;
		case TREE_FILES:
			ret = add_in_shard(b, &item);
			break;
		}
	}
	return ret;
}

int tree_build(enum tree_layout layout, bool list_npy, const struct tree_source *source,
	       struct tree **out, struct sft_error *err)
{
	struct builder b = {
		.source = source,
		.err = err,
		.dirs_max = TREE_DIRS_EACH * source->count + TREE_DIRS_MORE,
	};
	int ret;

	if (source->count >= TREE_ENTRY_MAX)
		return sft_fail(err, ENOSPC, "more than %u tensors", TREE_ENTRY_MAX);
	size_t shards = layout == TREE_FILES ? source->shards : 0;
	b.tree = tree_new(layout, list_npy, source->count + shards + 1);
	if (!b.tree) {
		ret = no_memory(&b);
		goto out;
	}
	ret = add_items(&b);
	if (ret)
		goto out;
	tree_shrink(b.tree);
	*out = b.tree;
	b.tree = NULL;
out:
	tree_free(b.tree);
	free(b.shard_dirs);
	free(b.open);
	return ret;
}
