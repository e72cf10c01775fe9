/*
 * write.c - staging bytes: write, truncate
 *
 * New slots are written first, then the record that names them, then the state follows. A write
 * that covers a block in part takes the rest of it from what the tensor holds now.
 */
#include "hash.h"
#include "io.h"
#include "num.h"
#include "overlay_state.h"
#include "sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_INLINE 32u /* blocks of a write that need no memory of their own */

/* ---- a run of blocks ---- */

/* `count` blocks from `first` on, and where their new bytes are. */
struct run {
	uint32_t first, count;
	uint64_t length;	   /* of the tensor, afterwards */
	const unsigned char *head; /* block 0, or NULL: it is in the body */
	const unsigned char *tail; /* the last block, or NULL */
	const unsigned char *body; /* block i is at body + i * SFT_BLOCK - skip */
	size_t skip;
};

static const unsigned char *run_block(const struct run *run, uint32_t i)
{
	if (i == 0 && run->head)
		return run->head;
	if (i == run->count - 1 && run->tail)
		return run->tail;
	return run->body + ((size_t)i * SFT_BLOCK - run->skip);
}

/*
 * How many bytes of a block have to be written to a slot. Behind the tensor's end are zeros, and so
 * are in a slot that was never written: many a tensor is much smaller than a block.
 */
static size_t bytes_to_write(const struct slots *s, const struct run *run, uint32_t i,
			     uint32_t slot)
{
	uint64_t used = run->length - (uint64_t)(run->first + i) * SFT_BLOCK;

	if (slot < s->virgin || used > SFT_BLOCK - DISK_BLOCK)
		return SFT_BLOCK;
	return (used + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
}

/* Write `n` neighbouring blocks to neighbouring slots; the last of them may be short. */
static int write_slot_run(struct sft_overlay *ov, const unsigned char *p, uint32_t slot, uint32_t n,
			  size_t last)
{
	const int fd = ov->staging.blocks;
	const uint64_t at = (uint64_t)slot * SFT_BLOCK;
	int r = 0;

	/* The file ends with a whole slot, also if we die in between. Only the last one of the file
	 * can be short here. */
	if (last < SFT_BLOCK)
		r = io_ftruncate(fd, at + (uint64_t)n * SFT_BLOCK);
	return r < 0 ? r : io_pwrite(fd, p, (size_t)(n - 1) * SFT_BLOCK + last, at);
}

/* Write the blocks to their slots: neighbours in both with one call. */
static int write_slots(struct sft_overlay *ov, const struct run *run, const uint32_t *slots)
{
	struct slots *s = &ov->slots;
	int r = 0;

	for (uint32_t i = 0, n; r == 0 && i < run->count; i += n) {
		const unsigned char *p = run_block(run, i);

		for (n = 1; i + n < run->count; n++) {
			if (slots[i + n] != slots[i] + n ||
			    run_block(run, i + n) != p + (size_t)n * SFT_BLOCK)
				break;
		}
		r = write_slot_run(ov, p, slots[i], n,
				   bytes_to_write(s, run, i + n - 1, slots[i + n - 1]));
		if (s->virgin < slots[i] + n)
			s->virgin = slots[i] + n;
	}
	ov->staging.stale_blocks = true;
	return r;
}

/* Get back what space there is: slots that wait for a sync, and those that are not in use. */
static bool make_room(struct sft_overlay *ov)
{
	if (ov->slots.pending_count && sft_overlay_sync(ov, NULL) < 0)
		return false;
	slots_reclaim(&ov->slots, ov->staging.blocks, true);
	return true;
}

/* Take slots and write them; where the disk is full, try it once more with the room that can be
 * made. */
static int fill_slots(struct sft_overlay *ov, const struct run *run, uint32_t *slots,
		      struct sft_error *err)
{
	int r = 0;

	for (int attempt = 0; attempt < 2; attempt++) {
		r = slots_take(&ov->slots, run->count, slots);
		if (r < 0)
			break;
		r = write_slots(ov, run, slots);
		if (r == 0)
			return 0;
		slots_untake(&ov->slots, slots, run->count);
		if ((r != -ENOSPC && r != -EDQUOT) || !make_room(ov))
			break;
	}
	return sft_fail(err, -r, "cannot stage %u blocks in %s: %s", run->count, ov->staging.path,
			strerror(-r));
}

/* Stage a run of blocks of a tensor. */
static int stage(struct sft_overlay *ov, uint32_t id, const struct run *run, struct sft_error *err)
{
	struct overlay_entry *e = ov->entries[id];
	struct journal_batch b = { 0 };
	uint32_t few[SLOTS_INLINE], *slots = few, jid;
	int r;

	if (run->count > SLOTS_INLINE)
		slots = malloc(run->count * sizeof(*slots));
	if (!slots || blockmap_reserve(&e->blocks, run->count) < 0) {
		r = sft_fail(err, ENOMEM, "no memory to stage %u blocks", run->count);
		goto out;
	}
	r = fill_slots(ov, run, slots, err);
	if (r < 0)
		goto out;
	jid = sync_bind(ov, &b, id);
	journal_start(&b, JOURNAL_DATA);
	journal_u32(&b, jid);
	journal_u32(&b, run->first);
	journal_u32(&b, run->count);
	journal_u64(&b, run->length);
	for (uint32_t i = 0; i < run->count; i++)
		journal_u32(&b, slots[i]);
	for (uint32_t i = 0; i < run->count; i++)
		journal_u64(&b, hash_bytes(run_block(run, i), SFT_BLOCK, 0));
	journal_finish(&b);
	r = sync_append(ov, &b, err);
	if (r < 0) {
		slots_untake(&ov->slots, slots, run->count);
		goto out;
	}
	slots_recorded(&ov->slots, slots, run->count);
	apply_data(ov, e, run->length, run->first, slots, run->count);
out:
	if (slots != few)
		free(slots);
	return r;
}

/* ---- write ---- */

/* A block with the bytes [from, to) replaced by `bytes`, into `out`. */
static int patch_block(const struct sft_overlay *ov, const struct overlay_entry *e, uint32_t block,
		       size_t from, size_t to, const unsigned char *bytes, unsigned char *out,
		       struct sft_error *err)
{
	uint64_t start = (uint64_t)block * SFT_BLOCK;

	if (start < e->pub.nbytes && (from > 0 || start + to < e->pub.nbytes)) {
		int r = read_block(ov, e, block, out, err);

		if (r < 0)
			return r;
	} else {
		memset(out, 0, SFT_BLOCK);
	}
	memcpy(out + from, bytes, to - from);
	return 0;
}

static int write_bytes(struct sft_overlay *ov, uint32_t id, const unsigned char *bytes,
		       uint64_t offset, uint64_t end, struct sft_error *err)
{
	const struct overlay_entry *e = ov->entries[id];
	const uint32_t first = (uint32_t)(offset / SFT_BLOCK);
	const uint32_t last = (uint32_t)((end - 1) / SFT_BLOCK);
	const size_t from = offset % SFT_BLOCK, to = (end - 1) % SFT_BLOCK + 1;
	struct run run = { .first = first, .count = last - first + 1, .body = bytes, .skip = from };
	int r = 0;

	if (from > 0 || (first == last && to < SFT_BLOCK)) {
		size_t head_to = first == last ? to : SFT_BLOCK;

		run.head = ov->patch;
		r = patch_block(ov, e, first, from, head_to, bytes, ov->patch, err);
	}
	if (r == 0 && first != last && to < SFT_BLOCK) {
		run.tail = ov->patch + SFT_BLOCK;
		r = patch_block(ov, e, last, 0, to, bytes + (end - offset) - to,
				ov->patch + SFT_BLOCK, err);
	}
	if (r < 0)
		return r;
	run.length = end > e->pub.nbytes ? end : e->pub.nbytes;
	return stage(ov, id, &run, err);
}

static int wrap_name(const struct overlay_entry *e, int r, struct sft_error *err)
{
	struct sft_quoted q;

	if (r < 0)
		sft_wrap(err, "tensor %s", sft_quote(&q, e->pub.name, e->pub.name_len));
	return r;
}

int sft_overlay_write(struct sft_overlay *ov, uint32_t id, const void *buf, size_t n,
		      uint64_t offset, struct sft_error *err)
{
	struct overlay_entry *e = overlay_live(ov, id, err);
	uint64_t end;
	int r;

	if (!e)
		return -EINVAL;
	if (n == 0)
		return 0;
	if (!sft_add(offset, n, &end) || end > OVERLAY_SIZE_MAX)
		return wrap_name(e,
				 sft_fail(err, EFBIG,
					  "writing %zu bytes at %llu: the limit is %llu", n,
					  (unsigned long long)offset, OVERLAY_SIZE_MAX),
				 err);
	r = sync_begin_edit(ov, err);
	if (r == 0)
		r = write_bytes(ov, id, buf, offset, end, err);
	if (r == 0)
		sync_end_edit(ov);
	return wrap_name(e, r, err);
}

/* ---- truncate ---- */

/* Stage the last block of a tensor again with zeros after its end, at a new length not above the
 * present one. Does nothing if that block is not staged or is full. */
static int cut_tail(struct sft_overlay *ov, uint32_t id, uint64_t length, bool *done,
		    struct sft_error *err)
{
	const struct overlay_entry *e = ov->entries[id];
	const uint32_t block = (uint32_t)(length / SFT_BLOCK);
	const size_t keep = length % SFT_BLOCK;
	struct run run = { .first = block, .count = 1, .length = length, .head = ov->patch };
	uint32_t slot;
	int r;

	*done = false;
	if (keep == 0 || !blockmap_find(&e->blocks, block, &slot))
		return 0;
	r = read_block(ov, e, block, ov->patch, err);
	if (r < 0)
		return r;
	memset(ov->patch + keep, 0, SFT_BLOCK - keep);
	*done = true;
	return stage(ov, id, &run, err);
}

static int set_length(struct sft_overlay *ov, uint32_t id, uint64_t nbytes, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	bool done = false;
	int r = 0;

	/* Bytes behind the end of a staged block are zeros, so that growing shows zeros. */
	if (nbytes < ov->entries[id]->pub.nbytes)
		r = cut_tail(ov, id, nbytes, &done, err);
	if (r < 0 || done)
		return r;
	uint32_t jid = sync_bind(ov, &b, id);
	journal_put_length(&b, jid, nbytes);
	r = sync_append(ov, &b, err);
	if (r == 0)
		apply_length(ov, ov->entries[id], nbytes);
	return r;
}

int sft_overlay_truncate(struct sft_overlay *ov, uint32_t id, uint64_t nbytes,
			 struct sft_error *err)
{
	struct overlay_entry *e = overlay_live(ov, id, err);
	int r;

	if (!e)
		return -EINVAL;
	if (nbytes == e->pub.nbytes)
		return 0;
	if (nbytes > OVERLAY_SIZE_MAX)
		return wrap_name(e,
				 sft_fail(err, EFBIG, "%llu bytes: the limit is %llu",
					  (unsigned long long)nbytes, OVERLAY_SIZE_MAX),
				 err);
	r = sync_begin_edit(ov, err);
	if (r == 0)
		r = set_length(ov, id, nbytes, err);
	if (r == 0)
		sync_end_edit(ov);
	return wrap_name(e, r, err);
}

/* ---- away from a retired checkpoint ---- */

int write_detach(struct sft_overlay *ov, uint32_t id, struct sft_error *err)
{
	struct overlay_entry *e = ov->entries[id];
	const uint64_t count = (e->base_length + SFT_BLOCK - 1) / SFT_BLOCK;
	struct run run = { .count = 1, .length = e->pub.nbytes, .head = ov->patch };
	uint32_t slot;
	int r = 0;

	for (uint64_t block = 0; r == 0 && block < count; block++) {
		if (blockmap_find(&e->blocks, (uint32_t)block, &slot))
			continue;
		run.first = (uint32_t)block;
		r = read_block(ov, e, run.first, ov->patch, err);
		if (r == 0)
			r = stage(ov, id, &run, err);
	}
	if (r < 0)
		return r;
	e->base = NULL;
	e->base_length = 0;
	return 0;
}
