/* content.c - complete bytes of a sidecar, metadata or .npy file become what they say */
#include "content.h"

#include "array.h"
#include "draft.h"
#include "inodes.h"
#include "log.h"
#include "mount_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIDECAR_MAX (16u << 20) /* bytes; a shape of a million dimensions would fit */

/* ---- sidecars ---- */

/* A sidecar of no tensor makes one, of zeros. */
static int create_declared(struct fs *fs, const struct edit_name *name, const char *file_name,
			   struct edit_step *step, struct sft_change declared, uint32_t *entry,
			   struct sft_error *err)
{
	struct sft_buf full = { 0 };
	struct tree_room room = { 0 };
	int r = edit_overlay_name(fs, name, file_name, &full);
	if (r == 0)
		r = tree_reserve(fs->tree, file_name, name->base_len, &room);
	if (r < 0)
		goto out;
	declared.kind = SFT_CREATE;
	declared.name = full.data ? full.data : "";
	declared.name_len = full.len;
	declared.shard = edit_shard(fs, name->parent);
	declared.declared = true;
	size_t at = step->count;
	edit_step_add(step, declared);
	r = edit_step_make(fs, step, err);
	if (r == 0)
		*entry = tree_put(fs->tree, name->parent, &room, 0, step->changes[at].id);
out:
	tree_room_free(&room);
	sft_buf_free(&full);
	return r;
}

static int declare(struct fs *fs, const struct edit_name *name, const char *file_name,
		   struct edit_step *step, struct sft_change declared, uint32_t *entry,
		   struct sft_error *err)
{
	*entry = name->entry;
	if (*entry == TREE_NO_ENTRY)
		return create_declared(fs, name, file_name, step, declared, entry, err);
	const struct tree_entry *e = tree_entry(fs->tree, *entry);
	declared.kind = SFT_DECLARE;
	declared.id = e->id;
	edit_step_add(step, declared);
	int r = edit_step_make(fs, step, err);
	if (r == 0)
		tree_set_flags(fs->tree, *entry, (uint8_t)(e->flags & ~TREE_SIDECAR_HIDDEN));
	return r;
}

static int apply_sidecar(struct fs *fs, const struct edit_name *name, const char *file_name,
			 uint32_t from, struct edit_step *step, uint32_t *entry,
			 struct sft_error *err)
{
	char *text = NULL;
	size_t len = 0;
	enum sft_dtype dtype;
	uint64_t *shape = NULL, nbytes;
	uint32_t rank;
	int r = edit_read_whole(fs, from, SIDECAR_MAX, &text, &len, err);
	if (r == 0)
		r = sft_sidecar_parse(text, len, &dtype, &shape, &rank, err);
	if (r == 0 && sft_shape_nbytes(dtype, shape, rank, &nbytes, err) < 0)
		r = -EINVAL;
	if (r == 0)
		r = declare(
			fs, name, file_name, step,
			(struct sft_change){
				.dtype = dtype, .shape = shape, .rank = rank, .nbytes = nbytes },
			entry, err);
	free(shape);
	free(text);
	return r;
}

/* ---- metadata ---- */

/* Programs write keys in an order of their own; those that were committed keep theirs. */
static int add_metadata(struct fs *fs, struct edit_step *step, uint32_t shard,
			struct sft_metadata *metadata, struct sft_error *err)
{
	const struct sft_file *file = sft_checkpoint_shard(fs_checkpoint(fs), shard)->file;
	int r = 0;
	if (file)
		r = sft_metadata_keep_order(metadata, sft_index_metadata(sft_file_index(file)),
					    err);
	if (r == 0)
		edit_step_add(step, (struct sft_change){ .kind = SFT_SET_METADATA,
							 .shard = shard,
							 .metadata = metadata });
	return r;
}

/* All shards' of a directory. */
static int set_all_metadata(struct fs *fs, const char *text, size_t len, struct edit_step *step,
			    struct sft_error *err)
{
	const struct sft_checkpoint *ck = fs_checkpoint(fs);
	size_t n = sft_checkpoint_shards(ck);
	const char **names = calloc(n + 1, sizeof(*names));
	struct sft_metadata *metadata = calloc(n + 1, sizeof(*metadata));
	int r = names && metadata ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < n; i++)
		names[i] = sft_checkpoint_shard(ck, i)->name;
	if (r == 0)
		r = sft_metadata_parse_shards(text, len, names, n, metadata, err);
	for (uint32_t i = 0; r == 0 && i < n; i++) {
		if (sft_checkpoint_shard(ck, i)->file)
			r = add_metadata(fs, step, i, &metadata[i], err);
	}
	if (r == 0)
		r = edit_step_make(fs, step, err);
	for (size_t i = 0; metadata && i < n; i++)
		sft_metadata_free(&metadata[i]);
	free(metadata);
	free(names);
	return r;
}

static int apply_metadata(struct fs *fs, uint32_t parent, uint32_t from, struct edit_step *step,
			  struct sft_error *err)
{
	struct sft_metadata metadata = { 0 };
	char *text = NULL;
	size_t len = 0;
	int r = edit_read_whole(fs, from, SFT_HEADER_MAX, &text, &len, err);
	if (r < 0)
		return r;
	if (sft_checkpoint_is_directory(fs_checkpoint(fs)) && fs->opt->layout != TREE_FILES) {
		r = set_all_metadata(fs, text, len, step, err);
	} else {
		uint32_t shard =
			fs->opt->layout == TREE_FILES ? tree_entry(fs->tree, parent)->id : 0;
		r = sft_metadata_parse(text, len, &metadata, err);
		if (r == 0)
			r = add_metadata(fs, step, shard, &metadata, err);
		if (r == 0)
			r = edit_step_make(fs, step, err);
		sft_metadata_free(&metadata);
	}
	free(text);
	/* Before, one that is being created shows although it is not there yet. */
	if (r == 0)
		fs_mark_metadata(fs);
	return r;
}

/* ---- numpy ---- */

/* The tensor `id` with its name and place in the tree, instead of the one that has them. */
static int put_in_place(struct fs *fs, const struct edit_name *name, const char *file_name,
			uint32_t id, struct edit_step *step, uint32_t *entry, struct sft_error *err)
{
	struct sft_buf full = { 0 };
	struct tree_room room = { 0 };
	uint32_t old = name->entry, shard = edit_shard(fs, name->parent);
	uint8_t flags = 0;
	int r = 0;
	if (old == TREE_NO_ENTRY) {
		r = edit_overlay_name(fs, name, file_name, &full);
	} else { /* its name may have had to be cut */
		const struct sft_entry *e =
			sft_overlay_entry(fs->overlay, tree_entry(fs->tree, old)->id);
		sft_buf_add(&full, e->name, e->name_len);
		shard = e->shard;
		flags = tree_entry(fs->tree, old)->flags;
		edit_step_remove(fs, step, old);
		r = fs_inode_inherit_reserve(fs, old);
	}
	if (r == 0)
		r = tree_reserve(fs->tree, file_name, name->base_len, &room);
	edit_step_rename(step, id, &full, false, shard);
	if (r == 0)
		r = edit_step_make(fs, step, err);
	if (r == 0) {
		*entry = tree_count(fs->tree);
		if (old != TREE_NO_ENTRY)
			tree_supersede(fs->tree, old, *entry);
		tree_put(fs->tree, name->parent, &room, flags, id);
		if (old != TREE_NO_ENTRY)
			fs_inode_inherit(fs, old, *entry);
	}
	tree_room_free(&room);
	sft_buf_free(&full);
	return r;
}

static int apply_npy(struct fs *fs, const struct edit_name *name, const char *file_name,
		     uint32_t from, struct edit_step *step, uint32_t *entry, struct sft_error *err)
{
	struct sft_buf full = { 0 };
	uint32_t id, old = SFT_NO_ID;
	if (name->entry != TREE_NO_ENTRY)
		old = tree_entry(fs->tree, name->entry)->id;
	/* Whether the name is a good one, before all the bytes are copied. */
	int r = edit_overlay_name(fs, name, file_name, &full);
	sft_buf_free(&full);
	if (r == 0)
		r = edit_convert_npy(fs, from, old, &id, err);
	if (r < 0)
		return r;
	r = put_in_place(fs, name, file_name, id, step, entry, err);
	if (r < 0)
		edit_draft_drop(fs, id);
	return r;
}

static int apply(struct fs *fs, const struct edit_name *name, const char *file_name, uint32_t from,
		 struct edit_step *step, uint32_t *entry, struct sft_error *err)
{
	switch (name->target) {
	case TARGET_SIDECAR:
		return apply_sidecar(fs, name, file_name, from, step, entry, err);
	case TARGET_METADATA:
		return apply_metadata(fs, name->parent, from, step, err);
	case TARGET_NPY:
		return apply_npy(fs, name, file_name, from, step, entry, err);
	default:
		return -EINVAL;
	}
}

int edit_apply(struct fs *fs, const struct edit_name *name, const char *file_name, uint32_t from,
	       struct edit_step *step, uint32_t *entry)
{
	struct sft_error err = { 0 };
	*entry = TREE_NO_ENTRY;
	int r = apply(fs, name, file_name, from, step, entry, &err);
	/* The errno that the program gets cannot say what is wrong with the text. */
	if (r < 0)
		log_error(file_name, "not taken: %s", err.errnum ? err.msg : strerror(-r));
	return r;
}
