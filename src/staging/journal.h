/*
 * journal.h - the records of the journal: writing and reading them; private to the library
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

#include "buf.h"
#include "sft.h"

#define JOURNAL_VERSION 2u
#define JOURNAL_MAGIC 0x326a7466u /* "ftj2" */
#define JOURNAL_MAGIC_BYTES 0x66, 0x74, 0x6a, 0x32
#define JOURNAL_FRAME_MAX (256u << 20)	/* bytes of records */
#define JOURNAL_COMPACT_MIN (16u << 20) /* bytes of a journal that are worth compacting */
#define JOURNAL_FRAME 16u		/* bytes of a frame besides its records */

struct staging;

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

/* Of PREPARED. */
enum journal_kind {
	JOURNAL_PREPARED_REPLACE,
	JOURNAL_PREPARED_INPLACE,
	JOURNAL_PREPARED_ROOM, /* room is being taken in the sources: only their times may change */
};
/* Of HEADER. */
enum { JOURNAL_INPLACE = 1 };
/* Of a target of PREPARED. */
enum { JOURNAL_IN_OUTPUT = 1, JOURNAL_IS_TEXT = 2 };

/* ---- journal_write.c ---- */

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

/* Records that more than one place writes. */
void journal_put_bind(struct journal_batch *b, uint32_t id, const struct sft_tensor *t);
void journal_put_create(struct journal_batch *b, uint32_t id, uint32_t shard, bool scratch,
			const char *name, size_t len);
void journal_put_length(struct journal_batch *b, uint32_t id, uint64_t length);
void journal_put_declare(struct journal_batch *b, uint32_t id, uint8_t dtype, const uint64_t *shape,
			 uint32_t rank);
void journal_put_rename(struct journal_batch *b, uint32_t id, uint32_t shard, bool scratch,
			const char *name, size_t len);
void journal_put_metadata(struct journal_batch *b, uint32_t shard,
			  const struct sft_metadata *metadata);

/* Close the frame: `offset` is where in the file it will be. */
void journal_close_frame(struct journal_batch *b, uint64_t offset);
/* Append the batch as one frame, with one write. On failure nothing of it is in the journal, or the
 * staging is broken. ENOMEM, ENOSPC, EFBIG, EIO ... */
int journal_append(struct staging *s, struct journal_batch *b, struct sft_error *err);
/* The same, make it durable, and free the batch. If that fails, it is taken back as far as that can
 * be done. */
int journal_append_durably(struct staging *s, struct journal_batch *b, struct sft_error *err);
/* Make the journal durable as far as it is written; else the staging is broken. */
int journal_sync(struct staging *s, struct sft_error *err);
/* That making something durable has failed with `r`: the staging is broken. */
int journal_sync_failed(struct staging *s, int r, struct sft_error *err);
/*
 * Cut a PREPARED off again, durably, if none of its renames was done. The session then goes on as
 * if the commit had not been tried. If that fails the staging is broken.
 */
int journal_take_back(struct staging *s, uint64_t end, struct sft_error *err);
/* Make the staging directory and its own name durable. */
int journal_sync_links(const struct staging *s);
/* EIO if somebody has removed the journal or the blocks; the staging is broken then. */
int journal_check_links(struct staging *s, struct sft_error *err);
/* EIO: the staging is broken, and why edits are refused. */
int journal_broken(const struct staging *s, struct sft_error *err);
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

#endif
