/*
 * slots.c - which slots of the blocks file may be written, and when
 *
 * A slot is *in use* while the overlay maps a block to it, and *fresh* until the first sync after
 * it was recorded. Why it is right to write over a slot that is in use no more:
 *
 * - Not fresh: a durable record D names it, and a later record G gave it up. Until G is durable, a
 *   power cut may leave the journal with D and without G, and then the slot's bytes are what was
 *   promised by a sync. So it is `pending` until the next sync, and `unused` only then: from there
 *   on every journal that a crash can leave holds G, whose replay frees the slot again.
 * - Fresh: every record that names it in its present life comes after the last SYNC, and its bytes
 *   were never promised to outlive a power cut. If one leaves the journal with such a record R and
 *   without the G that gave the slot up, R fails the hash that it gives, and the journal ends
 * before R (replay.c). After the death of the process alone the whole journal is there, G with it,
 * and R is not asked. (Earlier lives ended with a durable G, as above.) So a fresh slot is `unused`
 * at once; otherwise a program that writes in small pieces would stage each block many times.
 * - A SYNC that follows makes all records before it trusted, R too; but then it makes G durable as
 *   well. What replay has left out is not in the journal any more when a SYNC is written: the
 *   journal is written anew first (staging.rewrite).
 */
#include "slots.h"
#include "io.h"
#include "sft.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECLAIM_MIN 512u /* slots (32 MiB) that are worth giving back */

static int grow_list(uint32_t **list, uint32_t cap)
{
	uint32_t *grown = realloc(*list, (size_t)cap * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	*list = grown;
	return 0;
}

/* Make room for `end` slots in every list. */
static int reserve(struct slots *s, uint64_t end)
{
	uint64_t cap = s->cap ? s->cap : 64;
	uint8_t *fresh;

	if (end > SLOTS_MAX)
		return -ENOSPC;
	if (end <= s->cap)
		return 0;
	while (cap < end)
		cap += cap / 2;
	if (cap > SLOTS_MAX)
		cap = SLOTS_MAX;
	if (grow_list(&s->unused, (uint32_t)cap) < 0 || grow_list(&s->pending, (uint32_t)cap) < 0)
		return -ENOMEM;
	fresh = realloc(s->fresh, (size_t)cap / 8 + 1);
	if (!fresh)
		return -ENOMEM;
	memset(fresh + (s->cap ? s->cap / 8 + 1 : 0), 0,
	       (size_t)cap / 8 + 1 - (s->cap ? s->cap / 8 + 1 : 0));
	s->fresh = fresh;
	s->cap = (uint32_t)cap;
	return 0;
}

static int compare_slots(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int slots_take(struct slots *s, uint32_t count, uint32_t *out)
{
	uint32_t old = count < s->unused_count ? count : s->unused_count;
	int r = reserve(s, (uint64_t)s->end + (count - old));

	if (r < 0)
		return r;
	s->unused_count -= old;
	if (s->punched > s->unused_count)
		s->punched = s->unused_count;
	if (old)
		memcpy(out, s->unused + s->unused_count, old * sizeof(*out));
	/* Neighbours can be written and read with one call. */
	if (old > 1)
		qsort(out, old, sizeof(*out), compare_slots);
	for (uint32_t i = old; i < count; i++)
		out[i] = s->end++;
	return 0;
}

void slots_untake(struct slots *s, const uint32_t *slots, uint32_t count)
{
	memcpy(s->unused + s->unused_count, slots, count * sizeof(*slots));
	s->unused_count += count;
}

void slots_recorded(struct slots *s, const uint32_t *slots, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		slots_bit_set(s->fresh, slots[i]);
}

void slots_release(struct slots *s, uint32_t slot)
{
	if (slot >= s->end)
		return;
	if (slots_bit_get(s->fresh, slot)) {
		s->fresh[slot / 8] &= (uint8_t) ~(1u << (slot % 8));
		s->unused[s->unused_count++] = slot;
	} else {
		s->pending[s->pending_count++] = slot;
	}
}

void slots_synced(struct slots *s)
{
	if (s->pending_count)
		memcpy(s->unused + s->unused_count, s->pending,
		       s->pending_count * sizeof(*s->pending));
	s->unused_count += s->pending_count;
	s->pending_count = 0;
	if (s->fresh)
		memset(s->fresh, 0, (size_t)s->cap / 8 + 1);
}

int slots_set(struct slots *s, uint32_t end, const uint8_t *used, uint64_t have)
{
	int r = reserve(s, end);

	if (r < 0)
		return r;
	s->end = s->virgin = end;
	s->unused_count = s->pending_count = s->punched = 0;
	if (s->fresh)
		memset(s->fresh, 0, (size_t)s->cap / 8 + 1);
	for (uint32_t i = 0; i < end && s->pending_count < have; i++) {
		if (!slots_bit_get(used, i))
			s->pending[s->pending_count++] = i;
	}
	return 0;
}

void slots_free(struct slots *s)
{
	free(s->unused);
	free(s->pending);
	free(s->fresh);
	*s = (struct slots){ 0 };
}

/* Cut unused slots off the end of the file. `unused` is in ascending order. */
static void shrink(struct slots *s, int fd)
{
	uint32_t end = s->end, count = s->unused_count;

	while (count && s->unused[count - 1] == end - 1) {
		count--;
		end--;
	}
	if (end == s->end || io_ftruncate(fd, (uint64_t)end * SFT_BLOCK) < 0)
		return;
	s->end = end;
	s->unused_count = count;
	if (s->virgin > end)
		s->virgin = end;
}

void slots_reclaim(struct slots *s, int fd, bool all)
{
	/* In proportion to the holes there are, so that the sorting stays cheap for each slot. */
	if (s->unused_count - s->punched < (all ? 1 : RECLAIM_MIN + s->punched / 4))
		return;
	qsort(s->unused, s->unused_count, sizeof(*s->unused), compare_slots);
	shrink(s, fd);
	for (uint32_t i = 0, run; i < s->unused_count; i += run) {
		for (run = 1; i + run < s->unused_count; run++) {
			if (s->unused[i + run] != s->unused[i] + run)
				break;
		}
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)s->unused[i] * SFT_BLOCK, (off_t)run * SFT_BLOCK) < 0 &&
		    errno != EINTR)
			break;
	}
	s->punched = s->unused_count;
}
