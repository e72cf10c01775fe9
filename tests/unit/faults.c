/* faults.c - the wrappers */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static struct {
	enum fault fault;
	unsigned k, count; /* k 0: not armed */
} faults;

void faults_arm(enum fault fault, unsigned k)
{
	faults.fault = fault;
	faults.k = k;
	faults.count = 0;
}

void faults_disarm(void)
{
	faults.k = 0;
}

bool faults_reached(void)
{
	return faults.count >= faults.k;
}

/* Count a call. 0: go on; -1 with errno: fail; 1: transfer less. */
static int strike(bool transfer)
{
	if (faults.k == 0 || (faults.fault == FAULT_SHORT && !transfer))
		return 0;
	faults.count++;
	if (faults.count < faults.k || (faults.count > faults.k && faults.fault != FAULT_EIO_EVER))
		return 0;
	switch (faults.fault) {
	case FAULT_DIE:
		_exit(FAULT_DIED);
	case FAULT_ENOSPC:
		errno = ENOSPC;
		return -1;
	case FAULT_EINTR:
		errno = EINTR;
		return -1;
	case FAULT_SHORT:
		return 1;
	default:
		errno = EIO;
		return -1;
	}
}

/* An open that changes nothing can fail, but there is no other harm in it. */
static int strike_open(int flags)
{
	const bool changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);

	if (!changes && faults.fault != FAULT_ENOSPC && faults.fault != FAULT_EIO &&
	    faults.fault != FAULT_EIO_EVER)
		return 0;
	return strike(false);
}

#define WRAP(TYPE, NAME, PARAMETERS, ARGUMENTS)                                                    \
	TYPE __real_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS                                                              \
	{                                                                                          \
		if (strike(false) < 0)                                                             \
			return -1;                                                                 \
		return __real_##NAME ARGUMENTS;                                                    \
	}

#define WRAP_TRANSFER(NAME, PARAMETERS, ARGUMENTS)                                                 \
	ssize_t __real_##NAME PARAMETERS;                                                          \
	ssize_t __wrap_##NAME PARAMETERS;                                                          \
	ssize_t __wrap_##NAME PARAMETERS                                                           \
	{                                                                                          \
		int r = strike(true);                                                              \
		if (r < 0)                                                                         \
			return -1;                                                                 \
		if (r > 0 && n > 1)                                                                \
			n /= 2;                                                                    \
		return __real_##NAME ARGUMENTS;                                                    \
	}

WRAP_TRANSFER(write, (int fd, const void *buf, size_t n), (fd, buf, n))
WRAP_TRANSFER(pwrite, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at))
WRAP_TRANSFER(pwrite64, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at))
WRAP_TRANSFER(copy_file_range, (int in, off_t *from, int out, off_t *to, size_t n, unsigned flags),
	      (in, from, out, to, n, flags))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, ftruncate, (int fd, off_t size), (fd, size))
WRAP(int, ftruncate64, (int fd, off_t size), (fd, size))
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(int, fallocate64, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(int, rename, (const char *from, const char *to), (from, to))
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
WRAP(int, unlink, (const char *path), (path))
WRAP(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, rmdir, (const char *path), (path))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
WRAP(int, fsetxattr, (int fd, const char *name, const void *value, size_t size, int flags),
     (fd, name, value, size, flags))
WRAP(int, fremovexattr, (int fd, const char *name), (fd, name))
WRAP(int, flock, (int fd, int operation), (fd, operation))

/* FICLONE is the only one in use; its argument is an int. */
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	int argument = va_arg(ap, int);
	va_end(ap);
	return strike(false) < 0 ? -1 : __real_ioctl(fd, request, argument);
}

#define WRAP_OPEN(NAME)                                                                            \
	int __real_##NAME(const char *path, int flags, ...);                                       \
	int __wrap_##NAME(const char *path, int flags, ...);                                       \
	int __wrap_##NAME(const char *path, int flags, ...)                                        \
	{                                                                                          \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode_t mode = flags & O_CREAT ? (mode_t)va_arg(ap, unsigned) : 0;                  \
		va_end(ap);                                                                        \
		return strike_open(flags) < 0 ? -1 : __real_##NAME(path, flags, mode);             \
	}
WRAP_OPEN(open)
WRAP_OPEN(open64)

#define WRAP_OPENAT(NAME)                                                                          \
	int __real_##NAME(int dir, const char *path, int flags, ...);                              \
	int __wrap_##NAME(int dir, const char *path, int flags, ...);                              \
	int __wrap_##NAME(int dir, const char *path, int flags, ...)                               \
	{                                                                                          \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode_t mode = flags & O_CREAT ? (mode_t)va_arg(ap, unsigned) : 0;                  \
		va_end(ap);                                                                        \
		return strike_open(flags) < 0 ? -1 : __real_##NAME(dir, path, flags, mode);        \
	}
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)
