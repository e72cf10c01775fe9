/*
 * overlay.h - the edited state of a checkpoint; private to the library
 *
 *   operation -> journal record -> overlay state      (change.c, write.c; replay.c without the
 * journal) overlay state -> plan: header and regions a shard (commit/plan.c) plan -> temporary file
 * -> validated -> renamed    (commit/commit.c; inplace.c)
 *
 * Staged bytes lie in `blocks`, a file of slots of SFT_BLOCK bytes. A slot's content never changes
 * once a journal record names it: an overwrite takes a new slot. A slot that was given up may be
 * written again only once no durable record may need it (slots.c has the argument). So what was
 * fsynced cannot be lost by what came after, and of what was not, each record can be checked
 * against the hashes in it.
 */
#ifndef SFT_OVERLAY_H
#define SFT_OVERLAY_H

#include "blockmap.h"
#include "sft.h"
#include "slots.h"
#include "staging.h"

struct overlay_entry {
	struct sft_entry pub;	       /* shape points to `declared`, to the shape of `like`, or to
					  pub.nbytes */
	char *own_name;		       /* NULL: pub.name is the committed tensor's */
	uint64_t *declared;	       /* own copy; NULL with has_declared for rank 0 */
	const struct sft_tensor *like; /* whose dtype and shape it has while nothing is declared */
	const struct sft_file *base;   /* where unstaged bytes come from; NULL: nowhere */
	uint64_t base_offset;	       /* in that file */
	uint64_t base_length;	       /* bytes of it that are still seen; behind them are zeros */
	struct blockmap blocks;
	uint32_t journal_id; /* what the journal calls it; SFT_NO_ID: nothing yet */
	uint32_t name_hash;
	bool has_declared, problem;
	bool changed; /* bytes or length differ from the committed ones */
	bool leaves;  /* while a step is prepared: it renames or removes the entry */
	bool retired; /* scratch whose `base` or `like` is of a retired checkpoint */
};

struct commit_prepared;

struct sft_overlay {
	struct sft_overlay_options options; /* own copies of the strings; paths are absolute */
	char *source;			    /* as given */
	struct sft_checkpoint *base;
	bool base_is_output;		  /* base is what a commit wrote to options.output */
	struct sft_checkpoint **retired;  /* old bases that scratch entries still refer to */
	size_t retired_count;		  /* there is room for one more where an entry needs it */
	struct sft_checkpoint *next;	  /* after a commit, until adopt */
	struct commit_prepared *prepared; /* commit.c: of a commit that failed behind its PREPARED
					     record; the next one finishes it, until then
					     staging.broken keeps edits out. NULL otherwise */
	struct overlay_entry **entries;	  /* by id */
	struct overlay_entry *first_entries; /* the memory of those made at opening */
	uint32_t count, capacity, first_count, problem_count;
	uint32_t next_journal_id;
	struct sft_metadata *metadata; /* by shard: as it is now; borrowed unless staged */
	bool *metadata_staged;
	size_t shard_count; /* of the two */
	uint32_t *by_name;  /* hash table of live ids, scratch apart from tensors (by_name.c) */
	uint32_t by_name_capacity, by_name_used;
	uint64_t hash_key[2];
	struct staging staging;
	struct slots slots;
	unsigned char *patch; /* two blocks, for writes that cover a block in part */
	bool opened;	      /* opening succeeded: freeing may tidy up the staging */
	struct notes notes;
	uint64_t generation; /* sft_overlay_generation() */
};

#endif
