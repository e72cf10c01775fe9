/*
 * commit.h - what the files of the commit share: commit.c calls the others, which call nobody here
 *
 *   commit.c        the steps and their order; what happens if one of them fails
 *   refuse.c        what has to hold before anything is written
 *   target_check.c  the same, as far as it is known when an overlay is opened
 *   targets.c       which files are written, where, and whether they may be
 *   new_file.c      a planned shard into its temporary, and the reading back of it
 *   attributes.c    mode, owner and extended attributes
 *   roll_forward.c  the renames of a prepared commit (staging/prepared.c says what has become of
 * them) finish.c        what follows the PREPARED record: renames, or the application in place
 *   inplace.c       staged bytes into the source itself
 *   inplace_room.c  and room for them, if it has holes
 */
#ifndef SFT_COMMIT_H
#define SFT_COMMIT_H

#include "plan.h"
#include "prepared.h"

#define COMMIT_NOTE_SIZE 160 /* bytes of sft_overlay_commit()'s note */

/* A file that the commit replaces (or creates, with options.output). */
struct commit_file {
	const struct plan_shard *shard; /* NULL: the index.json */
	const struct sft_file *source;	/* the committed file; NULL: the index.json */
	char *name;			/* in the source, or the output */
	char *path;			/* target: absolute, its directory resolved */
	char *temporary;		/* beside it */
	int fd;				/* of the temporary, from when it was made; -1 */
	struct sft_buf text;		/* of the index.json */
	bool created;			/* the temporary is there */
	bool cloned;	   /* it shares the source's blocks: only what differs is written */
	bool reflinks;	   /* this file system can share blocks */
	uint32_t block;	   /* bytes; ranges that are to share blocks lie on multiples of it */
	uint64_t bytes;	   /* to write or copy */
	uint64_t need;	   /* of free space */
	struct file_id id; /* of the new file */
};

struct commit_job {
	struct sft_overlay *ov;
	const struct sft_progress *progress; /* or NULL; so may its `report` be */
	struct plan plan;
	struct commit_file *files; /* shards in order, the index last */
	size_t count;
	char *made; /* directory that we made for the output, or NULL */
	char *open; /* what to open afterwards: file, directory or index.json; absolute */
	uint64_t done, reported, total; /* bytes, for progress */
};

/* Count n more bytes as done; job is a struct commit_job. In the form that io_copy wants. */
void commit_step(void *job, uint64_t n);

/* ---- refuse.c ---- */

/* EINVAL where no tensor would be left of a checkpoint that had some. */
int commit_refuse_empty(const struct commit_job *job, struct sft_error *err);
/* What the process's limits forbid, before any of it is tried: EFBIG where a file that will be
 * written to is larger than they allow, EMFILE where the new files could not all be opened. */
int commit_refuse_limits(const struct commit_job *job, struct sft_error *err);

/* ---- targets.c ---- */

/* ESTALE where a shard's path does not lead to the file that was opened, as it was then. */
int commit_refuse_stale(const struct sft_overlay *ov, struct sft_error *err);
/* Fill in job->files (path, temporary, shard, source) and job->open from the plan; makes the output
 * directory. EINVAL, EISDIR, ENOTDIR, EEXIST, and the errors of mkdir(2) and realpath(3). */
int commit_choose_files(struct commit_job *job, struct sft_error *err);
/* The output is a directory and the source is none, or the reverse. EISDIR, ENOTDIR. */
int commit_wrong_kind(const char *output, bool directory, struct sft_error *err);
/* EEXIST where something else lies in the output directory that would become part of the checkpoint
 * there, or make it ambiguous. */
int commit_refuse_strangers(const struct sft_overlay *ov, const char *output,
			    struct sft_error *err);
/* ENOSPC where what the files need is not there. */
int commit_refuse_space(const struct commit_job *job, struct sft_error *err);
/* fsync the directory of each path, each once in a row. */
int commit_sync_dirs(char *const *paths, size_t count, struct sft_error *err);

/* ---- new_file.c ---- */

/* A piece of a new file. Pieces follow each other from its start to its end; neighbours that
 * continue each other, over tensors too, are one. */
struct commit_piece {
	enum sft_region_kind kind;
	const struct sft_file *file; /* SOURCE */
	uint64_t in, out, length;    /* offset in what it comes from; in the new file; bytes */
};
/* Whether a piece is what the committed file has at that place already. */
bool commit_piece_unchanged(const struct commit_piece *p, const struct sft_file *source);
typedef int commit_visit(void *ctx, const struct commit_piece *p, struct sft_error *err);
/* Visit the pieces of a shard's data, and of its header where that is kept. */
int commit_walk(const struct sft_overlay *ov, const struct plan_shard *s, commit_visit *visit,
		void *ctx, struct sft_error *err);
/* Put zeros over a range, as a hole where the file system can. -errno. */
int commit_zero(int fd, uint64_t offset, uint64_t n);

/* Make the temporary anew, empty or as a clone of the source, and find out what it needs. */
int commit_create(struct commit_job *job, struct commit_file *f, struct sft_error *err);
/* Write it, give it the source's attributes, make its content durable. */
int commit_write(struct commit_job *job, struct commit_file *f, struct sft_error *err);
/* Read it back, by the descriptor that it was written with: it is valid, and what the plan says.
 * Sets f->id. */
int commit_verify(struct commit_file *f, struct sft_error *err);

/* ---- attributes.c ---- */

/* Give `to` the owner, mode and extended attributes of `from` as far as we may. */
int commit_copy_attributes(int from, int to, struct sft_error *err);

/* ---- finish.c ---- */

/* What a commit behind its PREPARED record has still to do. */
struct commit_prepared {
	enum journal_kind kind;
	struct prepared_target *targets; /* REPLACE */
	size_t count;
	uint64_t journal_end; /* of the journal before the record: where to cut it to undo */
	char *open;	      /* as in struct commit_job */
};

/*
 * Do it: afterwards ov->next is the new checkpoint, the staging is dropped and ov->prepared NULL.
 * -ECANCELED: the commit was undone before anything was renamed, and the reason is in `err`; the
 * session goes on as before. Where it fails otherwise ov->prepared stays for the next attempt.
 */
int commit_finish(struct sft_overlay *ov, const struct sft_progress *progress,
		  struct sft_error *err);

/* ---- inplace.c ---- */

/*
 * Find out whether the plan can be applied to the source itself, and make sure that nothing but a
 * broken disk can stop that half way: the sources of what changed can be written, and have the
 * room. No byte of them changes. *why: NULL, or why a new file has to be written. EACCES, ETXTBSY
 * and so on; ENOSPC.
 */
int inplace_prepare(const struct commit_job *job, const char **why, struct sft_error *err);

/* ---- inplace_room.c ---- */

/* What the bytes that a shard gets in place will take: for those in holes and shared blocks. */
struct inplace_room {
	int fd; /* the source, open for writing */
	uint64_t need, size;
	uint32_t block; /* bytes */
	dev_t dev;
	struct timespec mtime;
	bool shared; /* has shared blocks in the way */
	bool copies; /* its file system writes to another place whatever is overwritten */
};

/* Fill in all but `fd`. */
int inplace_room_measure(struct inplace_room *room, const struct commit_job *job,
			 const struct plan_shard *s, struct sft_error *err);
/* ENOSPC where all of them together do not fit; *why is set where that cannot be known. */
int inplace_room_refuse(const struct inplace_room *rooms, size_t count, const char **why,
			struct sft_error *err);
/* Allocate it, durably; the file stays the one that it was. *why is set where that cannot be done.
 * ENOSPC, EDQUOT, EIO. */
int inplace_room_take(struct inplace_room *room, const struct commit_job *job,
		      const struct plan_shard *s, const char **why, struct sft_error *err);

/* ---- roll_forward.c ---- */

/* Rename what was not renamed yet, in order, and sync. Idempotent. -ENOENT without anything
 * recorded in `err`: PREPARED_VOID. */
int commit_roll_forward(const struct prepared_places *places, const struct prepared_target *targets,
			size_t count, struct sft_error *err);

/* ---- target_check.c ---- */

/* output= never leads to the source, and replaces nothing but files. EINVAL. */
int target_refuse_source(const struct sft_overlay *ov, struct sft_error *err);
/* With the base open: whether a commit could write where the options say, as far as that can be
 * known now. EISDIR, ENOTDIR, EEXIST (the output is there and is something else), EACCES, EROFS,
 * ENOENT and so on. */
int target_check(const struct sft_overlay *ov, struct sft_error *err);

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
