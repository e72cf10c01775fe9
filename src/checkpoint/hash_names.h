/* hash_names.h - files in a model hub's cache */
#ifndef SFT_HASH_NAMES_H
#define SFT_HASH_NAMES_H

#include "sft.h"

/* EPERM where a file of the checkpoint, or the source, lies in a hub cache's blobs/. */
int hash_names_check(const struct sft_checkpoint *ck, struct sft_error *err);

#endif
