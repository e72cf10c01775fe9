/* draft.h - a scratch file of the overlay that has no name; all under the change */
#ifndef DRAFT_H
#define DRAFT_H

#include "state.h"

/* A draft that holds `text` (NULL: empty). */
int edit_draft_new(struct fs *fs, const struct sft_buf *text, uint32_t *draft);
/* Drop a draft that has come to nothing. */
void edit_draft_drop(struct fs *fs, uint32_t draft);
/* All bytes of an overlay file, malloced; *out is NULL after a failure. EINVAL above `max`. */
int edit_read_whole(const struct fs *fs, uint32_t id, uint64_t max, char **out, size_t *len,
		    struct sft_error *err);

#endif
