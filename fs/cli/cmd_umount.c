/* cmd_umount.c - commit and umount: they return the real result */
#include "cmd.h"
#include "control.h"
#include "log.h"
#include "mountpoint.h"
#include "progress.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What we need to know of a mount. */
struct target {
	const char *mountpoint;
	struct control status;
	uint64_t pid;
	bool edit;
	char *source;
};

static void target_free(struct target *t)
{
	control_free(&t->status);
	free(t->source);
}

static int target_open(struct target *t, const char *mountpoint)
{
	const struct sft_json *j = &t->status.json;
	*t = (struct target){ .mountpoint = mountpoint };
	if (control_read(&t->status, mountpoint, "status") != 0)
		return 1;
	t->edit = sft_json_equal(j, sft_json_get(j, 0, "mode"), "edit");
	t->source = control_string(j, sft_json_get(j, 0, "source"));
	if (!sft_json_u64(j, sft_json_get(j, 0, "pid"), &t->pid) || !t->source) {
		log_error(mountpoint, "its status is not understood");
		return 1;
	}
	return 0;
}

/* ---- commit ---- */

struct watch {
	const char *mountpoint;
	int done; /* an eventfd */
};

/* Show how far the commit is, while the write that asked for it waits. */
static void *watch_progress(void *ctx)
{
	struct watch *w = ctx;
	struct progress bar;
	progress_start(&bar, "commit");
	struct pollfd end = { w->done, POLLIN, 0 };
	while (poll(&end, 1, 200) == 0) {
		struct control c = { 0 };
		uint64_t done, total;
		if (isatty(STDERR_FILENO) && control_read(&c, w->mountpoint, "progress") == 0 &&
		    sft_json_u64(&c.json, sft_json_get(&c.json, 0, "done"), &done) &&
		    sft_json_u64(&c.json, sft_json_get(&c.json, 0, "total"), &total))
			progress_step(&bar, done, total);
		control_free(&c);
	}
	progress_end(&bar);
	return NULL;
}

/* Write to the control file; the answer of write(2) is the commit's. 0 or an errno. */
static int ask_for_commit(const char *mountpoint, bool allow_empty)
{
	const char *const text = allow_empty ? "allow-empty\n" : "1\n";
	char *path = NULL;
	struct watch w = { mountpoint, -1 };
	pthread_t watcher;
	if (asprintf(&path, "%s/.safetensorfs/commit", mountpoint) < 0)
		return ENOMEM;
	int fd = open(path, O_WRONLY | O_CLOEXEC), result = 0;
	free(path);
	if (fd < 0)
		return errno;
	control_sync_writers(mountpoint);
	w.done = eventfd(0, EFD_CLOEXEC);
	bool watched = w.done >= 0 && pthread_create(&watcher, NULL, watch_progress, &w) == 0;
	while (write(fd, text, strlen(text)) < 0) {
		if (errno == EINTR)
			continue;
		result = errno;
		break;
	}
	close(fd);
	if (watched && eventfd_write(w.done, 1) == 0)
		pthread_join(watcher, NULL);
	if (w.done >= 0)
		close(w.done);
	return result;
}

/* A line for each tensor that blocks the commit. */
static void say_problems(const char *mountpoint, const struct sft_json *j)
{
	unsigned array = sft_json_get(j, 0, "problems");
	unsigned end = array ? sft_json_next(j, array) : 0;
	for (unsigned i = array + 1; array && i < end; i = sft_json_next(j, i)) {
		char *tensor = control_string(j, sft_json_get(j, i, "tensor"));
		char *reason = control_string(j, sft_json_get(j, i, "reason"));
		struct sft_quoted q;
		if (tensor && reason)
			log_error(mountpoint, "tensor %s: %s",
				  sft_quote(&q, tensor, strlen(tensor)), reason);
		free(reason);
		free(tensor);
	}
}

/* Say why: the tensors, and the reason that the daemon kept. */
static void explain(const char *mountpoint, int error)
{
	struct target t;
	char *why = NULL;
	if (target_open(&t, mountpoint) == 0) {
		unsigned last = sft_json_get(&t.status.json, 0, "last_commit");
		unsigned token = last ? sft_json_get(&t.status.json, last, "error") : 0;
		say_problems(mountpoint, &t.status.json);
		why = control_string(&t.status.json, token);
	}
	log_error(mountpoint, "not committed: %s", why ? why : strerror(error));
	free(why);
	target_free(&t);
}

static int commit(const char *mountpoint, bool allow_empty)
{
	int error = ask_for_commit(mountpoint, allow_empty);
	if (error)
		explain(mountpoint, error);
	return error ? 1 : 0;
}

int cmd_commit(int argc, char **argv)
{
	static const char *const names[] = { "--allow-empty", NULL };
	bool allow_empty = false;
	struct target t;
	if (cmd_one(argc, argv, names, &allow_empty, "MOUNTPOINT") != 0)
		return 2;
	int code = target_open(&t, argv[0]);
	if (code == 0 && !t.edit) {
		log_error(argv[0], "is mounted read-only: there is nothing to commit");
		code = 1;
	}
	if (code == 0)
		code = commit(argv[0], allow_empty);
	target_free(&t);
	return code;
}

/* ---- umount ---- */

#define NAMESPACE_STEPS 50 /* of 100 ms */

/*
 * Wait until the daemon has ended; a pidfd cannot be fooled by a zombie or a reused number. False
 * where it goes on: for another place, or a namespace that has a copy and does not soon end.
 */
static bool wait_for_end(int pidfd, const char *device, uint64_t identity)
{
	struct pollfd p = { pidfd, POLLIN, 0 };
	int steps = 0;
	while (pidfd >= 0 && poll(&p, 1, 100) <= 0) {
		if (identity && mountpoint_identity(device) == identity &&
		    (mountpoint_has_device(device) || ++steps >= NAMESPACE_STEPS))
			return false;
	}
	return true;
}

/*
 * Where this mount keeps what is staged, and the daemon as a pidfd: -1 where it is in another pid
 * namespace, a container's, in which its number means somebody else.
 */
static char *staging_of(const struct target *t, int *pidfd)
{
	struct control c = { 0 };
	char *staging = NULL;
	struct stat ours;
	uint64_t namespace;
	*pidfd = -1;
	if (control_read(&c, t->mountpoint, "progress") == 0) {
		staging = control_string(&c.json, sft_json_get(&c.json, 0, "staging"));
		if (sft_json_u64(&c.json, sft_json_get(&c.json, 0, "pid_namespace"), &namespace) &&
		    stat("/proc/self/ns/pid", &ours) == 0 && ours.st_ino == namespace)
			*pidfd = (int)syscall(SYS_pidfd_open, (pid_t)t->pid, 0);
	}
	control_free(&c);
	return staging;
}

/* The daemon cannot be waited for, but what it commits into can: it has the file `lock` there
 * locked. A shared lock is enough to see that, and takes a descriptor for reading anywhere. */
static void wait_for_staging(const char *staging)
{
	char *path = NULL;
	if (asprintf(&path, "%s/lock", staging) < 0)
		return;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	while (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		poll(NULL, 0, 100);
	if (fd >= 0)
		close(fd);
	free(path);
}

static int unmount(const struct target *t)
{
	struct sft_error err = { 0 };
	int pidfd, code = 0;
	char *staging = staging_of(t, &pidfd);
	char device[MOUNTPOINT_DEVICE_MAX] = "none";
	uint64_t identity = 0;
	/* umount(2) and fusermount3 follow no link. */
	char *mountpoint = mountpoint_resolve(t->mountpoint, &err);
	if (mountpoint && mountpoint_is_mounted(mountpoint, device))
		identity = mountpoint_identity(device);
	if (!mountpoint || mountpoint_unmount(mountpoint, 0, &err) < 0) {
		log_error(t->mountpoint, "%s", err.msg);
		code = 1;
	} else if (wait_for_end(pidfd, device, identity) && t->edit && staging) {
		if (pidfd < 0)
			wait_for_staging(staging);
		/* What was written between our commit and the unmount is committed by the daemon.
		 */
		if (sft_staging_exists(t->source, staging)) {
			log_error(t->mountpoint,
				  "unmounted, but not all was committed; the edits are in %s, and "
				  "`result` there says why",
				  staging);
			code = 1;
		}
	}
	if (pidfd >= 0)
		close(pidfd);
	free(mountpoint);
	free(staging);
	return code;
}

int cmd_umount(int argc, char **argv)
{
	static const char *const names[] = { "--allow-empty", NULL };
	bool allow_empty = false;
	struct target t;
	if (cmd_one(argc, argv, names, &allow_empty, "MOUNTPOINT") != 0)
		return 2;
	int code = target_open(&t, argv[0]);
	if (code == 0 && t.edit)
		code = commit(argv[0], allow_empty);
	if (code == 0)
		code = unmount(&t);
	target_free(&t);
	return code;
}
