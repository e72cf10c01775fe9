/*
 * state.h - the state of a mount, and its locks; no FUSE here
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

#include "mount_options.h"
#include "sft.h"
#include "tree.h"

#include <pthread.h>
#include <stdatomic.h>

struct fuse_session;
struct fs_inode;
struct fs_handle;

/* What only edit mounts have. */
struct fs_edits {
	pthread_mutex_t lock;	 /* for inodes and handles; after the two of struct fs */
	struct fs_inode **nodes; /* inodes.c: hash table by ino, open addressing */
	size_t node_count, node_capacity;
	struct fs_handle *handles; /* handles.c: all that are open */
	uint64_t serial;	   /* keys.c: numbers the keys of drafts and orphans */

	struct timespec changed; /* the last change to any tensor; 0: none */
	uint64_t changed_generation;
};

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

	struct fs_edits *edits; /* NULL: read-only */
	char *tree_names;	/* mount_tree.c: what an edit mount's names were encoded from */

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

/* Nothing is opened yet. `o` stays the caller's, and outlives it. */
void fs_init(struct fs *fs, const struct options *o);
/* All that it has, open handles too. */
void fs_free(struct fs *fs);
/* For an edit mount, once the overlay is open. -ENOMEM. */
int fs_edits_new(struct fs *fs);

/* Around whatever changes the tree or the overlay: "under the change". */
void fs_change_begin(struct fs *fs);
void fs_change_end(struct fs *fs);

#endif
