/*
 * staging.h - the staging directory: where it is, whose it is, what is in it; private
 *
 *   trust.c    what of it may be obeyed
 *   claim.c    one process at a time has a directory
 *   locate.c   where the edits of a source are staged by default
 *   peek.c     are edits staged, and where
 *   place.c    which directories an editor has to have
 *   staging.c  the files in it
 *   lock.c     locks on the files of the source
 *   discard.c  staged edits without the checkpoint
 */
#ifndef SFT_STAGING_H
#define SFT_STAGING_H

#include "journal_summary.h"
#include "notes.h"

#include <sys/stat.h>

/* A directory that is ours for as long as we have its lock. */
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

struct staging {
	char *source_path;   /* of what is edited, absolute and resolved */
	struct claim claim;  /* of the staging directory */
	struct claim home;   /* of the source's default place, if edits are staged elsewhere */
	struct claim target; /* of the output's default place */
	int *locks;	     /* flocked descriptors: a shard each, and the directory's */
	size_t lock_count;
	const char *path;    /* of the directory, absolute; the claim's */
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
#define STAGING_NONE                                                                               \
	{                                                                                          \
		.claim = CLAIM_NONE, .home = CLAIM_NONE, .target = CLAIM_NONE, .dir = -1,          \
		.blocks = -1, .journal = -1                                                        \
	}

/* ---- trust.c ---- */

/* Open a directory, or a file in one, that is to be trusted: the descriptor. -errno, with nothing
 * in `err` where it is just not there or cannot be opened. Never waits. */
int trust_open_dir(const char *path, bool follow, struct sft_error *err);
int trust_openat(int dir, const char *path, const char *name, int flags, struct sft_error *err);

/* ---- claim.c ---- */

enum {
	CLAIM_MAKE = 1,	   /* make the directory if it is not there; else c->dir stays -1 */
	CLAIM_DEFAULT = 2, /* a default place: ours to remove, and not to be reached by a link */
};
/*
 * Lock the directory c->path and open it. EBUSY names the process that has it; EPERM: it is not to
 * be trusted (c->distrusted); EEXIST: its file `lock` is none of ours; ENOLCK and the like: it
 * cannot be locked; EACCES, EROFS with a hint.
 */
int claim_take(struct claim *c, unsigned how, struct sft_error *err);
/* Whether it is held, and a path leads to its directory. */
bool claim_is(const struct claim *c, const char *path);
/* Remove the lock, and the directory where it is ours and holds nothing else; let go. */
void claim_remove(struct claim *c);
/* Let go and free the path; zero-initialise what was never taken. Removes nothing. */
void claim_free(struct claim *c);
/* That edits cannot be staged there since a call returned `r`. */
int claim_refuse_place(const char *path, int r, struct sft_error *err);

/* ---- locate.c ---- */

/*
 * *source_path is the source, absolute and resolved (for an index.json its directory), as far as it
 * is there; *home its default place, absolute; both are malloced. ENOMEM, errors of realpath(3).
 */
int staging_locate(const char *source, char **source_path, char **home, struct sft_error *err);

/* The default place of a resolved file or directory. Malloced, or NULL. */
char *staging_default_place(const char *path, bool is_directory);
/* Whether two names are of one directory, which need not be there. */
bool staging_same_place(const char *a, const char *b);

/* ---- place.c ---- */

/* Find the places of a source; `staging` is the directory that the user has named, or NULL. s->home
 * has a path only if edits are to be staged in another. Errors of staging_locate(). */
int staging_find(struct staging *s, const char *source, const char *staging, struct sft_error *err);
/*
 * Claim them, as far as they are there, or, with `make`, all; call it once more for that. EBUSY,
 * EPERM, EEXIST: edits of this source are staged in another place than the options say, which the
 * message names.
 */
int staging_claim(struct staging *s, bool make, struct sft_error *err);
/* Whether the claimed directory holds a journal. */
bool staging_has_journal(const struct staging *s);
/*
 * Claim the default place of an output (absolute) as well, unless that is done, or a directory that
 * is to be the output is not there yet. EBUSY, EEXIST: it is being edited, or has edits.
 */
int staging_claim_output(struct staging *s, const char *output, bool directory,
			 struct sft_error *err);
/* Remove what a process that has died left at an output: its claim, and temporaries of the staging
 * with that id. Best effort. */
void staging_clear_output(const char *output, bool directory, uint64_t id);
/* Give up the output's place. */
void staging_drop_output(struct staging *s);
/* Nothing is staged in the directory that the options name, which need not be there. */
void staging_forget_marker(const struct staging *s);
/* Give up all places: what holds no edits is removed. */
void staging_let_go(struct staging *s);

/* ---- peek.c ---- */

/*
 * Whether edits of the source (absolute, resolved) are staged in a directory: 1, 0, or -errno where
 * it cannot be looked at. `follow`: the user has named it; in a default place there are nobody
 * else's.
 */
int staging_look(const char *path, bool follow, const char *source_path, struct sft_error *err);
/* The same in an open one; `known` is not `follow`. */
int staging_look_in(int dir, const char *path, bool known, const char *source_path,
		    struct sft_error *err);
#define STAGING_MARKER "elsewhere"
/* The directory that the marker in a default place names, malloced; NULL where there is none, or
 * one that was torn while nothing was staged yet. EPERM, ENOMEM. */
int staging_read_marker(int dir, const char *place, char **out, struct sft_error *err);

/*
 * A directory's shard may be edited as a file by itself, with another default place: then a commit
 * of the one changes what the edits of the other are based on. EEXIST where edits are staged of the
 * directory of a file (absolute) that are based on it, other than in ov's own staging; or of a file
 * in `directory` with the name of a shard.
 */
int staging_refuse_whole(const struct staging *s, const char *path, struct sft_error *err);
int staging_refuse_parts(const char *directory, const struct sft_checkpoint *ck,
			 struct sft_error *err);

/* EEXIST where the directory that the user has named is the default place of another source, which
 * is there: whoever edits that would take the edits for its own. */
int staging_refuse_foreign(const struct staging *s, struct sft_error *err);

/* ---- staging.c ---- */

/*
 * The commit is durable: forget the journal (that first, durably) and the result. The blocks stay
 * readable until sft_overlay_adopt(), so readers may go on meanwhile.
 */
int staging_drop(struct staging *s, struct sft_error *err);
/* Write the `result` file: one line. Best effort. */
void staging_result(struct staging *s, const char *text);
/* EEXIST where the journal in a directory that the user has named is another source's. */
int staging_refuse_others(const struct staging *s, const struct journal_summary *sum,
			  struct sft_error *err);
/*
 * In a directory that the user has named there may be files of his own that are called like ours.
 * Unless its lock says that it is a staging: EEXIST where its journal, open as s->journal,
 * is not one, or shows nothing while others are not as ours are.
 */
int staging_refuse_strangers(const struct staging *s, struct sft_error *err);
/*
 * Open the journal and the blocks and read the journal through. *found: it holds edits or a
 * prepared commit. Otherwise whatever an earlier process left is removed. `notes` says what of it
 * is left out.
 */
int staging_load(struct staging *s, struct journal_summary *sum, bool *found, struct notes *notes,
		 struct sft_error *err);
/* Remove all that may have been put there but the lock, journal first. Best effort. */
void staging_clear(int dir);
/* Close the journal and the blocks; the next edit begins new ones. */
void staging_close_files(struct staging *s);
/* The line in the `result` file, malloced, or NULL. */
char *staging_read_result(const struct staging *s);

/* ---- lock.c ---- */

/* Who has a file locked, as far as /proc/locks tells. Returns h->text. */
struct holder {
	char text[40];
};
const char *lock_say_holder(int fd, struct holder *h);
/*
 * Lock a file or directory for editing, and keep that in s->locks, unless its inode is locked
 * there already. EBUSY names the process that has it. A commit locks a new file before it takes the
 * old one's place, so that it is never unlocked; sft_overlay_adopt() locks what is not yet.
 */
int staging_lock(struct staging *s, const char *path, struct sft_error *err);
/* The same of a new file, open for writing. The descriptor is handed over. */
int staging_lock_fd(struct staging *s, int fd, struct sft_error *err);
/* EBUSY, naming the process, where one edits the source, also with another staging directory. */
int staging_check_source(const char *source_path, struct sft_error *err);
/* Lock the source by the names that the journal has, before it is known to be whole. */
int staging_lock_names(struct staging *s, const struct journal_summary *sum, struct sft_error *err);
/* Lock the shards, and the directory, of a checkpoint; ESTALE where one was replaced meanwhile. */
int staging_lock_base(struct staging *s, const struct sft_checkpoint *base, struct sft_error *err);
/* After a commit: lock what is not yet, and let go of files that are gone. Best effort. */
void staging_lock_again(struct staging *s, const struct sft_checkpoint *base);
void staging_unlock(struct staging *s);

/* ---- discard.c ---- */

/*
 * sft_staging_discard(), but that it finishes nothing. 1: a commit was interrupted while it changed
 * files; *path, malloced, NULL without memory, is where its edits are staged.
 */
int staging_discard(const char *source, const char *staging, bool drop, struct sft_buf *text,
		    bool *found, char **path, struct sft_error *err);

#endif
