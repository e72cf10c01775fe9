/* status.h - what .safetensorfs/status and progress show */
#ifndef STATUS_H
#define STATUS_H

#include "state.h"

void fs_status(struct fs *fs, struct sft_buf *json);
/* `.safetensorfs/progress`, for our own commands: {"done": n, "total": n, "pid_namespace": inode,
 * "staging": "...", "writers": ["path", ...]}. */
void fs_progress(struct fs *fs, struct sft_buf *json);

#endif
