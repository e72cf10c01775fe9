/* edit.c - state of an edit mount, from the tree over the overlay to the last commit */
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
	pthread_rwlock_unlock(&fs->lock);
	pthread_mutex_unlock(&fs->edit);
}

/* ---- nodes ---- */

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
	return ed->node_capacity ? ed->nodes[node_slot(ed, ino)] : NULL;
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
	}
	pthread_mutex_unlock(&fs->edits->lock);
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

bool edit_is_open(struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	const struct edit_node *n = find_node(fs->edits, ino);
	bool open = n && n->opens > 0;
	pthread_mutex_unlock(&fs->edits->lock);
	return open;
}

/* ---- keys of scratch files ---- */

size_t edit_hidden_key(struct fs *fs, char key[EDIT_KEY_MAX])
{
	/* No path in the mount begins with a slash. */
	key[0] = '/';
	return 1 + (size_t)snprintf(key + 1, EDIT_KEY_MAX - 1, "%llx",
				    (unsigned long long)++fs->edits->serial);
}

void edit_scratch_key(const struct fs *fs, uint32_t parent, const char *name, size_t len,
		      struct sft_buf *key)
{
	if (parent != TREE_ROOT) {
		const struct tree_entry *e = tree_entry(fs->tree, parent);
		edit_scratch_key(fs, e->parent, e->name, e->name_len, key);
		sft_buf_add(key, "/", 1);
	}
	sft_buf_add(key, name, len);
}

/* ---- the tree over an overlay ---- */

struct build {
	struct fs *fs;
	uint32_t *ids;	/* live tensors, in byte order of names */
	size_t *places; /* of their names in fs->edits->names */
	size_t count;
};

static int compare_ids(const void *a, const void *b, void *ctx)
{
	const struct sft_overlay *ov = ctx;
	const struct sft_entry *x = sft_overlay_entry(ov, *(const uint32_t *)a);
	const struct sft_entry *y = sft_overlay_entry(ov, *(const uint32_t *)b);
	int c = sft_name_compare(x->name, x->name_len, y->name, y->name_len);
	return c ? c : (x->shard > y->shard) - (x->shard < y->shard);
}

static void build_item(void *ctx, size_t i, struct tree_item *item)
{
	const struct build *b = ctx;
	const struct sft_entry *e = sft_overlay_entry(b->fs->overlay, b->ids[i]);
	/* A commit replaces what the overlay's names point into; the tree outlives it. */
	*item = (struct tree_item){ b->fs->edits->names + b->places[i], e->name_len, e->shard,
				    b->ids[i] };
}

static const char *build_shard(void *ctx, size_t i)
{
	const struct build *b = ctx;
	return sft_checkpoint_shard(fs_checkpoint(b->fs), i)->name;
}

static int gather(struct build *b)
{
	struct sft_overlay *ov = b->fs->overlay;
	uint32_t n = sft_overlay_count(ov);
	size_t bytes = 0;
	b->ids = calloc((size_t)n + 1, sizeof(*b->ids));
	b->places = calloc((size_t)n + 1, sizeof(*b->places));
	if (!b->ids || !b->places)
		return -ENOMEM;
	for (uint32_t id = 0; id < n; id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		if (!e->live || e->scratch)
			continue;
		b->ids[b->count++] = id;
		bytes += e->name_len + 1u;
	}
	qsort_r(b->ids, b->count, sizeof(*b->ids), compare_ids, ov);
	b->fs->edits->names = malloc(bytes + 1);
	if (!b->fs->edits->names)
		return -ENOMEM;
	char *out = b->fs->edits->names;
	for (size_t i = 0; i < b->count; i++) {
		const struct sft_entry *e = sft_overlay_entry(ov, b->ids[i]);
		b->places[i] = (size_t)(out - b->fs->edits->names);
		memcpy(out, e->name, e->name_len);
		out[e->name_len] = '\0';
		out += e->name_len + 1u;
	}
	return 0;
}

/* A scratch file that was staged before a crash: back to its place, or gone where it was a draft.
 */
static int restore_scratch(struct fs *fs, uint32_t id)
{
	const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
	uint64_t dir = tree_ino(TREE_ROOT, TREE_DIR);
	const char *at = e->name, *end = e->name + e->name_len, *slash;
	while (dir && (slash = memchr(at, '/', (size_t)(end - at)))) {
		dir = tree_lookup(fs->tree, dir, at, (size_t)(slash - at));
		at = slash + 1;
	}
	if (!dir || tree_ino_kind(dir) != TREE_DIR || at == end ||
	    tree_lookup(fs->tree, dir, at, (size_t)(end - at)))
		return sft_overlay_remove(fs->overlay, id, NULL);
	return tree_add(fs->tree, tree_ino_entry(dir), at, (size_t)(end - at), TREE_SCRATCH, id,
			NULL);
}

static int new_edits(struct fs *fs)
{
	struct fs_edit *ed = calloc(1, sizeof(*ed));
	if (!ed)
		return -ENOMEM;
	pthread_mutex_init(&ed->lock, NULL);
	pthread_mutex_init(&ed->notify_lock, NULL);
	pthread_cond_init(&ed->notify_wake, NULL);
	pthread_cond_init(&ed->notify_done, NULL);
	fs->edits = ed;
	return 0;
}

int edit_build_tree(struct fs *fs, struct sft_error *err)
{
	struct build b = { .fs = fs };
	int r = new_edits(fs);
	if (r == 0)
		r = gather(&b);
	if (r < 0) {
		sft_fail(err, -r, "%s", strerror(-r));
		goto out;
	}
	struct tree_source source = {
		.ctx = &b,
		.count = b.count,
		.shards = sft_checkpoint_shards(fs_checkpoint(fs)),
		.item = build_item,
		.shard = build_shard,
	};
	r = tree_build(fs->opt->layout, fs->opt->list_npy, &source, &fs->tree, err);
	if (r < 0)
		goto out;
	fs_mark_metadata(fs);
	for (uint32_t id = 0; r == 0 && id < sft_overlay_count(fs->overlay); id++) {
		const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
		if (e->live && e->scratch)
			r = restore_scratch(fs, id);
	}
	if (r < 0)
		sft_fail(err, -r, "cannot restore scratch files: %s", strerror(-r));
out:
	free(b.places);
	free(b.ids);
	return r;
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

/* ---- telling the kernel ---- */

static void *notifier(void *ctx)
{
	struct fs *fs = ctx;
	struct fs_edit *ed = fs->edits;
	pthread_mutex_lock(&ed->notify_lock);
	while (!ed->notifier_stop) {
		uint64_t ino = ed->notify_ino;
		if (!ino) {
			pthread_cond_wait(&ed->notify_wake, &ed->notify_lock);
			continue;
		}
		pthread_mutex_unlock(&ed->notify_lock);
		fuse_lowlevel_notify_inval_inode(fs->se, ino, 0, 0);
		pthread_mutex_lock(&ed->notify_lock);
		if (ed->notify_ino == ino)
			ed->notify_ino = 0;
		pthread_cond_broadcast(&ed->notify_done);
	}
	pthread_mutex_unlock(&ed->notify_lock);
	return NULL;
}

void edit_forget_cached(struct fs *fs, uint64_t ino)
{
	struct fs_edit *ed = fs->edits;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	pthread_mutex_lock(&ed->notify_lock);
	if (!ed->notifier_runs)
		ed->notifier_runs = pthread_create(&ed->notifier, NULL, notifier, fs) == 0;
	while (ed->notifier_runs && ed->notify_ino &&
	       pthread_cond_timedwait(&ed->notify_done, &ed->notify_lock, &until) == 0)
		;
	ed->notify_ino = ino;
	pthread_cond_signal(&ed->notify_wake);
	while (ed->notifier_runs && ed->notify_ino == ino &&
	       pthread_cond_timedwait(&ed->notify_done, &ed->notify_lock, &until) == 0)
		;
	pthread_mutex_unlock(&ed->notify_lock);
}

static void stop_notifier(struct fs_edit *ed)
{
	pthread_mutex_lock(&ed->notify_lock);
	ed->notifier_stop = true;
	pthread_cond_signal(&ed->notify_wake);
	pthread_mutex_unlock(&ed->notify_lock);
	if (ed->notifier_runs)
		pthread_join(ed->notifier, NULL);
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
	if (fs_commit(fs, NULL) < 0)
		return SESSION_FAILED;
	return code;
}

void edit_free(struct fs *fs)
{
	struct fs_edit *ed = fs->edits;
	if (!ed)
		return;
	stop_notifier(ed);
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
