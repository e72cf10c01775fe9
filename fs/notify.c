/* notify.c - making the kernel forget what it has cached of a tensor */
#include "edit.h"

#include <time.h>

/* Its name, where it has one still. */
static void forget_name(struct fs *fs, uint64_t ino)
{
	char name[TREE_NAME_MAX + 1];
	fs_read_lock(fs);
	bool dead = tree_entry(fs->tree, tree_ino_entry(ino))->flags & TREE_DEAD;
	uint64_t parent = tree_parent(fs->tree, ino);
	size_t n = tree_name(fs->tree, ino, name);
	fs_unlock(fs);
	if (!dead)
		fuse_lowlevel_notify_inval_entry(fs->se, parent, name, n);
}

static void *notifier(void *ctx)
{
	struct fs *fs = ctx;
	struct fs_edit *ed = fs->edits;
	pthread_mutex_lock(&ed->notify_lock);
	while (!ed->notifier_stop) {
		uint64_t ino = ed->notify_ino;
		bool name = ed->notify_name;
		if (!ino) {
			pthread_cond_wait(&ed->notify_wake, &ed->notify_lock);
			continue;
		}
		pthread_mutex_unlock(&ed->notify_lock);
		if (name)
			forget_name(fs, ino);
		else
			fuse_lowlevel_notify_inval_inode(fs->se, ino, 0, 0);
		pthread_mutex_lock(&ed->notify_lock);
		ed->notify_ino = 0;
		pthread_cond_broadcast(&ed->notify_done);
	}
	pthread_mutex_unlock(&ed->notify_lock);
	return NULL;
}

static void notify(struct fs *fs, uint64_t ino, bool name)
{
	struct fs_edit *ed = fs->edits;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	pthread_mutex_lock(&ed->notify_lock);
	if (!ed->notifier_runs)
		ed->notifier_runs = pthread_create(&ed->notifier, NULL, notifier, fs) == 0;
	while (ed->notifier_runs && ed->notify_ino &&
	       pthread_cond_timedwait(&ed->notify_done, &ed->notify_lock, &until) == 0)
		;
	ed->notify_ino = ino;
	ed->notify_name = name;
	pthread_cond_signal(&ed->notify_wake);
	while (ed->notifier_runs && ed->notify_ino == ino &&
	       pthread_cond_timedwait(&ed->notify_done, &ed->notify_lock, &until) == 0)
		;
	pthread_mutex_unlock(&ed->notify_lock);
}

void edit_forget_bytes(struct fs *fs, uint64_t ino)
{
	notify(fs, ino, false);
}

void edit_forget_size(struct fs *fs, uint64_t ino)
{
	notify(fs, ino, true);
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
