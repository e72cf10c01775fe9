/*
 * attributes.c - a new file looks like the one that it replaces
 *
 * Nobody may read or write the new file who might not the old one. So where its group cannot be the
 * old one's, that class gets nothing, and the rest no more than the group had, for those of the old
 * group are among the rest now. An ACL is corrected in the same way; where it cannot be set, the
 * mode's bits in the middle, which were its mask, give way to what it says of the group itself.
 */
#include "commit.h"

#include <endian.h>
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

static int set_attribute(int to, const char *name, const char *value, ssize_t n,
			 struct sft_error *err)
{
	if (TEMP_FAILURE_RETRY(fsetxattr(to, name, value, (size_t)n, 0)) == 0 ||
	    is_tolerable(errno))
		return 0;
	return sft_fail(err, errno, "cannot copy the extended attribute %s: %s", name,
			strerror(errno));
}

static int copy_attribute(int from, int to, const char *name, struct sft_error *err)
{
	char *value = NULL;
	ssize_t n = read_attribute(from, name, &value);
	int r = 0;

	if (n >= 0)
		r = set_attribute(to, name, value, n, err);
	else if (n != -ENODATA && !is_tolerable((int)-n))
		r = sft_fail(err, (int)-n, "cannot copy the extended attribute %s: %s", name,
			     strerror((int)-n));
	free(value);
	return r;
}

/* All but the ACL; also not another kind of one (NFS has its own) that speaks of another group. */
static int copy_extended(int from, int to, bool same_group, struct sft_error *err)
{
	char *names = NULL;
	ssize_t n = flistxattr(from, NULL, 0);
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
		if (strncmp(names + at, "system.", 7) != 0 ||
		    (same_group && strcmp(names + at, ACL) != 0))
			r = copy_attribute(from, to, names + at, err);
	}
	free(names);
	return r;
}

/* ---- who may do what ---- */

/* An ACL as the attribute has it, in little-endian (linux/posix_acl_xattr.h): a version of 4 bytes,
 * then entries. */
struct acl_entry {
	uint16_t tag, permissions;
	uint32_t id;
};

#define ACL_HEADER 4
#define ACL_GROUP_OBJ 0x04
#define ACL_MASK 0x10
#define ACL_OTHER 0x20

/* The bits that an ACL has for `tag`, or -1; where `set` is not -1, they become that. */
static int acl_bits(char *acl, ssize_t n, unsigned tag, int set)
{
	for (ssize_t at = ACL_HEADER; at + (ssize_t)sizeof(struct acl_entry) <= n;
	     at += (ssize_t)sizeof(struct acl_entry)) {
		struct acl_entry e;

		memcpy(&e, acl + at, sizeof(e));
		if (le16toh(e.tag) != tag)
			continue;
		if (set >= 0) {
			e.permissions = htole16((uint16_t)set);
			memcpy(acl + at, &e, sizeof(e));
		}
		return le16toh(e.permissions) & 7;
	}
	return -1;
}

/* What the classes of a file may do, by its mode and its ACL (malloced, or NULL). */
struct access {
	mode_t mode;
	int group, other;
	char *acl;
	ssize_t acl_size;
};

static int read_access(int from, mode_t mode, struct access *a, struct sft_error *err)
{
	*a = (struct access){ mode & 07777, mode >> 3 & 7, mode & 7, NULL, 0 };
	a->acl_size = read_attribute(from, ACL, &a->acl);
	if (a->acl_size < 0) {
		const int errnum = (int)-a->acl_size;

		if (errnum == ENODATA || is_tolerable(errnum))
			return 0;
		return sft_fail(err, errnum, "cannot read the ACL: %s", strerror(errnum));
	}
	/* The bits in the middle of the mode are the mask, where there is one. */
	int group = acl_bits(a->acl, a->acl_size, ACL_GROUP_OBJ, -1);
	if (group >= 0)
		a->group &= group;
	return 0;
}

/* The group is another one. */
static void drop_group(struct access *a)
{
	a->other &= a->group;
	a->group = 0;
	if (a->acl) {
		acl_bits(a->acl, a->acl_size, ACL_GROUP_OBJ, 0);
		acl_bits(a->acl, a->acl_size, ACL_OTHER, a->other);
	}
}

/* Give `to` that access; true in *has_acl where it has the ACL. */
static int set_acl(int to, const struct access *a, bool *has_acl, struct sft_error *err)
{
	*has_acl = a->acl &&
		   TEMP_FAILURE_RETRY(fsetxattr(to, ACL, a->acl, (size_t)a->acl_size, 0)) == 0;
	if (*has_acl)
		return 0;
	if (a->acl && !is_tolerable(errno))
		return sft_fail(err, errno, "cannot set the ACL: %s", strerror(errno));
	/* One that the directory's default has put on the new file would change who may read it. */
	(void)fremovexattr(to, ACL);
	return 0;
}

/* `old` is the file to look like, of which `a` was read; `now` has the owner that could be had. */
static int set_access(int to, const struct stat *old, const struct stat *now, struct access *a,
		      struct sft_error *err)
{
	mode_t special = a->mode & 07000;
	bool has_acl = false;
	int r;

	if (now->st_uid != old->st_uid)
		special &= ~(mode_t)S_ISUID;
	if (now->st_gid != old->st_gid) {
		special &= ~(mode_t)S_ISGID;
		drop_group(a);
	}
	r = set_acl(to, a, &has_acl, err);
	if (r < 0)
		return r;
	/* With an ACL the bits in the middle are its mask, or without a mask the group's. */
	mode_t middle = (mode_t)a->group << 3;
	if (has_acl && acl_bits(a->acl, a->acl_size, ACL_MASK, -1) >= 0)
		middle = a->mode & 0070;
	/* Last: removing an ACL changes the group's bits. */
	if (TEMP_FAILURE_RETRY(fchmod(to, special | (a->mode & 0700) | middle | (mode_t)a->other)) <
	    0)
		return sft_fail(err, errno, "cannot set the mode: %s", strerror(errno));
	return 0;
}

int commit_copy_attributes(int from, int to, struct sft_error *err)
{
	struct stat old, now;
	struct access access = { 0 };
	int r;

	if (fstat(from, &old) < 0 || fstat(to, &now) < 0)
		return sft_fail(err, errno, "cannot look at a file's attributes: %s",
				strerror(errno));
	r = copy_owner(&old, &now, to, err);
	if (r == 0 && fstat(to, &now) < 0)
		r = sft_fail(err, errno, "cannot look at a file's attributes: %s", strerror(errno));
	if (r == 0)
		r = copy_extended(from, to, now.st_gid == old.st_gid, err);
	if (r == 0)
		r = read_access(from, old.st_mode, &access, err);
	if (r == 0)
		r = set_access(to, &old, &now, &access, err);
	free(access.acl);
	return r;
}
