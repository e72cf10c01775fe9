/*
 * edit.h - what only edit mounts have: handles, changed attributes, drafts, the end of a mount
 *
 *   edit.c        state, building the tree over an overlay, the end of the mount
 *   draft.c       sidecars, metadata and .npy files while they are written, and what becomes of
 * them ops_edit.c    open, create, write, truncate, fsync, flush, release ops_name.c    unlink,
 * rename, mkdir, rmdir
 *
 * Each change is made under fs_change_begin() .. fs_change_end(): first the overlay, which can
 * fail, then the tree, which then follows.
 */
#ifndef EDIT_H
#define EDIT_H

#include "fs.h"

extern const struct fuse_lowlevel_ops edit_ops;

/* ---- edit.c ---- */

/*
 * What is known of an inode besides tree and overlay: how often it is open, and what chmod, chown,
 * utimes and writing have said of it. For the life of the mount.
 */
struct edit_node {
	uint64_t ino;
	uint32_t opens;
	bool has_mode, has_owner, has_times;
	bool replaced; /* edit_mark_replaced() */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec atime, mtime, ctime;
};

/* An open file. */
struct edit_handle {
	uint64_t ino;
	bool writable;
	bool unflushed; /* written since the last flush: if the connection ends now, edits may be
			   torn */
	struct sft_buf
		text;	/* what a reader of a sidecar, metadata or control file sees: as at open */
	uint32_t draft; /* scratch id that holds what was written to a view; SFT_NO_ID: none */
	uint32_t pending; /* tree entry that stands for a view of no tensor yet; TREE_NO_ENTRY */
	bool applied;	  /* the view that `pending` stood for has come to be */
	bool changed;	  /* the draft was written since it was last applied */
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

	/* The one who tells the kernel that a tensor was replaced behind its back. */
	pthread_t notifier;
	bool notifier_runs, notifier_stop;
	pthread_mutex_t notify_lock;
	pthread_cond_t notify_wake, notify_done;
	uint64_t notify_ino; /* 0: nothing to do */
	off_t notify_offset; /* from which on its bytes are to be forgotten; below 0: none are */
};

static inline struct edit_handle *edit_handle(const struct fuse_file_info *fi)
{
	return (struct edit_handle *)(uintptr_t)fi->fh;
}

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

/* ops_edit.c: the file is complete, as far as its writer says: a view that was written counts from
 * now on, and with `sync` all is durable. `h` may be NULL. */
int edit_finish_writing(struct fs *fs, struct edit_handle *h, bool sync);

/* ops_open.c */
void fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi);
void fs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ops_name.c */
void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		  const char *new_name, unsigned int flags);
void fs_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fs_op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);

int edit_build_tree(struct fs *fs, struct sft_error *err);
int edit_new(struct fs *fs); /* -ENOMEM */
void edit_free(struct fs *fs);

/*
 * After the loop: commit, unless the connection was killed under an open writer. `code` is the
 * session's so far; `still_mounted`: the loop ended although nobody unmounted. Returns the exit
 * code of the daemon.
 */
int edit_finish(struct fs *fs, int code, bool still_mounted);

void fs_change_begin(struct fs *fs);
void fs_change_end(struct fs *fs);

/* The node of an inode, made where it is not there; NULL where memory runs out. Under edits->lock.
 */
struct edit_node *edit_node(struct fs *fs, uint64_t ino);
/* Put what is known of the inode over st. Any thread. */
void edit_apply_attr(struct fs *fs, uint64_t ino, struct stat *st);
/* For model.safetensors: take from its mode what the user has taken from a tensor's, and set its
 * time to that of the last change. False where a tensor has another owner. Any thread. */
bool edit_restrict(struct fs *fs, struct stat *st);
/* It was written now. */
void edit_touch(struct fs *fs, uint64_t ino);
/*
 * It was replaced by another way than its own file, so what the kernel has of it is wrong. Its size
 * it asks for again only where somebody wants to know: so an O_APPEND may come with the old end.
 */
void edit_mark_replaced(struct fs *fs, uint64_t ino);
bool edit_was_replaced(struct fs *fs, uint64_t ino);
/* A new file: mode and owner are the creator's. */
void edit_set_owner(struct fs *fs, uint64_t ino, mode_t mode, uid_t uid, gid_t gid);
bool edit_is_open(struct fs *fs, uint64_t ino);

/*
 * The files that are open for writing, by path below the mountpoint, each with a NUL behind it.
 * What programs write through mappings the kernel keeps until somebody syncs that very file:
 * syncfs(2) does not wait for FUSE. Under `lock`.
 */
void edit_writers(struct fs *fs, struct sft_buf *paths);

/* After a commit: sidecars that were hidden come back. Under the exclusive lock. */
void edit_after_commit(struct fs *fs);

/*
 * Make the kernel forget what it has cached of a tensor that was replaced by another way than its
 * own file: its attributes, and its bytes where somebody has it open (who opens it later gets new
 * ones, see edit_mark_replaced). It is done in a thread of its own, since the kernel may ask us
 * something first; waits for it, a second at most. Without any lock.
 */
void edit_forget_cached(struct fs *fs, uint64_t ino);
void edit_notify_stop(struct fs_edit *ed);

/* A key for a scratch file that has no name in the tree, into `key`; returns its length. */
#define EDIT_KEY_MAX 32
size_t edit_hidden_key(struct fs *fs, char key[EDIT_KEY_MAX]);
/* The path of a file below the mountpoint: the key of a scratch file, which has no other name. */
void edit_scratch_key(const struct fs *fs, uint32_t parent, const char *name, size_t len,
		      struct sft_buf *key);

/*
 * Take a tensor's or scratch file's entry out of tree and overlay. While it is open elsewhere its
 * bytes stay, under a hidden key, until the last release.
 */
int edit_remove_entry(struct fs *fs, uint32_t entry);

/* ---- draft.c; all under fs_change_begin() ---- */

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
struct edit_name {
	enum edit_target target;
	uint32_t parent;
	size_t base_len; /* of a view: the length of the tensor's file name */
	uint32_t entry;	 /* the tensor's or scratch file's entry, or TREE_NO_ENTRY */
};
void edit_classify(const struct fs *fs, uint64_t parent, const char *name, struct edit_name *out);

/* Add a tensor's file to overlay and tree. -EINVAL where the name is no encoding, ... */
int edit_create_tensor(struct fs *fs, uint32_t parent, const char *name, size_t len,
		       uint32_t *entry);
int edit_create_scratch(struct fs *fs, uint32_t parent, const char *name, size_t len,
			uint32_t *entry);

/* A draft that holds `text` (NULL: empty). */
int edit_draft_new(struct fs *fs, const struct sft_buf *text, uint32_t *draft);
/* Give the handle of a view a draft, with what the file shows now unless it is about to be empty.
 */
int edit_draft_need(struct fs *fs, struct edit_handle *h, bool empty);
/* The file is complete, as far as its writer says: let it count. *replaced as for edit_apply(). */
int edit_draft_apply(struct fs *fs, struct edit_handle *h, uint64_t *replaced);

/*
 * Let the bytes of overlay id `from` become what `name` in its directory says: a sidecar's dtype
 * and shape, metadata, an array. *replaced is the inode of a tensor whose cached bytes are now
 * wrong, or 0. -EINVAL where the content is bad; the old state stays, and the log says why.
 */
int edit_apply(struct fs *fs, const struct edit_name *name, const char *file_name, uint32_t from,
	       uint64_t *replaced);

/* Remove the metadata that a directory's __metadata__.json shows. */
int edit_remove_metadata(struct fs *fs, uint32_t parent);

/* npy_write.c: the array in overlay id `from` becomes a new scratch tensor with its dtype and shape
 * declared. `replaced` is the tensor whose place it will take, or SFT_NO_ID. */
int edit_convert_npy(struct fs *fs, uint32_t from, uint32_t replaced, uint32_t *id,
		     struct sft_error *err);

#endif
