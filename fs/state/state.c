/* state.c - the state of a mount from nothing to nothing, and what surrounds a change of it */
#include "state.h"

#include "handles.h"
#include "inodes.h"
#include "merged_file.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

void fs_init(struct fs *fs, const struct options *o)
{
	pthread_rwlockattr_t prefer_writer;
	*fs = (struct fs){ .opt = o, .mountpoint = o->mountpoint };
	pthread_rwlockattr_init(&prefer_writer);
	pthread_rwlockattr_setkind_np(&prefer_writer, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&fs->lock, &prefer_writer);
	pthread_rwlockattr_destroy(&prefer_writer);
	pthread_mutex_init(&fs->edit, NULL);
	pthread_mutex_init(&fs->merged_lock, NULL);
}

int fs_edits_new(struct fs *fs)
{
	struct fs_edits *ed = calloc(1, sizeof(*ed));
	if (!ed)
		return -ENOMEM;
	pthread_mutex_init(&ed->lock, NULL);
	ed->changed_generation = sft_overlay_generation(fs->overlay);
	fs->edits = ed;
	return 0;
}

static void free_edits(struct fs_edits *ed)
{
	if (!ed)
		return;
	fs_handles_free(ed);
	fs_inodes_free(ed);
	pthread_mutex_destroy(&ed->lock);
	free(ed);
}

void fs_free(struct fs *fs)
{
	free_edits(fs->edits);
	fs_merged_drop(fs);
	tree_free(fs->tree);
	free(fs->tree_names);
	sft_checkpoint_free(fs->own_checkpoint);
	sft_overlay_free(fs->overlay);
	pthread_mutex_destroy(&fs->merged_lock);
	pthread_mutex_destroy(&fs->edit);
	pthread_rwlock_destroy(&fs->lock);
}

void fs_change_begin(struct fs *fs)
{
	pthread_mutex_lock(&fs->edit);
	pthread_rwlock_wrlock(&fs->lock);
}

void fs_change_end(struct fs *fs)
{
	struct fs_edits *ed = fs->edits;
	uint64_t now = sft_overlay_generation(fs->overlay);
	if (ed->changed_generation != now)
		clock_gettime(CLOCK_REALTIME, &ed->changed);
	ed->changed_generation = now;
	pthread_rwlock_unlock(&fs->lock);
	pthread_mutex_unlock(&fs->edit);
}
