/*
 * io.c - system calls that finish: interrupted ones again, short transfers to their end
 *
 * Whatever staging and commit change on the disk goes through plain libc calls, here or beside
 * their use, so that a test can stand in for each of them.
 */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/file.h>
#include <unistd.h>

#define COPY_PIECE (8u << 20)	 /* bytes between two reports of progress */
#define COPY_BUFFER (256u << 10) /* bytes, where the kernel cannot copy by itself */

ssize_t io_read(int fd, void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = read(fd, (char *)buf + done, n - done);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

int io_pread(int fd, void *buf, size_t n, uint64_t offset)
{
	char *p = buf;

	while (n) {
		ssize_t r = pread(fd, p, n, (off_t)offset);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		p += r;
		n -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}

int io_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
	const char *p = buf;

	while (n) {
		ssize_t r = pwrite(fd, p, n, (off_t)offset);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		p += r;
		n -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}

int io_fsync(int fd)
{
	int r;

	do
		r = fsync(fd);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int io_fdatasync(int fd)
{
	int r;

	do
		r = fdatasync(fd);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int io_ftruncate(int fd, uint64_t size)
{
	int r;

	do
		r = ftruncate(fd, (off_t)size);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int io_openat(int dir, const char *path, int flags, mode_t mode)
{
	int fd;

	do
		fd = openat(dir, path, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

int io_renameat(int dir, const char *from, const char *to)
{
	int r;

	do
		r = renameat(dir, from, dir, to);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int io_unlinkat(int dir, const char *path, int flags)
{
	int r;

	do
		r = unlinkat(dir, path, flags);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int io_mkdir(const char *path, mode_t mode)
{
	int r;

	do
		r = mkdir(path, mode);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int io_flock(int fd, int operation)
{
	int r;

	do
		r = flock(fd, operation);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Whether the kernel cannot copy between these two files, so that we have to. EPERM: the kernel's
 * answer for files that it will not write this way, such as immutable ones and some of other file
 * systems; where it is meant, writing says so again. */
static bool must_copy_ourselves(int errnum)
{
	return errnum == EXDEV || errnum == EINVAL || errnum == ENOSYS || errnum == EOPNOTSUPP ||
	       errnum == EPERM || errnum == ETXTBSY;
}

/* Copy one piece by reading and writing. */
static int copy_by_hand(int in, uint64_t in_offset, int out, uint64_t out_offset, uint64_t n)
{
	char *buf = malloc(COPY_BUFFER);
	int r = buf ? 0 : -ENOMEM;

	while (r == 0 && n) {
		size_t piece = n < COPY_BUFFER ? (size_t)n : COPY_BUFFER;

		r = io_pread(in, buf, piece, in_offset);
		if (r == 0)
			r = io_pwrite(out, buf, piece, out_offset);
		in_offset += piece;
		out_offset += piece;
		n -= piece;
	}
	free(buf);
	return r;
}

/* Copy one piece in the kernel as far as it goes; *done says how far. */
static int copy_in_kernel(int in, uint64_t in_offset, int out, uint64_t out_offset, uint64_t n,
			  uint64_t *done)
{
	*done = 0;
	while (*done < n) {
		off_t from = (off_t)(in_offset + *done), to = (off_t)(out_offset + *done);
		ssize_t r = copy_file_range(in, &from, out, &to, (size_t)(n - *done), 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		/* The end of the file, or a file system that says so where it cannot copy: reading
		 * tells the two apart. */
		if (r == 0)
			return -EINVAL;
		*done += (uint64_t)r;
	}
	return 0;
}

int io_copy(int in, uint64_t in_offset, int out, uint64_t out_offset, uint64_t n,
	    void (*step)(void *ctx, uint64_t n), void *ctx)
{
	bool in_kernel = true;

	while (n) {
		uint64_t piece = n < COPY_PIECE ? n : COPY_PIECE, done = 0;
		int r = 0;

		if (in_kernel) {
			r = copy_in_kernel(in, in_offset, out, out_offset, piece, &done);
			if (r < 0 && must_copy_ourselves(-r)) {
				in_kernel = false;
				r = 0;
			}
		}
		if (r == 0 && done < piece)
			r = copy_by_hand(in, in_offset + done, out, out_offset + done,
					 piece - done);
		if (r < 0)
			return r;
		if (step)
			step(ctx, piece);
		in_offset += piece;
		out_offset += piece;
		n -= piece;
	}
	return 0;
}

int io_fsync_dir(const char *path)
{
	int fd = io_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (fd < 0)
		return fd;
	r = io_fsync(fd);
	close(fd);
	/* Some file systems have no fsync for directories, and need none. */
	return r == -EINVAL ? 0 : r;
}
