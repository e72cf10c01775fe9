/* edit.c - state of an edit mount: handles, changed attributes, the end */
#include "edit.h"

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fs_change_begin(struct fs *fs)
{
	pthread_mutex_lock(&fs->edit);
	pthread_rwlock_wrlock(&fs->lock);
}

void fs_change_end(struct fs *fs)
{
	struct fs_edit *ed = fs->edits;
	uint64_t now = sft_overlay_generation(fs->overlay);
	if (ed->changed_generation != now)
		clock_gettime(CLOCK_REALTIME, &ed->changed);
	ed->changed_generation = now;
	pthread_rwlock_unlock(&fs->lock);
	pthread_mutex_unlock(&fs->edit);
}

int edit_new(struct fs *fs)
{
	struct fs_edit *ed = calloc(1, sizeof(*ed));
	if (!ed)
		return -ENOMEM;
	pthread_mutex_init(&ed->lock, NULL);
	ed->changed_generation = sft_overlay_generation(fs->overlay);
	fs->edits = ed;
	return 0;
}

/* ---- nodes ---- */

/* All the numbers that model.safetensors, or a NAME.npy, has had are one node. */
static uint64_t node_ino(uint64_t ino)
{
	return tree_ino(tree_ino_entry(ino), tree_ino_kind(ino));
}

static size_t node_slot(const struct fs_edit *ed, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u >> 20) & (ed->node_capacity - 1);
	while (ed->nodes[i] && ed->nodes[i]->ino != ino)
		i = (i + 1) & (ed->node_capacity - 1);
	return i;
}

static bool grow_nodes(struct fs_edit *ed)
{
	struct fs_edit bigger = { .node_capacity = ed->node_capacity ? ed->node_capacity * 2 : 64 };
	bigger.nodes = calloc(bigger.node_capacity, sizeof(struct edit_node *));
	if (!bigger.nodes)
		return false;
	for (size_t i = 0; i < ed->node_capacity; i++) {
		if (ed->nodes[i])
			bigger.nodes[node_slot(&bigger, ed->nodes[i]->ino)] = ed->nodes[i];
	}
	free(ed->nodes);
	ed->nodes = bigger.nodes;
	ed->node_capacity = bigger.node_capacity;
	return true;
}

static struct edit_node *find_node(const struct fs_edit *ed, uint64_t ino)
{
	return ed->node_capacity ? ed->nodes[node_slot(ed, node_ino(ino))] : NULL;
}

static struct edit_node *need_node(struct fs_edit *ed, uint64_t ino)
{
	struct edit_node *n = find_node(ed, ino);
	if (n || (ed->node_count * 2 >= ed->node_capacity && !grow_nodes(ed)))
		return n;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->ino = node_ino(ino);
	ed->nodes[node_slot(ed, n->ino)] = n;
	ed->node_count++;
	return n;
}

struct edit_node *edit_node(struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	struct edit_node *n = need_node(fs->edits, ino);
	pthread_mutex_unlock(&fs->edits->lock);
	return n;
}

uint64_t edit_npy_ino(const struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	const struct edit_node *n = find_node(fs->edits, ino);
	uint64_t now = fs_numbered_ino(ino, n ? n->numbers : 0);
	pthread_mutex_unlock(&fs->edits->lock);
	return now;
}

void edit_apply_attr(struct fs *fs, uint64_t ino, struct stat *st)
{
	pthread_mutex_lock(&fs->edits->lock);
	const struct edit_node *n = find_node(fs->edits, ino);
	if (n && n->has_mode)
		st->st_mode = (st->st_mode & S_IFMT) | (n->mode & 07777);
	if (n && n->has_owner) {
		st->st_uid = n->uid;
		st->st_gid = n->gid;
	}
	if (n && n->has_times) {
		st->st_atim = n->atime;
		st->st_mtim = n->mtime;
		st->st_ctim = n->ctime;
	}
	pthread_mutex_unlock(&fs->edits->lock);
}

static void touch(struct fs_edit *ed, struct edit_node *n)
{
	clock_gettime(CLOCK_REALTIME, &n->mtime);
	n->ctime = n->mtime;
	if (!n->has_times)
		n->atime = n->mtime;
	n->has_times = true;
	ed->changed = n->mtime;
}

void edit_touch(struct fs *fs, struct edit_node *n)
{
	pthread_mutex_lock(&fs->edits->lock);
	touch(fs->edits, n);
	pthread_mutex_unlock(&fs->edits->lock);
}

bool edit_restrict(struct fs *fs, struct stat *st)
{
	const struct fs_edit *ed = fs->edits;
	bool same = true;
	pthread_mutex_lock(&fs->edits->lock);
	for (size_t i = 0; i < ed->node_capacity; i++) {
		const struct edit_node *n = ed->nodes[i];
		/* What was to be made and was not has a node all the same. */
		if (!n || tree_ino_kind(n->ino) != TREE_TENSOR ||
		    tree_ino_entry(n->ino) >= tree_count(fs->tree) ||
		    tree_entry(fs->tree, tree_ino_entry(n->ino))->flags & TREE_DEAD)
			continue;
		if (n->has_mode)
			st->st_mode &= S_IFMT | n->mode;
		if (n->has_owner)
			same = same && n->uid == st->st_uid && n->gid == st->st_gid;
	}
	if (ed->changed.tv_sec)
		st->st_mtim = st->st_ctim = ed->changed;
	pthread_mutex_unlock(&fs->edits->lock);
	return same;
}

void edit_set_owner(struct fs *fs, struct edit_node *n, mode_t mode, uid_t uid, gid_t gid)
{
	pthread_mutex_lock(&fs->edits->lock);
	n->mode = mode & 07777;
	n->uid = uid;
	n->gid = gid;
	n->has_mode = n->has_owner = true;
	touch(fs->edits, n);
	pthread_mutex_unlock(&fs->edits->lock);
}

/* A tensor's file and the views beside it. */
static const enum tree_kind tensor_kinds[] = { TREE_TENSOR, TREE_SIDECAR, TREE_NPY, TREE_F32 };
#define TENSOR_KINDS (sizeof(tensor_kinds) / sizeof(*tensor_kinds))

int edit_inherit_reserve(struct fs *fs, uint32_t from)
{
	struct fs_edit *ed = fs->edits;
	int r = 0;
	pthread_mutex_lock(&ed->lock);
	for (size_t i = 0; i < TENSOR_KINDS; i++) {
		uint64_t to = tree_ino(tree_count(fs->tree), tensor_kinds[i]);
		bool needed = tensor_kinds[i] == TREE_TENSOR ||
			      find_node(ed, tree_ino(from, tensor_kinds[i]));
		if (needed && !need_node(ed, to))
			r = -ENOMEM;
	}
	pthread_mutex_unlock(&ed->lock);
	return r;
}

void edit_inherit(struct fs *fs, uint32_t from, uint32_t to)
{
	struct fs_edit *ed = fs->edits;
	pthread_mutex_lock(&ed->lock);
	for (size_t i = 0; i < TENSOR_KINDS; i++) {
		const struct edit_node *old = find_node(ed, tree_ino(from, tensor_kinds[i]));
		struct edit_node *n = find_node(ed, tree_ino(to, tensor_kinds[i]));
		if (old && n) {
			uint64_t ino = n->ino;
			*n = *old;
			n->ino = ino;
			n->opens = 0;
		}
		if (n && tensor_kinds[i] == TREE_TENSOR)
			touch(ed, n);
	}
	pthread_mutex_unlock(&ed->lock);
}

/* ---- handles ---- */

struct edit_handle *edit_handle_new(struct fs *fs, uint64_t ino, bool writable)
{
	struct fs_edit *ed = fs->edits;
	struct edit_handle *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->ino = ino;
	h->entry = tree_ino_entry(ino);
	h->writable = writable;
	h->draft = SFT_NO_ID;
	h->target = tree_ino_kind(ino) == TREE_SIDECAR	  ? TARGET_SIDECAR
		    : tree_ino_kind(ino) == TREE_METADATA ? TARGET_METADATA
		    : tree_ino_kind(ino) == TREE_NPY	  ? TARGET_NPY
							  : TARGET_TENSOR;
	pthread_mutex_lock(&ed->lock);
	h->node = need_node(ed, ino);
	if (h->node) {
		h->node->opens++;
		h->next = ed->handles;
		if (h->next)
			h->next->previous = h;
		ed->handles = h;
	}
	pthread_mutex_unlock(&ed->lock);
	if (h->node)
		return h;
	free(h);
	return NULL;
}

/* Under edits->lock. */
static bool is_open(const struct fs_edit *ed, uint32_t entry)
{
	for (size_t i = 0; i < TENSOR_KINDS; i++) {
		const struct edit_node *n = find_node(ed, tree_ino(entry, tensor_kinds[i]));
		if (n && n->opens > 0)
			return true;
	}
	return false;
}

bool edit_handle_free(struct fs *fs, struct edit_handle *h)
{
	struct fs_edit *ed = fs->edits;
	pthread_mutex_lock(&ed->lock);
	h->node->opens--;
	bool last = !is_open(ed, tree_ino_entry(h->ino));
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

bool edit_handle_fits(struct fs *fs, struct edit_handle *h)
{
	struct fs_edit *ed = fs->edits;
	bool taken = false;
	if (tree_ino_kind(h->ino) != TREE_NPY)
		return h->ino == fs_current_ino(fs, h->ino);
	pthread_mutex_lock(&ed->lock);
	for (const struct edit_handle *o = h->node->opens > 1 ? ed->handles : NULL; o; o = o->next)
		taken = taken || (o->fits && o->ino == h->ino && o->writable != h->writable);
	if ((taken || h->writable) && h->ino == fs_numbered_ino(h->ino, h->node->numbers))
		h->node->numbers++; /* for whoever looks the name up from now on */
	h->fits = !taken;
	pthread_mutex_unlock(&ed->lock);
	return !taken;
}

bool edit_is_open(struct fs *fs, uint32_t entry)
{
	pthread_mutex_lock(&fs->edits->lock);
	bool open = is_open(fs->edits, entry);
	pthread_mutex_unlock(&fs->edits->lock);
	return open;
}

void edit_writers(struct fs *fs, struct sft_buf *paths)
{
	pthread_mutex_lock(&fs->edits->lock);
	for (const struct edit_handle *h = fs->edits->handles; h; h = h->next) {
		const struct tree_entry *e = tree_entry(fs->tree, tree_ino_entry(h->ino));
		if (!h->writable || tree_ino_kind(h->ino) != TREE_TENSOR || e->flags & TREE_DEAD)
			continue;
		edit_scratch_key(fs, e->parent, e->name, e->name_len, paths);
		sft_buf_add(paths, "", 1);
	}
	pthread_mutex_unlock(&fs->edits->lock);
}

void edit_after_commit(struct fs *fs)
{
	for (uint32_t i = 0; i < tree_count(fs->tree); i++) {
		const struct tree_entry *e = tree_entry(fs->tree, i);
		if (e->flags & TREE_SIDECAR_HIDDEN)
			tree_set_flags(fs->tree, i, (uint8_t)(e->flags & ~TREE_SIDECAR_HIDDEN));
	}
}

/* ---- the end ---- */

/*
 * After an ordinary unmount nothing is open any more, but the last RELEASE may get lost on the way,
 * while FLUSH never does: close(2) waits for it. So once the mount is gone only a handle that was
 * written and not flushed tells of an abort; while it is still there, dead, every open writer does.
 */
bool edit_may_be_torn(const struct fs *fs, bool still_mounted)
{
	for (const struct edit_handle *h = fs->edits->handles; h; h = h->next) {
		if (h->writable && (still_mounted || h->unflushed))
			return true;
	}
	return false;
}

void edit_drop_scratch(struct fs *fs)
{
	struct edit_step s = { 0 };
	for (uint32_t id = 0; id < sft_overlay_count(fs->overlay); id++) {
		const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
		if (e->live && e->scratch)
			edit_step_add(&s, (struct sft_change){ .kind = SFT_REMOVE, .id = id });
	}
	int r = edit_step_make(fs, &s, NULL);
	if (r < 0)
		log_warning(fs->opt->source, "scratch files are not dropped: %s", strerror(-r));
	edit_step_free(&s);
}

void edit_free(struct fs *fs)
{
	struct fs_edit *ed = fs->edits;
	if (!ed)
		return;
	for (struct edit_handle *h = ed->handles, *next; h; h = next) {
		next = h->next;
		sft_buf_free(&h->text);
		free(h);
	}
	for (size_t i = 0; i < ed->node_capacity; i++)
		free(ed->nodes[i]);
	free(ed->nodes);
	free(ed->names);
	pthread_mutex_destroy(&ed->lock);
	free(ed);
	fs->edits = NULL;
}
