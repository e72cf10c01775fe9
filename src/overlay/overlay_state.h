/*
 * overlay_state.h - how the edited state is looked up and changed; private to the library
 *
 * A change is made in three steps: memory is reserved, the journal record is written, and an
 * apply_...() function, which cannot fail, brings the state up to date. Replay calls the same ones.
 */
#ifndef SFT_OVERLAY_STATE_H
#define SFT_OVERLAY_STATE_H

#include "name.h"
#include "overlay.h"

#define OVERLAY_SIZE_MAX (1ull << 48) /* bytes of a tensor: 2^32 blocks */

/* Whether the name may be a tensor's: valid UTF-8 and not "__metadata__". Else EINVAL. */
int overlay_check_name(const char *name, size_t len, struct sft_error *err);

/* ---- entries.c ---- */

/* Make the state of an overlay without edits out of ov->base. ENOMEM. */
int overlay_load(struct sft_overlay *ov, struct sft_error *err);
/* Forget the state; what is on disk stays. */
void overlay_clear(struct sft_overlay *ov);
/* The same, and the base and the retired ones. */
void overlay_unload(struct sft_overlay *ov);

/* Room for `more` new entries in every table; apply_create() then cannot fail. */
int overlay_reserve(struct sft_overlay *ov, uint32_t more);
/* Room to retire the base, for an entry that becomes scratch and still sees it. */
int overlay_reserve_retired(struct sft_overlay *ov);

/* The position (sft_checkpoint_at) of the first committed tensor that is not below this name and,
 * if `shard` is not SFT_SHARD_AUTO, shard; the number of tensors if there is none. */
size_t overlay_lower_bound(const struct sft_overlay *ov, uint32_t shard, const char *name,
			   size_t len);
/* The position (sft_checkpoint_at) of a committed tensor, of that shard with SFT_SAME_NAMES;
 * SFT_NO_ID where there is none. */
uint32_t overlay_committed(const struct sft_overlay *ov, uint32_t shard, const char *name,
			   size_t len);
/* The entry, live, or NULL and EINVAL in `err`. */
struct overlay_entry *overlay_live(const struct sft_overlay *ov, uint32_t id,
				   struct sft_error *err);
/* Bring what is derived up to date: shape and dtype, changed, staged, problem. */
void overlay_refresh(struct sft_overlay *ov, struct overlay_entry *e);
/* Find out whose dtype and shape it has while none is declared. */
void overlay_resolve(const struct sft_overlay *ov, struct overlay_entry *e);

/* A new entry, in no table yet; `name` is copied. NULL: no memory. */
struct overlay_entry *overlay_entry_new(const char *name, size_t len, bool scratch, uint32_t shard);
void overlay_entry_free(struct overlay_entry *e);
static inline bool overlay_entry_is(const struct overlay_entry *e, const char *name, size_t len)
{
	return sft_name_equal(e->pub.name, e->pub.name_len, name, len);
}

/* ---- apply.c: pointers are handed over ---- */

uint32_t apply_create(struct sft_overlay *ov, struct overlay_entry *e, uint32_t journal_id);
/* Room for the blocks must have been reserved. */
void apply_data(struct sft_overlay *ov, struct overlay_entry *e, uint64_t length, uint32_t first,
		const uint32_t *slots, uint32_t count);
void apply_length(struct sft_overlay *ov, struct overlay_entry *e, uint64_t length);
void apply_declare(struct sft_overlay *ov, struct overlay_entry *e, uint8_t dtype, uint64_t *shape,
		   uint32_t rank);
void apply_remove(struct sft_overlay *ov, uint32_t id);
void apply_rename(struct sft_overlay *ov, uint32_t id, char *name, size_t len, bool scratch,
		  uint32_t shard);
void apply_metadata(struct sft_overlay *ov, uint32_t shard, struct sft_metadata *metadata);
/* Give up all blocks from block number `first` on. */
void apply_drop_blocks(struct sft_overlay *ov, struct overlay_entry *e, uint64_t first);

/* ---- by_name.c: live entries by name ---- */

int by_name_reserve(struct sft_overlay *ov, uint32_t more);
void by_name_add(struct sft_overlay *ov, uint32_t id);
void by_name_remove(struct sft_overlay *ov, uint32_t id);
/* `shard` counts for tensors with SFT_SAME_NAMES only. */
uint32_t by_name_find(const struct sft_overlay *ov, uint32_t shard, bool scratch, const char *name,
		      size_t len);
/* What the table hashes names by. */
uint32_t by_name_hash(const struct sft_overlay *ov, uint32_t shard, bool scratch, const char *name,
		      size_t len);

/* ---- choose_shard.c ---- */

/*
 * The shard for a tensor that has none: `wanted` unless it is SFT_SHARD_AUTO, else the one that its
 * name has in the checkpoint, else that of the tensor `replaced` (may be SFT_NO_ID; it goes first
 * with SFT_SAME_NAMES), else that of the committed tensor before it, else the first that is not
 * missing. EINVAL.
 */
int choose_shard(const struct sft_overlay *ov, const char *name, size_t len, uint32_t wanted,
		 uint32_t replaced, uint32_t *shard, struct sft_error *err);

/* ---- read.c ---- */

/* One block as it is now, zeros behind the tensor's end. */
int read_block(const struct sft_overlay *ov, const struct overlay_entry *e, uint32_t block,
	       unsigned char *out, struct sft_error *err);

/* ---- write.c ---- */

/* Stage every block that still comes from a retired checkpoint. */
int write_detach(struct sft_overlay *ov, uint32_t id, struct sft_error *err);

#endif
