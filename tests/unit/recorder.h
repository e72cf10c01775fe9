/*
 * recorder.h - the calls by which a run changes its files, noted so that what was on the disk at
 * any moment can be made again
 *
 * Link with recorder.c and --wrap for each call (tests/unit/meson.build). What is below one
 * directory is watched, from recorder_start() to recorder_stop(). Files and directories are
 * numbered, 0 is the directory itself: a number stays with its file whatever that is called.
 */
#ifndef RECORDER_H
#define RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum recorded_kind {
	RECORDED_DATA,	 /* bytes at offset */
	RECORDED_SIZE,	 /* the file is `offset` bytes long now */
	RECORDED_ZERO,	 /* [offset, offset + length) are zeros; the size stays */
	RECORDED_TIME,	 /* nothing but the modification time was set */
	RECORDED_SYNC,	 /* of a file, or of a directory's names */
	RECORDED_LINK,	 /* object got the name `name` in directory `dir` */
	RECORDED_UNLINK, /* `name` is no longer in `dir` */
	RECORDED_RENAME, /* object: `name` in `dir` became `new_name` in `new_dir` */
	RECORDED_MARK,	 /* recorder_mark(): `length` is its number */
};

struct recorded {
	enum recorded_kind kind;
	const char *call; /* for messages */
	uint32_t object, dir, new_dir;
	char *name, *new_name;
	uint64_t offset, length;
	unsigned char *bytes;
	struct timespec mtime; /* of the object, afterwards */
};

struct recording {
	struct recorded *events;
	size_t count;
	size_t first; /* those before it make what was there at the start, durable */
	struct recorded_object {
		dev_t dev;
		ino_t ino;
		mode_t mode;
	} * objects;
	uint32_t object_count;
};

/* What lies below `root` is taken for durable. Each file gets a second name in the directory
 * `stash`, its number, so that its inode can be used again; NULL: none. */
void recorder_start(const char *root, const char *stash);
/* Note a moment. */
void recorder_mark(uint64_t number);
/* The caller's; free with recording_free(). */
struct recording recorder_stop(void);
void recording_free(struct recording *r);

#endif
