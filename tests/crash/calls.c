/*
 * calls.c - an LD_PRELOAD that ends a process at one of its system calls
 *
 * Counted are the calls that change a file or a directory, or make it durable; those on standard
 * descriptors and on what is neither a file nor a directory are not. From the environment:
 *
 *   CRASH_AT     which one, from 1 on; 0 or not set: none
 *   CRASH_ONLY   count calls of that name alone, such as rename
 *   CRASH_HOW    torn: whole sectors of what is to be written come first; otherwise nothing does
 *   CRASH_COUNT  a file that is there: it becomes as long as the number of calls so far
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR 512

static atomic_ulong calls;
static unsigned long at;
static const char *only, *count_file;
static bool torn;

__attribute__((constructor)) static void begin(void)
{
	const char *number = getenv("CRASH_AT");

	at = number ? strtoul(number, NULL, 10) : 0;
	only = getenv("CRASH_ONLY");
	torn = getenv("CRASH_HOW") && strcmp(getenv("CRASH_HOW"), "torn") == 0;
	count_file = getenv("CRASH_COUNT");
}

static bool is_counted(int fd)
{
	struct stat st;

	return fd == AT_FDCWD ||
	       (fd > 2 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)));
}

/* Whether it is this call's turn. */
static bool turn(const char *name, int fd)
{
	unsigned long n;

	if ((only && strcmp(only, name) != 0) || !is_counted(fd))
		return false;
	n = atomic_fetch_add(&calls, 1) + 1;
	if (count_file)
		syscall(SYS_truncate, count_file, (off_t)n);
	return n == at;
}

static void end(void)
{
	syscall(SYS_kill, getpid(), SIGKILL);
}

/* Of n bytes at that offset, those up to the last end of a sector. */
static size_t whole_sectors(size_t n, off_t offset)
{
	off_t end = (offset + (off_t)n) / SECTOR * SECTOR;

	return end > offset ? (size_t)(end - offset) : 0;
}

/* Offsets are of 64 bits, as meson has everything built: pwrite() here is the symbol pwrite64.
 *
 * The real one is called by number since the arguments are the kernel's. */
#define CALL(fd, name, number, ...)                                                                \
	do {                                                                                       \
		if (turn(name, fd))                                                                \
			end();                                                                     \
		return syscall(number, __VA_ARGS__);                                               \
	} while (0)

ssize_t write(int fd, const void *buf, size_t n)
{
	if (turn("write", fd)) {
		if (torn)
			syscall(SYS_write, fd, buf, whole_sectors(n, lseek(fd, 0, SEEK_CUR)));
		end();
	}
	return syscall(SYS_write, fd, buf, n);
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t offset)
{
	if (turn("pwrite", fd)) {
		if (torn)
			syscall(SYS_pwrite64, fd, buf, whole_sectors(n, offset), offset);
		end();
	}
	return syscall(SYS_pwrite64, fd, buf, n, offset);
}

int ftruncate(int fd, off_t size)
{
	CALL(fd, "ftruncate", SYS_ftruncate, fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	CALL(fd, "fallocate", SYS_fallocate, fd, mode, offset, length);
}

int fsync(int fd)
{
	CALL(fd, "fsync", SYS_fsync, fd);
}

int fdatasync(int fd)
{
	CALL(fd, "fsync", SYS_fdatasync, fd);
}

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t n, unsigned flags)
{
	CALL(out, "copy", SYS_copy_file_range, in, in_at, out, out_at, n, flags);
}

int rename(const char *from, const char *to)
{
	CALL(AT_FDCWD, "rename", SYS_rename, from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	CALL(AT_FDCWD, "rename", SYS_renameat, from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	CALL(AT_FDCWD, "rename", SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int unlink(const char *path)
{
	CALL(AT_FDCWD, "unlink", SYS_unlink, path);
}

int unlinkat(int dir, const char *path, int flags)
{
	CALL(AT_FDCWD, "unlink", SYS_unlinkat, dir, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
	CALL(AT_FDCWD, "mkdir", SYS_mkdir, path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	CALL(AT_FDCWD, "mkdir", SYS_mkdirat, dir, path, mode);
}

int rmdir(const char *path)
{
	CALL(AT_FDCWD, "rmdir", SYS_rmdir, path);
}

int fchmod(int fd, mode_t mode)
{
	CALL(fd, "fchmod", SYS_fchmod, fd, mode);
}
