/* shown.c - tensors by id, as they are shown */
#include "shown.h"

#include <string.h>

static struct fs_shown from_overlay(const struct sft_entry *e)
{
	return (struct fs_shown){ .name = e->name,
				  .shape = e->shape,
				  .committed = e->committed,
				  .nbytes = e->nbytes,
				  .name_len = e->name_len,
				  .rank = e->rank,
				  .shard = e->shard,
				  .dtype = e->dtype,
				  .staged = e->staged };
}

static struct fs_shown from_checkpoint(const struct sft_tensor *t)
{
	return (struct fs_shown){ .name = t->name,
				  .shape = t->shape,
				  .committed = t,
				  .nbytes = t->nbytes,
				  .name_len = t->name_len,
				  .rank = t->rank,
				  .shard = t->shard,
				  .dtype = t->dtype };
}

struct fs_shown fs_shown(const struct fs *fs, uint32_t id)
{
	return fs->overlay ? from_overlay(sft_overlay_entry(fs->overlay, id))
			   : from_checkpoint(sft_checkpoint_at(fs->own_checkpoint, id));
}

void fs_tensor(const struct fs *fs, uint32_t id, struct view_tensor *out,
	       char reason[FS_REASON_MAX])
{
	const struct sft_checkpoint *ck = fs_checkpoint(fs);
	const struct fs_shown t = fs_shown(fs, id);
	*out = (struct view_tensor){ .name = t.name,
				     .name_len = t.name_len,
				     .shape = t.shape,
				     .rank = t.rank,
				     .dtype = t.dtype,
				     .nbytes = t.nbytes,
				     .staged = t.staged,
				     .placed = t.committed != NULL,
				     .file = "" };
	if (t.committed) {
		out->offset = sft_checkpoint_offset(ck, t.committed);
		out->begin = t.committed->begin;
		out->declared_nbytes = t.committed->nbytes;
	}
	if (fs->overlay && sft_overlay_problem(fs->overlay, id, reason, FS_REASON_MAX))
		out->problem = reason;
	if (t.shard < sft_checkpoint_shards(ck))
		out->file = sft_checkpoint_shard(ck, t.shard)->name;
}

const struct sft_metadata *fs_metadata(const struct fs *fs, uint32_t shard)
{
	return fs->overlay ? sft_overlay_metadata(fs->overlay, shard)
			   : sft_checkpoint_metadata(fs->own_checkpoint, shard);
}

void fs_totals(const struct fs *fs, size_t *tensors, uint64_t *bytes)
{
	*tensors = sft_checkpoint_count(fs_checkpoint(fs));
	*bytes = sft_checkpoint_nbytes(fs_checkpoint(fs));
	if (!fs->overlay)
		return;
	*tensors = *bytes = 0;
	for (uint32_t id = 0; id < sft_overlay_count(fs->overlay); id++) {
		const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
		if (e->live && !e->scratch) {
			*tensors += 1;
			*bytes += e->nbytes;
		}
	}
}
