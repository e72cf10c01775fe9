/*
 * inplace_room.c - room for what is written into a source that has holes, or shares blocks
 *
 * Overwriting takes room where nothing is allocated, and where a block is another file's too. Once
 * the first byte is written a full disk would leave a mixture that only more room can mend. So the
 * room is taken before: holes are allocated, shared blocks copied, which changes no byte. A source
 * that needs none of it, as nearly all do, is not touched.
 */
#include "commit.h"
#include "io.h"
#include "num.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXTENTS 32

/* Bytes that a file system which never overwrites has to have left, besides twice what is written:
 * it needs more for its trees, and how much cannot be asked. */
#define SLACK (64u << 20)

/* ---- what a range needs ---- */

/* Widen [*at, *end) to whole blocks, but not beyond the file. */
static void align(const struct inplace_room *room, uint64_t *at, uint64_t *end)
{
	*at -= *at % room->block;
	*end += (room->block - *end % room->block) % room->block;
	if (*end > room->size)
		*end = room->size;
}

/* Holes as lseek(2) tells them. What it cannot tell has none. */
static void measure_holes(struct inplace_room *room, uint64_t at, uint64_t end)
{
	while (at < end) {
		off_t data = lseek(room->fd, (off_t)at, SEEK_DATA), hole;
		const bool none = data < 0 && errno == ENXIO;

		if (data < 0 && !none)
			return;
		if (none || (uint64_t)data > end)
			data = (off_t)end;
		room->need += (uint64_t)data - at;
		if ((uint64_t)data >= end)
			return;
		hole = lseek(room->fd, data, SEEK_HOLE);
		if (hole < 0)
			return;
		at = (uint64_t)hole;
	}
}

/* Count what lies between `at` and the extent, and the extent if it is shared. */
static uint64_t measure_extent(struct inplace_room *room, const struct fiemap_extent *e,
			       uint64_t at, uint64_t end)
{
	const uint64_t begin = e->fe_logical > at ? e->fe_logical : at;
	uint64_t after = e->fe_logical + e->fe_length;

	if (begin >= end) {
		room->need += end - at;
		return end;
	}
	after = after < end ? after : end;
	room->need += begin - at;
	if (e->fe_flags & FIEMAP_EXTENT_SHARED && after > begin) {
		room->need += after - begin;
		room->shared = true;
	}
	return after > at ? after : at;
}

/* False where the file system does not list extents. */
static bool measure_extents(struct inplace_room *room, uint64_t at, uint64_t end)
{
	union {
		struct fiemap map;
		char bytes[sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent)];
	} u;

	while (at < end) {
		const uint64_t before = at;
		bool last = false;

		memset(&u.map, 0, sizeof(u.map));
		u.map.fm_start = at;
		u.map.fm_length = end - at;
		u.map.fm_flags = FIEMAP_FLAG_SYNC;
		u.map.fm_extent_count = EXTENTS;
		if (TEMP_FAILURE_RETRY(ioctl(room->fd, FS_IOC_FIEMAP, &u.map)) < 0)
			return false;
		for (uint32_t i = 0; i < u.map.fm_mapped_extents && at < end; i++) {
			at = measure_extent(room, &u.map.fm_extents[i], at, end);
			last = u.map.fm_extents[i].fe_flags & FIEMAP_EXTENT_LAST;
		}
		/* Nothing is mapped from here to the end. */
		if (last || u.map.fm_mapped_extents < EXTENTS || at == before) {
			room->need += end - at;
			return true;
		}
	}
	return true;
}

static void measure(struct inplace_room *room, uint64_t at, uint64_t end)
{
	const uint64_t need = room->need;

	align(room, &at, &end);
	if (room->copies) {
		room->need += end - at;
	} else if (!measure_extents(room, at, end)) {
		room->need = need;
		measure_holes(room, at, end);
	}
}

/* It shall still be the file that was opened, and allocating changes its time. */
static int put_back_time(const struct inplace_room *room)
{
	const struct timespec times[] = { { .tv_nsec = UTIME_OMIT }, room->mtime };

	return futimens(room->fd, times) < 0 ? -errno : 0;
}

/* Take the room of a range. EOPNOTSUPP where that cannot be. */
static int take(const struct inplace_room *room, uint64_t at, uint64_t end)
{
	int r = 0, back;

	align(room, &at, &end);
	if (end <= at)
		return 0;
	if (room->shared && TEMP_FAILURE_RETRY(fallocate(room->fd, FALLOC_FL_UNSHARE_RANGE,
							 (off_t)at, (off_t)(end - at))) < 0)
		r = -errno;
	if (r == 0 && TEMP_FAILURE_RETRY(fallocate(room->fd, 0, (off_t)at, (off_t)(end - at))) < 0)
		r = -errno;
	/* At once: a process that dies in between leaves a source that seems to have changed. */
	back = put_back_time(room);
	if (r == -ENOSYS)
		r = -EOPNOTSUPP;
	return r < 0 ? r : back;
}

/* ---- of a shard ---- */

static int measure_piece(void *ctx, const struct commit_piece *p, struct sft_error *err)
{
	struct inplace_room *room = ctx;
	const uint64_t end = p->out + p->length;

	(void)err;
	if (p->kind == SFT_REGION_STAGED) {
		measure(room, p->out, end);
	} else if (p->kind == SFT_REGION_ZERO) { /* a hole, but for the ends */
		measure(room, p->out, p->out + 1);
		measure(room, end - 1, end);
	}
	return 0;
}

static int take_piece(void *ctx, const struct commit_piece *p, struct sft_error *err)
{
	const uint64_t end = p->out + p->length;
	int r = 0;

	(void)err;
	if (p->kind == SFT_REGION_STAGED) {
		r = take(ctx, p->out, end);
	} else if (p->kind == SFT_REGION_ZERO) {
		r = take(ctx, p->out, p->out + 1);
		if (r == 0)
			r = take(ctx, end - 1, end);
	}
	return r;
}

/* Those that write what is overwritten to another place. */
static bool never_overwrites(int fd)
{
	static const unsigned types[] = {
		0x9123683e, /* btrfs */
		0x2fc12fc1, /* ZFS */
		0xca451a4e, /* bcachefs */
		0x00003434, /* NILFS */
		0xf2f52010, /* F2FS */
	};
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return false;
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		if ((unsigned)st.f_type == types[i])
			return true;
	}
	return false;
}

int inplace_room_measure(struct inplace_room *room, const struct commit_job *job,
			 const struct plan_shard *s, struct sft_error *err)
{
	struct stat st;

	if (fstat(room->fd, &st) < 0)
		return sft_fail(err, errno, "cannot be looked at: %s", strerror(errno));
	room->dev = st.st_dev;
	room->mtime = st.st_mtim;
	room->size = (uint64_t)st.st_size;
	room->block = st.st_blksize > 0 ? (uint32_t)st.st_blksize : 4096;
	room->copies = never_overwrites(room->fd);
	return commit_walk(job->ov, s, measure_piece, room, err);
}

/* Bytes that we may still write there. */
static int free_space(int fd, uint64_t *bytes)
{
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return -errno;
	/* Some file systems do not tell. */
	if (st.f_blocks == 0 ||
	    !sft_mul(geteuid() == 0 ? st.f_bfree : st.f_bavail, (uint64_t)st.f_bsize, bytes))
		*bytes = UINT64_MAX;
	return 0;
}

int inplace_room_refuse(const struct inplace_room *rooms, size_t count, const char **why,
			struct sft_error *err)
{
	for (size_t i = 0; i < count; i++) {
		const struct inplace_room *room = &rooms[i];
		uint64_t need = 0, have = 0;
		int r;

		for (size_t k = 0; k < count; k++) {
			if (rooms[k].dev == room->dev && !sft_add(need, rooms[k].need, &need))
				need = UINT64_MAX;
		}
		if (need == 0)
			continue;
		r = free_space(room->fd, &have);
		if (r < 0)
			return sft_fail(err, -r, "cannot find out how much space is free: %s",
					strerror(-r));
		if (room->copies && (have < SLACK || (have - SLACK) / 2 < need))
			*why = "this file system has too little room left to overwrite a file for "
			       "sure: writing a new file";
		else if (!room->copies && have < need)
			return sft_fail(err, ENOSPC,
					"holes and shared blocks of the source would take %" PRIu64
					" bytes when they are written to, and %" PRIu64
					" are free; free some, or have it written elsewhere by "
					"safetensorfs recover SOURCE -o output=PATH",
					need, have);
	}
	return 0;
}

int inplace_room_take(struct inplace_room *room, const struct commit_job *job,
		      const struct plan_shard *s, const char **why, struct sft_error *err)
{
	int r;

	if (room->need == 0 || room->copies)
		return 0;
	if (put_back_time(room) < 0) {
		*why = "the source has holes or shared blocks, and is somebody else's: writing a "
		       "new file";
		return 0;
	}
	r = commit_walk(job->ov, s, take_piece, room, NULL);
	if (r == -EOPNOTSUPP) {
		*why = "the source has holes or shared blocks that this file system does not "
		       "allocate: writing a new file";
		return 0;
	}
	/* Nor must a power cut take it away. */
	r = r < 0 ? r : io_fsync(room->fd);
	return r < 0 ? sft_fail(err, -r, "cannot make room for what is written to it: %s",
				strerror(-r))
		     : 0;
}
