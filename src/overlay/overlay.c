/* overlay.c - what the overlay says of itself */
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
