/* edit_tree.c - the tree over an overlay, and the keys of what has no tensor name */
#include "edit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys of scratch files ---- */

size_t edit_hidden_key(struct fs *fs, char key[EDIT_KEY_MAX])
{
	/* No path in the mount begins with a slash. */
	key[0] = '/';
	return 1 + (size_t)snprintf(key + 1, EDIT_KEY_MAX - 1, "%llx",
				    (unsigned long long)++fs->edits->serial);
}

/* From the end on, since a file knows what it is in. */
void edit_scratch_key(const struct fs *fs, uint32_t parent, const char *name, size_t len,
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

/* ---- the tree over an overlay ---- */

struct build {
	struct fs *fs;
	uint32_t *ids;	/* live tensors, in byte order of names */
	size_t *places; /* of their names in fs->edits->names */
	size_t count;
};

static int compare_ids(const void *a, const void *b, void *ctx)
{
	const struct sft_overlay *ov = ctx;
	const struct sft_entry *x = sft_overlay_entry(ov, *(const uint32_t *)a);
	const struct sft_entry *y = sft_overlay_entry(ov, *(const uint32_t *)b);
	int c = sft_name_compare(x->name, x->name_len, y->name, y->name_len);
	return c ? c : (x->shard > y->shard) - (x->shard < y->shard);
}

static void build_item(void *ctx, size_t i, struct tree_item *item)
{
	const struct build *b = ctx;
	const struct sft_entry *e = sft_overlay_entry(b->fs->overlay, b->ids[i]);
	/* A commit replaces what the overlay's names point into; the tree outlives it. */
	*item = (struct tree_item){ b->fs->edits->names + b->places[i], e->name_len, e->shard,
				    b->ids[i] };
}

static const char *build_shard(void *ctx, size_t i)
{
	const struct build *b = ctx;
	return sft_checkpoint_shard(fs_checkpoint(b->fs), i)->name;
}

static int gather(struct build *b)
{
	struct sft_overlay *ov = b->fs->overlay;
	uint32_t n = sft_overlay_count(ov);
	size_t bytes = 0;
	b->ids = calloc((size_t)n + 1, sizeof(*b->ids));
	b->places = calloc((size_t)n + 1, sizeof(*b->places));
	if (!b->ids || !b->places)
		return -ENOMEM;
	for (uint32_t id = 0; id < n; id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		if (!e->live || e->scratch)
			continue;
		b->ids[b->count++] = id;
		bytes += e->name_len + 1u;
	}
	qsort_r(b->ids, b->count, sizeof(*b->ids), compare_ids, ov);
	b->fs->edits->names = malloc(bytes + 1);
	if (!b->fs->edits->names)
		return -ENOMEM;
	char *out = b->fs->edits->names;
	for (size_t i = 0; i < b->count; i++) {
		const struct sft_entry *e = sft_overlay_entry(ov, b->ids[i]);
		b->places[i] = (size_t)(out - b->fs->edits->names);
		memcpy(out, e->name, e->name_len);
		out[e->name_len] = '\0';
		out += e->name_len + 1u;
	}
	return 0;
}

int edit_build_tree(struct fs *fs, struct sft_error *err)
{
	struct build b = { .fs = fs };
	int r = edit_new(fs);
	if (r == 0)
		r = gather(&b);
	if (r < 0) {
		sft_fail(err, -r, "%s", strerror(-r));
		goto out;
	}
	struct tree_source source = {
		.ctx = &b,
		.count = b.count,
		.shards = sft_checkpoint_shards(fs_checkpoint(fs)),
		.item = build_item,
		.shard = build_shard,
	};
	r = tree_build(fs->opt->layout, fs->opt->list_npy, &source, &fs->tree, err);
	if (r == 0)
		fs_mark_metadata(fs);
out:
	free(b.places);
	free(b.ids);
	return r;
}
