/* classify.c - what a name in a directory means to somebody who writes a file there */
#include "classify.h"

#include "keys.h"
#include "names.h"

#include <errno.h>
#include <string.h>

static bool strip(const char *name, size_t len, const char *suffix, size_t *base)
{
	size_t n = strlen(suffix);
	if (len < n || memcmp(name + len - n, suffix, n) != 0)
		return false;
	*base = len - n;
	return true;
}

/* The tensor's or scratch file's entry of exactly this name, or TREE_NO_ENTRY. */
static uint32_t find_entry(const struct fs *fs, uint64_t parent, const char *name, size_t len)
{
	uint64_t ino = tree_lookup(fs->tree, parent, name, len);
	return ino && tree_ino_kind(ino) == TREE_TENSOR ? tree_ino_entry(ino) : TREE_NO_ENTRY;
}

void edit_classify(const struct fs *fs, uint64_t parent, const char *name, struct edit_name *out)
{
	size_t len = strlen(name), base;
	bool root = parent == tree_ino(TREE_ROOT, TREE_DIR);
	*out = (struct edit_name){ TARGET_TENSOR, tree_ino_entry(parent), len, TREE_NO_ENTRY };
	/* With layout=files a tensor's directory says its shard, and the root is none. */
	if (tree_ino_kind(parent) != TREE_DIR || (root && strcmp(name, ".safetensorfs") == 0) ||
	    (root && fs->opt->layout == TREE_FILES)) {
		out->target = TARGET_FORBIDDEN;
		return;
	}
	if (name_is_scratch(name, len)) {
		out->target = TARGET_SCRATCH;
	} else if (strcmp(name, "__metadata__.json") == 0) {
		out->target =
			root || fs->opt->layout == TREE_FILES ? TARGET_METADATA : TARGET_FORBIDDEN;
		return;
	} else if (strip(name, len, ".json", &base)) {
		out->target = TARGET_SIDECAR;
		out->base_len = base;
	} else if (strip(name, len, ".f32.npy", &base) &&
		   find_entry(fs, parent, name, base) != TREE_NO_ENTRY &&
		   find_entry(fs, parent, name, len - 4) == TREE_NO_ENTRY) {
		out->target = TARGET_F32;
		out->base_len = base;
	} else if (strip(name, len, ".npy", &base)) {
		out->target = TARGET_NPY;
		out->base_len = base;
	}
	out->entry = find_entry(fs, parent, name, out->base_len);
}

uint32_t edit_shard(const struct fs *fs, uint32_t parent)
{
	return fs->opt->layout == TREE_FILES ? tree_entry(fs->tree, parent)->id : SFT_SHARD_AUTO;
}

int edit_overlay_name(const struct fs *fs, const struct edit_name *name, const char *file_name,
		      struct sft_buf *out)
{
	int r = 0;
	if (name->target == TARGET_SCRATCH)
		fs_key_path(fs, name->parent, file_name, name->base_len, out);
	else
		r = tree_tensor_name(fs->tree, name->parent, file_name, name->base_len, out);
	return r == 0 && out->failed ? -ENOMEM : r;
}
