/* single_change.c - changes that are one step each */
#include "overlay.h"

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
