/* content.h - what complete bytes of a sidecar, metadata or .npy file mean */
#ifndef CONTENT_H
#define CONTENT_H

#include "classify.h"
#include "step.h"

/*
 * Let the bytes of overlay id `from` become what `name` in its directory says: a sidecar's dtype
 * and shape, metadata, an array. `step` may have changes already, which are made along with it.
 * *entry is then the entry of the tensor, or TREE_NO_ENTRY of metadata. -EINVAL where the content
 * is bad; the old state stays, and the log says why.
 */
int edit_apply(struct fs *fs, const struct edit_name *name, const char *file_name, uint32_t from,
	       struct edit_step *step, uint32_t *entry);

#endif
