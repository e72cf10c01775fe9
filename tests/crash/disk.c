/*
 * disk.c - a disk that writes down what happens to it: crash-disk IMAGE LOG MNT
 *
 * MNT/disk is IMAGE, to be put under a loop device with --direct-io=on, so that each write and each
 * flush of the file system on it arrives here. LOG gets them in their order, with the data. What is
 * written to MNT/mark goes into LOG as well: so a test says what had been acknowledged by then.
 * power.py makes disks from the log as a power cut may leave them.
 *
 * It runs in the foreground, in one thread: the order of the log is the order of the disk.
 */
#define FUSE_USE_VERSION 34
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* A record of the log; `length` bytes follow. */
struct record {
	uint32_t kind; /* 'w' a write, 'f' a flush, 'm' a mark */
	uint32_t length;
	uint64_t offset;
};

static int image, event_log;
static off_t image_size;

static int note(uint32_t kind, const char *data, size_t length, off_t offset)
{
	struct record r = { kind, (uint32_t)length, (uint64_t)offset };
	struct iovec parts[] = { { &r, sizeof(r) }, { (void *)(uintptr_t)data, length } };
	ssize_t n = writev(event_log, parts, data ? 2 : 1);

	return n == (ssize_t)(sizeof(r) + (data ? length : 0)) ? 0 : -EIO;
}

static int is_disk(const char *path)
{
	return strcmp(path, "/disk") == 0;
}

static int disk_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	memset(st, 0, sizeof(*st));
	st->st_nlink = 1;
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0755;
		return 0;
	}
	if (!is_disk(path) && strcmp(path, "/mark") != 0)
		return -ENOENT;
	st->st_mode = S_IFREG | 0600;
	st->st_size = is_disk(path) ? image_size : 0;
	return 0;
}

static int disk_open(const char *path, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	return 0;
}

static int disk_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	return is_disk(path) && size != image_size ? -EPERM : 0;
}

static int disk_read(const char *path, char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	ssize_t n = is_disk(path) ? pread(image, buf, size, offset) : 0;

	return n < 0 ? -errno : (int)n;
}

static int disk_write(const char *path, const char *buf, size_t size, off_t offset,
		      struct fuse_file_info *fi)
{
	int r;

	if (!is_disk(path)) {
		r = note('m', buf, size, 0);
		return r < 0 ? r : (int)size;
	}
	if (offset + (off_t)size > image_size)
		return -ENOSPC;
	r = note('w', buf, size, offset);
	if (r < 0)
		return r;
	return pwrite(image, buf, size, offset) == (ssize_t)size ? (int)size : -EIO;
}

static int disk_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	return is_disk(path) ? note('f', NULL, 0, 0) : 0;
}

/* Discarding and zeroing: the loop device writes zeros then, or does without. */
static int disk_fallocate(const char *path, int mode, off_t offset, off_t length,
			  struct fuse_file_info *fi)
{
	return -EOPNOTSUPP;
}

static const struct fuse_operations operations = {
	.getattr = disk_getattr,
	.open = disk_open,
	.truncate = disk_truncate,
	.read = disk_read,
	.write = disk_write,
	.fsync = disk_fsync,
	.fallocate = disk_fallocate,
};

int main(int argc, char **argv)
{
	char *arguments[] = { argv[0], (char[]){ "-f" }, (char[]){ "-s" }, argv[argc - 1], NULL };
	struct stat st;

	if (argc != 4) {
		fprintf(stderr, "usage: crash-disk IMAGE LOG MNT\n");
		return 2;
	}
	image = open(argv[1], O_RDWR | O_CLOEXEC);
	event_log = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	if (image < 0 || event_log < 0 || fstat(image, &st) < 0) {
		perror(argv[image < 0 ? 1 : 2]);
		return 1;
	}
	image_size = st.st_size;
	return fuse_main(4, arguments, &operations, NULL);
}
