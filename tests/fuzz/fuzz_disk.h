/* fuzz_disk.h - files for the fuzz target of the journal, and a disk that stops */
#ifndef FUZZ_DISK_H
#define FUZZ_DISK_H

#include "num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* A directory of this process alone, and what is in it. */
static char place[64], source[128], journal[160], blocks[160];

/* ---- a disk that stops: as if the process had died at that call ---- */

static uint32_t stop_in; /* renames and copies until then; 0: it does not */
static bool stopped;

static bool stop(void)
{
	if (stop_in && --stop_in == 0)
		stopped = true;
	return stopped;
}

/* R: what the caller gets once it has stopped. */
#define STOPPING(TYPE, NAME, PARAMETERS, ARGUMENTS, R)                                             \
	TYPE __real_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS;                                                             \
	TYPE __wrap_##NAME PARAMETERS                                                              \
	{                                                                                          \
		return stopped ? R : __real_##NAME ARGUMENTS;                                      \
	}
STOPPING(ssize_t, pwrite64, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at),
	 (ssize_t)n)
STOPPING(int, ftruncate64, (int fd, off_t size), (fd, size), 0)
STOPPING(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), 0)
STOPPING(int, rmdir, (const char *path), (path), 0)

int __real_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to)
{
	if (strcmp(to, "journal") == 0 ? stopped : stop())
		return 0;
	return __real_renameat(a, from, b, to);
}

ssize_t __real_copy_file_range(int in, off_t *from, int out, off_t *to, size_t n, unsigned flags);
ssize_t __wrap_copy_file_range(int in, off_t *from, int out, off_t *to, size_t n, unsigned flags);
ssize_t __wrap_copy_file_range(int in, off_t *from, int out, off_t *to, size_t n, unsigned flags)
{
	return stop() ? (ssize_t)n : __real_copy_file_range(in, from, out, to, n, flags);
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	mode_t mode = flags & O_CREAT ? (mode_t)va_arg(ap, unsigned) : 0;
	va_end(ap);
	if (stopped && flags & O_CREAT) {
		errno = EIO;
		return -1;
	}
	return __real_openat64(dir, path, flags, mode);
}

/* ---- files ---- */

static void remove_all(const char *path)
{
	struct dirent *e;
	DIR *d = opendir(path);
	char below[600];

	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, e->d_name);
		if (unlink(below) < 0) {
			remove_all(below);
			(void)rmdir(below);
		}
	}
	if (d)
		closedir(d);
}

/* Tensors of many blocks, all of them holes, of few, and a small one. */
static void make_source(void)
{
	static const char header[] =
		"{\"a\":{\"dtype\":\"U8\",\"shape\":[1048576],\"data_offsets\":[0,1048576]},"
		"\"b\":{\"dtype\":\"U8\",\"shape\":[100000],\"data_offsets\":[1048576,1148576]},"
		"\"c\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1148576,1148584]}}";
	unsigned char length[8];
	int fd = open(source, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	sft_put_le64(length, sizeof(header) - 1);
	REQUIRE(fd >= 0 && pwrite(fd, length, 8, 0) == 8);
	REQUIRE(pwrite(fd, header, sizeof(header) - 1, 8) == sizeof(header) - 1);
	REQUIRE(ftruncate(fd, 8 + sizeof(header) - 1 + 1148584) == 0);
	close(fd);
}

static unsigned char *get_file(const char *path, size_t *n)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return NULL;
	REQUIRE(fstat(fd, &st) == 0);
	unsigned char *bytes = malloc((size_t)st.st_size + 1);
	REQUIRE(bytes && pread(fd, bytes, (size_t)st.st_size, 0) == st.st_size);
	close(fd);
	*n = (size_t)st.st_size;
	return bytes;
}

static void put_file(const char *path, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	REQUIRE(fd >= 0 && (n == 0 || pwrite(fd, bytes, n, 0) == (ssize_t)n));
	close(fd);
}

static void make_place(void)
{
	if (*place == '\0') {
		snprintf(place, sizeof(place), "%s/sft-fuzz-XXXXXX",
			 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
		REQUIRE(mkdtemp(place));
		snprintf(source, sizeof(source), "%s/m.safetensors", place);
		snprintf(journal, sizeof(journal), "%s/.m.safetensors.safetensorfs/journal", place);
		snprintf(blocks, sizeof(blocks), "%s/.m.safetensors.safetensorfs/blocks", place);
	}
	remove_all(place);
	make_source();
}

#endif
