/*
 * sft.h - read, check and edit safetensors checkpoints
 *
 * The whole public interface of the format library. The library does no printing, never exits,
 * keeps no global state and knows nothing of FUSE.
 *
 * Conventions. Functions that can fail return 0 or a negative errno value and take a struct
 * sft_error as their last parameter (NULL is allowed): it then says what went wrong, for a person.
 * EBADMSG means that the data breaks a rule of the format. `open`/`free` come in pairs, and freeing
 * NULL is safe. Strings that come from a checkpoint are pointer and length (a tensor's name may
 * hold a NUL), and have a NUL behind them all the same. Sizes and offsets are bytes, uint64_t.
 *
 * Threads. Functions that take a `const` object may run at the same time as each other. The rest
 * need the caller's exclusion; where more is allowed, the function says so.
 */
#ifndef SFT_H
#define SFT_H

#include "buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* ---- errors (error.c) ---- */

struct sft_error {
	int errnum;	 /* positive errno value, 0 while nothing has failed */
	uint64_t offset; /* byte of the file or text at fault, where one is; else 0 */
	char msg[512];	 /* one line without a newline; control characters are escaped */
};

/*
 * Record a failure, unless one is recorded already (the first one wins), and return -errnum.
 * `err` may be NULL. Control bytes in the formatted text come out as \n, \t or \xNN.
 */
int sft_fail(struct sft_error *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "CONTEXT: " before the recorded message. Returns -err->errnum, or 0 where err is NULL. */
int sft_wrap(struct sft_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Put "; HINT" behind the recorded message: what to do about it. Nothing where none is recorded. */
void sft_hint(struct sft_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * A name from a file as it may stand in a message: in double quotes, `"`, `\`, control characters
 * and invalid UTF-8 escaped, cut (with "..." behind it) where it is long. Returns q->text.
 */
struct sft_quoted {
	char text[160];
};
const char *sft_quote(struct sft_quoted *q, const char *name, size_t len);

/* ---- dtypes (dtype.c) ---- */

/* In the ascending order of the reference library, which writes tensors in descending order. */
enum sft_dtype {
	SFT_BOOL,
	SFT_F4,
	SFT_F6_E2M3,
	SFT_F6_E3M2,
	SFT_U8,
	SFT_I8,
	SFT_F8_E5M2,
	SFT_F8_E4M3,
	SFT_F8_E8M0,
	SFT_F8_E4M3FNUZ,
	SFT_F8_E5M2FNUZ,
	SFT_I16,
	SFT_U16,
	SFT_F16,
	SFT_BF16,
	SFT_I32,
	SFT_U32,
	SFT_F32,
	SFT_C64,
	SFT_F64,
	SFT_I64,
	SFT_U64,
	SFT_DTYPE_COUNT
};

const char *sft_dtype_name(enum sft_dtype dtype);
unsigned sft_dtype_bits(enum sft_dtype dtype);
/* False where the text is no dtype. */
bool sft_dtype_parse(const char *text, size_t len, enum sft_dtype *dtype);

/*
 * The bytes that a tensor of this dtype and shape takes. Multiplies from left to right in bits, as
 * the reference does: EOVERFLOW where a step leaves 64 bits, EINVAL where the bits are no whole
 * number of bytes.
 */
int sft_shape_nbytes(enum sft_dtype dtype, const uint64_t *shape, uint32_t rank, uint64_t *nbytes,
		     struct sft_error *err);

/* ---- one header: an immutable set of tensors (header_read.c, tensors.c) ---- */

#define SFT_HEADER_MAX 100000000u /* bytes of JSON; the reference's limit */

struct sft_tensor {
	const char *name; /* decoded, UTF-8, may hold NULs; a NUL follows, then the other keys */
	const uint64_t *shape; /* `rank` dimensions, in elements */
	uint64_t begin;	       /* bytes from the start of the data section */
	uint64_t nbytes;
	uint32_t name_len; /* bytes */
	uint32_t rank;
	uint32_t shard; /* position in the checkpoint's list of shards */
	uint8_t dtype;	/* enum sft_dtype */
	bool has_keys;	/* sft_tensor_keys() has some */
};

struct sft_pair {
	const char *key, *value; /* decoded, may hold NULs */
	uint32_t key_len, value_len;
};

/* The free-form `__metadata__` of a header, in the file's order. */
struct sft_metadata {
	bool present; /* false: the header has none, which differs from an empty one */
	uint32_t count;
	struct sft_pair *pairs;
	char *strings; /* what the pairs point into */
};

struct sft_index;

/*
 * Validate a header (the JSON only, without the 8 bytes of length) against the length in bytes of
 * the data behind it. On success *out is the caller's, and holds no pointer into `json`.
 * EBADMSG where a rule is broken, ENOMEM. While it runs it takes at most 16 times `len` bytes plus
 * a constant; what it keeps is at most 96 bytes a tensor plus names, shapes, metadata, other keys.
 * Rules: the format's documentation, and docs/format.md.
 */
int sft_header_parse(const char *json, size_t len, uint64_t data_len, uint32_t shard,
		     struct sft_index **out, struct sft_error *err);
void sft_index_free(struct sft_index *index);

size_t sft_index_count(const struct sft_index *index);
/* Tensors in byte order of their names; i is below the count. */
const struct sft_tensor *sft_index_at(const struct sft_index *index, size_t i);
/* Keys of its header entry other than the three that all have, as text that can follow those:
 * `,"key":value,...`, each key and value as in the file. "" if there are none. The tensor's own. */
const char *sft_tensor_keys(const struct sft_tensor *tensor);
/* NULL where there is none of that name. */
const struct sft_tensor *sft_index_find(const struct sft_index *index, const char *name,
					size_t len);
const struct sft_metadata *sft_index_metadata(const struct sft_index *index);
/* Byte order of two names: negative, 0, positive. A prefix comes first. */
int sft_name_compare(const char *a, size_t a_len, const char *b, size_t b_len);

/*
 * Parse a JSON object of string to string, as in `__metadata__`; white space around it is allowed.
 * *out is freed with sft_metadata_free.
 */
int sft_metadata_parse(const char *json, size_t len, struct sft_metadata *out,
		       struct sft_error *err);
void sft_metadata_free(struct sft_metadata *metadata);

/*
 * Parse what a directory's __metadata__.json holds: an object of shard file name to metadata.
 * `names` are the `count` shard names allowed; out[i] belongs to names[i], with `present` false for
 * those that the text leaves out. Each is freed with sft_metadata_free. EINVAL, ENOMEM.
 */
int sft_metadata_parse_shards(const char *json, size_t len, const char *const *names, size_t count,
			      struct sft_metadata *out, struct sft_error *err);

/*
 * Put the pairs of `m` into the order that their keys have in `old`; those that are new stay in
 * their order, at the end. ENOMEM, and then `m` is as it was.
 */
int sft_metadata_keep_order(struct sft_metadata *m, const struct sft_metadata *old,
			    struct sft_error *err);

/*
 * Parse a sidecar: an object whose `dtype` and `shape` count; its other keys are ignored. *shape is
 * malloced and the caller's. EINVAL, ENOMEM.
 */
int sft_sidecar_parse(const char *json, size_t len, enum sft_dtype *dtype, uint64_t **shape,
		      uint32_t *rank, struct sft_error *err);

/* ---- one file, mapped (file.c) ---- */

struct sft_file;

/*
 * Open, validate and map `path` read-only. Tensors get `shard` as their shard number. ENOENT and
 * the other errors of open(2); EBADMSG where a rule is broken; EINVAL where it is no regular file.
 */
int sft_file_open(const char *path, uint32_t shard, struct sft_file **out, struct sft_error *err);
void sft_file_free(struct sft_file *file);

const struct sft_index *sft_file_index(const struct sft_file *file);
const char *sft_file_path(const struct sft_file *file);	       /* as given */
const struct stat *sft_file_stat(const struct sft_file *file); /* as it was when opened */
int sft_file_fd(const struct sft_file *file);		       /* open for reading, file's own */
/* Bytes from the start of the file to the data section: 8 + N. */
uint64_t sft_file_data_offset(const struct sft_file *file);
/*
 * The mapping of the whole file, or NULL if address space is short (RLIMIT_AS). Only hand it to
 * system calls, which answer EFAULT where somebody has truncated the file; to touch a byte of it
 * from here would be SIGBUS. Lives as long as `file`.
 */
const char *sft_file_map(const struct sft_file *file);
/* Read exactly n bytes at `offset` in the file. EIO where they are no longer there. Any thread. */
int sft_file_read(const struct sft_file *file, void *buf, size_t n, uint64_t offset,
		  struct sft_error *err);
/* Whether reading the byte there would have to wait for a disk, as far as the kernel tells. Takes
 * next to nothing where it would not. Any thread. */
bool sft_file_is_cold(const struct sft_file *file, uint64_t offset);

/* ---- a checkpoint: one file, or a directory of shards (checkpoint.c) ---- */

enum {
	SFT_PARTIAL = 1,    /* open although shards that the index names are missing */
	SFT_SAME_NAMES = 2, /* the same name may occur in several files (layout=files) */
};

struct sft_checkpoint;

struct sft_shard {
	const char *name;	     /* file name inside the directory, or the file's own */
	const struct sft_file *file; /* NULL where it is missing (SFT_PARTIAL) */
};

/*
 * Open a file, a directory, or a `*.index.json` (the same as its directory, with that index).
 * Everything is validated. What is only worth a warning can be read with
 * sft_checkpoint_warning(). EBADMSG, EINVAL, ENOMEM and the errors of open(2).
 */
int sft_checkpoint_open(const char *source, unsigned flags, struct sft_checkpoint **out,
			struct sft_error *err);
void sft_checkpoint_free(struct sft_checkpoint *ck);

bool sft_checkpoint_is_directory(const struct sft_checkpoint *ck);
/* The directory's index file (a path), or NULL. */
const char *sft_checkpoint_index_path(const struct sft_checkpoint *ck);
/* The source made absolute with links resolved; for an index.json its directory. */
const char *sft_checkpoint_path(const struct sft_checkpoint *ck);
size_t sft_checkpoint_shards(const struct sft_checkpoint *ck);
/* In byte order of the shards' names. */
const struct sft_shard *sft_checkpoint_shard(const struct sft_checkpoint *ck, size_t i);
/* The tensors to show, in byte order of names (then of shards, with SFT_SAME_NAMES). */
size_t sft_checkpoint_count(const struct sft_checkpoint *ck);
const struct sft_tensor *sft_checkpoint_at(const struct sft_checkpoint *ck, size_t i);
/* The metadata of a shard; none for one that is missing. */
const struct sft_metadata *sft_checkpoint_metadata(const struct sft_checkpoint *ck, size_t shard);
/* The first of that name, or NULL. */
const struct sft_tensor *sft_checkpoint_find(const struct sft_checkpoint *ck, const char *name,
					     size_t len);
uint64_t sft_checkpoint_nbytes(const struct sft_checkpoint *ck); /* of all tensors shown */
/* Absolute offset of a tensor's first byte in its shard's file. */
uint64_t sft_checkpoint_offset(const struct sft_checkpoint *ck, const struct sft_tensor *t);
/* The i-th warning (one line), or NULL behind the last. */
const char *sft_checkpoint_warning(const struct sft_checkpoint *ck, size_t i);

/* ---- staged edits: an overlay over a checkpoint (overlay.c, sync.c, staging.c) ---- */

/*
 * What is written is on disk in the staging directory before the call returns, so it survives the
 * death of the process; after sft_overlay_sync() it survives power loss. Nothing reaches the
 * checkpoint before sft_overlay_commit().
 *
 * Threads: functions that take a const overlay may run at the same time as each other, and as
 * sft_overlay_sync() and sft_overlay_commit(). All others need exclusion from everything, and
 * sync and commit from each other.
 */
struct sft_overlay;

struct sft_overlay_options {
	const char *staging; /* directory; NULL: `.NAME.safetensorfs` beside the resolved source, or
				`.safetensorfs` in a source directory */
	const char *output;  /* file, or directory for a directory; NULL: the source itself */
	bool inplace;	     /* commit by writing into the source where the layout is unchanged */
	unsigned flags;	     /* SFT_PARTIAL, SFT_SAME_NAMES */
};

/*
 * Open a checkpoint for editing: lock it, finish a commit that was interrupted, resume what is
 * staged. The caller owns *out. EBUSY: another process has it (the message names it); ESTALE: edits
 * are staged and the source has changed since; EPERM: the source lies in a hub cache's blobs/ and
 * there is no output; EACCES, EROFS: no place for the staging, or for what a commit writes; EISDIR,
 * ENOTDIR, EEXIST, ENOENT: the output cannot be that; errors of sft_checkpoint_open().
 */
int sft_overlay_open(const char *source, const struct sft_overlay_options *options,
		     struct sft_overlay **out, struct sft_error *err);
/* Release the lock. Staged edits stay on disk; where nothing is staged, the directory goes. */
void sft_overlay_free(struct sft_overlay *ov);

/* What opening found worth saying (resumed edits, a finished commit, the reason why the last commit
 * failed): the i-th line, or NULL behind the last. */
const char *sft_overlay_note(const struct sft_overlay *ov, size_t i);
/* The committed state underneath; replaced by sft_overlay_adopt(). */
const struct sft_checkpoint *sft_overlay_checkpoint(const struct sft_overlay *ov);
const char *sft_overlay_staging(const struct sft_overlay *ov); /* the directory */

#define SFT_NO_ID UINT32_MAX
#define SFT_SHARD_AUTO UINT32_MAX

/* A tensor as it is now, or a scratch file. Valid until the overlay changes. */
struct sft_entry {
	const char *name;
	const uint64_t *shape; /* what is declared; else the committed tensor's of that name; else
				  [nbytes], with dtype U8 */
	const struct sft_tensor *committed; /* whose place in the checkpoint it has; NULL: new */
	uint64_t nbytes;
	uint32_t name_len, rank, shard;
	uint8_t dtype;
	bool live;    /* false: removed; the id is not used again */
	bool scratch; /* `name` is the caller's own key; never committed */
	bool staged;  /* differs from the committed state in bytes, name, dtype or shape */
};

/*
 * Ids: at opening, tensor i of the checkpoint (sft_checkpoint_at) has id i, as far as it is still
 * live, and what was staged on top has ids behind. An id stays with its tensor through renames and
 * commits, while the overlay is open.
 */
uint32_t sft_overlay_count(const struct sft_overlay *ov); /* ids are below this */
const struct sft_entry *sft_overlay_entry(const struct sft_overlay *ov, uint32_t id);
/* The live tensor of that name (in that shard, with SFT_SAME_NAMES), or SFT_NO_ID. */
uint32_t sft_overlay_find(const struct sft_overlay *ov, uint32_t shard, const char *name,
			  size_t len);
/* Metadata of a shard as it is now; as sft_checkpoint_metadata(). */
const struct sft_metadata *sft_overlay_metadata(const struct sft_overlay *ov, uint32_t shard);

/* Why a commit would refuse this tensor, into `reason`; false where it would not. */
bool sft_overlay_problem(const struct sft_overlay *ov, uint32_t id, char *reason, size_t size);
/* How many live tensors have a problem. O(1). */
uint32_t sft_overlay_problems(const struct sft_overlay *ov);
/* Tensors that differ from the committed state (deleted ones too) and bytes of staged blocks. */
void sft_overlay_staged(const struct sft_overlay *ov, uint32_t *tensors, uint64_t *bytes);
/* Whether a commit would have anything to do (also true for metadata alone). */
bool sft_overlay_dirty(const struct sft_overlay *ov);

/*
 * A contiguous piece of a tensor's bytes. Reading through a mount and committing walk the same
 * regions. The file of a SFT_REGION_SOURCE lives until the next sft_overlay_adopt().
 */
enum sft_region_kind { SFT_REGION_SOURCE, SFT_REGION_STAGED, SFT_REGION_ZERO };
struct sft_region {
	enum sft_region_kind kind;
	const struct sft_file *file; /* SOURCE */
	uint64_t offset;	     /* SOURCE: in the file; STAGED: in the staging's blocks */
	uint64_t length;
};
/* The bytes [offset, offset + length) of a committed tensor, which lie inside it. */
struct sft_region sft_checkpoint_region(const struct sft_checkpoint *ck, const struct sft_tensor *t,
					uint64_t offset, uint64_t length);
/* The regions of [offset, offset + length) of a tensor, which lies inside it; at most `max`, so
 * they may cover less. Returns how many. */
size_t sft_overlay_regions(const struct sft_overlay *ov, uint32_t id, uint64_t offset,
			   uint64_t length, struct sft_region *regions, size_t max);
/* Read up to n bytes; *done says how many (fewer only at the end). EIO, errors of pread(2). */
int sft_overlay_read(const struct sft_overlay *ov, uint32_t id, void *buf, size_t n,
		     uint64_t offset, size_t *done, struct sft_error *err);

/* Read all of a region. `ov` may be NULL where it is not STAGED. EIO, errors of pread(2). */
int sft_region_read(const struct sft_overlay *ov, const struct sft_region *region, void *buf,
		    struct sft_error *err);
/*
 * A number that grows whenever a tensor comes, goes, or changes its name, dtype, shape or length,
 * and when metadata change: as long as it stays, the bytes of a struct sft_merged stay in their
 * places.
 */
uint64_t sft_overlay_generation(const struct sft_overlay *ov);

/* Every change: ENOSPC, EDQUOT, EIO of the staging, with nothing changed; ENOMEM. */

/* One of several changes that are made as one step. */
struct sft_change {
	enum sft_change_kind {
		SFT_CREATE, /* a new tensor or scratch file */
		SFT_RENAME, /* between tensor and scratch, too */
		SFT_REMOVE,
		SFT_DECLARE,	  /* dtype and shape; a mismatch is a problem, not an error */
		SFT_SET_METADATA, /* of a shard; `present` false removes it; copied */
	} kind;
	uint32_t id;	/* whose; of CREATE it is set, to the new one's */
	uint32_t shard; /* CREATE, RENAME: SFT_SHARD_AUTO or the shard to be in; METADATA: whose */
	const char *name; /* CREATE, RENAME; copied */
	size_t name_len;
	bool scratch;	       /* CREATE, RENAME: `name` is the caller's own key */
	bool declared;	       /* CREATE: dtype and shape are declared */
	enum sft_dtype dtype;  /* DECLARE, CREATE */
	const uint64_t *shape; /* the same; copied */
	uint32_t rank;
	uint64_t nbytes;		     /* CREATE: its length, of zeros */
	const struct sft_metadata *metadata; /* SET_METADATA */
};

/*
 * Make all the changes, in their order, or none: after a failure, a kill, a power cut nobody sees a
 * part of them. A name is free if the changes before have taken it from its tensor; a tensor is
 * renamed or removed once in a step. A renamed tensor keeps its shard with SFT_SHARD_AUTO; one that
 * comes from scratch and has none gets one. EEXIST: a name is taken; EINVAL: it is no valid UTF-8
 * or is "__metadata__", or an id is not live; EFBIG.
 */
int sft_overlay_change(struct sft_overlay *ov, struct sft_change *changes, size_t count,
		       struct sft_error *err);

/* Single changes: sft_overlay_change() with one. */

/* A new empty tensor, or scratch file. EEXIST where the name is taken; EINVAL where it is no valid
 * UTF-8 or is "__metadata__". `shard` is SFT_SHARD_AUTO or the shard to be in. */
int sft_overlay_create(struct sft_overlay *ov, const char *name, size_t len, bool scratch,
		       uint32_t shard, uint32_t *id, struct sft_error *err);
int sft_overlay_write(struct sft_overlay *ov, uint32_t id, const void *buf, size_t n,
		      uint64_t offset, struct sft_error *err); /* EFBIG too */
int sft_overlay_truncate(struct sft_overlay *ov, uint32_t id, uint64_t nbytes,
			 struct sft_error *err);
/* Declare dtype and shape, whatever the bytes are; a mismatch is a problem, not an error. */
int sft_overlay_declare(struct sft_overlay *ov, uint32_t id, enum sft_dtype dtype,
			const uint64_t *shape, uint32_t rank, struct sft_error *err);
int sft_overlay_remove(struct sft_overlay *ov, uint32_t id, struct sft_error *err);
/* Rename; `replaced` is the live entry that has the name now, or SFT_NO_ID, and is removed in the
 * same step. */
int sft_overlay_rename(struct sft_overlay *ov, uint32_t id, const char *name, size_t len,
		       bool scratch, uint32_t shard, uint32_t replaced, struct sft_error *err);
/* Replace a shard's metadata; `present` false removes it. Copied. */
int sft_overlay_set_metadata(struct sft_overlay *ov, uint32_t shard,
			     const struct sft_metadata *metadata, struct sft_error *err);
/* Every change so far is durable when this returns 0. */
int sft_overlay_sync(struct sft_overlay *ov, struct sft_error *err);

/* ---- one file from many (merged.c) ---- */

/*
 * Everything that is shown as the bytes of one .safetensors file: `head`, then the body, which is
 * regions. Of a single shard it is what a commit would write: the header stays as it is where the
 * layout is unchanged. Of several, the header is made anew as the reference library writes it, with
 * the metadata of all of them; of a key that several have, the first one's value.
 */
struct sft_merged;

/*
 * `ov` may be NULL: then the checkpoint as it is, else `ck` is the overlay's. *out is the caller's;
 * it borrows both, until sft_overlay_generation() changes, sft_overlay_adopt(), or `ck` is freed.
 * EINVAL: tensors have problems; EEXIST: one name is in two shards (SFT_SAME_NAMES); EFBIG: no file
 * can hold it; ENOMEM. Takes 32 bytes a tensor and, of several shards, the header; while it runs
 * twice that.
 */
int sft_merged_make(const struct sft_checkpoint *ck, const struct sft_overlay *ov,
		    struct sft_merged **out, struct sft_error *err);
void sft_merged_free(struct sft_merged *m);
/* The first bytes of the file; may be none. */
const struct sft_buf *sft_merged_head(const struct sft_merged *m);
uint64_t sft_merged_body(const struct sft_merged *m); /* bytes behind the head */
/* The regions of [offset, offset + length) of the body, which lies inside it; at most `max`, so
 * they may cover less. Returns how many. Neighbours that go on where the last one ends are one. */
size_t sft_merged_regions(const struct sft_merged *m, uint64_t offset, uint64_t length,
			  struct sft_region *regions, size_t max);

/* ---- commit (plan.c, commit.c) ---- */

struct sft_progress {
	/* Called now and then, from the thread that commits, with bytes. */
	void (*report)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

struct sft_commit_options {
	struct sft_progress progress; /* `report` may be NULL */
	bool allow_empty; /* also where no tensor is left of some; mostly that is a mistake */
};

/*
 * Regenerate the checkpoint; 0 when the new one is durable in place of the old one, or where there
 * was nothing to do. The overlay itself is unchanged until sft_overlay_adopt(), which must follow a
 * success before any other change. On failure source and staging are whole and the staging's
 * `result` file has the reason. EINVAL: tensors have problems, or none would be left; ESTALE: the
 * source is not the file that was opened; EFBIG: a file would be larger than RLIMIT_FSIZE; ENOSPC
 * and other errors of the file system. `options` may be NULL. Where in-place was asked for and not
 * possible, *note (160 bytes, may be NULL) says why.
 */
int sft_overlay_commit(struct sft_overlay *ov, const struct sft_commit_options *options, char *note,
		       struct sft_error *err);
/* Write the staging's `result` file for a failure that the library does not know of. Best effort.
 */
void sft_overlay_set_result(struct sft_overlay *ov, const char *text);
/* Take the committed state as the new base: nothing is staged any more. Cannot fail. */
void sft_overlay_adopt(struct sft_overlay *ov);

/* Whether edits are staged for a source, in `staging`, its default place, or the directory that is
 * noted there, without locking it (for a warning). */
bool sft_staging_exists(const char *source, const char *staging);
/* What there is to say of where they are: EPERM, naming the owner, where they are not the caller's
 * to use; EEXIST, naming the place, where they are in another than `staging` or the default. */
int sft_staging_check(const char *source, const char *staging, struct sft_error *err);
/*
 * Say in `text`, a line each, what is staged for a source, and, if `drop`, delete it. EBUSY, EPERM,
 * EEXIST as sft_overlay_open(). Also where the source has changed or is gone. *found: whether there
 * was any. 1: a commit was interrupted while it changed files, and was finished instead.
 */
int sft_staging_discard(const char *source, const char *staging, bool drop, struct sft_buf *text,
			bool *found, struct sft_error *err);

#endif
