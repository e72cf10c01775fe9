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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* ---- errors (error.c) ---- */

struct sft_error {
	int errnum;      /* positive errno value, 0 while nothing has failed */
	uint64_t offset; /* byte of the file or text at fault, where one is; else 0 */
	char msg[512];   /* one line without a newline; control characters are escaped */
};

/*
 * Record a failure, unless one is recorded already (the first one wins), and return -errnum.
 * `err` may be NULL. Control bytes in the formatted text come out as \n, \t or \xNN.
 */
int sft_fail(struct sft_error *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put "CONTEXT: " before the recorded message. Returns -err->errnum, or 0 where err is NULL. */
int sft_wrap(struct sft_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * A name from a file as it may stand in a message: in double quotes, `"`, `\`, control characters
 * and invalid UTF-8 escaped, cut (with "..." behind it) where it is long. Returns q->text.
 */
struct sft_quoted {
	char text[160];
};
const char *sft_quote(struct sft_quoted *q, const char *name, size_t len);

/* ---- a growing buffer of bytes (buf.c) ---- */

/*
 * Zero-initialise it. `data` has a NUL behind `len` bytes once anything was added. Where memory
 * runs out `failed` is set and later calls do nothing, so that one check at the end will do.
 */
struct sft_buf {
	char *data;
	size_t len, cap;
	bool failed;
};
void sft_buf_add(struct sft_buf *b, const void *bytes, size_t n);
void sft_buf_printf(struct sft_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Add a JSON string literal, escaped as serde_json does: \" \\ \b \f \n \r \t, \u00xx below 0x20. */
void sft_buf_json(struct sft_buf *b, const char *s, size_t len);
void sft_buf_free(struct sft_buf *b);

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

/* ---- one header: an immutable set of tensors (header.c, index.c) ---- */

#define SFT_HEADER_MAX 100000000u /* bytes of JSON; the reference's limit */

struct sft_tensor {
	const char *name;      /* decoded, UTF-8, may hold NULs; a NUL follows */
	const uint64_t *shape; /* `rank` dimensions, in elements */
	uint64_t begin;        /* bytes from the start of the data section */
	uint64_t nbytes;
	uint32_t name_len; /* bytes */
	uint32_t rank;
	uint32_t shard; /* position in the checkpoint's list of shards */
	uint8_t dtype;  /* enum sft_dtype */
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
 * EBADMSG where a rule is broken, ENOMEM. While it runs it takes at most 32 times `len` bytes plus
 * a constant; what it keeps is at most 96 bytes a tensor plus names, shapes and metadata.
 * Rules: the format's documentation, and docs/format.md.
 */
int sft_header_parse(const char *json, size_t len, uint64_t data_len, uint32_t shard,
		     struct sft_index **out, struct sft_error *err);
void sft_index_free(struct sft_index *index);

size_t sft_index_count(const struct sft_index *index);
/* Tensors in byte order of their names; i is below the count. */
const struct sft_tensor *sft_index_at(const struct sft_index *index, size_t i);
/* NULL where there is none of that name. */
const struct sft_tensor *sft_index_find(const struct sft_index *index, const char *name, size_t len);
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
const char *sft_file_path(const struct sft_file *file); /* as given */
const struct stat *sft_file_stat(const struct sft_file *file); /* as it was when opened */
int sft_file_fd(const struct sft_file *file);                   /* open for reading, file's own */
/* Bytes from the start of the file to the data section: 8 + N. */
uint64_t sft_file_data_offset(const struct sft_file *file);
/*
 * The mapping of the whole file. Only hand it to system calls, which answer EFAULT where somebody
 * has truncated the file; to touch a byte of it from here would be SIGBUS. Lives as long as `file`.
 */
const char *sft_file_map(const struct sft_file *file);
/* Read exactly n bytes at `offset` in the file. EIO where they are no longer there. Any thread. */
int sft_file_read(const struct sft_file *file, void *buf, size_t n, uint64_t offset,
		  struct sft_error *err);

/* ---- a checkpoint: one file, or a directory of shards (checkpoint.c) ---- */

enum {
	SFT_PARTIAL = 1,    /* open although shards that the index names are missing */
	SFT_SAME_NAMES = 2, /* the same name may occur in several files (layout=files) */
};

struct sft_checkpoint;

struct sft_shard {
	const char *name;            /* file name inside the directory, or the file's own */
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
/* The first of that name, or NULL. */
const struct sft_tensor *sft_checkpoint_find(const struct sft_checkpoint *ck, const char *name,
					     size_t len);
uint64_t sft_checkpoint_nbytes(const struct sft_checkpoint *ck); /* of all tensors shown */
/* Absolute offset of a tensor's first byte in its shard's file. */
uint64_t sft_checkpoint_offset(const struct sft_checkpoint *ck, const struct sft_tensor *t);
/* The i-th warning (one line), or NULL behind the last. */
const char *sft_checkpoint_warning(const struct sft_checkpoint *ck, size_t i);

#endif
