/* readahead.h - from a cold disk, ask for what will be read next */
#ifndef READAHEAD_H
#define READAHEAD_H

#include "state.h"

/* Before these bytes are sent from the mapping: have them read from a cold disk in one go. Any
 * thread. */
void fs_read_ahead(struct fs *fs, const struct sft_region *region);

#endif
