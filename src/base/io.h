/* io.h - system calls that finish (EINTR, short transfers); they return -errno */
#ifndef SFT_IO_H
#define SFT_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Up to n bytes from where the descriptor is, fewer only at the end; how many. */
ssize_t io_read(int fd, void *buf, size_t n);
int io_pread(int fd, void *buf, size_t n, uint64_t offset);	   /* all, or -EIO at the end */
int io_pwrite(int fd, const void *buf, size_t n, uint64_t offset); /* all of it */
int io_fsync(int fd);
int io_fdatasync(int fd);
int io_ftruncate(int fd, uint64_t size);
int io_openat(int dir, const char *path, int flags, mode_t mode); /* the descriptor; O_CLOEXEC */
int io_renameat(int dir, const char *from, const char *to);	  /* both in that directory */
int io_unlinkat(int dir, const char *path, int flags);
int io_mkdir(const char *path, mode_t mode);
int io_flock(int fd, int operation);
/* Copy a range between files, in the kernel where that works. Reports through `step` (may be NULL)
 * after each piece of at most 8 MiB or so. */
int io_copy(int in, uint64_t in_offset, int out, uint64_t out_offset, uint64_t n,
	    void (*step)(void *ctx, uint64_t n), void *ctx);
int io_fsync_dir(const char *path);

#endif
