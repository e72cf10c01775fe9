/*
 * journal.h - the records of the journal: writing and reading them; private to the staging half
 *
 * A journal is a sequence of frames. A frame holds the records of one step, which is there as a
 * whole or not at all: its length and a magic number (32 bits each), the records, and a hash (64
 * bits) over all of these, whose seed is the frame's offset in the file. A record is its type, the
 * length of its payload (32 bits each), and the payload. Numbers are little-endian; a string is its
 * length (32 bits) and its bytes. `id` is what the journal calls a tensor, `name` its bytes,
 * `shard` a position.
 *
 * HEADER     version, flags, id, source, base ("" for the source), output ("" for the source),
 *            identity: count, then name and id of each shard, then id of the index
 * BIND       id, shard, name        id is the committed tensor of that name
 * CREATE     id, shard, scratch, name
 * DATA       id, first block, count, length, slots, hashes   length: of the tensor afterwards
 * BLOCKS     the same without hashes; only where a SYNC follows (a journal that was written anew)
 * LENGTH     id, length
 * DECLARE    id, dtype, rank, shape
 * REMOVE     id
 * RENAME     id, shard, scratch, name
 * METADATA   shard, present, count, then key and value of each pair
 * SYNC       everything before it, and the slots it names, are durable; in a frame of its own
 * PREPARED   kind, count, then of each target: flags, name, temporary, old id, new id
 *
 * The id of a file is whether it is there, and if so inode, size, seconds, nanoseconds, hash.
 */
#ifndef SFT_JOURNAL_H
#define SFT_JOURNAL_H

#include "overlay.h"

#define JOURNAL_VERSION 2u
#define JOURNAL_MAGIC 0x326a7466u /* "ftj2" */
#define JOURNAL_MAGIC_BYTES 0x66, 0x74, 0x6a, 0x32
#define JOURNAL_FRAME_MAX (256u << 20)	/* bytes of records */
#define JOURNAL_COMPACT_MIN (16u << 20) /* bytes of a journal that are worth compacting */
#define JOURNAL_FRAME 16u		/* bytes of a frame besides its records */

enum journal_type {
	JOURNAL_HEADER = 1,
	JOURNAL_BIND,
	JOURNAL_CREATE,
	JOURNAL_DATA,
	JOURNAL_BLOCKS,
	JOURNAL_LENGTH,
	JOURNAL_DECLARE,
	JOURNAL_REMOVE,
	JOURNAL_RENAME,
	JOURNAL_METADATA,
	JOURNAL_SYNC,
	JOURNAL_PREPARED,
};

/* Of HEADER. */
enum { JOURNAL_INPLACE = 1 };
/* Of a target of PREPARED. */
enum { JOURNAL_IN_OUTPUT = 1, JOURNAL_IS_TEXT = 2 };

/* ---- sync.c: building records ---- */

/* The records of one frame. Zero-initialise. */
struct journal_batch {
	struct sft_buf buf;
	size_t start;	      /* of the record that is being built */
	struct sft_buf bound; /* uint32_t: ids that it binds */
};
void journal_start(struct journal_batch *b, enum journal_type type);
void journal_u32(struct journal_batch *b, uint32_t v);
void journal_u64(struct journal_batch *b, uint64_t v);
void journal_string(struct journal_batch *b, const char *s, size_t len);
void journal_finish(struct journal_batch *b);
void journal_free(struct journal_batch *b);

/* The id that the journal has for an entry; where it has none, the batch binds one first. */
uint32_t journal_id(struct sft_overlay *ov, struct journal_batch *b, uint32_t id);

/* Records that more than one place writes. */
void journal_put_create(struct journal_batch *b, uint32_t id, const struct overlay_entry *e);
void journal_put_length(struct journal_batch *b, uint32_t id, uint64_t length);
void journal_put_declare(struct journal_batch *b, uint32_t id, uint8_t dtype, const uint64_t *shape,
			 uint32_t rank);
void journal_put_rename(struct journal_batch *b, uint32_t id, uint32_t shard, bool scratch,
			const char *name, size_t len);
void journal_put_metadata(struct journal_batch *b, uint32_t shard,
			  const struct sft_metadata *metadata);

/* Close the frame: `offset` is where in the file it will be. */
void journal_close_frame(struct journal_batch *b, uint64_t offset);
/* Append the batch as one frame, with one write, and free it. On failure nothing of it is in the
 * journal, or the staging is broken. ENOMEM, ENOSPC, EFBIG, EIO ... */
int journal_append(struct sft_overlay *ov, struct journal_batch *b, struct sft_error *err);
/* Make the staging directory and its own name durable. */
int journal_sync_links(const struct staging *s);
/* EIO if somebody has removed the journal or the blocks; the staging is broken then. */
int journal_check_links(struct sft_overlay *ov, struct sft_error *err);
/* EIO: the staging is broken, and why edits are refused. */
int journal_broken(const struct sft_overlay *ov, struct sft_error *err);

/* ---- compact.c ---- */

/*
 * Write the whole state as a new journal in place of the old one, or as the first; when this
 * returns 0 it is durable, with all staged bytes and its name. On failure the old journal is as it
 * was, or the staging is broken.
 */
int journal_rewrite(struct sft_overlay *ov, struct sft_error *err);

/* ---- journal_read.c ---- */

struct journal_reader {
	int fd;
	uint64_t size;	 /* of the file */
	uint64_t offset; /* of the next frame */
	uint64_t at;	 /* where in the file buf begins */
	unsigned char *buf;
	size_t len, cap;
	uint64_t frame;		     /* offset of the present frame */
	const unsigned char *record; /* the next record in it, in buf */
	size_t left;		     /* bytes of it from there on */
};
/* A record while it is taken apart. `bad` is set where it ends too early. */
struct journal_record {
	enum journal_type type;
	const unsigned char *p;
	size_t left;
	uint64_t begin, end; /* of its frame, in the file */
	bool bad;
};
int journal_open(struct journal_reader *r, int fd);
void journal_close(struct journal_reader *r);
/* Have the n bytes at r->offset, which are in the file, in the buffer. -errno. */
int journal_fill(struct journal_reader *r, size_t n);
/* 1: a record; 0: the end, or a torn or damaged frame; -errno. Borrowed until the next call. */
int journal_next(struct journal_reader *r, struct journal_record *rec);
uint32_t journal_get_u32(struct journal_record *rec);
uint64_t journal_get_u64(struct journal_record *rec);
/* Borrowed; not followed by a NUL. */
const char *journal_get_string(struct journal_record *rec, uint32_t *len);

/* ---- journal_summary.c ---- */

/* What is to be known before the journal is replayed. */
struct journal_summary {
	unsigned flags; /* SFT_PARTIAL, SFT_SAME_NAMES */
	bool inplace;
	uint64_t id;		 /* of the staging, random */
	char *source;		 /* where it was then: for messages, and to know it again */
	char *base, *output;	 /* NULL for the source */
	unsigned char *identity; /* for identity_check() */
	size_t identity_len;
	uint64_t end;	   /* bytes of whole frames */
	uint64_t synced;   /* bytes up to and with the last SYNC */
	uint64_t left_out; /* bytes behind the end */
	bool edits;	   /* there is more than a header and SYNCs */
	bool prepared;
	bool room; /* the process died while it took room in the sources */
	enum journal_kind kind;
	struct commit_target *targets;
	size_t target_count;
};
/*
 * Read a journal through, without the base. -ENODATA, nothing recorded: nothing was ever made
 * durable in it (empty, or zeros). EBADMSG: it is no journal, of another version, or damaged. Free
 * the summary in any case; where it failed, `source` is set if the header was readable.
 */
int journal_summarize(int fd, struct journal_summary *sum, struct sft_error *err);
/* Say what is left out and why; false where nothing is. */
struct journal_line {
	char text[200];
};
bool journal_say_left_out(const struct journal_summary *sum, struct journal_line *line);
/*
 * Whether a file of that name may be a journal of ours, of any version: 1, 0, -errno. An empty one
 * may, and one that begins with zeros, as it may after a power cut; *blank, then.
 */
int journal_may_be_ours(int fd, bool *blank);
void journal_summary_free(struct journal_summary *sum);

/* ---- identity.c: to know files again ---- */

/* Whether inode numbers of the open file's file system are known to outlive the mount. */
bool identity_inodes_last(int fd);
/* Of a shard, as it was when it was opened. */
struct file_id identity_of_file(const struct sft_file *file);
/* Of a file as it is; with `text` (an index.json) all of it is hashed. -errno. */
int identity_of_fd(int fd, bool text, struct file_id *id);
/* The same by name; a link at its end is not followed. 0 also where it is not there. */
int identity_of_path(const char *path, bool text, struct file_id *id);
/* In all but the inode. */
bool identity_same(const struct file_id *a, const struct file_id *b);
void identity_put_id(struct journal_batch *b, const struct file_id *id);
struct file_id identity_get_id(struct journal_record *rec);

/* Add what tells this checkpoint's files from others to a HEADER. */
void identity_put(struct journal_batch *b, const struct sft_checkpoint *ck);
/* The shards that are in a HEADER: names, not followed by a NUL, until NULL. */
struct identity_names {
	struct journal_record rec;
	uint32_t left;
	struct file_id id; /* of the last one */
};
struct identity_names identity_names(const struct journal_summary *sum);
const char *identity_next_name(struct identity_names *names, uint32_t *len);

/* Whether an open file is another one than it was, or was written to; `text` says in what it
 * differs, as "size 20 instead of 10, ...". With `device` that counts too. */
#define IDENTITY_TEXT 320
bool identity_differs(const struct stat *was, const struct stat *is, bool device,
		      char text[IDENTITY_TEXT]);
/* ESTALE where the files are other ones; with `inplace`, modification times may differ, and inodes
 * may not, where they last. */
int identity_check(const struct journal_summary *sum, const struct sft_checkpoint *ck, bool inplace,
		   struct sft_error *err);
/* Whether the edits are of this source (absolute, resolved): by its path, or by a file in it, as it
 * may have been moved. */
bool identity_is_of(const struct journal_summary *sum, const char *source_path);

/* ---- replay.c ---- */

/* Apply what the journal holds to the fresh state of the base, and set up ov->slots and the
 * numbers in ov->staging. EBADMSG: the journal does not fit the base, or is damaged. */
int journal_replay(struct sft_overlay *ov, const struct journal_summary *sum,
		   struct sft_error *err);

#endif
