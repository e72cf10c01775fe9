/* mountpoint.c - the directory to mount on */
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_AHEAD_KB 4096

char *mountpoint_resolve(const char *mountpoint, struct sft_error *err)
{
	/* A slash behind it would have us look into the mount, whose daemon may not answer. */
	size_t n = strlen(mountpoint);
	while (n > 1 && mountpoint[n - 1] == '/')
		n--;
	char *copy = strndup(mountpoint, n), *parent = NULL;
	char *whole = copy ? realpath(copy, NULL) : NULL;
	if (!whole && (errno == ENOTCONN || errno == EACCES)) {
		/* A dead mount cannot be looked at, but its parent can. */
		char *slash = strrchr(copy, '/');
		const char *base = slash ? slash + 1 : copy;
		if (slash)
			*slash = '\0';
		parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
		if (parent &&
		    asprintf(&whole, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, base) < 0)
			whole = NULL;
	}
	if (!whole)
		sft_fail(err, errno, "%s", strerror(errno));
	free(parent);
	free(copy);
	return whole;
}

/* Whether `path` or a directory above it is the directory of `st`. *itself: `path` is. */
static bool is_or_lies_in(const char *path, const struct stat *st, bool *itself)
{
	bool found = false;
	char *p = strdup(path);
	*itself = true;
	while (p && *p) {
		struct stat here;
		if (stat(p, &here) == 0 && here.st_dev == st->st_dev && here.st_ino == st->st_ino) {
			found = true;
			break;
		}
		*itself = false;
		char *slash = strrchr(p, '/');
		if (!slash || p[1] == '\0')
			break;
		slash[slash == p] = '\0';
	}
	free(p);
	return found;
}

/* The files themselves may lie elsewhere than the source, behind links. */
static bool holds_a_shard(const struct stat *mountpoint, const struct sft_checkpoint *ck)
{
	bool itself, holds = false;
	for (size_t i = 0; !holds && i < sft_checkpoint_shards(ck); i++) {
		const struct sft_file *file = sft_checkpoint_shard(ck, i)->file;
		char *path = file ? realpath(sft_file_path(file), NULL) : NULL;
		holds = path && is_or_lies_in(path, mountpoint, &itself);
		free(path);
	}
	return holds;
}

int mountpoint_check(const char *mountpoint, const struct sft_checkpoint *ck, struct sft_error *err)
{
	struct stat mnt, source;
	struct statfs fs;
	bool itself;
	/* Not stat: the kernel may answer that from what it remembers of a dead mount. */
	if (statfs(mountpoint, &fs) < 0 && errno == ENOTCONN)
		return sft_fail(err, ENOTCONN,
				"a mount whose daemon is dead is still here (%s); clear it with: "
				"fusermount3 -u %s",
				strerror(ENOTCONN), mountpoint);
	if (stat(mountpoint, &mnt) < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	if (!S_ISDIR(mnt.st_mode))
		return sft_fail(err, ENOTDIR,
				"is not a directory; the source comes first, then the mountpoint");
	const char *path = sft_checkpoint_path(ck);
	if (is_or_lies_in(path, &mnt, &itself))
		return sft_fail(err, EINVAL,
				itself ? "is the source itself" : "holds the source %s", path);
	if (stat(path, &source) == 0 && S_ISDIR(source.st_mode) &&
	    is_or_lies_in(mountpoint, &source, &itself))
		return sft_fail(err, EINVAL, "lies inside the source %s", path);
	if (holds_a_shard(&mnt, ck))
		return sft_fail(err, EINVAL, "holds a shard of the source %s", path);
	return 0;
}

int mountpoint_check_outside(const char *mountpoint, const char *what, const char *path,
			     struct sft_error *err)
{
	struct stat mnt;
	bool itself, inside;
	if (stat(mountpoint, &mnt) < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	/* What is not there yet lies where its first directory that is there does. */
	char *p = strdup(path), *real = NULL;
	while (p && !(real = realpath(p, NULL))) {
		char *slash = strrchr(p, '/');
		if (errno != ENOENT || !slash || slash == p)
			break;
		*slash = '\0';
	}
	inside = real && is_or_lies_in(real, &mnt, &itself);
	free(real);
	free(p);
	return inside ? sft_fail(err, EINVAL, "%s %s lies inside the mountpoint", what, path) : 0;
}

/* Undo the octal escapes of mountinfo, in place. */
static void unescape(char *s)
{
	char *out = s;
	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

bool mountpoint_is_mounted(const char *mountpoint, char device[MOUNTPOINT_DEVICE_MAX])
{
	char *line = NULL;
	size_t cap = 0;
	bool found = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && getline(&line, &cap, f) > 0) {
		char point[4097], number[MOUNTPOINT_DEVICE_MAX];
		if (sscanf(line, "%*u %*u %31s %*s %4096s", number, point) != 2)
			continue;
		unescape(point);
		if (strcmp(point, mountpoint) != 0)
			continue;
		found = true; /* the last one is on top */
		if (device)
			memcpy(device, number, sizeof(number));
	}
	free(line);
	if (f)
		fclose(f);
	return found;
}

bool mountpoint_is_ours(const char *path)
{
	struct statfs fs;
	char *status = NULL;
	if (statfs(path, &fs) < 0 || fs.f_type != FUSE_FS_MAGIC ||
	    asprintf(&status, "%s/.safetensorfs/status", path) < 0)
		return false;
	bool ours = access(status, F_OK) == 0;
	free(status);
	return ours;
}

static int refused(int errnum, struct sft_error *err)
{
	return sft_fail(err, errnum, "%s",
			errnum == EBUSY ? "is in use, by a program with an open file or "
					  "its working directory there (fuser -vm lists them)"
					: strerror(errnum));
}

/* Run it with its stderr in a pipe, and take what it says, up to size - 1 bytes. Its status, or -1.
 */
static int spawn_fusermount(const char *mountpoint, bool lazy, char *said, size_t size)
{
	extern char **environ;
	char *argv[] = { (char *)"fusermount3", (char *)(lazy ? "-uz" : "-u"), (char *)"--",
			 (char *)(uintptr_t)mountpoint, NULL };
	posix_spawn_file_actions_t actions;
	int fds[2], status = -1;
	size_t len = 0;
	ssize_t n;
	pid_t pid;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	int r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	while (r == 0 &&
	       ((n = read(fds[0], said + len, size - 1 - len)) > 0 || (n < 0 && errno == EINTR)))
		len += n > 0 ? (size_t)n : 0;
	said[len] = '\0';
	close(fds[0]);
	while (r == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	errno = r;
	return r == 0 ? status : -1;
}

/* fusermount3 is set-uid root and unmounts what the user has mounted. */
static int run_fusermount(const char *mountpoint, bool lazy, struct sft_error *err)
{
	char said[512];
	int status = spawn_fusermount(mountpoint, lazy, said, sizeof(said));
	if (status == -1)
		return sft_fail(err, errno, "cannot run fusermount3: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (strstr(said, strerror(EBUSY)))
		return refused(EBUSY, err);
	said[strcspn(said, "\n")] = '\0';
	return sft_fail(err, EPERM, "fusermount3 could not unmount it: %s", said);
}

/* fusermount3 cannot force; but a user may abort the connections that are the user's own. */
static int abort_connection(const char *mountpoint, struct sft_error *err)
{
	char device[MOUNTPOINT_DEVICE_MAX], path[64 + MOUNTPOINT_DEVICE_MAX];
	if (!mountpoint_is_mounted(mountpoint, device))
		return refused(EINVAL, err);
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%s/abort", strchr(device, ':') + 1);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 || write(fd, "1", 1) != 1 ? errno : 0;
	if (fd >= 0)
		close(fd);
	return r ? sft_fail(err, r, "cannot abort the connection: %s: %s", path, strerror(r)) : 0;
}

int mountpoint_unmount(const char *mountpoint, int flags, struct sft_error *err)
{
	if (umount2(mountpoint, UMOUNT_NOFOLLOW | flags) == 0)
		return 0;
	if (errno != EPERM)
		return refused(errno, err);
	int r = flags & MNT_FORCE ? abort_connection(mountpoint, err) : 0;
	return r ? r : run_fusermount(mountpoint, flags & MNT_DETACH, err);
}

uint64_t mountpoint_identity(const char *device)
{
	char path[32 + MOUNTPOINT_DEVICE_MAX];
	struct stat st;
	snprintf(path, sizeof(path), "/sys/class/bdi/%s", device);
	return stat(path, &st) == 0 ? st.st_ino : 0;
}

bool mountpoint_has_device(const char *device)
{
	char *line = NULL, number[MOUNTPOINT_DEVICE_MAX];
	size_t cap = 0;
	bool found = false;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && !found && getline(&line, &cap, f) > 0)
		found = sscanf(line, "%*u %*u %31s", number) == 1 && strcmp(number, device) == 0;
	free(line);
	if (f)
		fclose(f);
	return found;
}

void mountpoint_raise_read_ahead(dev_t device)
{
	char path[64];
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device),
		 minor(device));
	FILE *f = fopen(path, "we");
	if (!f)
		return;
	fprintf(f, "%d", READ_AHEAD_KB);
	fclose(f);
}
