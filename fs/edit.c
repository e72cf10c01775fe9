/* edit.c - state of an edit mount, to the last commit */
#include "edit.h"

#include "commit.h"
#include "log.h"
#include "session.h"

#include <errno.h>
#include <stdio.h>
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
	pthread_mutex_init(&ed->notify_lock, NULL);
	pthread_cond_init(&ed->notify_wake, NULL);
	pthread_cond_init(&ed->notify_done, NULL);
	ed->changed_generation = sft_overlay_generation(fs->overlay);
	fs->edits = ed;
	return 0;
}

/* ---- nodes ---- */

/* All that model.safetensors has been are one node: nothing is known of them but that they are
 * open.
 */
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

struct edit_node *edit_node(struct fs *fs, uint64_t ino)
{
	struct fs_edit *ed = fs->edits;
	ino = node_ino(ino);
	if (ed->node_count * 2 >= ed->node_capacity && !grow_nodes(ed))
		return NULL;
	struct edit_node **place = &ed->nodes[node_slot(ed, ino)];
	if (!*place) {
		*place = calloc(1, sizeof(**place));
		if (!*place)
			return NULL;
		(*place)->ino = ino;
		ed->node_count++;
	}
	return *place;
}

static const struct edit_node *find_node(const struct fs_edit *ed, uint64_t ino)
{
	return ed->node_capacity ? ed->nodes[node_slot(ed, node_ino(ino))] : NULL;
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

void edit_touch(struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	struct edit_node *n = edit_node(fs, ino);
	if (n) {
		clock_gettime(CLOCK_REALTIME, &n->mtime);
		n->ctime = n->mtime;
		if (!n->has_times)
			n->atime = n->mtime;
		n->has_times = true;
		fs->edits->changed = n->mtime;
	}
	pthread_mutex_unlock(&fs->edits->lock);
}

bool edit_restrict(struct fs *fs, struct stat *st)
{
	const struct fs_edit *ed = fs->edits;
	bool same = true;
	pthread_mutex_lock(&fs->edits->lock);
	for (size_t i = 0; i < ed->node_capacity; i++) {
		const struct edit_node *n = ed->nodes[i];
		if (!n || tree_ino_kind(n->ino) != TREE_TENSOR)
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

void edit_set_owner(struct fs *fs, uint64_t ino, mode_t mode, uid_t uid, gid_t gid)
{
	pthread_mutex_lock(&fs->edits->lock);
	struct edit_node *n = edit_node(fs, ino);
	if (n) {
		n->mode = mode & 07777;
		n->uid = uid;
		n->gid = gid;
		n->has_mode = n->has_owner = true;
	}
	pthread_mutex_unlock(&fs->edits->lock);
	edit_touch(fs, ino);
}

void edit_mark_replaced(struct fs *fs, uint64_t ino)
{
	edit_touch(fs, ino);
	pthread_mutex_lock(&fs->edits->lock);
	struct edit_node *n = edit_node(fs, ino);
	if (n)
		n->replaced = true;
	pthread_mutex_unlock(&fs->edits->lock);
}

bool edit_was_replaced(struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	const struct edit_node *n = find_node(fs->edits, ino);
	bool replaced = n && n->replaced;
	pthread_mutex_unlock(&fs->edits->lock);
	return replaced;
}

bool edit_is_open(struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	const struct edit_node *n = find_node(fs->edits, ino);
	bool open = n && n->opens > 0;
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

int edit_remove_entry(struct fs *fs, uint32_t entry)
{
	const struct tree_entry *e = tree_entry(fs->tree, entry);
	char key[EDIT_KEY_MAX];
	int r;
	if (edit_is_open(fs, tree_ino(entry, TREE_TENSOR)))
		r = sft_overlay_rename(fs->overlay, e->id, key, edit_hidden_key(fs, key), true,
				       SFT_SHARD_AUTO, SFT_NO_ID, NULL);
	else
		r = sft_overlay_remove(fs->overlay, e->id, NULL);
	if (r == 0)
		tree_remove(fs->tree, entry);
	return r;
}

/* ---- the end ---- */

/*
 * Whether edits may be torn, because the connection was killed under an open writer. After an
 * ordinary unmount nothing is open any more, but the last RELEASE may get lost on the way, while
 * FLUSH never does: close(2) waits for it. So once the mount is gone only a handle that was written
 * and not flushed tells of an abort; while it is still there, dead, every open writer does.
 */
static bool may_be_torn(const struct fs *fs, bool still_mounted)
{
	for (const struct edit_handle *h = fs->edits->handles; h; h = h->next) {
		if (h->writable && (still_mounted || h->unflushed))
			return true;
	}
	return false;
}

/* Scratch files are kept while mounted, and no longer. */
static void drop_scratch(struct fs *fs)
{
	for (uint32_t id = 0; id < sft_overlay_count(fs->overlay); id++) {
		const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
		if (e->live && e->scratch)
			sft_overlay_remove(fs->overlay, id, NULL);
	}
}

int edit_finish(struct fs *fs, int code, bool still_mounted)
{
	if (!atomic_load(&fs->ended_by_signal) && may_be_torn(fs, still_mounted)) {
		log_error(fs->opt->source,
			  "the connection was killed under an open writer: nothing was committed, "
			  "the "
			  "edits are kept in %s (safetensorfs recover commits them as they are)",
			  sft_overlay_staging(fs->overlay));
		return SESSION_ABORTED;
	}
	drop_scratch(fs);
	if (fs_commit(fs, false, NULL) < 0)
		return SESSION_FAILED;
	return code;
}

void edit_free(struct fs *fs)
{
	struct fs_edit *ed = fs->edits;
	if (!ed)
		return;
	edit_notify_stop(ed);
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
	pthread_mutex_destroy(&ed->notify_lock);
	pthread_cond_destroy(&ed->notify_wake);
	pthread_cond_destroy(&ed->notify_done);
	free(ed);
	fs->edits = NULL;
}
