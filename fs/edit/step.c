/* step.c - the changes of the overlay that one request makes, as one */
#include "step.h"

#include "handles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void edit_step_add(struct edit_step *s, struct sft_change change)
{
	if (s->count == s->capacity) {
		size_t capacity = s->capacity ? s->capacity * 2 : 8;
		struct sft_change *more = realloc(s->changes, capacity * sizeof(*more));
		if (!more) {
			s->failed = true;
			return;
		}
		s->changes = more;
		s->capacity = capacity;
	}
	s->changes[s->count++] = change;
}

/* Its views go on being what they are: it has no dtype and shape of a committed name any more. */
static void declare_as_shown(struct edit_step *s, uint32_t id, const struct sft_entry *e)
{
	edit_step_add(s, (struct sft_change){ .kind = SFT_DECLARE,
					      .id = id,
					      .dtype = (enum sft_dtype)e->dtype,
					      .shape = e->shape,
					      .rank = e->rank });
}

void edit_step_remove(struct fs *fs, struct edit_step *s, uint32_t entry)
{
	uint32_t id = tree_entry(fs->tree, entry)->id;
	const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
	if (!fs_is_open(fs, entry)) {
		edit_step_add(s, (struct sft_change){ .kind = SFT_REMOVE, .id = id });
		return;
	}
	if (!e->scratch)
		declare_as_shown(s, id, e);
	char *key = s->keys[s->hidden++];
	edit_step_add(s, (struct sft_change){ .kind = SFT_RENAME,
					      .id = id,
					      .name = key,
					      .name_len = fs_key_hidden(fs, key),
					      .scratch = true,
					      .shard = SFT_SHARD_AUTO });
}

void edit_step_rename(struct edit_step *s, uint32_t id, const struct sft_buf *name, bool scratch,
		      uint32_t shard)
{
	s->failed = s->failed || name->failed;
	edit_step_add(s, (struct sft_change){ .kind = SFT_RENAME,
					      .id = id,
					      .name = name->data ? name->data : "",
					      .name_len = name->len,
					      .scratch = scratch,
					      .shard = shard });
}

void edit_step_no_metadata(struct fs *fs, struct edit_step *s, uint32_t parent)
{
	static const struct sft_metadata none;
	for (uint32_t i = 0; i < sft_checkpoint_shards(fs_checkpoint(fs)); i++) {
		bool concerned =
			fs->opt->layout != TREE_FILES || tree_entry(fs->tree, parent)->id == i;
		if (concerned && sft_overlay_metadata(fs->overlay, i)->present)
			edit_step_add(s, (struct sft_change){ .kind = SFT_SET_METADATA,
							      .shard = i,
							      .metadata = &none });
	}
}

int edit_step_make(struct fs *fs, struct edit_step *s, struct sft_error *err)
{
	if (s->failed)
		return -ENOMEM;
	return sft_overlay_change(fs->overlay, s->changes, s->count, err);
}

void edit_step_free(struct edit_step *s)
{
	free(s->changes);
	*s = (struct edit_step){ 0 };
}
