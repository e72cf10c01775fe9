/*
 * power_cut.h - what a disk may hold after a power cut at any moment of a recording
 *
 * What was synced is there. Of what was not, each sector of a file may be there in any of the
 * states that it had since, or not; a size may be there without the bytes, bytes in place without
 * what else the file has; a name (made, moved, removed) is kept or lost apart from the file that it
 * leads to, and until its directory is synced, whatever else is. A rename is there as a whole or
 * not at all. Of a file, what changes its size takes effect in order. That is what POSIX leaves
 * open, which is more than any file system in use does.
 */
#ifndef POWER_CUT_H
#define POWER_CUT_H

#include "recorder.h"

struct power_cut {
	const struct recording *r;
	size_t at; /* events before this one have happened */
	struct cut_object {
		unsigned char *bytes;
		uint64_t size, cap;
		struct timespec mtime;
		size_t *pending; /* events since the last sync */
		size_t pending_count;
	} * objects;
	struct cut_link {
		uint32_t dir, object;
		const char *name;
	} * links; /* durable names */
	size_t link_count;
	size_t *names; /* events of names that no sync has made durable */
	size_t name_count;
};

void power_cut_begin(struct power_cut *c, const struct recording *r);
/* Go on to before event `at`. */
void power_cut_advance(struct power_cut *c, size_t at);
void power_cut_free(struct power_cut *c);

/* One of the things that may be found then. */
struct power_state {
	struct cut_object *objects; /* `pending_count` 1: the bytes are the state's own */
	uint32_t object_count;
	struct cut_link *links;
	size_t link_count;
	const struct recording *r;
	const char *what; /* for messages */
};

#define POWER_FIXED 13u /* kinds below are what they are, those above are random */
#define POWER_ALL_KEPT 1u

/* `kind` 0: all that was not synced is lost; POWER_ALL_KEPT: nothing is, as when only the process
 * dies. Whatever is random follows from `seed`. Free with power_state_free(). */
struct power_state power_cut_state(const struct power_cut *c, unsigned kind, uint64_t seed);
void power_state_free(struct power_state *s);
/* The same for the same files, whatever led to them. */
uint64_t power_state_hash(const struct power_state *s);
/* Write it into a directory that is empty; with the inodes that the files had, if `stash` is that
 * of the recorder and not NULL. */
void power_state_write(const struct power_state *s, const char *dir, const char *stash);

#endif
