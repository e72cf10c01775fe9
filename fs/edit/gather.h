/* gather.h - what is written to a sidecar, metadata or .npy file; all under the change */
#ifndef GATHER_H
#define GATHER_H

#include "handles.h"
#include "state.h"

/* Give the handle of a view a draft, with what the file shows now unless it is about to be empty.
 */
int edit_draft_need(struct fs *fs, struct fs_handle *h, bool empty);
/* The file is complete, as far as its writer says: let it count. */
int edit_draft_apply(struct fs *fs, struct fs_handle *h);

#endif
