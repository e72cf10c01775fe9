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

uint32_t edit_shard(const struct fs *fs, uint32_t parent)
{
	return fs->opt->layout == TREE_FILES ? tree_entry(fs->tree, parent)->id : SFT_SHARD_AUTO;
}

int edit_overlay_name(const struct fs *fs, const struct edit_name *name, const char *file_name,
		      struct sft_buf *out)
{
	int r = 0;
	if (name->target == TARGET_SCRATCH)
		edit_scratch_key(fs, name->parent, file_name, name->base_len, out);
	else
		r = tree_tensor_name(fs->tree, name->parent, file_name, name->base_len, out);
	return r == 0 && out->failed ? -ENOMEM : r;
}

int edit_draft_new(struct fs *fs, const struct sft_buf *text, uint32_t *draft)
{
	char key[EDIT_KEY_MAX];
	uint32_t id;
	int r = sft_overlay_create(fs->overlay, key, edit_hidden_key(fs, key), true, SFT_SHARD_AUTO,
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
	int r = read_whole(fs, from, SIDECAR_MAX, &text, &len, err);
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
	int r = read_whole(fs, from, SFT_HEADER_MAX, &text, &len, err);
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
		r = edit_inherit_reserve(fs, old);
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
			edit_inherit(fs, old, *entry);
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
	uint32_t draft;
	if (r == 0)
		r = edit_draft_new(fs, &text, &draft);
	size_t head = text.len;
	sft_buf_free(&text);
	if (r < 0)
		return r;
	if (!empty && tree_ino_kind(h->ino) == TREE_NPY)
		r = copy_tensor(fs, edit_id(fs, h->ino), draft, head);
	if (r < 0)
		edit_draft_drop(fs, draft);
	else
		h->draft = draft;
	return r;
}

/* What is to become of the handle's draft: the view's name, as it is now. */
static void draft_name(const struct fs *fs, const struct edit_handle *h, struct edit_name *name,
		       char file_name[TREE_NAME_MAX + 1])
{
	const struct tree_entry *e = tree_entry(fs->tree, h->entry);
	enum tree_kind kind = h->target == TARGET_SIDECAR    ? TREE_SIDECAR
			      : h->target == TARGET_METADATA ? TREE_METADATA
							     : TREE_NPY;
	if (h->pending && h->entry == tree_ino_entry(h->ino)) {
		/* Of no tensor yet, when it was opened. */
		tree_name(fs->tree, h->ino, file_name);
		edit_classify(fs, tree_ino(e->parent, TREE_DIR), file_name, name);
		return;
	}
	tree_name(fs->tree, tree_ino(h->entry, kind), file_name);
	*name = (struct edit_name){ h->target, e->parent, e->name_len, h->entry };
	if (kind == TREE_METADATA)
		*name = (struct edit_name){ h->target, h->entry, strlen(file_name), TREE_NO_ENTRY };
}

/* What is there of it says nothing about what was meant. */
static int not_whole(struct edit_handle *h, const char *file_name)
{
	if (!h->failure_logged)
		log_error(file_name, "not taken: it could not be written whole: %s",
			  strerror(-h->failed));
	h->failure_logged = true;
	return h->failed;
}

int edit_draft_apply(struct fs *fs, struct edit_handle *h)
{
	struct edit_name name;
	char file_name[TREE_NAME_MAX + 1];
	struct edit_step step = { 0 };
	uint32_t own = tree_ino_entry(h->ino), entry;
	uint32_t from = h->pending ? tree_entry(fs->tree, own)->id : h->draft;
	if (!h->changed || (from == SFT_NO_ID && !h->failed))
		return 0;
	h->entry = tree_now(fs->tree, h->entry);
	if (tree_entry(fs->tree, h->entry)->flags & TREE_DEAD)
		return 0; /* removed meanwhile, by somebody else */
	draft_name(fs, h, &name, file_name);
	if (!edit_target_is_view(name.target))
		return 0; /* renamed to what is no view's name, so it is that file */
	if (h->failed)
		return not_whole(h, file_name);
	/* From now on the name belongs to the view of the tensor that there is now. */
	bool stands_in = h->pending && h->entry == own;
	if (stands_in)
		edit_step_remove(fs, &step, own);
	/* While it is bad each flush says so: one descriptor of several may be the one that nobody
	 * asks. */
	int r = edit_apply(fs, &name, file_name, from, &step, &entry);
	edit_step_free(&step);
	h->changed = r < 0;
	if (r == 0 && stands_in)
		tree_supersede(fs->tree, own, entry);
	return r;
}
