/*
 * ops_open.c - opening, creating and releasing the files of an edit mount
 *
 * Concurrency: see fs.h. Errors of release reach nobody, so nothing that can matter is left for it.
 */
#include "edit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* ---- handles ---- */

static struct edit_handle *handle_new(struct fs *fs, uint64_t ino, bool writable)
{
	struct fs_edit *ed = fs->edits;
	struct edit_handle *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->ino = ino;
	h->writable = writable;
	h->draft = SFT_NO_ID;
	h->pending = TREE_NO_ENTRY;
	pthread_mutex_lock(&ed->lock);
	struct edit_node *n = edit_node(fs, ino);
	if (n) {
		n->opens++;
		h->next = ed->handles;
		if (h->next)
			h->next->previous = h;
		ed->handles = h;
	}
	pthread_mutex_unlock(&ed->lock);
	if (n)
		return h;
	free(h);
	return NULL;
}

/* Returns whether it was the last one of its inode. */
static bool handle_free(struct fs *fs, struct edit_handle *h)
{
	struct fs_edit *ed = fs->edits;
	pthread_mutex_lock(&ed->lock);
	bool last = --edit_node(fs, h->ino)->opens == 0;
	if (h->next)
		h->next->previous = h->previous;
	if (h->previous)
		h->previous->next = h->next;
	else
		ed->handles = h->next;
	pthread_mutex_unlock(&ed->lock);
	sft_buf_free(&h->text);
	free(h);
	return last;
}

/* What a handle leaves behind: its draft, the stand-in for a view, the bytes of a removed file. */
static void tidy_up(struct fs *fs, struct edit_handle *h)
{
	uint32_t draft = h->draft, pending = h->pending;
	uint64_t ino = h->ino;
	uint32_t entry = tree_ino_entry(ino);
	fs_change_begin(fs);
	bool last = handle_free(fs, h);
	const struct tree_entry *e = tree_entry(fs->tree, entry);
	if (draft != SFT_NO_ID)
		sft_overlay_remove(fs->overlay, draft, NULL);
	if (pending != TREE_NO_ENTRY && !(tree_entry(fs->tree, pending)->flags & TREE_DEAD)) {
		edit_remove_entry(fs, pending);
	} else if (last && tree_ino_kind(ino) == TREE_TENSOR && e->flags & TREE_DEAD) {
		const struct sft_entry *orphan = sft_overlay_entry(fs->overlay, e->id);
		if (orphan->live && orphan->scratch && orphan->name[0] == '/')
			sft_overlay_remove(fs->overlay, e->id, NULL);
	}
	if (tree_ino_kind(ino) == TREE_METADATA)
		fs_mark_metadata(fs); /* one that was created and never good is not there */
	fs_change_end(fs);
}

/* ---- open, create ---- */

static int truncate_on_open(struct fs *fs, struct edit_handle *h)
{
	int r = 0;
	fs_change_begin(fs);
	if (tree_ino_kind(h->ino) == TREE_TENSOR) {
		r = sft_overlay_truncate(fs->overlay, edit_id(fs, h->ino), 0, NULL);
		edit_touch(fs, h->ino);
	} else if (edit_is_view(h->ino)) {
		r = edit_draft_need(fs, h, true);
	}
	fs_change_end(fs);
	return r;
}

static int open_error(uint64_t ino, bool writable)
{
	enum tree_kind kind = tree_ino_kind(ino);
	if (writable && kind == TREE_F32)
		return -EROFS;
	if (writable && (kind == TREE_STATUS || kind == TREE_PROGRESS || kind == TREE_MERGED))
		return -EACCES;
	return 0;
}

static void reply_open_info(struct fs *fs, uint64_t ino, bool writable, struct fuse_file_info *fi)
{
	enum tree_kind kind = tree_ino_kind(ino);
	/* The kernel knows of every change to a tensor's file; nobody tells it of one to a view. A
	 * text is read as it was when opened; arrays and model.safetensors through the page cache,
	 * so that they can be mapped, and as old as what is there since they were opened last. */
	bool replaced = kind == TREE_TENSOR && edit_was_replaced(fs, ino);
	fi->keep_cache = kind == TREE_TENSOR && !replaced;
	fi->direct_io = fs->opt->direct_io || (!fs_is_bytes(ino) && kind != TREE_F32) ||
			(kind == TREE_NPY && writable) ||
			/* An append may go to another place than the kernel thinks. */
			(replaced && fi->flags & O_APPEND);
}

void fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	bool writable = (fi->flags & O_ACCMODE) != O_RDONLY;
	int r = open_error(ino, writable);
	struct edit_handle *h = r == 0 ? handle_new(fs, ino, writable) : NULL;
	if (!h) {
		fuse_reply_err(req, r < 0 ? -r : ENOMEM);
		return;
	}
	fs_read_lock(fs);
	if (!fs_node_exists(fs, ino))
		r = -ENOENT;
	else if (ino != fs_current_ino(fs, ino))
		r = -ESTALE;
	else if (fs_node_text(fs, ino, &h->text) && h->text.failed)
		r = -ENOMEM;
	fs_unlock(fs);
	if (r == 0 && writable && fi->flags & O_TRUNC)
		r = truncate_on_open(fs, h);
	if (r < 0) {
		tidy_up(fs, h); /* who removed the file meanwhile left its bytes to us */
		fuse_reply_err(req, -r);
		return;
	}
	reply_open_info(fs, ino, writable, fi);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) < 0)
		tidy_up(fs, h); /* interrupted: there will be no release */
}

/* Make the file that CREATE names. *ino is its node, *pending the entry that stands for a view that
 * has no tensor yet. */
static int create_node(struct fs *fs, uint64_t parent, const char *file_name, uint64_t *ino,
		       uint32_t *pending)
{
	struct edit_name name;
	uint32_t entry;
	int r;
	edit_classify(fs, parent, file_name, &name);
	*pending = TREE_NO_ENTRY;
	if (name.target == TARGET_FORBIDDEN)
		return -EPERM;
	if (name.target == TARGET_F32)
		return -EROFS;
	if (name.target == TARGET_TENSOR || name.target == TARGET_SCRATCH) {
		r = name.target == TARGET_TENSOR
			    ? edit_create_tensor(fs, name.parent, file_name, name.base_len, &entry)
			    : edit_create_scratch(fs, name.parent, file_name, name.base_len,
						  &entry);
		*ino = tree_ino(entry, TREE_TENSOR);
		return r;
	}
	if (name.target == TARGET_METADATA) {
		*ino = tree_ino(name.parent, TREE_METADATA);
		return 0;
	}
	if (name.entry != TREE_NO_ENTRY) {
		/* A sidecar that was hidden, or a .npy. */
		const struct tree_entry *e = tree_entry(fs->tree, name.entry);
		tree_set_flags(fs->tree, name.entry, (uint8_t)(e->flags & ~TREE_SIDECAR_HIDDEN));
		*ino = tree_ino(name.entry, name.target == TARGET_NPY ? TREE_NPY : TREE_SIDECAR);
		return 0;
	}
	/* No tensor yet: whether the name is a good one is said now, not at the end. */
	struct sft_buf full = { 0 };
	r = tree_tensor_name(fs->tree, name.parent, file_name, name.base_len, &full);
	sft_buf_free(&full);
	if (r == 0)
		r = edit_create_scratch(fs, name.parent, file_name, strlen(file_name), pending);
	*ino = tree_ino(*pending, TREE_TENSOR);
	return r;
}

void fs_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		  struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct fuse_entry_param e;
	struct edit_handle *h = NULL;
	uint32_t pending = TREE_NO_ENTRY;
	fs_change_begin(fs);
	uint64_t ino = tree_lookup(fs->tree, parent, name, strlen(name));
	int r = ino ? -EEXIST : create_node(fs, parent, name, &ino, &pending);
	if (r == 0) {
		edit_set_owner(fs, ino, mode, ctx->uid, ctx->gid);
		h = handle_new(fs, ino, true);
		r = h ? 0 : -ENOMEM;
	}
	if (r == 0) {
		h->pending = pending;
		if (edit_is_view(ino))
			r = edit_draft_need(fs, h, true);
	}
	/* A metadata file that is being created is not there yet for fs_entry_param. */
	if (r == 0 && tree_ino_kind(ino) == TREE_METADATA) {
		const struct tree_entry *dir = tree_entry(fs->tree, tree_ino_entry(ino));
		tree_set_flags(fs->tree, tree_ino_entry(ino), dir->flags | TREE_HAS_METADATA);
	}
	if (r == 0)
		r = fs_entry_param(fs, ino, &e);
	fs_change_end(fs);
	if (r < 0) {
		if (h)
			tidy_up(fs, h);
		fuse_reply_err(req, -r);
		return;
	}
	reply_open_info(fs, ino, true, fi);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_create(req, &e, fi) < 0)
		tidy_up(fs, h);
}

/* ---- release ---- */

void fs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = edit_handle(fi);
	bool needs_change = h->draft != SFT_NO_ID || h->pending != TREE_NO_ENTRY;
	/* Stored through a mapping, so no flush followed. */
	if (needs_change && h->unflushed)
		(void)edit_finish_writing(fs, h, false);
	fs_read_lock(fs);
	needs_change = needs_change || tree_entry(fs->tree, tree_ino_entry(ino))->flags & TREE_DEAD;
	/* A commit holds `edit` for long; who has only read need not wait for it. Under the lock:
	 * who removes the file must see that it is not open any more. */
	if (!needs_change)
		handle_free(fs, h);
	fs_unlock(fs);
	if (needs_change)
		tidy_up(fs, h);
	fuse_reply_err(req, 0);
}

/* ---- directories ---- */

void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	fs_read_lock(fs);
	struct tree_list *list = tree_list(fs->tree, ino);
	fs_unlock(fs);
	if (!list) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)list;
	if (fuse_reply_open(req, fi) < 0)
		tree_list_put(list);
}

void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	tree_list_put((struct tree_list *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}
