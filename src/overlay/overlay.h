/*
 * overlay.h - what overlay, journal, staging, plan and commit share; private to the library
 *
 *   operation -> journal record -> overlay state      (overlay*.c; replay.c without the journal)
 *   overlay state -> plan: header and regions a shard (plan.c)
 *   plan -> temporary file -> validated -> renamed    (commit.c; inplace.c)
 *
 * Staged bytes lie in `blocks`, a file of slots of SFT_BLOCK bytes. A slot's content never changes
 * once a journal record names it: an overwrite takes a new slot. A slot that was given up may be
 * written again only once no durable record may need it (slots.c has the argument). So what was
 * fsynced cannot be lost by what came after, and of what was not, each record can be checked
 * against the hashes in it.
 */
#ifndef SFT_OVERLAY_H
#define SFT_OVERLAY_H

#include "sft.h"

#define SFT_BLOCK 65536u /* bytes of a block and of a slot */

/* ---- blockmap.c: a tensor's blocks ---- */

/* Open addressing, 8 bytes a place: block number -> slot. Zero-initialise. */
struct blockmap {
	struct blockmap_place {
		uint32_t block, slot; /* slot UINT32_MAX: empty */
	} * places;
	uint32_t count, capacity;
};
bool blockmap_find(const struct blockmap *map, uint32_t block, uint32_t *slot);
int blockmap_reserve(struct blockmap *map, uint32_t more); /* -ENOMEM; put then cannot fail */
void blockmap_put(struct blockmap *map, uint32_t block, uint32_t slot);
void blockmap_remove(struct blockmap *map, uint32_t block);
void blockmap_free(struct blockmap *map);
/* The lowest staged block in [first, end), or `end`, which is at most 2^32. */
uint64_t blockmap_next(const struct blockmap *map, uint64_t first, uint64_t end);

/* ---- slots.c: which slots of the blocks file are in use ---- */

/* All three have room for `cap` slots, and end <= cap, so that giving slots back cannot fail. */
struct slots {
	uint32_t end, cap;		  /* slots in the file */
	uint32_t *unused, unused_count;	  /* may be written now */
	uint32_t *pending, pending_count; /* free once the journal is durable */
	uint8_t *fresh;			  /* a bit a slot: no synced record names it */
	uint32_t virgin;		  /* slots from here on were never written: zeros */
	uint32_t punched;		  /* the first so many of `unused` are holes already */
};

/* ---- claim.c: a directory that is ours for as long as we have its lock ---- */

struct claim {
	char *path;	 /* of the directory, absolute */
	int dir, lock;	 /* descriptors of it and of the file `lock` in it; -1: not held */
	bool known;	 /* the lock says that the directory holds nothing but a staging of ours */
	bool own;	 /* we made the directory and may remove it */
	bool distrusted; /* taking it was refused because of whose it is */
};
#define CLAIM_NONE                                                                                 \
	{                                                                                          \
		.dir = -1, .lock = -1                                                              \
	}

/* ---- staging.c: the directory ---- */

struct staging {
	const char *path;    /* of the directory, absolute; ov->claim's */
	int dir;	     /* the same; -1: the directory is not there */
	int blocks, journal; /* -1: nothing was staged yet, or it was dropped */
	uint64_t id;	     /* random: what temporaries are ours by; from the journal's header */
	bool broken;  /* the journal could not be kept whole, or an fsync failed: no more edits */
	bool rewrite; /* the journal has to be written anew before it may be called durable */
	bool removed; /* somebody has removed its files; then it is broken as well */
	bool stale_blocks;    /* unsynced bytes are in `blocks` */
	uint64_t journal_end; /* bytes of whole frames */
	uint64_t synced_end;  /* as many of them are durable */
	uint64_t allocated;   /* bytes of the journal that have room on the disk */
	uint64_t rewrite_at;  /* journal_end above which it is worth compacting */
};

/* ---- overlay_*.c ---- */

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

/* What a file is known again by (identity.c). */
struct file_id {
	bool there;	    /* false: there is none, and the rest is 0 */
	uint64_t ino;	    /* 0 on a file system whose numbers do not last */
	uint64_t size;	    /* bytes */
	uint64_t sec, nsec; /* modification time */
	uint64_t hash;	    /* of the header with its length; of an index.json: of all of it */
};

/* A file that a prepared commit puts in place. Where it is, is found out anew each time. */
struct commit_target {
	bool in_output;	 /* a file of the output, not of the source */
	bool text;	 /* an index.json */
	char *name;	 /* its file name there; of a single file it only goes into messages */
	char *temporary; /* file name of the new file, in the directory that the target is in */
	struct file_id old, new;
};

struct commit_prepared;

struct sft_overlay {
	struct sft_overlay_options options; /* own copies of the strings; paths are absolute */
	char *source;			    /* as given */
	char *source_path;		    /* the same, absolute and resolved */
	struct claim claim;		    /* of the staging directory */
	struct claim home;   /* of the source's default place, if edits are staged elsewhere */
	struct claim target; /* of the output's default place */
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
	uint32_t
		*by_name; /* hash table of live ids, scratch apart from tensors (by_name.c) */
	uint32_t by_name_capacity, by_name_used;
	uint64_t hash_key[2];
	int *locks; /* flocked descriptors: a shard each, and the directory's */
	size_t lock_count;
	struct staging staging;
	struct slots slots;
	unsigned char *patch; /* two blocks, for writes that cover a block in part */
	bool opened;	      /* opening succeeded: freeing may tidy up the staging */
	char **notes;
	size_t note_count;
	uint64_t generation; /* sft_overlay_generation() */
};

/* ---- io.c: system calls that finish (EINTR, short transfers); -errno ---- */

int io_pread(int fd, void *buf, size_t n, uint64_t offset);	   /* all, or -EIO at the end */
int io_pwrite(int fd, const void *buf, size_t n, uint64_t offset); /* all of it */
int io_fsync(int fd);
int io_fdatasync(int fd);
int io_ftruncate(int fd, uint64_t size);
int io_openat(int dir, const char *path, int flags, mode_t mode); /* the descriptor; O_CLOEXEC */
int io_renameat(int dir, const char *from, const char *to);	  /* both in that directory */
int io_unlinkat(int dir, const char *path, int flags);
int io_mkdir(const char *path, mode_t mode);
int io_flock(int fd, int operation);
/* Copy a range between files, in the kernel where that works. Reports through `step` (may be NULL)
 * after each piece of at most 8 MiB or so. */
int io_copy(int in, uint64_t in_offset, int out, uint64_t out_offset, uint64_t n,
	    void (*step)(void *ctx, uint64_t n), void *ctx);
int io_fsync_dir(const char *path);
/* The directory part of a path, malloced; NULL where memory runs out. */
char *io_dirname(const char *path);

/* ---- sync.c: the durable form ---- */

enum journal_kind {
	JOURNAL_PREPARED_REPLACE,
	JOURNAL_PREPARED_INPLACE,
	JOURNAL_PREPARED_ROOM, /* room is being taken in the sources: only their times may change */
};

/*
 * Record a commit as prepared, durably; syncs what is staged first. *end is where the record
 * begins. From here on opening finishes the commit. On failure the record is not there, as far as
 * the file system can still be told so; otherwise the next opening decides.
 */
int journal_prepared(struct sft_overlay *ov, enum journal_kind kind,
		     const struct commit_target *targets, size_t count, uint64_t *end,
		     struct sft_error *err);
/*
 * Cut a PREPARED off again, durably, if none of its renames was done. The session then goes on as
 * if the commit had not been tried. If that fails the staging is broken.
 */
int journal_take_back(struct sft_overlay *ov, uint64_t end, struct sft_error *err);

/* ---- staging.c ---- */

/*
 * The commit is durable: forget the journal (that first, durably) and the result. The blocks stay
 * readable until sft_overlay_adopt(), so readers may go on meanwhile.
 */
int staging_drop(struct sft_overlay *ov, struct sft_error *err);
/* Write the `result` file: one line. Best effort. */
void staging_result(struct sft_overlay *ov, const char *text);

/* ---- lock.c ---- */

/*
 * Lock a file or directory for editing, and keep that in ov->locks, unless its inode is locked
 * there already. EBUSY names the process that has it. A commit locks a new file before it takes the
 * old one's place, so that it is never unlocked; sft_overlay_adopt() locks what is not yet.
 */
int staging_lock(struct sft_overlay *ov, const char *path, struct sft_error *err);
/* The same of a new file, open for writing. The descriptor is handed over. */
int staging_lock_fd(struct sft_overlay *ov, int fd, struct sft_error *err);

/* ---- plan.c: overlay -> header and regions ---- */

struct plan_tensor {
	uint32_t id; /* overlay id, or SFT_NO_ID: the bytes are those of `committed` */
	/* What no overlay shows: one that another shard's of its name hides, or, without an
	 * overlay, any. Else NULL. */
	const struct sft_tensor *committed;
	const char *name;
	const char *keys; /* the other ones of its header entry, as in sft_tensor_keys() */
	const uint64_t *shape;
	uint64_t begin, nbytes; /* in the new data section */
	uint32_t name_len, rank;
	uint8_t dtype;
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
/* Sort tensors stably; `compare` (as in sort.h) gets `tensors` as its ctx. -ENOMEM. */
int plan_sort(struct plan_tensor *tensors, size_t count,
	      int (*compare)(uint32_t a, uint32_t b, const void *ctx));
/* The same in the order of `begin`. */
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
static inline bool region_goes_on(const struct sft_region *a, const struct sft_region *b)
{
	return a->kind == b->kind && (a->kind == SFT_REGION_ZERO ||
				      (a->file == b->file && a->offset + a->length == b->offset));
}

/* header_write.c: the header as the reference library writes it, with its 8 bytes of length; fills
 * in `begin`, sorts `tensors` into the order of the file. EFBIG above SFT_HEADER_MAX. */
int header_write(struct plan_tensor *tensors, size_t count, const struct sft_metadata *metadata,
		 struct sft_buf *out, struct sft_error *err);

/* index_json.c: the text of the new index.json: the old one with weight_map, total_size and
 * total_parameters brought up to date and everything else kept. */
int index_write(const struct sft_overlay *ov, const struct plan *plan, struct sft_buf *out,
		struct sft_error *err);

/* ---- prepared.c ---- */

struct commit_places {
	const char *source, *output; /* as in struct sft_overlay; output may be NULL */
};
/* `.NAME.ID.safetensorfs-new`; a hash (FNV-1a) stands in for a name that leaves no room for the
 * rest. Malloced. */
char *commit_temporary_name(const char *name, uint64_t id);
bool commit_is_temporary(const char *name, uint64_t id);
void commit_targets_free(struct commit_target *targets, size_t count);
/* How far a prepared commit has come. ESTALE: it can be neither finished nor undone. */
enum {
	COMMIT_READY, /* nothing is renamed, everything can be */
	COMMIT_BEGUN, /* something is renamed, the rest can be */
	COMMIT_VOID,  /* nothing is renamed, and not everything can be: the edits count */
};
int commit_look(const struct commit_places *places, const struct commit_target *targets,
		size_t count, struct sft_error *err);
/* Whether a target is the new file, or may be, whatever the others are: dropping what is needed to
 * finish the commit could leave a mixture of old and new for good. */
bool commit_is_begun(const struct commit_places *places, const struct commit_target *targets,
		     size_t count);
/* Rename what was not renamed yet, in order, and sync. Idempotent. -ENOENT without anything
 * recorded in `err`: COMMIT_VOID. */
int commit_roll_forward(const struct commit_places *places, const struct commit_target *targets,
			size_t count, struct sft_error *err);
/* Remove those that are still what the commit wrote. */
void commit_remove_temporaries(const struct commit_places *places,
			       const struct commit_target *targets, size_t count);

/* Remove all temporaries of that staging from a directory. Best effort. */
void commit_clean_directory(const char *path, uint64_t id);

/* ---- commit.c, inplace.c ---- */

/* Write staged blocks into the sources; the redo of one that was interrupted is the same call. */
int inplace_apply(struct sft_overlay *ov, const struct sft_progress *progress,
		  struct sft_error *err);
/* Remove the temporaries that an earlier commit of this staging left, known by its id, when its
 * process died. For an overlay that was just opened. Best effort. */
void commit_clean(const struct sft_overlay *ov);
void commit_prepared_free(
	struct commit_prepared *prepared); /* for sft_overlay_free; NULL is fine */

#endif
