/* checkpoint.h - a checkpoint while it is opened; private to the library */
#ifndef SFT_CHECKPOINT_H
#define SFT_CHECKPOINT_H

#include "notes.h"
#include "sft.h"
#include "weight_map.h"

#include <errno.h>

struct sft_checkpoint {
	char *path;
	char *index_path;
	bool is_directory;
	unsigned flags;
	struct sft_shard *shards;
	struct sft_file **files; /* the shards', owned */
	char **names;		 /* the shards', owned */
	size_t shard_count, missing;
	const struct sft_tensor **tensors;
	size_t count;
	uint64_t nbytes;
	size_t settled; /* names in two shards, where the index says which */
	struct notes warnings;
};

/* Records -ENOMEM and returns it. */
static inline int checkpoint_no_memory(struct sft_error *err)
{
	return sft_fail(err, ENOMEM, "no memory");
}
/* Make ck->tensors out of the opened shards. EBADMSG where two shards claim one name and nothing
 * settles it. */
int checkpoint_merge(struct sft_checkpoint *ck, const struct weight_map *map,
		     struct sft_error *err);

#endif
