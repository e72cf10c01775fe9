/* step.h - the changes of the overlay that one request makes, as one; all under the change */
#ifndef STEP_H
#define STEP_H

#include "keys.h"
#include "state.h"

/* The changes of the overlay that one request makes. Zero-initialise it. */
struct edit_step {
	struct sft_change *changes;
	size_t count, capacity;
	char keys[4][FS_KEY_MAX]; /* of what edit_step_remove() has hidden */
	size_t hidden;
	bool failed; /* no memory */
};
/* What the change points to stays there until the step is made. */
void edit_step_add(struct edit_step *s, struct sft_change change);
/*
 * Take the tensor or scratch file of an entry away. While it is open elsewhere, or a view of it is,
 * its bytes stay, with their dtype and shape, under a hidden key, until the last release. Its entry
 * in the tree is the caller's to remove, after the step.
 */
void edit_step_remove(struct fs *fs, struct edit_step *s, uint32_t entry);
/* Overlay id `id` gets this name. */
void edit_step_rename(struct edit_step *s, uint32_t id, const struct sft_buf *name, bool scratch,
		      uint32_t shard);
/* No metadata any more, of what the __metadata__.json of a directory shows. */
void edit_step_no_metadata(struct fs *fs, struct edit_step *s, uint32_t parent);
/* Make all the changes or none. -ENOMEM, errors of sft_overlay_change(). */
int edit_step_make(struct fs *fs, struct edit_step *s, struct sft_error *err);
/* Does not free what the changes point to. */
void edit_step_free(struct edit_step *s);

#endif
