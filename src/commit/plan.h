/* plan.h - overlay -> header and regions */
#ifndef SFT_PLAN_H
#define SFT_PLAN_H

#include "header_write.h"
#include "overlay.h"

struct plan_tensor {
	struct header_tensor h; /* first, as header_write() wants it; the new file's */
	uint32_t id;		/* overlay id, or SFT_NO_ID: the bytes are those of `committed` */
	/* What no overlay shows: one that another shard's of its name hides, or, without an
	 * overlay, any. Else NULL. */
	const struct sft_tensor *committed;
};

struct plan_shard {
	uint32_t shard;
	bool changed;	  /* differs from the committed file in any way */
	bool same_layout; /* no name, dtype, shape or metadata differs: header kept byte for byte */
	char *header;	  /* 8 bytes of length and the JSON; NULL with same_layout */
	uint64_t
		header_length; /* of all of it, with the 8 bytes; the old file's with same_layout */
	struct plan_tensor *tensors; /* in the order of the new file */
	size_t count;
	uint64_t file_size;
};

struct plan {
	struct plan_shard *shards; /* one for each shard of the base, missing ones with count 0 */
	size_t count;
	bool index_changed; /* names moved: the index.json has to follow */
};

/* EINVAL where tensors have problems; the message names the first and says how many. Names and
 * shapes are borrowed from the overlay. */
int plan_make(const struct sft_overlay *ov, struct plan *plan, struct sft_error *err);
void plan_free(struct plan *plan);
/* Sort tensors stably in the order of `begin`. -ENOMEM. */
int plan_sort_by_place(struct plan_tensor *tensors, size_t count);

/* The parts of plan_make() that merged.c needs as well. `ov` may be NULL where every tensor is a
 * committed one. */
int plan_refuse_problems(const struct sft_overlay *ov, struct sft_error *err);
struct plan_tensor plan_entry(const struct sft_overlay *ov, uint32_t id);
struct plan_tensor plan_committed(const struct sft_tensor *t);
/* Set `changed` and `same_layout`; with the latter, header_length, file_size, and `begin`. */
void plan_compare(const struct sft_overlay *ov, struct plan_shard *s,
		  const struct sft_metadata *metadata, const struct sft_file *file);
/* Make `header` and put the tensors in its order, at their places. */
int plan_lay_out(struct plan_shard *s, const struct sft_metadata *metadata, struct sft_error *err);
/* As sft_overlay_regions, of a planned tensor. */
size_t plan_regions(const struct sft_checkpoint *ck, const struct sft_overlay *ov, uint32_t id,
		    const struct sft_tensor *committed, uint64_t offset, uint64_t length,
		    struct sft_region *regions, size_t max);
/* Whether b goes on where a ends, in what they come from. */
static inline bool plan_region_goes_on(const struct sft_region *a, const struct sft_region *b)
{
	return a->kind == b->kind && (a->kind == SFT_REGION_ZERO ||
				      (a->file == b->file && a->offset + a->length == b->offset));
}

/* index_json.c: the text of the new index.json: the old one with weight_map, total_size and
 * total_parameters brought up to date and everything else kept. */
int index_json_write(const struct sft_overlay *ov, const struct plan *plan, struct sft_buf *out,
		     struct sft_error *err);

#endif
