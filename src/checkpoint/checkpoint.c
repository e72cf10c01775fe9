/* checkpoint.c - what an open checkpoint holds */
#include "checkpoint.h"

#include <stdlib.h>

void sft_checkpoint_free(struct sft_checkpoint *ck)
{
	if (!ck)
		return;
	for (size_t i = 0; i < ck->shard_count; i++) {
		if (ck->files)
			sft_file_free(ck->files[i]);
		free(ck->names[i]);
	}
	notes_free(&ck->warnings);
	free(ck->names);
	free(ck->files);
	free(ck->shards);
	free(ck->tensors);
	free(ck->index_path);
	free(ck->path);
	free(ck);
}

bool sft_checkpoint_is_directory(const struct sft_checkpoint *ck)
{
	return ck->is_directory;
}

const char *sft_checkpoint_index_path(const struct sft_checkpoint *ck)
{
	return ck->index_path;
}

const char *sft_checkpoint_path(const struct sft_checkpoint *ck)
{
	return ck->path;
}

size_t sft_checkpoint_shards(const struct sft_checkpoint *ck)
{
	return ck->shard_count;
}

const struct sft_shard *sft_checkpoint_shard(const struct sft_checkpoint *ck, size_t i)
{
	return &ck->shards[i];
}

size_t sft_checkpoint_count(const struct sft_checkpoint *ck)
{
	return ck->count;
}

const struct sft_tensor *sft_checkpoint_at(const struct sft_checkpoint *ck, size_t i)
{
	return ck->tensors[i];
}

const struct sft_tensor *sft_checkpoint_find(const struct sft_checkpoint *ck, const char *name,
					     size_t len)
{
	size_t low = 0, high = ck->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct sft_tensor *t = ck->tensors[mid];
		if (sft_name_compare(t->name, t->name_len, name, len) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == ck->count)
		return NULL;
	const struct sft_tensor *t = ck->tensors[low];
	return sft_name_compare(t->name, t->name_len, name, len) == 0 ? t : NULL;
}

uint64_t sft_checkpoint_nbytes(const struct sft_checkpoint *ck)
{
	return ck->nbytes;
}

uint64_t sft_checkpoint_offset(const struct sft_checkpoint *ck, const struct sft_tensor *t)
{
	return sft_file_data_offset(ck->files[t->shard]) + t->begin;
}

const struct sft_metadata *sft_checkpoint_metadata(const struct sft_checkpoint *ck, size_t shard)
{
	static const struct sft_metadata none;
	const struct sft_file *file = ck->shards[shard].file;

	return file ? sft_index_metadata(sft_file_index(file)) : &none;
}

struct sft_region sft_checkpoint_region(const struct sft_checkpoint *ck, const struct sft_tensor *t,
					uint64_t offset, uint64_t length)
{
	return (struct sft_region){
		.kind = SFT_REGION_SOURCE,
		.file = ck->shards[t->shard].file,
		.offset = sft_checkpoint_offset(ck, t) + offset,
		.length = length,
	};
}

const char *sft_checkpoint_warning(const struct sft_checkpoint *ck, size_t i)
{
	return notes_line(&ck->warnings, i);
}
