/*
 * ops_edit.c - open files of an edit mount: open, create, write, truncate, flush, fsync, release
 *
 * Concurrency: see fs.h. A write goes fs_op_write -> sft_overlay_write under fs_change_begin();
 * when it returns, the edit is in the staging directory. What is written to a sidecar, metadata or
 * .npy file goes to a draft instead, and counts from flush, fsync or a rename on (draft.c).
 *
 * What reaches the user: errors of write, flush and fsync do, those of release do not; so all work
 * is done before release.
 */
#include "commit.h"
#include "edit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static struct edit_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct edit_handle *)(uintptr_t)fi->fh;
}

static bool is_view(uint64_t ino)
{
	enum tree_kind kind = tree_ino_kind(ino);
	return kind == TREE_SIDECAR || kind == TREE_METADATA || kind == TREE_NPY;
}

/* The overlay id behind a tensor's or scratch file's node. */
static uint32_t id_of(const struct fs *fs, uint64_t ino)
{
	return tree_entry(fs->tree, tree_ino_entry(ino))->id;
}

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

static void set_unflushed(struct fs *fs, struct edit_handle *h, bool unflushed)
{
	pthread_mutex_lock(&fs->edits->lock);
	h->unflushed = unflushed;
	pthread_mutex_unlock(&fs->edits->lock);
}

/* ---- drafts ---- */

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

/* Give the handle a draft, with what the file shows now unless it is about to be empty. */
static int need_draft(struct fs *fs, struct edit_handle *h, bool empty)
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
		r = copy_tensor(fs, id_of(fs, h->ino), h->draft, text.len);
	sft_buf_free(&text);
	return r;
}

/* The file is complete, as far as its writer says: let it count. */
static int apply_draft(struct fs *fs, struct edit_handle *h, uint64_t *replaced)
{
	struct edit_name name;
	char file_name[TREE_NAME_MAX + 1];
	*replaced = 0;
	bool pending = h->pending != TREE_NO_ENTRY;
	uint32_t from = pending ? tree_entry(fs->tree, h->pending)->id : h->draft;
	if (from == SFT_NO_ID || !h->changed)
		return 0;
	bool dead = tree_entry(fs->tree, tree_ino_entry(h->ino))->flags & TREE_DEAD;
	if (dead && !h->applied)
		return 0; /* removed meanwhile, by somebody else */
	tree_name(fs->tree, h->ino, file_name);
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

/* ---- open, create ---- */

static int truncate_on_open(struct fs *fs, struct edit_handle *h)
{
	int r = 0;
	fs_change_begin(fs);
	if (tree_ino_kind(h->ino) == TREE_TENSOR) {
		r = sft_overlay_truncate(fs->overlay, id_of(fs, h->ino), 0, NULL);
		edit_touch(fs, h->ino);
	} else if (is_view(h->ino)) {
		r = need_draft(fs, h, true);
	}
	fs_change_end(fs);
	return r;
}

static int open_error(uint64_t ino, bool writable)
{
	enum tree_kind kind = tree_ino_kind(ino);
	if (writable && kind == TREE_F32)
		return -EROFS;
	if (writable && (kind == TREE_STATUS || kind == TREE_PROGRESS))
		return -EACCES;
	return 0;
}

static void reply_open_info(const struct fs *fs, uint64_t ino, bool writable,
			    struct fuse_file_info *fi)
{
	enum tree_kind kind = tree_ino_kind(ino);
	/* The kernel knows of every change to a tensor's file; nobody tells it of one to a view. A
	 * view is read as it was when opened, and a .npy through the page cache, so that it can be
	 * mapped. */
	fi->keep_cache = kind == TREE_TENSOR;
	fi->direct_io = fs->opt->direct_io ||
			(kind != TREE_TENSOR && kind != TREE_NPY && kind != TREE_F32) ||
			(kind == TREE_NPY && writable);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
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
	else if (fs_node_text(fs, ino, &h->text) && h->text.failed)
		r = -ENOMEM;
	fs_unlock(fs);
	if (r == 0 && writable && fi->flags & O_TRUNC)
		r = truncate_on_open(fs, h);
	if (r < 0) {
		handle_free(fs, h);
		fuse_reply_err(req, -r);
		return;
	}
	reply_open_info(fs, ino, writable, fi);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_open(req, fi) < 0)
		handle_free(fs, h); /* interrupted: there will be no release */
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

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
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
		if (is_view(ino))
			r = need_draft(fs, h, true);
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
			handle_free(fs, h);
		fuse_reply_err(req, -r);
		return;
	}
	reply_open_info(fs, ino, true, fi);
	fi->fh = (uintptr_t)h;
	if (fuse_reply_create(req, &e, fi) < 0)
		handle_free(fs, h);
}

/* ---- write, truncate, attributes ---- */

static int write_bytes(struct fs *fs, struct edit_handle *h, const char *buf, size_t size,
		       uint64_t offset)
{
	if (h->draft == SFT_NO_ID && !is_view(h->ino)) {
		int r = sft_overlay_write(fs->overlay, id_of(fs, h->ino), buf, size, offset, NULL);
		h->changed = true;
		edit_touch(fs, h->ino);
		return r;
	}
	int r = need_draft(fs, h, false);
	if (r == 0)
		r = sft_overlay_write(fs->overlay, h->draft, buf, size, offset, NULL);
	h->changed = true;
	return r;
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = handle_of(fi);
	struct sft_error err = { 0 };
	int r;
	if (tree_ino_kind(ino) == TREE_COMMIT) {
		r = fs_commit(fs, &err);
	} else {
		fs_change_begin(fs);
		r = write_bytes(fs, h, buf, size, (uint64_t)offset);
		fs_change_end(fs);
		set_unflushed(fs, h, true);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, size);
}

static int set_size(struct fs *fs, uint64_t ino, uint64_t size, struct edit_handle *h)
{
	if (tree_ino_kind(ino) == TREE_COMMIT)
		return 0; /* `echo >` truncates */
	if (tree_ino_kind(ino) == TREE_TENSOR) {
		edit_touch(fs, ino);
		if (h)
			h->changed = true;
		return sft_overlay_truncate(fs->overlay, id_of(fs, ino), size, NULL);
	}
	if (!is_view(ino) || !h)
		return tree_ino_kind(ino) == TREE_F32 ? -EROFS : -EINVAL;
	int r = need_draft(fs, h, size == 0);
	if (r == 0)
		r = sft_overlay_truncate(fs->overlay, h->draft, size, NULL);
	/* Emptying it is the beginning of writing it, not the end. */
	h->changed = size != 0;
	return r;
}

static void set_times(struct edit_node *n, const struct stat *st, int to_set,
		      const struct stat *now)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	if (!n->has_times) {
		n->atime = now->st_atim;
		n->mtime = now->st_mtim;
	}
	if (to_set & FUSE_SET_ATTR_ATIME)
		n->atime = to_set & FUSE_SET_ATTR_ATIME_NOW ? t : st->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME)
		n->mtime = to_set & FUSE_SET_ATTR_MTIME_NOW ? t : st->st_mtim;
	n->ctime = t;
	n->has_times = true;
}

/* chmod, chown and times hold for the life of the mount. */
static int set_node(struct fs *fs, uint64_t ino, const struct stat *st, int to_set)
{
	struct stat now;
	int r = fs_node_attr(fs, ino, &now);
	if (r < 0)
		return r;
	pthread_mutex_lock(&fs->edits->lock);
	struct edit_node *n = edit_node(fs, ino);
	if (n && to_set & FUSE_SET_ATTR_MODE) {
		n->mode = st->st_mode & 07777;
		n->has_mode = true;
	}
	if (n && to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		n->uid = to_set & FUSE_SET_ATTR_UID ? st->st_uid : now.st_uid;
		n->gid = to_set & FUSE_SET_ATTR_GID ? st->st_gid : now.st_gid;
		n->has_owner = true;
	}
	if (n && to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))
		set_times(n, st, to_set, &now);
	pthread_mutex_unlock(&fs->edits->lock);
	return n ? 0 : -ENOMEM;
}

/* While a view is written its size is what was written. */
static void draft_size(const struct fs *fs, const struct edit_handle *h, struct stat *st)
{
	if (h && h->draft != SFT_NO_ID)
		st->st_size = (off_t)fs_tensor_nbytes(fs, h->draft);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = fi ? handle_of(fi) : NULL;
	struct fuse_entry_param e;
	const int node_bits = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID |
			      FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME;
	int r = 0;
	fs_change_begin(fs);
	if (!fs_node_exists(fs, ino))
		r = -ENOENT;
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE)
		r = set_size(fs, ino, (uint64_t)attr->st_size, h);
	if (r == 0 && to_set & node_bits)
		r = set_node(fs, ino, attr, to_set);
	if (r == 0)
		r = fs_entry_param(fs, ino, &e);
	if (r == 0)
		draft_size(fs, h, &e.attr);
	fs_change_end(fs);
	if (r == 0 && to_set & FUSE_SET_ATTR_SIZE && h)
		set_unflushed(fs, h, true);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	fs_read_lock(fs);
	int r = fs_entry_param(fs, ino, &e);
	if (r == 0 && fi)
		draft_size(fs, handle_of(fi), &e.attr);
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* ---- read ---- */

static void read_draft(fuse_req_t req, struct fs *fs, const struct edit_handle *h, size_t size,
		       off_t offset)
{
	size_t done = 0;
	char *buf = malloc(size);
	int r = buf ? sft_overlay_read(fs->overlay, h->draft, buf, size, (uint64_t)offset, &done,
				       NULL)
		    : -ENOMEM;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, buf, done);
	free(buf);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct edit_handle *h = handle_of(fi);
	enum tree_kind kind = tree_ino_kind(ino);
	bool has_bytes = kind == TREE_TENSOR || kind == TREE_NPY || kind == TREE_F32;
	fs_read_lock(fs);
	bool drafted = h->draft != SFT_NO_ID;
	if (drafted)
		read_draft(req, fs, h, size, offset);
	else if (!has_bytes)
		fs_reply_text(req, &h->text, size, offset);
	fs_unlock(fs);
	if (!drafted && has_bytes)
		fs_op_read(req, ino, size, offset, fi);
}

/* ---- flush, fsync, release ---- */

static int finish_writing(struct fs *fs, struct edit_handle *h, bool sync)
{
	uint64_t replaced = 0;
	struct sft_error err = { 0 };
	int r = 0;
	fs_change_begin(fs);
	if (h && h->writable)
		r = apply_draft(fs, h, &replaced);
	pthread_rwlock_unlock(&fs->lock);
	/* A sync may take long: readers go on, only changes wait. */
	if (r == 0 && sync)
		r = sft_overlay_sync(fs->overlay, &err);
	pthread_mutex_unlock(&fs->edit);
	if (replaced)
		edit_forget_cached(fs, replaced);
	return r;
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = handle_of(fi);
	int r = h->writable ? finish_writing(fs, h, false) : 0;
	set_unflushed(fs, h, false);
	fuse_reply_err(req, -r);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -finish_writing(fs_of(req), handle_of(fi), true));
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, -finish_writing(fs_of(req), NULL, true));
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

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct edit_handle *h = handle_of(fi);
	bool needs_change = h->draft != SFT_NO_ID || h->pending != TREE_NO_ENTRY;
	fs_read_lock(fs);
	needs_change = needs_change || tree_entry(fs->tree, tree_ino_entry(ino))->flags & TREE_DEAD;
	fs_unlock(fs);
	/* A commit holds `edit` for long; who has only read need not wait for it. */
	if (needs_change)
		tidy_up(fs, h);
	else
		handle_free(fs, h);
	fuse_reply_err(req, 0);
}

/* ---- directories ---- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
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

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	tree_list_put((struct tree_list *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

const struct fuse_lowlevel_ops edit_ops = {
	.init = fs_op_init,
	.lookup = fs_op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = fs_op_readdir,
	.readdirplus = fs_op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = fs_op_statfs,
	.getxattr = fs_op_getxattr,
	.listxattr = fs_op_listxattr,
	.unlink = edit_op_unlink,
	.rename = edit_op_rename,
	.mkdir = edit_op_mkdir,
	.rmdir = edit_op_rmdir,
	.mknod = edit_op_mknod,
	.symlink = edit_op_symlink,
	.link = edit_op_link,
};
