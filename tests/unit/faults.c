/* faults.c - the wrappers */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
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

/* ---- tracing ---- */

#define TRACE_MAX 256

static struct {
	bool on;
	unsigned count;
	char *calls[TRACE_MAX];
} trace;

static void note(const char *name, const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	if (!trace.on || trace.count == TRACE_MAX)
		return;
	if (asprintf(&trace.calls[trace.count], "%s%s%s", name, path ? " " : "",
		     slash  ? slash + 1
		     : path ? path
			    : "") >= 0)
		trace.count++;
}

void faults_trace_start(void)
{
	trace.on = true;
	trace.count = 0;
}

unsigned faults_trace_stop(char **calls, unsigned max)
{
	unsigned n = trace.count < max ? trace.count : max;

	memcpy(calls, trace.calls, n * sizeof(*calls));
	trace.on = false;
	return n;
}

/* ---- failing ---- */

/* Count a call. 0: go on; -1 with errno: fail; 1: transfer less. */
static int strike(bool transfer)
{
	if (faults.k == 0 || faults.fault == FAULT_NOMEM ||
	    (faults.fault == FAULT_SHORT && !transfer))
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

/* PATH: NULL, or the parameter to note. */
#define WRAP(TYPE, NAME, PATH, PARAMETERS, ARGUMENTS)                                              \
	TYPE __real_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS                                                              \
	{                                                                                          \
		note(#NAME, PATH);                                                                 \
		if (strike(false) < 0)                                                             \
			return -1;                                                                 \
		return __real_##NAME ARGUMENTS;                                                    \
	}

#define WRAP_TRANSFER(NAME, PARAMETERS, ARGUMENTS)                                                 \
	ssize_t __real_##NAME PARAMETERS;                                                          \
	ssize_t __wrap_##NAME PARAMETERS;                                                          \
	ssize_t __wrap_##NAME PARAMETERS                                                           \
	{                                                                                          \
		note(#NAME, NULL);                                                                 \
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
WRAP(int, fsync, NULL, (int fd), (fd))
WRAP(int, fdatasync, NULL, (int fd), (fd))
WRAP(int, ftruncate, NULL, (int fd, off_t size), (fd, size))
WRAP(int, ftruncate64, NULL, (int fd, off_t size), (fd, size))
WRAP(int, fallocate, NULL, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(int, fallocate64, NULL, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
WRAP(int, rename, from, (const char *from, const char *to), (from, to))
WRAP(int, renameat, from, (int a, const char *from, int b, const char *to), (a, from, b, to))
WRAP(int, unlink, path, (const char *path), (path))
WRAP(int, unlinkat, path, (int dir, const char *path, int flags), (dir, path, flags))
WRAP(int, mkdir, path, (const char *path, mode_t mode), (path, mode))
WRAP(int, rmdir, path, (const char *path), (path))
WRAP(int, fchmod, NULL, (int fd, mode_t mode), (fd, mode))
WRAP(int, fchown, NULL, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
WRAP(int, fsetxattr, NULL, (int fd, const char *name, const void *value, size_t size, int flags),
     (fd, name, value, size, flags))
WRAP(int, fremovexattr, NULL, (int fd, const char *name), (fd, name))
WRAP(int, flock, NULL, (int fd, int operation), (fd, operation))

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

/* ---- memory; what libc allocates for strdup() and the like is not counted ---- */

static bool no_memory(void)
{
	if (faults.k == 0 || faults.fault != FAULT_NOMEM || ++faults.count != faults.k)
		return false;
	errno = ENOMEM;
	return true;
}

#define WRAP_MEMORY(NAME, PARAMETERS, ARGUMENTS)                                                   \
	void *__real_##NAME PARAMETERS;                                                            \
	void *__wrap_##NAME PARAMETERS;                                                            \
	void *__wrap_##NAME PARAMETERS                                                             \
	{                                                                                          \
		return no_memory() ? NULL : __real_##NAME ARGUMENTS;                               \
	}
WRAP_MEMORY(malloc, (size_t n), (n))
WRAP_MEMORY(calloc, (size_t n, size_t size), (n, size))
WRAP_MEMORY(realloc, (void *p, size_t n), (p, n))
