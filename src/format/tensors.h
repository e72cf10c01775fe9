/* tensors.h - what a set of tensors is made of; internal to the library */
#ifndef SFT_INDEX_H
#define SFT_INDEX_H

#include "sft.h"

struct sft_index {
	struct sft_tensor *tensors; /* point into `names` and `shapes` */
	size_t count;
	char *names;	  /* each with a NUL after it, then its other keys (has_keys) and a NUL */
	uint64_t *shapes; /* one after the other */
	struct sft_metadata metadata;
};

/* Bring the tensors into byte order of their names. ENOMEM. */
int sft_index_sort(struct sft_index *index, struct sft_error *err);

#endif
