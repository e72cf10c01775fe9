/* identity.h - to know files of a checkpoint again */
#ifndef SFT_IDENTITY_H
#define SFT_IDENTITY_H

#include "journal.h"
#include "sft.h"

/* What a file is known again by (identity.c). */
struct file_id {
	bool there;	    /* false: there is none, and the rest is 0 */
	uint64_t ino;	    /* 0 on a file system whose numbers do not last */
	uint64_t size;	    /* bytes */
	uint64_t sec, nsec; /* modification time */
	uint64_t hash;	    /* of the header with its length; of an index.json: of all of it */
};

struct journal_summary;

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

#endif
