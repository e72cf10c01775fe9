/*
 * state.h - the state of a mount, and how operations reach tensors through it; no FUSE here
 *
 * Locks, taken in this order:
 *   edit   mutex: held by whatever changes the tree or the overlay, and through all of a sync or a
 *          commit, so that those see a state that stands still while readers go on
 *   lock   reader-writer: shared around every use of tree, overlay and checkpoint, exclusive
 *          (with `edit`) only while they change
 * A read-only mount changes nothing and takes no lock.
 */
#ifndef STATE_H
#define STATE_H

#include "options.h"
#include "sft.h"
#include "tree.h"
#include "sidecar.h"

#include <pthread.h>
#include <stdatomic.h>

struct fuse_session;

enum fs_commit_result { FS_COMMIT_NONE, FS_COMMITTED, FS_COMMIT_FAILED };

struct fs {
	const struct options *opt;
	const char *mountpoint; /* absolute */
	char device[32];	/* "MAJOR:MINOR" of the mount, once device_known */
	atomic_bool device_known;
	struct fuse_session *se;
	pthread_t main_thread;
	atomic_bool ended_by_signal; /* edit mounts */

	struct sft_checkpoint *own_checkpoint; /* read-only mounts; NULL with an overlay */
	struct sft_overlay *overlay;	       /* NULL: read-only */
	struct tree *tree;

	/* merged_file.c */
	pthread_mutex_t merged_lock;
	struct sft_merged *merged;
	int merged_error;	    /* -errno: it cannot be made */
	uint64_t merged_generation; /* of which state these two are */

#define FS_READAHEAD_SLOTS 64
	atomic_ullong last_ends[FS_READAHEAD_SLOTS]; /* readahead.c */

	pthread_mutex_t edit;
	pthread_rwlock_t lock;

	uid_t uid, gid; /* of the source, for directories and control files */
	mode_t dir_mode;
	struct timespec dir_time;

	struct fs_edit *edits; /* edit.h; NULL: read-only */

	/* commit_edits.c; under `lock`, but the progress, which anybody may read at any time */
	enum fs_commit_result last_commit;
	time_t last_commit_time;
	char last_commit_error[512];
	atomic_ullong commit_done, commit_total; /* bytes */
	/* errno: what a program wrote through a mapping was lost, and no commit has said so yet */
	atomic_int mapped_lost;
};

/* The committed state. Under `lock`. */
static inline const struct sft_checkpoint *fs_checkpoint(const struct fs *fs)
{
	return fs->overlay ? sft_overlay_checkpoint(fs->overlay) : fs->own_checkpoint;
}

static inline void fs_read_lock(struct fs *fs)
{
	if (fs->overlay)
		pthread_rwlock_rdlock(&fs->lock);
}

static inline void fs_unlock(struct fs *fs)
{
	if (fs->overlay)
		pthread_rwlock_unlock(&fs->lock);
}

/* ---- tensor_nodes.c, bytes.c: tensors by id, whether from the checkpoint or the overlay; under
 * `lock`
 * ---- */

#define FS_REASON_MAX 256

/* Everything the views show. `reason` holds the problem, if there is one. */
void fs_tensor(const struct fs *fs, uint32_t id, struct view_tensor *out,
	       char reason[FS_REASON_MAX]);
uint64_t fs_tensor_nbytes(const struct fs *fs, uint32_t id);
/* Read exactly n bytes that lie inside the tensor. -EIO and the like. */
int fs_tensor_read(const struct fs *fs, uint32_t id, void *buf, size_t n, uint64_t offset);
/*
 * Whether a node can be used: 0; -ENOENT: there is no such node, or it is the F32 node of a dtype
 * that has no such view; -ESTALE: it was removed or replaced, and nobody had it open. Who had keeps
 * it, under the same inode number (edit_remove_entry()).
 */
int fs_node_check(const struct fs *fs, uint64_t ino);
static inline bool fs_node_exists(const struct fs *fs, uint64_t ino)
{
	return fs_node_check(fs, ino) == 0;
}
/* The text of a node that is made, not read: sidecar, metadata, status, progress. False for others.
 */
bool fs_node_text(struct fs *fs, uint64_t ino, struct sft_buf *text);
/* The bytes of NAME.npy or NAME.f32.npy before the data. */
void fs_npy_head(const struct fs *fs, uint64_t ino, struct sft_buf *head);
/*
 * What the bytes of a file are that is sent as it lies: of a tensor's, its .npy's, and of
 * model.safetensors: `head`, then `body` bytes, which are regions.
 */
struct fs_bytes {
	const struct fs *fs;
	uint32_t id;			 /* of the tensor; where there is no `merged` */
	const struct sft_merged *merged; /* or NULL */
	struct sft_buf own_head;	 /* to be freed */
	const struct sft_buf *head;
	uint64_t body;
};
static inline bool fs_is_bytes(uint64_t ino)
{
	enum tree_kind kind = tree_ino_kind(ino);
	return kind == TREE_TENSOR || kind == TREE_NPY || kind == TREE_MERGED;
}
/* For such a node. -ENOMEM, errors of fs_merged(). */
int fs_bytes_of(struct fs *fs, uint64_t ino, struct fs_bytes *out);
/* As sft_overlay_regions, of the body. */
size_t fs_bytes_regions(const struct fs_bytes *b, uint64_t offset, uint64_t length,
			struct sft_region *regions, size_t max);
/* Read exactly n bytes that lie inside the body. -EIO and the like. */
int fs_bytes_read(const struct fs_bytes *b, void *buf, size_t n, uint64_t offset);
/* Errors of fs_node_check(), -ENOMEM. */
int fs_node_attr(struct fs *fs, uint64_t ino, struct stat *st);
/* How many tensors are shown, and their bytes. */
void fs_totals(const struct fs *fs, size_t *tensors, uint64_t *bytes);
/* Set TREE_HAS_METADATA on the directories whose checkpoint has some. */
void fs_mark_metadata(struct fs *fs);
/* What a read-only mount's tree is built of. */
struct tree_source fs_tree_source(struct fs *fs);

/* ---- merged_file.c; under `lock` ---- */

/* The inode number that a node of the tree has now: model.safetensors and NAME.npy have several in
 * their time, told apart by a number above entry and kind. */
static inline uint64_t fs_numbered_ino(uint64_t ino, uint64_t number)
{
	return tree_ino(tree_ino_entry(ino), tree_ino_kind(ino)) | number << 36;
}
uint64_t fs_current_ino(const struct fs *fs, uint64_t ino);
/* What model.safetensors is, if the inode number is the present one's; -ESTALE for an earlier
 * one's, errors of sft_merged_make(). */
int fs_merged(struct fs *fs, uint64_t ino, const struct sft_merged **out);
/* Forget what it was made of. Under the exclusive lock, after sft_overlay_adopt(), or at the end.
 */
void fs_merged_drop(struct fs *fs);

/* ---- readahead.c ---- */

/* Before these bytes are sent from the mapping: have them read from a cold disk in one go. Any
 * thread. */
void fs_read_ahead(struct fs *fs, const struct sft_region *region);

/* ---- status.c ---- */

void fs_status(struct fs *fs, struct sft_buf *json);
/* `.safetensorfs/progress`, for our own commands: {"done": n, "total": n, "pid_namespace": inode,
 * "staging": "...", "writers": ["path", ...]}. */
void fs_progress(struct fs *fs, struct sft_buf *json);

#endif
