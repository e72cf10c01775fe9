/* overlay.c - what the overlay says of itself, and single changes */
#include "overlay.h"

/* ---- reading ---- */

uint32_t sft_overlay_count(const struct sft_overlay *ov)
{
	return ov->count;
}

const struct sft_entry *sft_overlay_entry(const struct sft_overlay *ov, uint32_t id)
{
	static const struct sft_entry nothing = { .name = "" };

	return id < ov->count ? &ov->entries[id]->pub : &nothing;
}

const struct sft_metadata *sft_overlay_metadata(const struct sft_overlay *ov, uint32_t shard)
{
	static const struct sft_metadata none;

	return shard < ov->shard_count ? &ov->metadata[shard] : &none;
}

uint32_t sft_overlay_problems(const struct sft_overlay *ov)
{
	return ov->problem_count;
}

const struct sft_checkpoint *sft_overlay_checkpoint(const struct sft_overlay *ov)
{
	return ov->base;
}

const char *sft_overlay_staging(const struct sft_overlay *ov)
{
	return ov->staging.path;
}

const char *sft_overlay_note(const struct sft_overlay *ov, size_t i)
{
	return notes_line(&ov->notes, i);
}

/* ---- the result ---- */

void sft_overlay_set_result(struct sft_overlay *ov, const char *text)
{
	staging_result(&ov->staging, text);
}

/* ---- single changes ---- */

int sft_overlay_create(struct sft_overlay *ov, const char *name, size_t len, bool scratch,
		       uint32_t shard, uint32_t *id, struct sft_error *err)
{
	struct sft_change c = { .kind = SFT_CREATE,
				.name = name,
				.name_len = len,
				.scratch = scratch,
				.shard = shard };
	int r = sft_overlay_change(ov, &c, 1, err);

	if (r == 0)
		*id = c.id;
	return r;
}

int sft_overlay_remove(struct sft_overlay *ov, uint32_t id, struct sft_error *err)
{
	struct sft_change c = { .kind = SFT_REMOVE, .id = id };

	return sft_overlay_change(ov, &c, 1, err);
}

int sft_overlay_rename(struct sft_overlay *ov, uint32_t id, const char *name, size_t len,
		       bool scratch, uint32_t shard, uint32_t replaced, struct sft_error *err)
{
	struct sft_change c[] = {
		{ .kind = SFT_REMOVE, .id = replaced },
		{ .kind = SFT_RENAME,
		  .id = id,
		  .name = name,
		  .name_len = len,
		  .scratch = scratch,
		  .shard = shard },
	};

	return replaced == SFT_NO_ID ? sft_overlay_change(ov, c + 1, 1, err)
				     : sft_overlay_change(ov, c, 2, err);
}

int sft_overlay_declare(struct sft_overlay *ov, uint32_t id, enum sft_dtype dtype,
			const uint64_t *shape, uint32_t rank, struct sft_error *err)
{
	struct sft_change c = {
		.kind = SFT_DECLARE, .id = id, .dtype = dtype, .shape = shape, .rank = rank
	};

	return sft_overlay_change(ov, &c, 1, err);
}

int sft_overlay_set_metadata(struct sft_overlay *ov, uint32_t shard,
			     const struct sft_metadata *metadata, struct sft_error *err)
{
	struct sft_change c = { .kind = SFT_SET_METADATA, .shard = shard, .metadata = metadata };

	return sft_overlay_change(ov, &c, 1, err);
}
