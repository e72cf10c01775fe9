/*
 * draft.c - sidecars, metadata and .npy files while they are written
 *
 * Such a file means something only when it is complete, so what is written to it gathers in a
 * draft, a scratch file of the overlay without a name. When the file is closed, or when any file is
 * renamed onto the name, edit_apply() validates the bytes and makes the change; bad bytes change
 * nothing.
 */
#include "edit.h"
#include "log.h"
#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIDECAR_MAX (16u << 20) /* bytes; a shape of a million dimensions would fit */

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

int edit_create_tensor(struct fs *fs, uint32_t parent, const char *name, size_t len,
		       uint32_t *entry)
{
	struct sft_buf full = { 0 };
	uint32_t id, shard = SFT_SHARD_AUTO;
	if (fs->opt->layout == TREE_FILES)
		shard = tree_entry(fs->tree, parent)->id;
	int r = tree_tensor_name(fs->tree, parent, name, len, &full);
	if (r == 0 && full.failed)
		r = -ENOMEM;
	if (r == 0)
		r = sft_overlay_create(fs->overlay, full.data ? full.data : "", full.len, false,
				       shard, &id, NULL);
	sft_buf_free(&full);
	if (r < 0)
		return r;
	r = tree_add(fs->tree, parent, name, len, 0, id, entry);
	if (r < 0)
		sft_overlay_remove(fs->overlay, id, NULL);
	return r;
}

int edit_create_scratch(struct fs *fs, uint32_t parent, const char *name, size_t len,
			uint32_t *entry)
{
	struct sft_buf key = { 0 };
	uint32_t id;
	edit_scratch_key(fs, parent, name, len, &key);
	int r = key.failed ? -ENOMEM
			   : sft_overlay_create(fs->overlay, key.data, key.len, true,
						SFT_SHARD_AUTO, &id, NULL);
	sft_buf_free(&key);
	if (r < 0)
		return r;
	r = tree_add(fs->tree, parent, name, len, TREE_SCRATCH, id, entry);
	if (r < 0)
		sft_overlay_remove(fs->overlay, id, NULL);
	return r;
}

int edit_draft_new(struct fs *fs, const struct sft_buf *text, uint32_t *draft)
{
	char key[EDIT_KEY_MAX];
	uint32_t id;
	int r = sft_overlay_create(fs->overlay, key, edit_hidden_key(fs, key), true, SFT_SHARD_AUTO,
				   &id, NULL);
	if (r == 0 && text && text->len)
		r = sft_overlay_write(fs->overlay, id, text->data, text->len, 0, NULL);
	if (r == 0)
		*draft = id;
	return r;
}

/* All bytes of an overlay file, into malloced memory. */
static int read_whole(const struct fs *fs, uint32_t id, uint64_t max, char **out, size_t *len,
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

/* ---- sidecars ---- */

static int declare(struct fs *fs, const struct edit_name *name, const char *file_name,
		   enum sft_dtype dtype, const uint64_t *shape, uint32_t rank,
		   struct sft_error *err)
{
	uint32_t entry = name->entry;
	uint64_t nbytes;
	int r;
	if (entry != TREE_NO_ENTRY) {
		const struct tree_entry *e = tree_entry(fs->tree, entry);
		r = sft_overlay_declare(fs->overlay, e->id, dtype, shape, rank, err);
		if (r == 0)
			tree_set_flags(fs->tree, entry, (uint8_t)(e->flags & ~TREE_SIDECAR_HIDDEN));
		return r;
	}
	/* A sidecar of no tensor makes one, of zeros. */
	r = sft_shape_nbytes(dtype, shape, rank, &nbytes, err);
	if (r < 0)
		return -EINVAL;
	r = edit_create_tensor(fs, name->parent, file_name, name->base_len, &entry);
	if (r < 0)
		return r;
	uint32_t id = tree_entry(fs->tree, entry)->id;
	r = sft_overlay_truncate(fs->overlay, id, nbytes, err);
	if (r == 0)
		r = sft_overlay_declare(fs->overlay, id, dtype, shape, rank, err);
	if (r < 0)
		edit_remove_entry(fs, entry);
	return r;
}

static int apply_sidecar(struct fs *fs, const struct edit_name *name, const char *file_name,
			 uint32_t from, struct sft_error *err)
{
	char *text = NULL;
	size_t len = 0;
	enum sft_dtype dtype;
	uint64_t *shape = NULL, nbytes;
	uint32_t rank;
	int r = read_whole(fs, from, SIDECAR_MAX, &text, &len, err);
	if (r == 0)
		r = sft_sidecar_parse(text, len, &dtype, &shape, &rank, err);
	if (r == 0 && sft_shape_nbytes(dtype, shape, rank, &nbytes, err) < 0)
		r = -EINVAL;
	if (r == 0)
		r = declare(fs, name, file_name, dtype, shape, rank, err);
	free(shape);
	free(text);
	return r;
}

/* ---- metadata ---- */

/* Programs write keys in an order of their own; those that were committed keep theirs. */
static int set_metadata(struct fs *fs, uint32_t shard, struct sft_metadata *metadata,
			struct sft_error *err)
{
	const struct sft_file *file = sft_checkpoint_shard(fs_checkpoint(fs), shard)->file;
	int r = 0;
	if (file)
		r = sft_metadata_keep_order(metadata, sft_index_metadata(sft_file_index(file)),
					    err);
	return r < 0 ? r : sft_overlay_set_metadata(fs->overlay, shard, metadata, err);
}

/* All shards' of a directory. */
static int set_all_metadata(struct fs *fs, const char *text, size_t len, struct sft_error *err)
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
			r = set_metadata(fs, i, &metadata[i], err);
	}
	for (size_t i = 0; metadata && i < n; i++)
		sft_metadata_free(&metadata[i]);
	free(metadata);
	free(names);
	return r;
}

static int apply_metadata(struct fs *fs, uint32_t parent, uint32_t from, struct sft_error *err)
{
	struct sft_metadata metadata = { 0 };
	char *text = NULL;
	size_t len = 0;
	int r = read_whole(fs, from, SFT_HEADER_MAX, &text, &len, err);
	if (r < 0)
		return r;
	if (sft_checkpoint_is_directory(fs_checkpoint(fs)) && fs->opt->layout != TREE_FILES) {
		r = set_all_metadata(fs, text, len, err);
	} else {
		uint32_t shard =
			fs->opt->layout == TREE_FILES ? tree_entry(fs->tree, parent)->id : 0;
		r = sft_metadata_parse(text, len, &metadata, err);
		if (r == 0)
			r = set_metadata(fs, shard, &metadata, err);
		sft_metadata_free(&metadata);
	}
	free(text);
	fs_mark_metadata(fs);
	return r;
}

int edit_remove_metadata(struct fs *fs, uint32_t parent)
{
	static const struct sft_metadata none;
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < sft_checkpoint_shards(fs_checkpoint(fs)); i++) {
		bool concerned =
			fs->opt->layout != TREE_FILES || tree_entry(fs->tree, parent)->id == i;
		if (concerned && sft_overlay_metadata(fs->overlay, i)->present)
			r = sft_overlay_set_metadata(fs->overlay, i, &none, NULL);
	}
	fs_mark_metadata(fs);
	return r;
}

/* ---- numpy ---- */

static int apply_npy(struct fs *fs, const struct edit_name *name, const char *file_name,
		     uint32_t from, uint64_t *replaced, struct sft_error *err)
{
	struct sft_buf full = { 0 };
	uint32_t id, shard = SFT_SHARD_AUTO, old = SFT_NO_ID, entry = name->entry;
	if (entry != TREE_NO_ENTRY) {
		old = tree_entry(fs->tree, entry)->id;
		shard = sft_overlay_entry(fs->overlay, old)->shard;
	} else if (fs->opt->layout == TREE_FILES) {
		shard = tree_entry(fs->tree, name->parent)->id;
	}
	int r = tree_tensor_name(fs->tree, name->parent, file_name, name->base_len, &full);
	if (r == 0 && old != SFT_NO_ID) {
		const struct sft_entry *e = sft_overlay_entry(fs->overlay, old);
		full.len = 0; /* its name may have had to be cut */
		sft_buf_add(&full, e->name, e->name_len);
	}
	if (r == 0)
		r = full.failed ? -ENOMEM : edit_convert_npy(fs, from, old, &id, err);
	if (r == 0) {
		r = sft_overlay_rename(fs->overlay, id, full.data ? full.data : "", full.len, false,
				       shard, old, err);
		if (r < 0)
			sft_overlay_remove(fs->overlay, id, NULL);
	}
	if (r == 0 && old != SFT_NO_ID) {
		tree_set_id(fs->tree, entry, id);
		*replaced = tree_ino(entry, TREE_TENSOR);
		edit_mark_replaced(fs, *replaced);
	} else if (r == 0) {
		r = tree_add(fs->tree, name->parent, file_name, name->base_len, 0, id, NULL);
	}
	sft_buf_free(&full);
	return r;
}

static int apply(struct fs *fs, const struct edit_name *name, const char *file_name, uint32_t from,
		 uint64_t *replaced, struct sft_error *err)
{
	switch (name->target) {
	case TARGET_SIDECAR:
		return apply_sidecar(fs, name, file_name, from, err);
	case TARGET_METADATA:
		return apply_metadata(fs, name->parent, from, err);
	case TARGET_NPY:
		return apply_npy(fs, name, file_name, from, replaced, err);
	default:
		return -EINVAL;
	}
}

int edit_apply(struct fs *fs, const struct edit_name *name, const char *file_name, uint32_t from,
	       uint64_t *replaced)
{
	struct sft_error err = { 0 };
	*replaced = 0;
	int r = apply(fs, name, file_name, from, replaced, &err);
	/* The errno that the program gets cannot say what is wrong with the text. */
	if (r < 0)
		log_error(file_name, "not taken: %s", err.errnum ? err.msg : strerror(-r));
	return r;
}

/* ---- a handle's draft ---- */

static int view_content(struct fs *fs, const struct edit_handle *h, struct sft_buf *out)
{
	if (tree_ino_kind(h->ino) != TREE_NPY) {
		sft_buf_add(out, h->text.data, h->text.len);
		return out->failed ? -ENOMEM : 0;
	}
	fs_npy_head(fs, h->ino, out);
	return out->failed ? -ENOMEM : 0;
}

/* Behind the header of a .npy come the tensor's bytes. */
static int copy_tensor(struct fs *fs, uint32_t from, uint32_t to, uint64_t at)
{
	uint64_t n = fs_tensor_nbytes(fs, from);
	size_t piece = 1u << 20;
	char *buf = malloc(piece);
	int r = buf ? 0 : -ENOMEM;
	for (uint64_t done = 0; r == 0 && done < n; done += piece) {
		size_t k = n - done < piece ? (size_t)(n - done) : piece;
		r = fs_tensor_read(fs, from, buf, k, done);
		if (r == 0)
			r = sft_overlay_write(fs->overlay, to, buf, k, at + done, NULL);
	}
	free(buf);
	return r;
}

int edit_draft_need(struct fs *fs, struct edit_handle *h, bool empty)
{
	struct sft_buf text = { 0 };
	int r = 0;
	if (h->draft != SFT_NO_ID)
		return 0;
	if (!empty)
		r = view_content(fs, h, &text);
	if (r == 0)
		r = edit_draft_new(fs, &text, &h->draft);
	if (r == 0 && !empty && tree_ino_kind(h->ino) == TREE_NPY)
		r = copy_tensor(fs, edit_id(fs, h->ino), h->draft, text.len);
	sft_buf_free(&text);
	return r;
}

int edit_draft_apply(struct fs *fs, struct edit_handle *h, uint64_t *replaced)
{
	struct edit_name name;
	char file_name[TREE_NAME_MAX + 1];
	*replaced = 0;
	bool pending = h->pending != TREE_NO_ENTRY;
	uint32_t from = pending ? tree_entry(fs->tree, h->pending)->id : h->draft;
	if (!h->changed || (from == SFT_NO_ID && !h->failed))
		return 0;
	bool dead = tree_entry(fs->tree, tree_ino_entry(h->ino))->flags & TREE_DEAD;
	if (dead && !h->applied)
		return 0; /* removed meanwhile, by somebody else */
	tree_name(fs->tree, h->ino, file_name);
	/* What is there of it says nothing about what was meant. */
	if (h->failed) {
		if (!h->failure_logged)
			log_error(file_name, "not taken: it could not be written whole: %s",
				  strerror(-h->failed));
		h->failure_logged = true;
		return h->failed;
	}
	edit_classify(fs, tree_parent(fs->tree, h->ino), file_name, &name);
	/* While it is bad each flush says so: one descriptor of several may be the one that nobody
	 * asks. */
	int r = edit_apply(fs, &name, file_name, from, replaced);
	h->changed = r < 0;
	/* From now on the name belongs to the view of the tensor that there is now. */
	if (r == 0 && pending && !h->applied) {
		h->applied = true;
		r = edit_remove_entry(fs, h->pending);
	}
	return r;
}
