/* slots.h - giving out and taking back the slots of the blocks file; internal to the staging */
#ifndef SFT_SLOTS_H
#define SFT_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#define SFT_BLOCK 65536u     /* bytes of a block and of a slot */
#define SLOTS_MAX (1u << 28) /* 16 TiB of staged bytes */
#define DISK_BLOCK 4096u     /* bytes of a slot that are written at least */

/* All three have room for `cap` slots, and end <= cap, so that giving slots back cannot fail. */
struct slots {
	uint32_t end, cap;		  /* slots in the file */
	uint32_t *unused, unused_count;	  /* may be written now */
	uint32_t *pending, pending_count; /* free once the journal is durable */
	uint8_t *fresh;			  /* a bit a slot: no synced record names it */
	uint32_t virgin;		  /* slots from here on were never written: zeros */
	uint32_t punched;		  /* the first so many of `unused` are holes already */
};

/*
 * Take `count` slots, in ascending order, into `out`: those given back first, then new ones at the
 * end of the file. -ENOMEM; -ENOSPC where the numbers run out.
 */
int slots_take(struct slots *s, uint32_t count, uint32_t *out);
/* Give back slots that no record names: the write or its record failed. */
void slots_untake(struct slots *s, const uint32_t *slots, uint32_t count);
/* A record names them now, one that is not synced yet. */
void slots_recorded(struct slots *s, const uint32_t *slots, uint32_t count);
/* The record that gives this slot up was just appended. Slots at or above `end` are ignored: while
 * the journal is replayed there are none, and slots_set() makes the lists afterwards. */
void slots_release(struct slots *s, uint32_t slot);
/* Everything recorded so far is durable. */
void slots_synced(struct slots *s);

/*
 * Set up for a file of `end` slots, of which those with a bit in `used` are in use. The others are
 * pending: the records that gave them up need not be durable; but no more than `have`, as many as
 * have room on the disk, since the rest are holes that nobody misses. -ENOMEM.
 */
int slots_set(struct slots *s, uint32_t end, const uint8_t *used, uint64_t have);
void slots_free(struct slots *s);

/* Where many slots are unused, or with `all` where any are, give their space back to the file
 * system. Best effort. */
void slots_reclaim(struct slots *s, int fd, bool all);

static inline bool slots_bit_get(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}
static inline void slots_bit_set(uint8_t *bits, uint32_t i)
{
	bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

#endif
