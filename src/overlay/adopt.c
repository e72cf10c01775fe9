/*
 * adopt.c - after a commit: what it wrote is the base now, and nothing is staged
 *
 * Nothing of what the commit did may be lost here, so that needs no memory. Entries keep their ids
 * and find their tensor in the new base by name. Scratch files keep what they show: their blocks,
 * and of the old base, which is retired instead of freed, what they still see.
 */
#include "io.h"
#include "overlay_state.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The shard of the new base that a shard of the old one has become. */
static uint32_t new_shard(const struct sft_overlay *ov, const struct sft_checkpoint *old,
			  uint32_t shard)
{
	const uint32_t count = (uint32_t)sft_checkpoint_shards(ov->base);
	const char *name;

	if (shard >= sft_checkpoint_shards(old) || !sft_checkpoint_is_directory(old))
		return shard;
	name = sft_checkpoint_shard(old, shard)->name;
	if (shard < count && strcmp(sft_checkpoint_shard(ov->base, shard)->name, name) == 0)
		return shard;
	for (uint32_t i = 0; i < count; i++) {
		if (strcmp(sft_checkpoint_shard(ov->base, i)->name, name) == 0)
			return i;
	}
	return SFT_SHARD_AUTO;
}

/* Let a tensor's entry show tensor `t` of the base, with nothing staged. */
static void rebase(struct sft_overlay *ov, struct overlay_entry *e, const struct sft_tensor *t)
{
	apply_drop_blocks(ov, e, 0);
	free(e->own_name);
	free(e->declared);
	e->own_name = NULL;
	e->declared = NULL;
	e->has_declared = false;
	e->pub.name = t->name;
	e->pub.name_len = t->name_len;
	e->pub.shard = t->shard;
	e->pub.nbytes = t->nbytes;
	e->pub.committed = e->like = t;
	e->base = sft_checkpoint_shard(ov->base, t->shard)->file;
	e->base_offset = sft_checkpoint_offset(ov->base, t);
	e->base_length = t->nbytes;
}

static void forget(struct sft_overlay *ov, struct overlay_entry *e)
{
	apply_drop_blocks(ov, e, 0);
	e->pub.live = e->retired = e->has_declared = false;
	e->pub.committed = e->like = NULL;
	e->pub.name = "";
	e->pub.name_len = 0;
	e->pub.nbytes = e->base_length = 0;
	e->base = NULL;
}

/* True where the old base is still needed. */
static bool adopt_entry(struct sft_overlay *ov, const struct sft_checkpoint *old,
			struct overlay_entry *e)
{
	const uint32_t shard = new_shard(ov, old, e->pub.shard);
	bool keep = false;

	e->journal_id = SFT_NO_ID;
	if (e->pub.live && e->pub.scratch) {
		keep = e->base && !e->retired;
		e->retired = e->retired || keep;
		e->pub.committed = NULL;
		e->pub.shard = shard;
	} else if (e->pub.live) {
		uint32_t i = overlay_committed(ov, shard, e->pub.name, e->pub.name_len);

		if (i != SFT_NO_ID)
			rebase(ov, e, sft_checkpoint_at(ov->base, i));
		else
			forget(ov, e);
	} else {
		forget(ov, e);
	}
	overlay_refresh(ov, e);
	return keep;
}

/* Room for the metadata of all shards of the base, where a directory got another file meanwhile. */
static bool grow_metadata(struct sft_overlay *ov, size_t count)
{
	struct sft_metadata *metadata = realloc(ov->metadata, (count + 1) * sizeof(*metadata));

	if (metadata)
		ov->metadata = metadata;
	bool *staged = realloc(ov->metadata_staged, (count + 1) * sizeof(*staged));
	if (staged)
		ov->metadata_staged = staged;
	return metadata && staged;
}

static bool adopt_metadata(struct sft_overlay *ov)
{
	const size_t count = sft_checkpoint_shards(ov->base);
	bool whole = true;

	for (size_t i = 0; i < ov->shard_count; i++) {
		if (ov->metadata_staged[i])
			sft_metadata_free(&ov->metadata[i]);
	}
	if (count > ov->shard_count)
		whole = grow_metadata(ov, count);
	if (count < ov->shard_count || whole)
		ov->shard_count = count;
	for (size_t i = 0; i < ov->shard_count; i++) {
		const struct sft_file *file = sft_checkpoint_shard(ov->base, i)->file;

		ov->metadata_staged[i] = false;
		ov->metadata[i] = file ? *sft_index_metadata(sft_file_index(file))
				       : (struct sft_metadata){ 0 };
	}
	return whole;
}

/* Tensors of the base that no entry stands for: those of such another file. A later commit must
 * know them, or it would take them for deleted. */
static bool add_unknown(struct sft_overlay *ov)
{
	const size_t count = sft_checkpoint_count(ov->base);
	size_t known = 0;

	for (uint32_t id = 0; id < ov->count; id++)
		known += ov->entries[id]->pub.committed != NULL;
	for (size_t i = 0; known < count && i < count; i++) {
		const struct sft_tensor *t = sft_checkpoint_at(ov->base, i);
		struct overlay_entry *e;

		if (by_name_find(ov, t->shard, false, t->name, t->name_len) != SFT_NO_ID)
			continue;
		e = overlay_reserve(ov, 1) < 0
			    ? NULL
			    : overlay_entry_new(t->name, t->name_len, false, t->shard);
		if (!e)
			return false;
		apply_create(ov, e, SFT_NO_ID);
		rebase(ov, e, t);
		overlay_refresh(ov, e);
	}
	return true;
}

/* ---- retired checkpoints ---- */

static bool has_file(const struct sft_checkpoint *ck, const struct sft_file *file)
{
	for (size_t i = 0; i < sft_checkpoint_shards(ck); i++) {
		if (sft_checkpoint_shard(ck, i)->file == file)
			return true;
	}
	return false;
}

static bool is_needed(const struct sft_overlay *ov, const struct sft_checkpoint *ck)
{
	for (uint32_t id = 0; id < ov->count; id++) {
		const struct overlay_entry *e = ov->entries[id];

		if (e->retired && has_file(ck, e->base))
			return true;
	}
	return false;
}

static void free_unneeded(struct sft_overlay *ov)
{
	size_t kept = 0;

	for (size_t i = 0; i < ov->retired_count; i++) {
		if (is_needed(ov, ov->retired[i]))
			ov->retired[kept++] = ov->retired[i];
		else
			sft_checkpoint_free(ov->retired[i]);
	}
	ov->retired_count = kept;
}

/* ---- the whole ---- */

/* Names are looked up by shard too, and shards may have moved. There is room: nothing was added. */
static void rebuild_names(struct sft_overlay *ov)
{
	for (uint32_t i = 0; i < ov->by_name_capacity; i++)
		ov->by_name[i] = SFT_NO_ID;
	ov->by_name_used = 0;
	for (uint32_t id = 0; id < ov->count; id++) {
		if (ov->entries[id]->pub.live)
			by_name_add(ov, id);
	}
}

/* The journal was dropped; the blocks go too, unless a scratch file has some. */
static void adopt_staging(struct sft_overlay *ov)
{
	struct staging *s = &ov->staging;

	s->journal_end = s->synced_end = s->allocated = 0;
	s->broken = s->rewrite = false;
	slots_synced(&ov->slots);
	if (ov->slots.unused_count < ov->slots.end) {
		slots_reclaim(&ov->slots, s->blocks, false);
		return;
	}
	slots_free(&ov->slots);
	(void)io_unlinkat(s->dir, "blocks", 0);
	if (s->blocks >= 0)
		close(s->blocks);
	s->blocks = -1;
	s->stale_blocks = false;
}

void sft_overlay_adopt(struct sft_overlay *ov)
{
	struct sft_checkpoint *old = ov->base;
	bool keep = false;

	if (!ov->next)
		return;
	ov->base = ov->next;
	ov->next = NULL;
	ov->base_is_output = ov->options.output != NULL;
	for (uint32_t id = 0; id < ov->count; id++)
		keep = adopt_entry(ov, old, ov->entries[id]) || keep;
	rebuild_names(ov);
	adopt_staging(ov);
	bool whole = adopt_metadata(ov);
	/* What is not known could not be kept by another commit. */
	if (!add_unknown(ov) || !whole)
		ov->staging.broken = true;
	/* What was committed is what was shown, unless a file has come to the directory. */
	if (sft_checkpoint_shards(ov->base) != sft_checkpoint_shards(old))
		ov->generation++;
	/* Becoming scratch has made the room (overlay_reserve_retired). */
	if (keep)
		ov->retired[ov->retired_count++] = old;
	else
		sft_checkpoint_free(old);
	free_unneeded(ov);
	staging_lock_again(&ov->staging, ov->base);
}
