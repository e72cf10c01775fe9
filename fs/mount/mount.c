/*
 * mount.c - the processes of a mount: who serves, who waits for whom
 *
 * Two processes. One serves; the other waits on a pipe for "mounted", asks the mount a first
 * question, and so knows that it answers. Daemonizing, the one that waits is the one that was
 * called, and its exit code is the answer; with -f it is a short-lived child. libfuse's own
 * daemonizing would return 0 before the work is done.
 */
#include "mount.h"

#include "log.h"
#include "mountpoint.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct announce {
	int pipe; /* where to write that it is mounted */
	bool daemonize;
};

static void become_daemon(void)
{
	setsid();
	if (chdir("/") < 0)
		log_warning("/", "%s", strerror(errno));
	log_to_syslog();
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
}

static void mounted(void *ctx)
{
	struct announce *a = ctx;
	char yes = 'M';
	if (a->daemonize)
		become_daemon();
	ssize_t n = write(a->pipe, &yes, 1);
	(void)n; /* where nobody waits any more, serving goes on */
	close(a->pipe);
	a->pipe = -1;
}

/* Wait until the other process has mounted, and until the mount answers. False where it failed: the
 * server has said why. */
static bool wait_for_mount(int pipe, const char *mountpoint)
{
	char yes;
	struct stat st;
	ssize_t n;
	while ((n = read(pipe, &yes, 1)) < 0 && errno == EINTR)
		;
	close(pipe);
	if (n != 1)
		return false;
	if (stat(mountpoint, &st) < 0) {
		log_error(mountpoint, "mounted, and does not answer: %s", strerror(errno));
		return false;
	}
	mountpoint_raise_read_ahead(st.st_dev);
	return true;
}

static int serve(const struct options *o, int pipe)
{
	struct announce a = { pipe, !o->foreground };
	int code = session_run(o, mounted, &a);
	if (a.pipe >= 0)
		close(a.pipe);
	return code;
}

/* Daemonizing: the child serves, we wait. */
static int run_daemon(const struct options *o)
{
	int fds[2], status;
	if (pipe2(fds, O_CLOEXEC) < 0) {
		log_error(o->mountpoint, "%s", strerror(errno));
		return 1;
	}
	pid_t child = fork();
	if (child < 0) {
		log_error(o->mountpoint, "cannot fork: %s", strerror(errno));
		return 1;
	}
	if (child == 0) {
		close(fds[0]);
		return serve(o, fds[1]);
	}
	close(fds[1]);
	if (wait_for_mount(fds[0], o->mountpoint))
		return 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		log_error(o->mountpoint, "the daemon was killed by signal %d", WTERMSIG(status));
	return 1;
}

/* With -f: we serve; a grandchild, which nobody has to reap, looks whether it answers. */
static int run_foreground(const struct options *o)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0) {
		log_error(o->mountpoint, "%s", strerror(errno));
		return 1;
	}
	pid_t child = fork();
	if (child == 0) {
		close(fds[1]);
		if (fork() == 0)
			wait_for_mount(fds[0], o->mountpoint);
		_exit(0);
	}
	close(fds[0]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return serve(o, fds[1]);
}

/* Where a path goes up, say where that is: the way there may lead through what the mount will hide,
 * and then through the mount itself. The last name stays, since links to a source mean something.
 */
static void go_up(char **path)
{
	char *slash = strrchr(*path, '/'), *dir, *whole;
	bool ends = strcmp(slash, "/..") == 0;
	if (!ends && !strstr(*path, "/../"))
		return;
	if (!ends)
		*slash = '\0';
	dir = realpath(*path, NULL);
	if (!ends)
		*slash = '/';
	if (dir && asprintf(&whole, "%s%s", strcmp(dir, "/") == 0 && !ends ? "" : dir,
			    ends ? "" : slash) >= 0) {
		free(*path);
		*path = whole;
	}
	free(dir);
}

/* A path that still means the same after chdir("/"), and after mounting. */
static int make_absolute(char **path)
{
	char *cwd, *whole = NULL;
	if (!*path)
		return 0;
	if ((*path)[0] == '/') {
		go_up(path);
		return 0;
	}
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&whole, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, *path) < 0) {
		log_error(*path, "%s", strerror(errno));
		free(cwd);
		return -1;
	}
	free(cwd);
	free(*path);
	*path = whole;
	go_up(path);
	return 0;
}

static int resolve_paths(struct options *o)
{
	struct sft_error err = { 0 };
	char *mountpoint = mountpoint_resolve(o->mountpoint, &err);
	if (!mountpoint) {
		if (err.errnum == ENOENT)
			sft_hint(&err, "make the directory first: mkdir -p %s", o->mountpoint);
		log_error(o->mountpoint, "%s", err.msg);
		return -1;
	}
	o->given_mountpoint = o->mountpoint;
	o->mountpoint = mountpoint;
	o->given_source = strdup(o->source);
	return !o->given_source || make_absolute(&o->source) || make_absolute(&o->staging) ||
	       make_absolute(&o->output);
}

int mount_run(struct options *o)
{
	if (o->fake)
		return 0;
	/* What our caller forgot to close would be held open as long as the mount. */
	closefrom(STDERR_FILENO + 1);
	if (resolve_paths(o) != 0)
		return 1;
	return o->foreground ? run_foreground(o) : run_daemon(o);
}
