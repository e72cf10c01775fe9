/*
 * gather.c - sidecars, metadata and .npy files while they are written
 *
 * Such a file means something only when it is complete, so what is written to it gathers in a
 * draft, a scratch file of the overlay without a name. When the file is closed, or when any file is
 * renamed onto the name, edit_apply() validates the bytes and makes the change; bad bytes change
 * nothing.
 */
#include "gather.h"

#include "bytes.h"
#include "classify.h"
#include "content.h"
#include "draft.h"
#include "log.h"
#include "shown.h"
#include "step.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int shown_content(struct fs *fs, const struct fs_handle *h, struct sft_buf *out)
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

int edit_draft_need(struct fs *fs, struct fs_handle *h, bool empty)
{
	struct sft_buf text = { 0 };
	int r = 0;
	if (h->draft != SFT_NO_ID)
		return 0;
	if (!empty)
		r = shown_content(fs, h, &text);
	uint32_t draft;
	if (r == 0)
		r = edit_draft_new(fs, &text, &draft);
	size_t head = text.len;
	sft_buf_free(&text);
	if (r < 0)
		return r;
	if (!empty && tree_ino_kind(h->ino) == TREE_NPY)
		r = copy_tensor(fs, fs_tensor_id(fs, h->ino), draft, head);
	if (r < 0)
		edit_draft_drop(fs, draft);
	else
		h->draft = draft;
	return r;
}

/* What is to become of the handle's draft: the view's name, as it is now. */
static void draft_name(const struct fs *fs, const struct fs_handle *h, struct edit_name *name,
		       char file_name[TREE_NAME_MAX + 1])
{
	const struct tree_entry *e = tree_entry(fs->tree, h->entry);
	if (h->pending && h->entry == tree_ino_entry(h->ino)) {
		/* Of no tensor yet, when it was opened. */
		tree_name(fs->tree, h->ino, file_name);
		edit_classify(fs, tree_ino(e->parent, TREE_DIR), file_name, name);
		return;
	}
	tree_name(fs->tree, tree_ino(h->entry, h->kind), file_name);
	if (h->kind == TREE_METADATA)
		*name = (struct edit_name){ TARGET_METADATA, h->entry, strlen(file_name),
					    TREE_NO_ENTRY };
	else
		*name = (struct edit_name){ h->kind == TREE_SIDECAR ? TARGET_SIDECAR : TARGET_NPY,
					    e->parent, e->name_len, h->entry };
}

/* What is there of it says nothing about what was meant. */
static int not_whole(struct fs_handle *h, const char *file_name)
{
	if (!h->failure_logged)
		log_error(file_name, "not taken: it could not be written whole: %s",
			  strerror(-h->failed));
	h->failure_logged = true;
	return h->failed;
}

int edit_draft_apply(struct fs *fs, struct fs_handle *h)
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
	if (!edit_target_is_drafted(name.target))
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
