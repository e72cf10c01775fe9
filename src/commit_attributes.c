/* commit_attributes.c - a new file looks like the one that it replaces */
#include "commit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ACL "system.posix_acl_access"

/* What a file system or a process without privileges may refuse without harm. */
static bool is_tolerable(int errnum)
{
	return errnum == ENOTSUP || errnum == EPERM || errnum == EACCES || errnum == ENOSYS;
}

/* Before the mode, since a change of owner clears the set-uid bits. */
static int copy_owner(const struct stat *from, const struct stat *now, int to,
		      struct sft_error *err)
{
	if (from->st_uid == now->st_uid && from->st_gid == now->st_gid)
		return 0;
	if (TEMP_FAILURE_RETRY(fchown(to, from->st_uid, from->st_gid)) == 0)
		return 0;
	/* Not ours to give away; the group may be, to a member of it. */
	if (errno == EPERM && TEMP_FAILURE_RETRY(fchown(to, (uid_t)-1, from->st_gid)) == 0)
		return 0;
	/* EINVAL: an owner that our user namespace has no number for. */
	if (errno == EPERM || errno == EINVAL)
		return 0;
	return sft_fail(err, errno, "cannot set the owner: %s", strerror(errno));
}

/* The value of an attribute, malloced; -errno. */
static ssize_t read_attribute(int fd, const char *name, char **value)
{
	for (;;) {
		ssize_t n = fgetxattr(fd, name, NULL, 0);

		if (n < 0)
			return -errno;
		*value = malloc((size_t)n + 1);
		if (!*value)
			return -ENOMEM;
		n = fgetxattr(fd, name, *value, (size_t)n);
		if (n >= 0)
			return n;
		free(*value);
		*value = NULL;
		if (errno != ERANGE) /* it has grown in between */
			return -errno;
	}
}

static int copy_attribute(int from, int to, const char *name, struct sft_error *err)
{
	char *value = NULL;
	ssize_t n = read_attribute(from, name, &value);
	int r = 0;

	if (n < 0)
		r = (int)n;
	else if (TEMP_FAILURE_RETRY(fsetxattr(to, name, value, (size_t)n, 0)) < 0)
		r = -errno;
	free(value);
	if (r == 0 || r == -ENODATA || is_tolerable(-r))
		return 0;
	return sft_fail(err, -r, "cannot copy the extended attribute %s: %s", name, strerror(-r));
}

static int copy_extended(int from, int to, struct sft_error *err)
{
	char *names = NULL;
	ssize_t n = flistxattr(from, NULL, 0);
	bool has_acl = false;
	int r = 0;

	if (n > 0) {
		names = malloc((size_t)n);
		if (!names)
			return sft_fail(err, ENOMEM, "no memory for extended attributes");
		n = flistxattr(from, names, (size_t)n);
	}
	if (n < 0 && !is_tolerable(errno))
		r = sft_fail(err, errno, "cannot list extended attributes: %s", strerror(errno));
	for (ssize_t at = 0; r == 0 && at < n; at += (ssize_t)strlen(names + at) + 1) {
		has_acl = has_acl || strcmp(names + at, ACL) == 0;
		r = copy_attribute(from, to, names + at, err);
	}
	/* One that the directory's default has put on the new file would change who may read it. */
	if (r == 0 && !has_acl)
		(void)fremovexattr(to, ACL);
	free(names);
	return r;
}

int commit_copy_attributes(int from, int to, struct sft_error *err)
{
	struct stat old, now;
	int r;

	if (fstat(from, &old) < 0 || fstat(to, &now) < 0)
		return sft_fail(err, errno, "cannot look at a file's attributes: %s",
				strerror(errno));
	r = copy_owner(&old, &now, to, err);
	if (r == 0)
		r = copy_extended(from, to, err);
	if (r < 0)
		return r;
	/* Last: removing an ACL changes the group's bits. */
	if (TEMP_FAILURE_RETRY(fchmod(to, old.st_mode & 07777)) < 0)
		return sft_fail(err, errno, "cannot set the mode: %s", strerror(errno));
	return 0;
}
