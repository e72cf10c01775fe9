/* recorder.c - the wrappers */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNKNOWN UINT32_MAX

static struct {
	bool on;
	const char *stash;
	struct recording r;
	size_t cap, object_cap;
} recorder;

/* ---- objects ---- */

/* The youngest of that inode: numbers are used again. */
static uint32_t object_of(const struct stat *st)
{
	for (uint32_t i = recorder.r.object_count; i-- > 0;) {
		const struct recorded_object *o = &recorder.r.objects[i];

		if (o->ino == st->st_ino && o->dev == st->st_dev)
			return i;
	}
	return UNKNOWN;
}

static uint32_t object_add(const struct stat *st)
{
	struct recording *r = &recorder.r;

	if (r->object_count == recorder.object_cap) {
		recorder.object_cap = recorder.object_cap * 2 + 64;
		r->objects = reallocarray(r->objects, recorder.object_cap, sizeof(*r->objects));
		if (!r->objects)
			abort();
	}
	r->objects[r->object_count] = (struct recorded_object){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.mode = st->st_mode,
	};
	return r->object_count++;
}

static uint32_t object_of_fd(int fd, struct stat *st)
{
	return fstat(fd, st) == 0 ? object_of(st) : UNKNOWN;
}

/* The directory that a path is in; *name points into it. */
static uint32_t directory_of(int dir, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];
	struct stat st;

	*name = slash ? slash + 1 : path;
	snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
	return fstatat(dir, *parent ? parent : "/", &st, 0) == 0 ? object_of(&st) : UNKNOWN;
}

/* ---- events ---- */

static struct recorded *event(enum recorded_kind kind, const char *call)
{
	struct recording *r = &recorder.r;

	if (r->count == recorder.cap) {
		recorder.cap = recorder.cap * 2 + 256;
		r->events = reallocarray(r->events, recorder.cap, sizeof(*r->events));
		if (!r->events)
			abort();
	}
	r->events[r->count] = (struct recorded){ .kind = kind, .call = call };
	return &r->events[r->count++];
}

/* What a file holds from `offset` on was just written. */
static void note_data(const char *call, int fd, uint64_t offset, uint64_t length)
{
	struct stat st;
	uint32_t object = object_of_fd(fd, &st);
	char path[64];
	int again;

	if (!recorder.on || object == UNKNOWN || length == 0)
		return;
	struct recorded *e = event(RECORDED_DATA, call);
	e->object = object;
	e->offset = offset;
	e->length = length;
	e->mtime = st.st_mtim;
	e->bytes = malloc(length);
	/* The descriptor may be for writing only. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	recorder.on = false;
	again = open(path, O_RDONLY | O_CLOEXEC);
	if (!e->bytes || again < 0 ||
	    pread(again, e->bytes, length, (off_t)offset) != (ssize_t)length)
		abort();
	close(again);
	recorder.on = true;
}

static void note_file(enum recorded_kind kind, const char *call, int fd, uint64_t offset,
		      uint64_t length)
{
	struct stat st;
	uint32_t object = object_of_fd(fd, &st);

	if (!recorder.on || object == UNKNOWN)
		return;
	struct recorded *e = event(kind, call);
	e->object = object;
	e->offset = offset;
	e->length = length;
	e->mtime = st.st_mtim;
}

static void put_aside(int dir, const char *path, uint32_t object)
{
	char other[PATH_MAX];

	snprintf(other, sizeof(other), "%s/%u", recorder.stash, object);
	if (linkat(dir, path, AT_FDCWD, other, 0) < 0)
		abort();
}

static void note_new(const char *call, int dir, const char *path)
{
	const char *name;
	uint32_t parent = directory_of(dir, path, &name);
	struct stat st;

	if (!recorder.on || parent == UNKNOWN || fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	struct recorded *e = event(RECORDED_LINK, call);
	e->object = object_add(&st);
	e->dir = parent;
	e->name = strdup(name);
	e->mtime = st.st_mtim;
	if (recorder.stash && S_ISREG(st.st_mode))
		put_aside(dir, path, e->object);
}

static void note_gone(const char *call, int dir, const char *path)
{
	const char *name;
	uint32_t parent = directory_of(dir, path, &name);

	if (!recorder.on || parent == UNKNOWN)
		return;
	struct recorded *e = event(RECORDED_UNLINK, call);
	e->dir = parent;
	e->name = strdup(name);
}

static void note_rename(const char *call, int a, const char *from, int b, const char *to)
{
	const char *name, *new_name;
	uint32_t dir = directory_of(a, from, &name), new_dir = directory_of(b, to, &new_name);
	struct stat st;

	if (!recorder.on || dir == UNKNOWN || new_dir == UNKNOWN ||
	    fstatat(b, to, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	struct recorded *e = event(RECORDED_RENAME, call);
	e->object = object_of(&st);
	e->dir = dir;
	e->new_dir = new_dir;
	e->name = strdup(name);
	e->new_name = strdup(new_name);
	if (e->object == UNKNOWN)
		abort();
}

/* ---- starting and stopping ---- */

static int scan(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)flag;
	if (ftw->level == 0) {
		object_add(st);
		return 0;
	}
	note_new("before", AT_FDCWD, path);
	if (S_ISREG(st->st_mode)) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		note_data("before", fd, 0, (uint64_t)st->st_size);
		close(fd);
	}
	return 0;
}

void recorder_start(const char *root, const char *stash)
{
	memset(&recorder, 0, sizeof(recorder));
	recorder.stash = stash;
	recorder.on = true;
	if (nftw(root, scan, 16, FTW_PHYS) != 0)
		abort();
	for (uint32_t i = 0; i < recorder.r.object_count; i++)
		event(RECORDED_SYNC, "before")->object = i;
	recorder.r.first = recorder.r.count;
}

void recorder_mark(uint64_t number)
{
	if (recorder.on)
		event(RECORDED_MARK, "mark")->length = number;
}

struct recording recorder_stop(void)
{
	recorder.on = false;
	return recorder.r;
}

void recording_free(struct recording *r)
{
	for (size_t i = 0; i < r->count; i++) {
		free(r->events[i].name);
		free(r->events[i].new_name);
		free(r->events[i].bytes);
	}
	free(r->events);
	free(r->objects);
	memset(r, 0, sizeof(*r));
}

/* ---- the calls ---- */

/* R: the result, which is what the call itself gave; errno stays. */
#define WRAP(TYPE, NAME, PARAMETERS, ARGUMENTS, NOTE)                                              \
	TYPE __real_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS                                                              \
	{                                                                                          \
		TYPE r = __real_##NAME ARGUMENTS;                                                  \
		int errnum = errno;                                                                \
		if (recorder.on && r >= 0)                                                         \
			NOTE;                                                                      \
		errno = errnum;                                                                    \
		return r;                                                                          \
	}

WRAP(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n),
     note_data("write", fd, (uint64_t)(lseek(fd, 0, SEEK_CUR) - r), (uint64_t)r))
WRAP(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at),
     note_data("pwrite", fd, (uint64_t)at, (uint64_t)r))
WRAP(ssize_t, pwrite64, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at),
     note_data("pwrite", fd, (uint64_t)at, (uint64_t)r))
WRAP(ssize_t, copy_file_range, (int in, off_t *from, int out, off_t *to, size_t n, unsigned flags),
     (in, from, out, to, n, flags),
     note_data("copy_file_range", out, (uint64_t)((to ? *to : lseek(out, 0, SEEK_CUR)) - r),
	       (uint64_t)r))
WRAP(int, fsync, (int fd), (fd), note_file(RECORDED_SYNC, "fsync", fd, 0, 0))
WRAP(int, fdatasync, (int fd), (fd), note_file(RECORDED_SYNC, "fdatasync", fd, 0, 0))
WRAP(int, ftruncate, (int fd, off_t size), (fd, size),
     note_file(RECORDED_SIZE, "ftruncate", fd, (uint64_t)size, 0))
WRAP(int, ftruncate64, (int fd, off_t size), (fd, size),
     note_file(RECORDED_SIZE, "ftruncate", fd, (uint64_t)size, 0))
WRAP(int, futimens, (int fd, const struct timespec times[2]), (fd, times),
     note_file(RECORDED_TIME, "futimens", fd, 0, 0))
WRAP(int, rename, (const char *from, const char *to), (from, to),
     note_rename("rename", AT_FDCWD, from, AT_FDCWD, to))
WRAP(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to),
     note_rename("renameat", a, from, b, to))
WRAP(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
     (a, from, b, to, flags), note_rename("renameat2", a, from, b, to))
WRAP(int, unlink, (const char *path), (path), note_gone("unlink", AT_FDCWD, path))
WRAP(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags),
     note_gone("unlinkat", dir, path))
WRAP(int, rmdir, (const char *path), (path), note_gone("rmdir", AT_FDCWD, path))
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), note_new("mkdir", AT_FDCWD, path))
WRAP(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode),
     note_new("mkdirat", dir, path))

/* The mode is no matter of order here: it is always there. */
static void note_mode(int fd)
{
	struct stat st;
	uint32_t object = object_of_fd(fd, &st);

	if (object != UNKNOWN)
		recorder.r.objects[object].mode = st.st_mode;
}
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode), note_mode(fd))

/* A size that only grows is what a fallocate without KEEP_SIZE gives. */
static void note_allocated(int fd, int mode, off_t at, off_t n)
{
	struct stat st;

	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		note_file(RECORDED_ZERO, "fallocate", fd, (uint64_t)at, (uint64_t)n);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && fstat(fd, &st) == 0)
		note_file(RECORDED_SIZE, "fallocate", fd, (uint64_t)st.st_size, 0);
}
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
     note_allocated(fd, mode, at, n))
WRAP(int, fallocate64, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n),
     note_allocated(fd, mode, at, n))
WRAP(int, posix_fallocate, (int fd, off_t at, off_t n), (fd, at, n),
     r ? (void)0 : note_allocated(fd, 0, at, n))
WRAP(int, posix_fallocate64, (int fd, off_t at, off_t n), (fd, at, n),
     r ? (void)0 : note_allocated(fd, 0, at, n))

/* FICLONE is the only one in use: all of the other file's bytes, and its size. */
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct stat st;
	va_list ap;

	va_start(ap, request);
	int argument = va_arg(ap, int), r = __real_ioctl(fd, request, argument), errnum = errno;
	va_end(ap);
	if (recorder.on && r >= 0 && fstat(fd, &st) == 0) {
		note_file(RECORDED_SIZE, "ioctl", fd, (uint64_t)st.st_size, 0);
		note_data("ioctl", fd, 0, (uint64_t)st.st_size);
	}
	errno = errnum;
	return r;
}

static bool is_there(int dir, const char *path)
{
	struct stat st;

	return fstatat(dir, path, &st, 0) == 0;
}

static void note_open(int fd, int dir, const char *path, int flags, bool was_there)
{
	if (fd < 0)
		return;
	if (!was_there && flags & O_CREAT)
		note_new("open", dir, path);
	else if (flags & O_TRUNC)
		note_file(RECORDED_SIZE, "open", fd, 0, 0);
}

#define WRAP_OPEN(NAME, PARAMETERS, DIR, ARGUMENTS)                                                \
	int __real_##NAME PARAMETERS;                                                              \
	int __wrap_##NAME PARAMETERS;                                                              \
	int __wrap_##NAME PARAMETERS                                                               \
	{                                                                                          \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode_t mode = flags & O_CREAT ? (mode_t)va_arg(ap, unsigned) : 0;                  \
		va_end(ap);                                                                        \
		const bool was_there = recorder.on && is_there(DIR, path);                         \
		int fd = __real_##NAME ARGUMENTS, errnum = errno;                                  \
		if (recorder.on)                                                                   \
			note_open(fd, DIR, path, flags, was_there);                                \
		errno = errnum;                                                                    \
		return fd;                                                                         \
	}
WRAP_OPEN(open, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
WRAP_OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, (path, flags, mode))
WRAP_OPEN(openat, (int dir, const char *path, int flags, ...), dir, (dir, path, flags, mode))
WRAP_OPEN(openat64, (int dir, const char *path, int flags, ...), dir, (dir, path, flags, mode))
