/*
 * staging_lock.c - one writer at a time
 *
 * flock() on each shard's file, and on the directory of a sharded checkpoint: nothing is left
 * behind by a process that dies, and a reader is not disturbed. The staging directory is locked as
 * well, which holds while a commit replaces the files. Descriptors of our own, as a commit in place
 * leaves the inode and opens the file again.
 */
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

struct holder {
	char text[40];
};

static const char *say_holder(int fd, struct holder *h)
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

	/* A file system that has no locks must not keep anybody from editing. */
	if (r == 0 || r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	if (r != -EWOULDBLOCK)
		return sft_fail(err, -r, "cannot be locked: %s", strerror(-r));
	return sft_fail(err, EBUSY, "is being edited by %s", say_holder(fd, &h));
}

int staging_check_source(const char *source_path, struct sft_error *err)
{
	int fd = io_openat(AT_FDCWD, source_path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0), r;
	struct sft_error e = { 0 };

	if (fd < 0)
		return 0; /* gone, or not ours to read */
	r = lock_fd(fd, LOCK_EX, &e);
	close(fd);
	return r == -EBUSY ? sft_fail(err, EBUSY, "%s", e.msg) : 0;
}

/* A directory that the user has named may be in use for another source. */
int staging_lock_dir(const struct sft_overlay *ov, int fd, struct sft_error *err)
{
	const char *path = ov->staging.path;
	struct journal_summary sum = { 0 };
	struct sft_error e = { 0 };
	struct holder h;
	int r = lock_fd(fd, LOCK_EX, &e), journal;

	if (r == 0)
		return 0;
	if (r != -EBUSY || !ov->options.staging)
		return sft_fail(err, -r, "%s", e.msg);
	r = staging_check_source(ov->source_path, err);
	if (r < 0)
		return r;
	journal = io_openat(fd, "journal", O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (journal >= 0 && journal_summarize(journal, &sum, NULL) == 0)
		r = sft_fail(err, EBUSY, "%s is in use for %s by %s", path, sum.source,
			     say_holder(fd, &h));
	else
		r = sft_fail(err, EBUSY, "%s is in use by %s", path, say_holder(fd, &h));
	journal_summary_free(&sum);
	if (journal >= 0)
		close(journal);
	return r;
}

static bool is_locked(const struct sft_overlay *ov, const struct stat *st)
{
	for (size_t i = 0; i < ov->lock_count; i++) {
		struct stat have;

		if (fstat(ov->locks[i], &have) == 0 && have.st_dev == st->st_dev &&
		    have.st_ino == st->st_ino)
			return true;
	}
	return false;
}

/* Open and lock. On NFS an exclusive lock needs a descriptor that can be written to; where that is
 * not to be had since the mount is read-only, a shared lock still keeps those away who have one. */
static int open_locked(const char *path, struct sft_error *err)
{
	static const struct {
		int flags, operation;
	} ways[] = { { O_RDONLY, LOCK_EX }, { O_RDWR, LOCK_EX }, { O_RDONLY, LOCK_SH } };
	struct sft_error e = { 0 };
	int r = -EBADF;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		/* Two shared locks do not exclude each other, so only where nobody can write. */
		if (i && r != (i == 1 ? -EBADF : -EROFS))
			break;
		memset(&e, 0, sizeof(e));
		int fd = io_openat(AT_FDCWD, path, ways[i].flags | O_NOCTTY | O_NONBLOCK, 0);

		r = fd < 0 ? sft_fail(&e, -fd, "cannot be locked: %s", strerror(-fd))
			   : lock_fd(fd, ways[i].operation, &e);
		if (r == 0)
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return sft_fail(err, -r, "%s", e.msg);
}

/* Take over the descriptor. */
static int keep(struct sft_overlay *ov, int fd, struct sft_error *err)
{
	int *grown = realloc(ov->locks, (ov->lock_count + 1) * sizeof(*grown));

	if (!grown) {
		close(fd);
		return sft_fail(err, ENOMEM, "no memory for a lock");
	}
	ov->locks = grown;
	ov->locks[ov->lock_count++] = fd;
	return 0;
}

int staging_lock(struct sft_overlay *ov, const char *path, struct sft_error *err)
{
	struct stat st;
	int fd;

	if (stat(path, &st) < 0)
		return sft_fail(err, errno, "cannot be locked: %s", strerror(errno));
	if (is_locked(ov, &st))
		return 0;
	fd = open_locked(path, err);
	return fd < 0 ? fd : keep(ov, fd, err);
}

/* Lock one shard, and see that the path still leads to the file that was opened. */
static int lock_shard(struct sft_overlay *ov, const struct sft_shard *shard, struct sft_error *err)
{
	const struct stat *opened = sft_file_stat(shard->file);
	struct stat st;
	int fd;

	if (is_locked(ov, opened)) /* two names of one file */
		return 0;
	fd = open_locked(sft_file_path(shard->file), err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || st.st_ino != opened->st_ino || st.st_dev != opened->st_dev) {
		close(fd);
		return sft_fail(err, ESTALE, "was replaced while it was being opened; try again");
	}
	return keep(ov, fd, err);
}

int staging_lock_base(struct sft_overlay *ov, struct sft_error *err)
{
	const bool is_directory = sft_checkpoint_is_directory(ov->base);
	int r = is_directory ? staging_lock(ov, sft_checkpoint_path(ov->base), err) : 0;

	for (size_t i = 0; r == 0 && i < sft_checkpoint_shards(ov->base); i++) {
		const struct sft_shard *shard = sft_checkpoint_shard(ov->base, i);

		if (!shard->file)
			continue;
		r = lock_shard(ov, shard, err);
		if (r < 0 && is_directory)
			sft_wrap(err, "%s", shard->name);
	}
	return r;
}

void staging_lock_again(struct sft_overlay *ov)
{
	size_t kept = 0;

	if (sft_checkpoint_is_directory(ov->base))
		(void)staging_lock(ov, sft_checkpoint_path(ov->base), NULL);
	for (size_t i = 0; i < sft_checkpoint_shards(ov->base); i++) {
		const struct sft_file *file = sft_checkpoint_shard(ov->base, i)->file;

		if (file)
			(void)staging_lock(ov, sft_file_path(file), NULL);
	}
	for (size_t i = 0; i < ov->lock_count; i++) {
		struct stat st;

		if (fstat(ov->locks[i], &st) == 0 && st.st_nlink == 0)
			close(ov->locks[i]);
		else
			ov->locks[kept++] = ov->locks[i];
	}
	ov->lock_count = kept;
}

void staging_unlock(struct sft_overlay *ov)
{
	for (size_t i = 0; i < ov->lock_count; i++)
		close(ov->locks[i]);
	free(ov->locks);
	ov->locks = NULL;
	ov->lock_count = 0;
}
