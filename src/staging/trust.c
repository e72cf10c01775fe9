/*
 * trust.c - what of a staging may be obeyed: what nobody but the caller can have put there
 *
 * Looked at is what is open, never a name, as what a name leads to may be another file a moment
 * later. Opening follows no link and waits for nothing, so that a FIFO is refused like anything
 * else that is no regular file.
 */
#include "io.h"
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file in the directory, or, with name NULL, itself. */
static int refuse(const char *dir, const char *name, struct sft_error *err, const char *how)
{
	return sft_fail(err, EPERM, "the staging %s%s%s %s: nothing in it is used", dir,
			name ? "/" : "", name ? name : "", how);
}

/*
 * EPERM, naming the owner, unless what is open is of that type (S_IFREG, S_IFDIR), belongs to the
 * effective user, and nobody else may write to it. `name`: in the directory; NULL for itself.
 */
static int trust_fd(int fd, mode_t type, const char *dir, const char *name, struct sft_error *err)
{
	struct stat st;
	char how[80];

	if (fstat(fd, &st) < 0)
		return sft_fail(err, errno, "the staging %s: %s", dir, strerror(errno));
	if ((st.st_mode & S_IFMT) != type)
		return refuse(dir, name, err,
			      type == S_IFDIR ? "is no directory" : "is no regular file");
	if (st.st_uid != geteuid()) {
		snprintf(how, sizeof(how), "belongs to user %u and not to you, user %u",
			 (unsigned)st.st_uid, (unsigned)geteuid());
		return refuse(dir, name, err, how);
	}
	if (st.st_mode & 022) {
		snprintf(how, sizeof(how),
			 "belongs to user %u and can be written by others (mode %04o)",
			 (unsigned)st.st_uid, (unsigned)st.st_mode & 07777);
		return refuse(dir, name, err, how);
	}
	return 0;
}

int trust_open_dir(const char *path, bool follow, struct sft_error *err)
{
	int fd = io_openat(AT_FDCWD, path,
			   O_RDONLY | O_DIRECTORY | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW), 0);
	struct stat st;
	int r;

	/* The two ways in which the kernel says so of a link. */
	if ((fd == -ELOOP || fd == -ENOTDIR) && lstat(path, &st) == 0) {
		if (S_ISLNK(st.st_mode))
			return refuse(path, NULL, err, "is a symbolic link");
		return refuse(path, NULL, err, "is no directory");
	}
	if (fd < 0)
		return fd;
	r = trust_fd(fd, S_IFDIR, path, NULL, err);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

int trust_openat(int dir, const char *path, const char *name, int flags, struct sft_error *err)
{
	int fd = io_openat(dir, name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600), r;

	if (fd == -ELOOP)
		return refuse(path, name, err, "is a symbolic link");
	if (fd == -ENXIO || fd == -EISDIR)
		return refuse(path, name, err, "is no regular file");
	if (fd < 0)
		return fd;
	r = trust_fd(fd, S_IFREG, path, name, err);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}
