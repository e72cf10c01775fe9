/* replay.h - what replaying a journal goes by; replay.c and replay_records.c share it */
#ifndef SFT_REPLAY_H
#define SFT_REPLAY_H

#include "journal_summary.h"
#include "overlay.h"

/* A slot as an unsynced record says it is. */
struct doubt {
	uint64_t frame; /* where the record's frame begins */
	uint64_t hash;
};

struct replay {
	struct sft_overlay *ov;
	struct blockmap ids;  /* journal id -> overlay id */
	uint64_t end;	      /* frames that begin here or later do not count */
	uint64_t synced;      /* frames that end here or before are trusted */
	uint64_t file_slots;  /* in the blocks file, the last one perhaps in part */
	uint64_t file_blocks; /* not more of them have room on the disk */
	uint64_t named;	      /* slots below this are named by some record */
	uint32_t next_id;     /* above all ids of the journal */
	struct blockmap last; /* slot -> its latest doubt */
	struct doubt *doubts;
	uint32_t doubt_count, doubt_capacity;
};

/* replay_records.c: apply one record to the overlay. EBADMSG: it does not fit the state. ENOMEM. */
int replay_record(struct replay *r, struct journal_record *rec);

/* Apply what the journal holds to the fresh state of the base, and set up ov->slots and the
 * numbers in ov->staging. EBADMSG: the journal does not fit the base, or is damaged. */
int replay_journal(struct sft_overlay *ov, const struct journal_summary *sum,
		   struct sft_error *err);

#endif
