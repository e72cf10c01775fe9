/* signals.c - what ends a mount besides unmounting it */
#include "signals.h"

#include "handles.h"
#include "log.h"
#include "mountpoint.h"
#include "operations.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Have the kernel hand over what programs have written through mappings that are still there. The
 * loop goes on meanwhile, and answers. */
static void collect_mapped(struct fs *fs)
{
	struct sft_buf paths = { 0 };
	int dir = open(fs->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fs_read_lock(fs);
	fs_writers(fs, &paths);
	fs_unlock(fs);
	for (size_t at = 0; dir >= 0 && !paths.failed && at < paths.len;
	     at += strlen(paths.data + at) + 1) {
		int fd = openat(dir, paths.data + at, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0 && fsync(fd) < 0)
			log_error(fs->opt->mountpoint,
				  "what was written through a mapping of %s is not all staged: %s",
				  paths.data + at, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	if (dir >= 0)
		close(dir);
	sft_buf_free(&paths);
}

/* Which signals end us: those that whoever started us has not ignored, as nohup ignores SIGHUP.
 * Libfuse goes by the same rule. */
static void ending_signals(sigset_t *set)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
	struct sigaction inherited;

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], NULL, &inherited) == 0 && inherited.sa_handler != SIG_IGN)
			sigaddset(set, numbers[i]);
}

bool signals_still_mounted(const struct fs *fs)
{
	char device[MOUNTPOINT_DEVICE_MAX];
	return atomic_load(&fs->device_known) && mountpoint_is_mounted(fs->mountpoint, device) &&
	       strcmp(device, fs->device) == 0;
}

/*
 * A signal ends a read-only mount at once. An edit mount first tries an ordinary unmount, while it
 * still serves: the kernel then hands over what programs have written through mappings. Where files
 * are open that cannot be, and we ask for it; the commit takes what has been written so far.
 */
static void *end_on_signal(void *ctx)
{
	struct fs *fs = ctx;
	sigset_t set;
	int number;
	ending_signals(&set);
	if (sigwait(&set, &number) != 0)
		return NULL;
	atomic_store(&fs->ended_by_signal, true);
	int r = signals_still_mounted(fs) ? mountpoint_unmount(fs->mountpoint, 0, NULL) : -EINVAL;
	if (r < 0) {
		if (r == -EBUSY)
			collect_mapped(fs);
		fuse_session_exit(fs->se);
		pthread_kill(fs->main_thread, SIGUSR1); /* wakes the loop */
	}
	return NULL;
}

static void wake(int number)
{
}

int signals_watch(struct fs *fs, pthread_t *thread)
{
	sigset_t set;
	struct sigaction action = { .sa_handler = wake };
	if (!fs->overlay)
		return fuse_set_signal_handlers(fs->se);
	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGUSR1, &action, NULL);
	ending_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL); /* in every thread; only sigwait takes them */
	fs->main_thread = pthread_self();
	return pthread_create(thread, NULL, end_on_signal, fs) == 0 ? 0 : -1;
}

void signals_unwatch(struct fs *fs, pthread_t thread)
{
	if (!fs->overlay) {
		fuse_remove_signal_handlers(fs->se);
		return;
	}
	pthread_cancel(thread); /* sigwait is a cancellation point */
	pthread_join(thread, NULL);
}
