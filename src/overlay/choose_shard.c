/* choose_shard.c - which shard a new tensor joins */
#include "overlay_state.h"

#include <errno.h>

static bool is_there(const struct sft_overlay *ov, uint32_t shard)
{
	return shard < ov->shard_count && sft_checkpoint_shard(ov->base, shard)->file;
}

/* The first shard that is not missing, and how many there are. */
static uint32_t first_shard(const struct sft_overlay *ov, uint32_t *present)
{
	uint32_t first = SFT_SHARD_AUTO;

	*present = 0;
	for (uint32_t i = (uint32_t)ov->shard_count; i-- > 0;) {
		if (is_there(ov, i)) {
			first = i;
			++*present;
		}
	}
	return first;
}

int choose_shard(const struct sft_overlay *ov, const char *name, size_t len, uint32_t wanted,
		 uint32_t replaced, uint32_t *shard, struct sft_error *err)
{
	uint32_t present, first = first_shard(ov, &present), id;
	struct sft_quoted q;

	if (wanted != SFT_SHARD_AUTO && !is_there(ov, wanted))
		return sft_fail(err, EINVAL, "tensor %s: shard %u is missing",
				sft_quote(&q, name, len), wanted);
	if (present == 0)
		return sft_fail(err, EINVAL, "tensor %s: there is no shard to put it into",
				sft_quote(&q, name, len));
	*shard = wanted != SFT_SHARD_AUTO ? wanted : first;
	if (wanted != SFT_SHARD_AUTO || present == 1)
		return 0;
	id = overlay_committed(ov, SFT_SHARD_AUTO, name, len);
	/* Where several shards may have the name, it is the one of the replaced that is meant. */
	if (replaced != SFT_NO_ID && (id == SFT_NO_ID || ov->options.flags & SFT_SAME_NAMES)) {
		*shard = ov->entries[replaced]->pub.shard;
		return 0;
	}
	if (id != SFT_NO_ID) {
		*shard = sft_checkpoint_at(ov->base, id)->shard;
		return 0;
	}
	size_t before = overlay_lower_bound(ov, SFT_SHARD_AUTO, name, len);
	if (before > 0)
		*shard = sft_checkpoint_at(ov->base, before - 1)->shard;
	return 0;
}
