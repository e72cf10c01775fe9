/* read.c - a tensor's bytes: staged blocks over the committed file over zeros; only reads
 */
#include "io.h"
#include "overlay_state.h"

#include <errno.h>
#include <string.h>

#define REGIONS 16 /* looked up at a time while reading */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The staged region at `offset`, which lies in the block that is in `slot`: as far as the slots
 * follow each other in the file. */
static struct sft_region staged_region(const struct overlay_entry *e, uint32_t slot,
				       uint64_t offset, uint64_t end)
{
	struct sft_region r = {
		.kind = SFT_REGION_STAGED,
		.offset = (uint64_t)slot * SFT_BLOCK + offset % SFT_BLOCK,
		.length = SFT_BLOCK - offset % SFT_BLOCK,
	};
	uint32_t next;

	while (offset + r.length < end) {
		slot++;
		if (!blockmap_find(&e->blocks, (uint32_t)((offset + r.length) / SFT_BLOCK),
				   &next) ||
		    next != slot)
			break;
		r.length += SFT_BLOCK;
	}
	r.length = min_u64(r.length, end - offset);
	return r;
}

/* The region at `offset`, which no staged block covers: up to the next one. */
static struct sft_region base_region(const struct overlay_entry *e, uint64_t offset, uint64_t end)
{
	uint64_t first = offset / SFT_BLOCK, last = (end - 1) / SFT_BLOCK;
	uint64_t staged = blockmap_next(&e->blocks, first, last + 1);
	uint64_t until = staged > last ? end : staged * SFT_BLOCK;

	if (!e->base || offset >= e->base_length)
		return (struct sft_region){ .kind = SFT_REGION_ZERO, .length = until - offset };
	return (struct sft_region){
		.kind = SFT_REGION_SOURCE,
		.file = e->base,
		.offset = e->base_offset + offset,
		.length = min_u64(until, e->base_length) - offset,
	};
}

static size_t entry_regions(const struct overlay_entry *e, uint64_t offset, uint64_t length,
			    struct sft_region *regions, size_t max)
{
	size_t n = 0;

	if (offset >= e->pub.nbytes)
		return 0;
	length = min_u64(length, e->pub.nbytes - offset);
	for (uint64_t end = offset + length; offset < end && n < max; n++) {
		uint32_t slot;

		if (blockmap_find(&e->blocks, (uint32_t)(offset / SFT_BLOCK), &slot))
			regions[n] = staged_region(e, slot, offset, end);
		else
			regions[n] = base_region(e, offset, end);
		offset += regions[n].length;
	}
	return n;
}

size_t sft_overlay_regions(const struct sft_overlay *ov, uint32_t id, uint64_t offset,
			   uint64_t length, struct sft_region *regions, size_t max)
{
	if (id >= ov->count)
		return 0;
	return entry_regions(ov->entries[id], offset, length, regions, max);
}

int sft_region_read(const struct sft_overlay *ov, const struct sft_region *r, void *buf,
		    struct sft_error *err)
{
	int e;

	switch (r->kind) {
	case SFT_REGION_SOURCE:
		return sft_file_read(r->file, buf, (size_t)r->length, r->offset, err);
	case SFT_REGION_STAGED:
		e = io_pread(ov->staging.blocks, buf, (size_t)r->length, r->offset);
		return e < 0 ? sft_fail(err, -e, "cannot read staged bytes in %s: %s",
					ov->staging.path, strerror(-e))
			     : 0;
	case SFT_REGION_ZERO:
		memset(buf, 0, (size_t)r->length);
		break;
	}
	return 0;
}

static int read_entry(const struct sft_overlay *ov, const struct overlay_entry *e,
		      unsigned char *buf, size_t n, uint64_t offset, size_t *done,
		      struct sft_error *err)
{
	struct sft_region regions[REGIONS];
	size_t count;

	*done = 0;
	while (*done < n &&
	       (count = entry_regions(e, offset + *done, n - *done, regions, REGIONS)) > 0) {
		for (size_t i = 0; i < count; i++) {
			int r = sft_region_read(ov, &regions[i], buf + *done, err);

			if (r < 0)
				return r;
			*done += (size_t)regions[i].length;
		}
	}
	return 0;
}

int sft_overlay_read(const struct sft_overlay *ov, uint32_t id, void *buf, size_t n,
		     uint64_t offset, size_t *done, struct sft_error *err)
{
	struct sft_error reason = { 0 };
	struct sft_quoted q;
	int r;

	*done = 0;
	if (id >= ov->count)
		return sft_fail(err, EINVAL, "tensor number %u: never there", id);
	const struct overlay_entry *e = ov->entries[id];
	r = read_entry(ov, e, buf, n, offset, done, &reason);
	if (r < 0)
		return sft_fail(err, -r, "tensor %s: %s",
				sft_quote(&q, e->pub.name, e->pub.name_len), reason.msg);
	return 0;
}

int read_block(const struct sft_overlay *ov, const struct overlay_entry *e, uint32_t block,
	       unsigned char *out, struct sft_error *err)
{
	size_t done;
	int r = read_entry(ov, e, out, SFT_BLOCK, (uint64_t)block * SFT_BLOCK, &done, err);

	if (r == 0)
		memset(out + done, 0, SFT_BLOCK - done);
	return r;
}
