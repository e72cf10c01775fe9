/*
 * lock.c - locks on the files of the source
 *
 * The claims of directories (claim.c) keep editors apart. Where the source's directory
 * takes no files there is none beside it, and two stagings may be far from each other: then it is
 * flock() on each shard's file, and on the directory of a sharded checkpoint, that does. Nothing is
 * left behind by a process that dies, and a reader is not disturbed. Descriptors of our own, as a
 * commit in place leaves the inode and opens the file again.
 */
#include "io.h"
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The process that has a file locked, by /proc/locks; 0 where that is not told. On some file
 * systems st_dev is not the device that is listed: then the inode alone has to do. */
static int lock_holder(const struct stat *st)
{
	FILE *f = fopen("/proc/locks", "re");
	char line[256];
	int found = 0;

	while (f && fgets(line, sizeof(line), f)) {
		unsigned major_dev, minor_dev;
		unsigned long long ino;
		int pid;

		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", &pid, &major_dev, &minor_dev,
			   &ino) != 4 ||
		    ino != st->st_ino || pid <= 0)
			continue;
		found = pid;
		if (major_dev == major(st->st_dev) && minor_dev == minor(st->st_dev))
			break;
	}
	if (f)
		fclose(f);
	return found;
}

const char *lock_say_holder(int fd, struct holder *h)
{
	struct stat st;
	int pid = fstat(fd, &st) == 0 ? lock_holder(&st) : 0;

	if (pid > 0)
		snprintf(h->text, sizeof(h->text), "process %d", pid);
	else
		snprintf(h->text, sizeof(h->text), "another process");
	return h->text;
}

static int lock_fd(int fd, int operation, struct sft_error *err)
{
	int r = io_flock(fd, operation | LOCK_NB);
	struct holder h;

	if (r == -EWOULDBLOCK)
		return sft_fail(err, EBUSY, "is being edited by %s", lock_say_holder(fd, &h));
	return r < 0 ? sft_fail(err, -r, "cannot be locked: %s", strerror(-r)) : 0;
}

/* A shared lock needs no descriptor that can be written to, anywhere. A file system without locks
 * has none that we could be in the way of; the claims decide. */
int staging_check_source(const char *source_path, struct sft_error *err)
{
	int fd = io_openat(AT_FDCWD, source_path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0), r = 0;
	struct sft_error e = { 0 };
	struct stat st;

	if (fd < 0)
		return 0; /* gone, or not ours to read */
	if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		r = lock_fd(fd, LOCK_SH, &e);
	close(fd);
	if (r == 0 || r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	return sft_fail(err, -r, "%s", e.msg);
}

static bool is_locked(const struct staging *s, const struct stat *st)
{
	for (size_t i = 0; i < s->lock_count; i++) {
		struct stat have;

		if (fstat(s->locks[i], &have) == 0 && have.st_dev == st->st_dev &&
		    have.st_ino == st->st_ino)
			return true;
	}
	return false;
}

/* Open and lock. On NFS an exclusive lock needs a descriptor that can be written to; where that is
 * not to be had since the mount is read-only, a shared lock still keeps those away who have one. */
static int open_locked(const struct staging *s, const char *path, struct sft_error *err)
{
	static const struct {
		int flags, operation;
	} ways[] = { { O_RDONLY, LOCK_EX }, { O_RDWR, LOCK_EX }, { O_RDONLY, LOCK_SH } };
	struct sft_error e = { 0 };
	int r = -EBADF;

	const bool claimed = s->claim.dir >= 0 && (!s->home.path || s->home.dir >= 0);

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		/* Two shared locks do not exclude each other, so only where nobody can write. */
		if (i && r != (i == 1 ? -EBADF : -EROFS))
			break;
		memset(&e, 0, sizeof(e));
		int fd = io_openat(AT_FDCWD, path, ways[i].flags | O_NOCTTY | O_NONBLOCK, 0);

		r = fd < 0 ? sft_fail(&e, -fd, "cannot be locked: %s", strerror(-fd))
			   : lock_fd(fd, ways[i].operation, &e);
		/* A file system without locks: then the claim beside the source is all there is. */
		if (r == 0 || ((r == -EOPNOTSUPP || r == -ENOSYS) && claimed && fd >= 0))
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return sft_fail(err, -r, "%s", e.msg);
}

/* Take over the descriptor. */
static int keep(struct staging *s, int fd, struct sft_error *err)
{
	int *grown = realloc(s->locks, (s->lock_count + 1) * sizeof(*grown));

	if (!grown) {
		close(fd);
		return sft_fail(err, ENOMEM, "no memory for a lock");
	}
	s->locks = grown;
	s->locks[s->lock_count++] = fd;
	return 0;
}

int staging_lock(struct staging *s, const char *path, struct sft_error *err)
{
	struct stat st;
	int fd;

	if (stat(path, &st) < 0)
		return sft_fail(err, errno, "cannot be locked: %s", strerror(errno));
	if (is_locked(s, &st))
		return 0;
	fd = open_locked(s, path, err);
	return fd < 0 ? fd : keep(s, fd, err);
}

int staging_lock_fd(struct staging *s, int fd, struct sft_error *err)
{
	int r = lock_fd(fd, LOCK_EX, err);

	if (r == 0)
		return keep(s, fd, err);
	close(fd);
	return r;
}

/* Lock a file by its name, if it is there: what it is will be seen later. */
static int lock_name(struct staging *s, const char *path, struct sft_error *err)
{
	struct stat st;

	if (stat(path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
		return 0;
	return staging_lock(s, path, err);
}

int staging_lock_names(struct staging *s, const struct journal_summary *sum, struct sft_error *err)
{
	struct identity_names names = identity_names(sum);
	struct stat st;
	int r = lock_name(s, s->source_path, err);
	const bool is_directory = stat(s->source_path, &st) == 0 && S_ISDIR(st.st_mode);
	const char *name;
	uint32_t len;

	while (r == 0 && is_directory && (name = identity_next_name(&names, &len))) {
		char *path = NULL;

		if (asprintf(&path, "%s/%.*s", s->source_path, (int)len, name) < 0)
			return sft_fail(err, ENOMEM, "no memory for a lock");
		if (!memchr(name, '/', len))
			r = lock_name(s, path, err);
		free(path);
	}
	return r;
}

/* Lock one shard, and see that the path still leads to the file that was opened. */
static int lock_shard(struct staging *s, const struct sft_shard *shard, struct sft_error *err)
{
	const struct stat *opened = sft_file_stat(shard->file);
	struct stat st;
	int fd;

	if (is_locked(s, opened)) /* two names of one file */
		return 0;
	fd = open_locked(s, sft_file_path(shard->file), err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_ino != opened->st_ino || st.st_dev != opened->st_dev) {
		close(fd);
		return sft_fail(err, ESTALE, "was replaced while it was being opened; try again");
	}
	return keep(s, fd, err);
}

int staging_lock_base(struct staging *s, const struct sft_checkpoint *base, struct sft_error *err)
{
	const bool is_directory = sft_checkpoint_is_directory(base);
	int r = is_directory ? staging_lock(s, sft_checkpoint_path(base), err) : 0;

	for (size_t i = 0; r == 0 && i < sft_checkpoint_shards(base); i++) {
		const struct sft_shard *shard = sft_checkpoint_shard(base, i);

		if (!shard->file)
			continue;
		r = lock_shard(s, shard, err);
		if (r < 0 && is_directory)
			sft_wrap(err, "%s", shard->name);
	}
	return r;
}

void staging_lock_again(struct staging *s, const struct sft_checkpoint *base)
{
	size_t kept = 0;

	if (sft_checkpoint_is_directory(base))
		(void)staging_lock(s, sft_checkpoint_path(base), NULL);
	for (size_t i = 0; i < sft_checkpoint_shards(base); i++) {
		const struct sft_file *file = sft_checkpoint_shard(base, i)->file;

		if (file)
			(void)staging_lock(s, sft_file_path(file), NULL);
	}
	for (size_t i = 0; i < s->lock_count; i++) {
		struct stat st;

		if (fstat(s->locks[i], &st) == 0 && st.st_nlink == 0)
			close(s->locks[i]);
		else
			s->locks[kept++] = s->locks[i];
	}
	s->lock_count = kept;
}

void staging_unlock(struct staging *s)
{
	for (size_t i = 0; i < s->lock_count; i++)
		close(s->locks[i]);
	free(s->locks);
	s->locks = NULL;
	s->lock_count = 0;
}
