/* notify.c - making the kernel forget what it has cached of a tensor */
#include "edit.h"

#include <time.h>

static void *notifier(void *ctx)
{
	struct fs *fs = ctx;
	struct fs_edit *ed = fs->edits;
	pthread_mutex_lock(&ed->notify_lock);
	while (!ed->notifier_stop) {
		uint64_t ino = ed->notify_ino;
		off_t offset = ed->notify_offset;
		if (!ino) {
			pthread_cond_wait(&ed->notify_wake, &ed->notify_lock);
			continue;
		}
		pthread_mutex_unlock(&ed->notify_lock);
		fuse_lowlevel_notify_inval_inode(fs->se, ino, offset, 0);
		pthread_mutex_lock(&ed->notify_lock);
		ed->notify_ino = 0;
		pthread_cond_broadcast(&ed->notify_done);
	}
	pthread_mutex_unlock(&ed->notify_lock);
	return NULL;
}

void edit_forget_cached(struct fs *fs, uint64_t ino)
{
	struct fs_edit *ed = fs->edits;
	struct timespec until;
	/* Below 0: attributes only. Pages may be locked, so that the kernel waits for somebody who
	 * waits for us, and were we killed then, for ever. So only where that is needed. */
	off_t offset = edit_is_open(fs, ino) ? 0 : -1;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	pthread_mutex_lock(&ed->notify_lock);
	if (!ed->notifier_runs)
		ed->notifier_runs = pthread_create(&ed->notifier, NULL, notifier, fs) == 0;
	while (ed->notifier_runs && ed->notify_ino &&
	       pthread_cond_timedwait(&ed->notify_done, &ed->notify_lock, &until) == 0)
		;
	ed->notify_ino = ino;
	ed->notify_offset = offset;
	pthread_cond_signal(&ed->notify_wake);
	while (ed->notifier_runs && ed->notify_ino == ino &&
	       pthread_cond_timedwait(&ed->notify_done, &ed->notify_lock, &until) == 0)
		;
	pthread_mutex_unlock(&ed->notify_lock);
}

void edit_notify_stop(struct fs_edit *ed)
{
	pthread_mutex_lock(&ed->notify_lock);
	ed->notifier_stop = true;
	pthread_cond_signal(&ed->notify_wake);
	pthread_mutex_unlock(&ed->notify_lock);
	if (ed->notifier_runs)
		pthread_join(ed->notifier, NULL);
	ed->notifier_runs = false;
}
