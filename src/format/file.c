/* file.c - open one file: validate its header, map it if there is room for that */
#include "file.h"
#include "hash.h"
#include "hints.h"
#include "num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

/* Bytes of address space that a mapping has to leave where that is limited. */
#define MAP_RESERVE (256u << 20)

struct sft_file {
	char *path;
	int fd;
	struct stat st;
	const char *map; /* of st.st_size bytes, or NULL */
	uint64_t data_offset;
	uint64_t header_hash;
	struct sft_index *index;
};

int sft_file_read(const struct sft_file *file, void *buf, size_t n, uint64_t offset,
		  struct sft_error *err)
{
	char *p = buf;
	while (n) {
		ssize_t r = pread(file->fd, p, n, (off_t)offset);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return sft_fail(err, errno, "cannot read at byte %llu: %s",
					(unsigned long long)offset, strerror(errno));
		if (r == 0)
			return sft_fail(err, EIO, "ends at byte %llu: it was truncated",
					(unsigned long long)offset);
		p += r;
		n -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}

bool sft_file_is_cold(const struct sft_file *file, uint64_t offset)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	return preadv2(file->fd, &iov, 1, (off_t)offset, RWF_NOWAIT) < 0 && errno == EAGAIN;
}

/* Read and validate the header. It is parsed from a copy, never from the mapping: whoever truncates
 * the file while we look at it must not be able to kill us. */
static int read_header(struct sft_file *file, uint32_t shard, struct sft_error *err)
{
	uint64_t size = (uint64_t)file->st.st_size;
	if (size < 8)
		return sft_fail(err, EBADMSG,
				"shorter than 8 bytes (it has %llu): no safetensors file",
				(unsigned long long)size);
	unsigned char length[8];
	int r = sft_file_read(file, length, sizeof(length), 0, err);
	if (r < 0)
		return r;
	uint64_t n = sft_le64(length);
	if (n == 0)
		return sft_fail(err, EBADMSG, "header length is 0");
	if (n > SFT_HEADER_MAX)
		return sft_fail(err, EBADMSG, "header length %llu is above %u: no safetensors file",
				(unsigned long long)n, SFT_HEADER_MAX);
	if (n > size - 8)
		return sft_fail(err, EBADMSG,
				"header length %llu is past the end of the file (%llu bytes): cut "
				"short, or no safetensors file",
				(unsigned long long)n, (unsigned long long)size);
	char *json = malloc(n);
	if (!json)
		return sft_fail(err, ENOMEM, "no memory for a header of %llu bytes",
				(unsigned long long)n);
	r = sft_file_read(file, json, n, 8, err);
	if (r == 0)
		r = sft_header_parse(json, n, size - 8 - n, shard, &file->index, err);
	if (r == 0)
		file->header_hash = hash_bytes(json, n, hash_bytes(length, sizeof(length), 0));
	free(json);
	file->data_offset = 8 + n;
	return r;
}

/*
 * Whether a mapping of that size leaves enough of a limited address space: threads' stacks, buffers
 * and the next file's header have to fit as well. (What fails later would be libfuse's threads.)
 */
static bool leaves_room(size_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return true;
	if (size > SIZE_MAX - MAP_RESERVE)
		return false;
	void *probe = mmap(NULL, size + MAP_RESERVE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (probe == MAP_FAILED)
		return false;
	munmap(probe, size + MAP_RESERVE);
	return true;
}

/* A mapping is quicker, but nothing depends on it: where there is no room, file->map stays NULL. */
static int map_file(struct sft_file *file, struct sft_error *err)
{
	size_t size = (size_t)file->st.st_size;

	if (!leaves_room(size))
		return 0;
	void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, file->fd, 0);
	/* Where another FUSE file system bypasses the page cache, only private mappings are had. */
	if (map == MAP_FAILED && errno == ENODEV)
		map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file->fd, 0);
	/* ENODEV: this file system maps nothing at all. */
	if (map == MAP_FAILED && errno != ENOMEM && errno != EAGAIN && errno != ENODEV)
		return sft_fail(err, errno, "cannot map %llu bytes: %s", (unsigned long long)size,
				strerror(errno));
	file->map = map == MAP_FAILED ? NULL : map;
	return 0;
}

int sft_file_open(const char *path, uint32_t shard, struct sft_file **out, struct sft_error *err)
{
	/* O_NONBLOCK: a FIFO with no writer must be refused, not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	return sft_file_open_fd(fd, path, shard, out, err);
}

int sft_file_open_fd(int fd, const char *path, uint32_t shard, struct sft_file **out,
		     struct sft_error *err)
{
	struct sft_file *file = calloc(1, sizeof(*file));
	int r;
	if (!file) {
		close(fd);
		return sft_fail(err, ENOMEM, "no memory");
	}
	file->fd = fd;
	file->path = strdup(path);
	if (!file->path) {
		r = sft_fail(err, ENOMEM, "no memory");
		goto out;
	}
	if (fstat(file->fd, &file->st) < 0) {
		r = sft_fail(err, errno, "%s", strerror(errno));
		goto out;
	}
	if (!S_ISREG(file->st.st_mode)) {
		r = sft_fail(err, EINVAL, "is not a regular file");
		goto out;
	}
	r = read_header(file, shard, err);
	if (r == -EBADMSG)
		hints_of_file(file->fd, err);
	if (r < 0)
		goto out;
	r = map_file(file, err);
	if (r < 0)
		goto out;
	*out = file;
out:
	if (r < 0)
		sft_file_free(file);
	return r;
}

void sft_file_free(struct sft_file *file)
{
	if (!file)
		return;
	if (file->map)
		munmap((void *)(uintptr_t)file->map, (size_t)file->st.st_size);
	if (file->fd >= 0)
		close(file->fd);
	sft_index_free(file->index);
	free(file->path);
	free(file);
}

const struct sft_index *sft_file_index(const struct sft_file *file)
{
	return file->index;
}

const char *sft_file_path(const struct sft_file *file)
{
	return file->path;
}

const struct stat *sft_file_stat(const struct sft_file *file)
{
	return &file->st;
}

int sft_file_fd(const struct sft_file *file)
{
	return file->fd;
}

uint64_t sft_file_header_hash(const struct sft_file *file)
{
	return file->header_hash;
}

uint64_t sft_file_data_offset(const struct sft_file *file)
{
	return file->data_offset;
}

const char *sft_file_map(const struct sft_file *file)
{
	return file->map;
}
