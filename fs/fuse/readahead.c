/*
 * readahead.c - from a cold disk, ask for what will be read next
 *
 * The reply is written from the mapping, and page faults read in small pieces, one after the other.
 * So before it the kernel is asked for the whole of the request, and, where requests follow each
 * other, for what lies behind it. Whether it is cold is told by a read of one byte that must not
 * wait; for cached bytes that is all that this costs.
 */
#include "readahead.h"

#include <fcntl.h>

#define AHEAD (8u << 20) /* bytes asked for after a sequential request */
/* Bytes: several threads serve one reader, so requests come out of order. */
#define NEAR (4u << 20)

/* Where the last request to a file ended, by file. Two files that share a slot only cost a guess.
 */
static uint64_t last_end(struct fs *fs, const struct sft_file *file, uint64_t end)
{
	size_t slot = ((uintptr_t)file / sizeof(void *)) % FS_READAHEAD_SLOTS;
	return atomic_exchange_explicit(&fs->last_ends[slot], end, memory_order_relaxed);
}

void fs_read_ahead(struct fs *fs, const struct sft_region *region)
{
	if (region->kind != SFT_REGION_SOURCE || region->length == 0)
		return;
	uint64_t end = region->offset + region->length, last = last_end(fs, region->file, end);
	bool sequential = region->offset + NEAR >= last && region->offset <= last + NEAR;
	uint64_t size = (uint64_t)sft_file_stat(region->file)->st_size;
	uint64_t probe = sequential ? end + AHEAD / 2 : end - 1;
	if (probe >= size)
		probe = size - 1;
	if (!sft_file_is_cold(region->file, probe) &&
	    !sft_file_is_cold(region->file, region->offset))
		return;
	posix_fadvise(sft_file_fd(region->file), (off_t)region->offset,
		      (off_t)(region->length + (sequential ? AHEAD : 0)), POSIX_FADV_WILLNEED);
}
