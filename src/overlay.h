/*
 * overlay.h - what overlay, journal, staging, plan and commit share; private to the library
 *
 *   operation -> journal record -> overlay state        (overlay.c; replay is the same without append)
 *   overlay state -> plan: header and regions a shard   (plan.c)
 *   plan -> temporary file -> validated -> renamed      (commit.c; inplace.c)
 *
 * Staged bytes lie in `blocks`, a file of slots of SFT_BLOCK bytes. A slot's content never changes
 * once a journal record names it: an overwrite takes a new slot. A slot that was given up may be
 * written again only after a sync has made that durable. So a journal record and the hash in it can
 * always be checked against its slot, and what was fsynced cannot be lost by what came after.
 */
#ifndef SFT_OVERLAY_H
#define SFT_OVERLAY_H

#include "sft.h"

#define SFT_BLOCK 65536u /* bytes of a block and of a slot */

/* ---- blocks.c: a tensor's blocks, and the slots they are in ---- */

/* Open addressing, 8 bytes a place: block number -> slot. Zero-initialise. */
struct blockmap {
	struct blockmap_place {
		uint32_t block, slot; /* slot UINT32_MAX: empty */
	} *places;
	uint32_t count, capacity;
};
bool blockmap_find(const struct blockmap *map, uint32_t block, uint32_t *slot);
int blockmap_reserve(struct blockmap *map, uint32_t more); /* -ENOMEM; put then cannot fail */
void blockmap_put(struct blockmap *map, uint32_t block, uint32_t slot);
void blockmap_remove(struct blockmap *map, uint32_t block);
void blockmap_free(struct blockmap *map);

/* Which slots of the blocks file are in use. */
struct slots {
	uint32_t end;                                 /* slots in the file */
	uint32_t *unused, unused_count, unused_cap;   /* may be written now */
	uint32_t *pending, pending_count, pending_cap; /* free once the journal is durable */
};

/* ---- staging.c: the directory, its lock, its identity ---- */

struct staging {
	char *path; /* the directory */
	int dir;    /* descriptor */
	int blocks, journal;
	bool own_dir;     /* we made it and may remove it */
	bool broken;      /* the journal could not be kept whole, or an fsync failed: no more edits */
	uint64_t journal_end; /* bytes of whole records */
};

/* What the journal's first record says about a shard, to know the source again. */
struct file_identity {
	uint64_t ino, size;
	int64_t mtime_sec, mtime_nsec;
};

/* ---- overlay.c ---- */

struct overlay_entry {
	struct sft_entry pub;         /* shape points to `declared`, to the committed tensor's shape, or to
					 pub.nbytes */
	char *own_name;               /* NULL: pub.name is the committed tensor's */
	uint64_t *declared;           /* own copy; NULL with has_declared for rank 0 */
	const struct sft_file *base;  /* where unstaged bytes come from; NULL: nowhere */
	uint64_t base_offset;         /* in that file */
	uint64_t base_length;         /* bytes of it that are still seen; behind them are zeros */
	struct blockmap blocks;
	bool has_declared, problem, bound; /* bound: the journal knows this id */
	bool changed;                 /* bytes or length differ from the committed ones */
};

/* A file that a prepared commit puts in place. */
struct commit_target {
	char *temporary, *path; /* absolute */
	uint64_t ino, size;     /* of the temporary: tells whether the rename was done */
};

struct sft_overlay {
	struct sft_overlay_options options; /* own copies of the strings */
	char *source;                       /* as given */
	struct sft_checkpoint *base;
	struct sft_checkpoint **retired; /* old bases that scratch entries still refer to */
	size_t retired_count;
	struct sft_checkpoint *next; /* after a commit, until adopt */
	struct commit_prepared *prepared; /* commit.c: of a commit that failed behind its PREPARED
					     record; the next one finishes it, until then
					     staging.broken keeps edits out. NULL otherwise */
	struct overlay_entry **entries; /* by id */
	uint32_t count, capacity, problem_count;
	struct sft_metadata *metadata; /* by shard: as it is now */
	bool *metadata_staged;
	uint32_t *by_name; /* hash table of live ids, scratch apart from tensors (overlay_names.c) */
	uint32_t by_name_capacity, by_name_used;
	int *locks; /* flocked descriptors, a shard each, and the directory's */
	size_t lock_count;
	struct staging staging;
	struct slots slots;
	char **notes;
	size_t note_count;
};

/* ---- io.c: system calls that finish (EINTR, short transfers); -errno ---- */

int io_pread(int fd, void *buf, size_t n, uint64_t offset);        /* all, or -EIO at the end */
int io_pwrite(int fd, const void *buf, size_t n, uint64_t offset); /* all of it */
int io_fsync(int fd);
int io_fdatasync(int fd);
/* Copy a range between files, in the kernel where that works. Reports through `step` (may be NULL)
 * after each piece of at most 8 MiB or so. */
int io_copy(int in, uint64_t in_offset, int out, uint64_t out_offset, uint64_t n,
	    void (*step)(void *ctx, uint64_t n), void *ctx);
int io_fsync_dir(const char *path);
/* The directory part of a path, malloced; NULL where memory runs out. */
char *io_dirname(const char *path);

/* ---- journal.c: the durable form ---- */

enum journal_kind { JOURNAL_PREPARED_REPLACE, JOURNAL_PREPARED_INPLACE };

/* Record a commit as prepared, durably. From here on opening rolls it forward. */
int journal_prepared(struct sft_overlay *ov, enum journal_kind kind,
		     const struct commit_target *targets, size_t count, struct sft_error *err);

/* ---- staging.c ---- */

/* The commit is durable: forget the journal (that first, durably), the blocks and the result. Readers
 * go on reading staged blocks until adopt, so the file behind staging.blocks keeps its bytes till
 * then (unlinked is fine, truncated is not). Where it fails it may be called again. */
int staging_drop(struct sft_overlay *ov, struct sft_error *err);
/* Write the `result` file: one line. Best effort. */
void staging_result(struct sft_overlay *ov, const char *text);

/* ---- plan.c: overlay -> header and regions ---- */

struct plan_tensor {
	uint32_t id; /* overlay id, or SFT_NO_ID for one that another shard's of its name hides */
	const struct sft_tensor *hidden;
	const char *name;
	const uint64_t *shape;
	uint64_t begin, nbytes; /* in the new data section */
	uint32_t name_len, rank;
	uint8_t dtype;
};

struct plan_shard {
	uint32_t shard;
	bool changed;      /* differs from the committed file in any way */
	bool same_layout;  /* no name, dtype, shape or metadata differs: header kept byte for byte */
	char *header;      /* 8 bytes of length and the JSON; NULL with same_layout */
	uint64_t header_length; /* of all of it, with the 8 bytes; the old file's with same_layout */
	struct plan_tensor *tensors; /* in the order of the new file */
	size_t count;
	uint64_t file_size;
};

struct plan {
	struct plan_shard *shards; /* one for each shard of the base, missing ones with count 0 */
	size_t count;
	bool index_changed; /* names moved: the index.json has to follow */
};

/* EINVAL where tensors have problems; the message names the first and says how many. Names and shapes
 * are borrowed from the overlay. */
int plan_make(const struct sft_overlay *ov, struct plan *plan, struct sft_error *err);
void plan_free(struct plan *plan);
/* Sort tensors stably; `compare` (as in sort.h) gets `tensors` as its ctx. -ENOMEM. */
int plan_sort(struct plan_tensor *tensors, size_t count,
	      int (*compare)(uint32_t a, uint32_t b, const void *ctx));

/* header_write.c: the header as the reference library writes it, with its 8 bytes of length; fills in
 * `begin`, sorts `tensors` into the order of the file. EFBIG above SFT_HEADER_MAX. */
int header_write(struct plan_tensor *tensors, size_t count, const struct sft_metadata *metadata,
		 struct sft_buf *out, struct sft_error *err);

/* index_write.c: the text of the new index.json: the old one with weight_map and total_size brought up
 * to date and everything else kept. */
int index_write(const struct sft_overlay *ov, const struct plan *plan, struct sft_buf *out,
		struct sft_error *err);

/* ---- commit.c, inplace.c ---- */

/*
 * Finish a commit that the journal says was prepared, before the base is opened: rename what was not
 * renamed yet, in order, and sync. Idempotent. -ENOENT without anything recorded in `err`: neither a
 * temporary nor a target is the prepared file, so that commit was undone before its first rename; the
 * record is void, and what is staged is to be replayed. ESTALE: some are there and some are not.
 */
int commit_roll_forward(const struct commit_target *targets, size_t count, struct sft_error *err);
/* Write staged blocks into the sources; the redo of one that was interrupted is the same call. */
int inplace_apply(struct sft_overlay *ov, const struct sft_progress *progress,
		  struct sft_error *err);
/* Remove the temporaries that a commit left when its process died before PREPARED. For an overlay that
 * was just opened, holding its lock. Best effort. */
void commit_clean(const struct sft_overlay *ov);
void commit_prepared_free(struct commit_prepared *prepared); /* for sft_overlay_free; NULL is fine */

#endif
