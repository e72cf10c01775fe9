/*
 * edit.h - what only edit mounts have: what each operation means for tree and overlay; no FUSE here
 *
 *   edit.c        handles, changed attributes, the end of the mount
 *   edit_tree.c   the tree over an overlay, and the keys of what has no tensor name
 *   edit_step.c   the changes that one request makes, as one
 *   edit_open.c   open, create, release
 *   edit_write.c  write, truncate, attributes, flush, fsync
 *   edit_name.c   unlink, rename, mkdir, rmdir
 *   draft.c       sidecars, metadata and .npy files while they are written, and what becomes of
 *                 them
 *
 * An operation gets first what can fail: memory, room in the tree, drafts. Then it changes the
 * overlay, by one step, which is made as a whole or not at all. Then it changes the tree, which
 * cannot fail any more. So the two always agree, and nothing has to be taken back.
 *
 * What is below as "under the change" is called between fs_change_begin() and fs_change_end();
 * the operations themselves without any lock.
 */
#ifndef EDIT_H
#define EDIT_H

#include "state.h"

/*
 * What is known of an inode besides tree and overlay: how often it is open, and what chmod, chown,
 * utimes and writing have said of it. For the life of the mount.
 */
struct edit_node {
	uint64_t ino;
	uint32_t opens;
	bool has_mode, has_owner, has_times;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec atime, mtime, ctime;
	uint32_t numbers; /* of NAME.npy: how many inode numbers it has had before */
};

/* What a name in a directory means to somebody who writes a file there. */
enum edit_target {
	TARGET_TENSOR,
	TARGET_SCRATCH,
	TARGET_SIDECAR,
	TARGET_METADATA,
	TARGET_NPY,
	TARGET_FORBIDDEN, /* reserved, or no files belong there: EPERM */
	TARGET_F32,	  /* EROFS */
};

/* An open file. */
struct edit_handle {
	uint64_t ino;
	struct edit_node *node;
	bool writable;
	bool fits;	/* of NAME.npy: edit_handle_fits() has said so */
	bool unflushed; /* written since the last flush: if the connection ends now, edits may be
			   torn */
	struct sft_buf
		text;	/* what a reader of a sidecar, metadata or control file sees: as at open */
	uint32_t draft; /* scratch id that holds what was written to a view; SFT_NO_ID: none */
	bool pending;	/* its own entry stands for a view of no tensor yet */
	enum edit_target target; /* of a view, also of a pending one: which kind */
	uint32_t entry;		 /* whose view it is; tree_now() says what that has become */
	bool changed;		 /* the draft was written since it was last applied */
	int failed; /* the first write to the draft that failed, -errno, since it was last empty */
	bool failure_logged;
	struct edit_handle *next, *previous;
};

struct fs_edit {
	pthread_mutex_t lock;	  /* for nodes and handles */
	struct edit_node **nodes; /* hash table by ino, open addressing */
	size_t node_count, node_capacity;
	struct edit_handle *handles; /* all that are open */
	char *names;		     /* what the tree's names were encoded from */
	uint64_t serial;	     /* numbers the keys of drafts and orphans */

	struct timespec changed; /* the last change to any tensor; 0: none */
	uint64_t changed_generation;
};

/* Sidecar, metadata and .npy: files that count when they are complete. */
static inline bool edit_is_view(uint64_t ino)
{
	enum tree_kind kind = tree_ino_kind(ino);
	return kind == TREE_SIDECAR || kind == TREE_METADATA || kind == TREE_NPY;
}

/* The overlay id behind a tensor's or scratch file's node. */
static inline uint32_t edit_id(const struct fs *fs, uint64_t ino)
{
	return tree_entry(fs->tree, tree_ino_entry(ino))->id;
}

/* ---- edit_open.c: operations ---- */

/*
 * `flags` as for open(2). -ESTALE: the node has been removed or replaced, look its name up again;
 * -ENOENT, -EROFS, -EACCES, -ENOMEM; with O_TRUNC the errors of sft_overlay_truncate().
 */
int edit_open(struct fs *fs, uint64_t ino, int flags, struct edit_handle **out);
/* Make a file and open it for writing; its node is the handle's. -EEXIST, -EPERM, -EROFS, -EINVAL,
 * -ENOMEM, errors of the staging. */
int edit_create(struct fs *fs, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
		struct edit_handle **out);
/* The last close. Whatever can fail was done before, by edit_finish_writing(). */
void edit_release(struct fs *fs, struct edit_handle *h);

/* ---- edit_write.c: operations ---- */

int edit_write(struct fs *fs, struct edit_handle *h, const char *buf, size_t size, uint64_t offset);

enum {
	EDIT_SIZE = 1,
	EDIT_MODE = 2,
	EDIT_UID = 4,
	EDIT_GID = 8,
	EDIT_ATIME = 16,
	EDIT_MTIME = 32,
};
/* Set what `what` says of `attr`. `h` is the handle by which it comes, or NULL. */
int edit_set_attr(struct fs *fs, uint64_t ino, const struct stat *attr, unsigned what,
		  struct edit_handle *h);
/* As fs_node_attr(), but while a view is written its size is what was written. Under `lock`. */
int edit_attr(struct fs *fs, uint64_t ino, const struct edit_handle *h, struct stat *st);

/* The file is complete, as far as its writer says: a view that was written counts from now on, and
 * with `sync` all is durable. `h` may be NULL. */
int edit_finish_writing(struct fs *fs, struct edit_handle *h, bool sync);
/* The same at close(2), which ends what could be torn. */
int edit_flush(struct fs *fs, struct edit_handle *h);

/* ---- edit_name.c: operations ---- */

int edit_unlink(struct fs *fs, uint64_t parent, const char *name);
/* `flags` as for renameat2(2). */
int edit_rename(struct fs *fs, uint64_t parent, const char *name, uint64_t new_parent,
		const char *new_name, unsigned flags);
/* *ino is the new directory's. */
int edit_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode, uid_t uid, gid_t gid,
	       uint64_t *ino);
int edit_rmdir(struct fs *fs, uint64_t parent, const char *name);

/* ---- edit_tree.c ---- */

int edit_build_tree(struct fs *fs, struct sft_error *err);

/* A key for a scratch file that has no name in the tree, into `key`; returns its length. */
#define EDIT_KEY_MAX 32
size_t edit_hidden_key(struct fs *fs, char key[EDIT_KEY_MAX]);
/* The path of a file below the mountpoint: the key of a scratch file, which has no other name. */
void edit_scratch_key(const struct fs *fs, uint32_t parent, const char *name, size_t len,
		      struct sft_buf *key);

/* ---- edit.c ---- */

int edit_new(struct fs *fs); /* -ENOMEM */
void edit_free(struct fs *fs);

void fs_change_begin(struct fs *fs);
void fs_change_end(struct fs *fs);

/*
 * Whether edits may be torn, since the connection was killed under an open writer. For the end of
 * the mount; `still_mounted`: nobody has unmounted it.
 */
bool edit_may_be_torn(const struct fs *fs, bool still_mounted);
/* Scratch files are kept while mounted, and no longer: all of them go, in one step. */
void edit_drop_scratch(struct fs *fs);

/* NULL where memory runs out. */
struct edit_handle *edit_handle_new(struct fs *fs, uint64_t ino, bool writable);
/* Returns whether it was the last one of its tensor's file and all views beside it. */
bool edit_handle_free(struct fs *fs, struct edit_handle *h);
/*
 * Whether the file can be opened by the inode number that the handle has, or the name has to be
 * looked up once more. Who writes NAME.npy and who reads it have different ones: the kernel keeps
 * one size and one set of pages a number, so what is done to a draft would be seen by readers.
 */
bool edit_handle_fits(struct fs *fs, struct edit_handle *h);
/* Whether anybody has the file of an entry open, or one of the views beside it. */
bool edit_is_open(struct fs *fs, uint32_t entry);

/* The inode number that NAME.npy has now. Any thread. */
uint64_t edit_npy_ino(const struct fs *fs, uint64_t ino);
/* Put what is known of the inode over st. Any thread. */
void edit_apply_attr(struct fs *fs, uint64_t ino, struct stat *st);
/* For model.safetensors: take from its mode what the user has taken from a tensor's, and set its
 * time to that of the last change. False where a tensor has another owner. Under `lock`. */
bool edit_restrict(struct fs *fs, struct stat *st);
/* The node of an inode, made where it is not there; NULL where memory runs out. */
struct edit_node *edit_node(struct fs *fs, uint64_t ino);
/* It was written now. */
void edit_touch(struct fs *fs, struct edit_node *n);
/* A new file: mode and owner are the creator's. */
void edit_set_owner(struct fs *fs, struct edit_node *n, mode_t mode, uid_t uid, gid_t gid);
/* Get what edit_inherit() needs for the entry that will be the tree's next one. -ENOMEM. */
int edit_inherit_reserve(struct fs *fs, uint32_t from);
/* The tensor of entry `to` takes the place of that of `from`: mode, owner and so on are as they
 * were, its time is now. */
void edit_inherit(struct fs *fs, uint32_t from, uint32_t to);

/*
 * The files that are open for writing, by path below the mountpoint, each with a NUL behind it.
 * What programs write through mappings the kernel keeps until somebody syncs that very file:
 * syncfs(2) does not wait for FUSE. Under `lock`.
 */
void edit_writers(struct fs *fs, struct sft_buf *paths);

/* After a commit: sidecars that were hidden come back. Under the exclusive lock. */
void edit_after_commit(struct fs *fs);

/* ---- edit_step.c; all under the change ---- */

/* The changes of the overlay that one request makes. Zero-initialise it. */
struct edit_step {
	struct sft_change *changes;
	size_t count, capacity;
	char keys[4][EDIT_KEY_MAX]; /* of what edit_step_remove() has hidden */
	size_t hidden;
	bool failed; /* no memory */
};
/* What the change points to stays there until the step is made. */
void edit_step_add(struct edit_step *s, struct sft_change change);
/*
 * Take the tensor or scratch file of an entry away. While it is open elsewhere, or a view of it is,
 * its bytes stay, with their dtype and shape, under a hidden key, until the last release. Its entry
 * in the tree is the caller's to remove, after the step.
 */
void edit_step_remove(struct fs *fs, struct edit_step *s, uint32_t entry);
/* Overlay id `id` gets this name. */
void edit_step_rename(struct edit_step *s, uint32_t id, const struct sft_buf *name, bool scratch,
		      uint32_t shard);
/* No metadata any more, of what the __metadata__.json of a directory shows. */
void edit_step_no_metadata(struct fs *fs, struct edit_step *s, uint32_t parent);
/* Make all the changes or none. -ENOMEM, errors of sft_overlay_change(). */
int edit_step_make(struct fs *fs, struct edit_step *s, struct sft_error *err);
/* Does not free what the changes point to. */
void edit_step_free(struct edit_step *s);

/* ---- draft.c; all under the change ---- */

struct edit_name {
	enum edit_target target;
	uint32_t parent;
	size_t base_len; /* of a view: the length of the tensor's file name */
	uint32_t entry;	 /* the tensor's or scratch file's entry, or TREE_NO_ENTRY */
};
void edit_classify(const struct fs *fs, uint64_t parent, const char *name, struct edit_name *out);
static inline bool edit_target_is_view(enum edit_target target)
{
	return target == TARGET_SIDECAR || target == TARGET_METADATA || target == TARGET_NPY;
}
/* What the overlay is to call a tensor or scratch file of this name; added to `out`. -EINVAL where
 * it is no encoding, -ENOMEM. */
int edit_overlay_name(const struct fs *fs, const struct edit_name *name, const char *file_name,
		      struct sft_buf *out);
/* The shard of a new tensor there, or SFT_SHARD_AUTO. */
uint32_t edit_shard(const struct fs *fs, uint32_t parent);

/* A draft that holds `text` (NULL: empty). */
int edit_draft_new(struct fs *fs, const struct sft_buf *text, uint32_t *draft);
/* Drop a draft that has come to nothing. */
void edit_draft_drop(struct fs *fs, uint32_t draft);
/* Give the handle of a view a draft, with what the file shows now unless it is about to be empty.
 */
int edit_draft_need(struct fs *fs, struct edit_handle *h, bool empty);
/* The file is complete, as far as its writer says: let it count. */
int edit_draft_apply(struct fs *fs, struct edit_handle *h);

/*
 * Let the bytes of overlay id `from` become what `name` in its directory says: a sidecar's dtype
 * and shape, metadata, an array. `step` may have changes already, which are made along with it.
 * *entry is then the entry of the tensor, or TREE_NO_ENTRY of metadata. -EINVAL where the content
 * is bad; the old state stays, and the log says why.
 */
int edit_apply(struct fs *fs, const struct edit_name *name, const char *file_name, uint32_t from,
	       struct edit_step *step, uint32_t *entry);

/* array.c: the array in overlay id `from` becomes a new scratch tensor with its dtype and shape
 * declared. `replaced` is the tensor whose place it will take, or SFT_NO_ID. */
int edit_convert_npy(struct fs *fs, uint32_t from, uint32_t replaced, uint32_t *id,
		     struct sft_error *err);

#endif
