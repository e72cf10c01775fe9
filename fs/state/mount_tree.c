/* mount_tree.c - the tree of a mount: what it is built of */
#include "mount_tree.h"

#include "shown.h"
#include "sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* In a read-only mount id i is tensor i of the checkpoint; there is nothing to gather. */
struct source {
	struct fs *fs;
	uint32_t *ids;	/* live tensors, in byte order of names */
	size_t *places; /* of their names in fs->tree_names */
	size_t count;
};

static int compare_ids(uint32_t a, uint32_t b, const void *ctx)
{
	const struct sft_overlay *ov = ctx;
	const struct sft_entry *x = sft_overlay_entry(ov, a), *y = sft_overlay_entry(ov, b);
	int c = sft_name_compare(x->name, x->name_len, y->name, y->name_len);
	return c ? c : (x->shard > y->shard) - (x->shard < y->shard);
}

static void source_item(void *ctx, size_t i, struct tree_item *item)
{
	const struct source *s = ctx;
	const uint32_t id = s->ids ? s->ids[i] : (uint32_t)i;
	const struct fs_shown t = fs_shown(s->fs, id);
	/* A commit replaces what the overlay's names point into; the tree outlives it. */
	const char *name = s->ids ? s->fs->tree_names + s->places[i] : t.name;
	*item = (struct tree_item){ name, t.name_len, t.shard, id };
}

static const char *source_shard(void *ctx, size_t i)
{
	const struct source *s = ctx;
	return sft_checkpoint_shard(fs_checkpoint(s->fs), i)->name;
}

/* The live tensors of an edit mount. Those of the checkpoint come in order, so that the sort has
 * little to do. */
static int gather(struct source *s)
{
	struct sft_overlay *ov = s->fs->overlay;
	uint32_t n = sft_overlay_count(ov);
	size_t bytes = 0;
	s->ids = calloc((size_t)n + 1, sizeof(*s->ids));
	s->places = calloc((size_t)n + 1, sizeof(*s->places));
	if (!s->ids || !s->places)
		return -ENOMEM;
	for (uint32_t id = 0; id < n; id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		if (!e->live || e->scratch)
			continue;
		s->ids[s->count++] = id;
		bytes += e->name_len + 1u;
	}
	s->fs->tree_names = malloc(bytes + 1);
	if (!s->fs->tree_names || sft_sort(s->ids, s->count, compare_ids, ov) < 0)
		return -ENOMEM;
	char *out = s->fs->tree_names;
	for (size_t i = 0; i < s->count; i++) {
		const struct sft_entry *e = sft_overlay_entry(ov, s->ids[i]);
		s->places[i] = (size_t)(out - s->fs->tree_names);
		memcpy(out, e->name, e->name_len);
		out[e->name_len] = '\0';
		out += e->name_len + 1u;
	}
	return 0;
}

int fs_build_tree(struct fs *fs, struct sft_error *err)
{
	struct source s = { .fs = fs, .count = sft_checkpoint_count(fs_checkpoint(fs)) };
	int r = 0;
	if (fs->overlay) {
		s.count = 0;
		r = fs_edits_new(fs);
		if (r == 0)
			r = gather(&s);
	}
	if (r < 0) {
		sft_fail(err, -r, "%s", strerror(-r));
		goto out;
	}
	struct tree_source source = {
		.ctx = &s,
		.count = s.count,
		.shards = sft_checkpoint_shards(fs_checkpoint(fs)),
		.item = source_item,
		.shard = source_shard,
	};
	r = tree_build(fs->opt->layout, fs->opt->list_npy, &source, &fs->tree, err);
	if (r == 0)
		fs_mark_metadata(fs);
out:
	free(s.places);
	free(s.ids);
	return r;
}

void fs_mark_metadata(struct fs *fs)
{
	bool any = false;
	size_t shards = sft_checkpoint_shards(fs_checkpoint(fs));
	for (uint32_t i = 0; i < shards; i++)
		any = any || fs_metadata(fs, i)->present;
	for (uint32_t i = 0; i < tree_count(fs->tree); i++) {
		const struct tree_entry *e = tree_entry(fs->tree, i);
		if (!(e->flags & TREE_IS_DIR))
			continue;
		bool has = i == TREE_ROOT && any;
		if (fs->opt->layout == TREE_FILES)
			has = i != TREE_ROOT && e->id < shards && fs_metadata(fs, e->id)->present;
		tree_set_flags(
			fs->tree, i,
			(uint8_t)((e->flags & ~TREE_HAS_METADATA) | (has ? TREE_HAS_METADATA : 0)));
	}
}
