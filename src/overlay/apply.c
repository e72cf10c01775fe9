/*
 * apply.c - what each journal record does to the overlay in memory
 *
 * Nothing here can fail: the caller, a change or the replay, has checked the arguments and reserved
 * the memory.
 */
#include "metadata.h"
#include "overlay_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t blocks_of(uint64_t nbytes)
{
	return nbytes / SFT_BLOCK + (nbytes % SFT_BLOCK != 0);
}

/* What sft_overlay_generation() counts: what is done to a tensor, not to a scratch file. */
static void count_change(struct sft_overlay *ov, const struct overlay_entry *e)
{
	if (!e->pub.scratch)
		ov->generation++;
}

uint32_t apply_create(struct sft_overlay *ov, struct overlay_entry *e, uint32_t journal_id)
{
	uint32_t id = ov->count++;

	e->journal_id = journal_id;
	ov->entries[id] = e;
	by_name_add(ov, id);
	overlay_resolve(ov, e);
	overlay_refresh(ov, e);
	count_change(ov, e);
	return id;
}

void apply_drop_blocks(struct sft_overlay *ov, struct overlay_entry *e, uint64_t first)
{
	/* A removal may move a later place here, also one from beyond the end of the table that was
	 * looked at before: so the place is looked at again, and none is missed. */
	for (uint32_t i = 0; e->blocks.count && i < e->blocks.capacity;) {
		struct blockmap_place p = e->blocks.places[i];

		if (p.slot == UINT32_MAX || p.block < first) {
			i++;
			continue;
		}
		blockmap_remove(&e->blocks, p.block);
		slots_release(&ov->slots, p.slot);
	}
}

static void set_length(struct sft_overlay *ov, struct overlay_entry *e, uint64_t length)
{
	uint64_t end = blocks_of(length), old_end = blocks_of(e->pub.nbytes);
	uint32_t slot;

	if (e->pub.nbytes != length)
		count_change(ov, e);
	e->pub.nbytes = length;
	if (e->base_length > length)
		e->base_length = length;
	if (old_end <= end || e->blocks.count == 0)
		return;
	if (old_end - end > e->blocks.capacity) {
		apply_drop_blocks(ov, e, end);
		return;
	}
	for (uint64_t b = end; b < old_end; b++) {
		if (!blockmap_find(&e->blocks, (uint32_t)b, &slot))
			continue;
		blockmap_remove(&e->blocks, (uint32_t)b);
		slots_release(&ov->slots, slot);
	}
}

void apply_data(struct sft_overlay *ov, struct overlay_entry *e, uint64_t length, uint32_t first,
		const uint32_t *slots, uint32_t count)
{
	set_length(ov, e, length);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t old;
		bool had = blockmap_find(&e->blocks, first + i, &old);

		blockmap_put(&e->blocks, first + i, slots[i]);
		if (had)
			slots_release(&ov->slots, old);
	}
	overlay_refresh(ov, e);
}

void apply_length(struct sft_overlay *ov, struct overlay_entry *e, uint64_t length)
{
	set_length(ov, e, length);
	overlay_refresh(ov, e);
}

void apply_declare(struct sft_overlay *ov, struct overlay_entry *e, uint8_t dtype, uint64_t *shape,
		   uint32_t rank)
{
	free(e->declared);
	e->declared = shape;
	e->has_declared = true;
	e->pub.dtype = dtype;
	e->pub.rank = rank;
	overlay_refresh(ov, e);
	count_change(ov, e);
}

void apply_remove(struct sft_overlay *ov, uint32_t id)
{
	struct overlay_entry *e = ov->entries[id];
	const struct sft_tensor *c = e->pub.committed;

	count_change(ov, e);
	by_name_remove(ov, id);
	apply_drop_blocks(ov, e, 0);
	blockmap_free(&e->blocks);
	free(e->own_name);
	free(e->declared);
	e->own_name = NULL;
	e->declared = NULL;
	e->pub.name = c ? c->name : "";
	e->pub.name_len = c ? c->name_len : 0;
	e->pub.live = e->pub.scratch = e->has_declared = e->retired = false;
	e->pub.nbytes = e->base_length = 0;
	e->base = NULL;
	e->like = c;
	overlay_refresh(ov, e);
}

void apply_rename(struct sft_overlay *ov, uint32_t id, char *name, size_t len, bool scratch,
		  uint32_t shard)
{
	struct overlay_entry *e = ov->entries[id];
	const struct sft_tensor *c = e->pub.committed;

	by_name_remove(ov, id);
	free(e->own_name);
	e->own_name = name;
	e->pub.name = name;
	e->pub.name_len = (uint32_t)len;
	/* A scratch file keeps its own: it may outlive the committed tensor. */
	if (c && !scratch && overlay_entry_is(e, c->name, c->name_len)) {
		free(name);
		e->own_name = NULL;
		e->pub.name = c->name;
	}
	count_change(ov, e);
	e->pub.scratch = scratch;
	count_change(ov, e);
	e->pub.shard = shard;
	by_name_add(ov, id);
	overlay_resolve(ov, e);
	overlay_refresh(ov, e);
}

void apply_metadata(struct sft_overlay *ov, uint32_t shard, struct sft_metadata *metadata)
{
	const struct sft_file *file = sft_checkpoint_shard(ov->base, shard)->file;
	const struct sft_metadata *committed = sft_index_metadata(sft_file_index(file));

	ov->generation++;
	if (ov->metadata_staged[shard])
		sft_metadata_free(&ov->metadata[shard]);
	ov->metadata_staged[shard] = !sft_metadata_equal(metadata, committed);
	if (ov->metadata_staged[shard]) {
		ov->metadata[shard] = *metadata;
	} else {
		sft_metadata_free(metadata);
		ov->metadata[shard] = *committed;
	}
}
