/* draft.c - a scratch file of the overlay that has no name */
#include "draft.h"

#include "bytes.h"
#include "keys.h"

#include <errno.h>
#include <stdlib.h>

int edit_draft_new(struct fs *fs, const struct sft_buf *text, uint32_t *draft)
{
	char key[FS_KEY_MAX];
	uint32_t id;
	int r = sft_overlay_create(fs->overlay, key, fs_key_hidden(fs, key), true, SFT_SHARD_AUTO,
				   &id, NULL);
	if (r < 0)
		return r;
	if (text && text->len)
		r = sft_overlay_write(fs->overlay, id, text->data, text->len, 0, NULL);
	if (r < 0)
		edit_draft_drop(fs, id);
	else
		*draft = id;
	return r;
}

/* Where even that fails it goes with the mount, as all scratch files do. */
void edit_draft_drop(struct fs *fs, uint32_t draft)
{
	sft_overlay_remove(fs->overlay, draft, NULL);
}

int edit_read_whole(const struct fs *fs, uint32_t id, uint64_t max, char **out, size_t *len,
		    struct sft_error *err)
{
	uint64_t n = sft_overlay_entry(fs->overlay, id)->nbytes;
	if (n > max)
		return sft_fail(err, EINVAL, "has %llu bytes, above %llu", (unsigned long long)n,
				(unsigned long long)max);
	*len = (size_t)n;
	*out = malloc(*len + 1);
	if (!*out)
		return -ENOMEM;
	int r = fs_tensor_read(fs, id, *out, *len, 0);
	if (r < 0) {
		free(*out);
		*out = NULL;
	}
	return r;
}
