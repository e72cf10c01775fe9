/* inodes.c - what is known of an inode besides tree and overlay */
#include "inodes.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* All the numbers that model.safetensors, or a NAME.npy, has had are one node. */
static uint64_t node_ino(uint64_t ino)
{
	return tree_ino(tree_ino_entry(ino), tree_ino_kind(ino));
}

static size_t node_slot(const struct fs_edits *ed, uint64_t ino)
{
	size_t i = (size_t)(ino * 0x9e3779b97f4a7c15u >> 20) & (ed->node_capacity - 1);
	while (ed->nodes[i] && ed->nodes[i]->ino != ino)
		i = (i + 1) & (ed->node_capacity - 1);
	return i;
}

static bool grow_nodes(struct fs_edits *ed)
{
	struct fs_edits bigger = { .node_capacity =
					   ed->node_capacity ? ed->node_capacity * 2 : 64 };
	bigger.nodes = calloc(bigger.node_capacity, sizeof(struct fs_inode *));
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

struct fs_inode *fs_inode_find(const struct fs_edits *ed, uint64_t ino)
{
	return ed->node_capacity ? ed->nodes[node_slot(ed, node_ino(ino))] : NULL;
}

struct fs_inode *fs_inode_need(struct fs_edits *ed, uint64_t ino)
{
	struct fs_inode *n = fs_inode_find(ed, ino);
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

struct fs_inode *fs_inode(struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	struct fs_inode *n = fs_inode_need(fs->edits, ino);
	pthread_mutex_unlock(&fs->edits->lock);
	return n;
}

uint64_t fs_npy_ino(const struct fs *fs, uint64_t ino)
{
	pthread_mutex_lock(&fs->edits->lock);
	const struct fs_inode *n = fs_inode_find(fs->edits, ino);
	uint64_t now = fs_numbered_ino(ino, n ? n->numbers : 0);
	pthread_mutex_unlock(&fs->edits->lock);
	return now;
}

void fs_inode_attr(struct fs *fs, uint64_t ino, struct stat *st)
{
	pthread_mutex_lock(&fs->edits->lock);
	const struct fs_inode *n = fs_inode_find(fs->edits, ino);
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

static void touch(struct fs_edits *ed, struct fs_inode *n)
{
	clock_gettime(CLOCK_REALTIME, &n->mtime);
	n->ctime = n->mtime;
	if (!n->has_times)
		n->atime = n->mtime;
	n->has_times = true;
	ed->changed = n->mtime;
}

void fs_inode_touch(struct fs *fs, struct fs_inode *n)
{
	pthread_mutex_lock(&fs->edits->lock);
	touch(fs->edits, n);
	pthread_mutex_unlock(&fs->edits->lock);
}

bool fs_inodes_restrict(struct fs *fs, struct stat *st)
{
	const struct fs_edits *ed = fs->edits;
	bool same = true;
	pthread_mutex_lock(&fs->edits->lock);
	for (size_t i = 0; i < ed->node_capacity; i++) {
		const struct fs_inode *n = ed->nodes[i];
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

void fs_inode_set_owner(struct fs *fs, struct fs_inode *n, mode_t mode, uid_t uid, gid_t gid)
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

int fs_inode_inherit_reserve(struct fs *fs, uint32_t from)
{
	struct fs_edits *ed = fs->edits;
	int r = 0;
	pthread_mutex_lock(&ed->lock);
	for (size_t i = 0; i < TENSOR_KINDS; i++) {
		uint64_t to = tree_ino(tree_count(fs->tree), tensor_kinds[i]);
		bool needed = tensor_kinds[i] == TREE_TENSOR ||
			      fs_inode_find(ed, tree_ino(from, tensor_kinds[i]));
		if (needed && !fs_inode_need(ed, to))
			r = -ENOMEM;
	}
	pthread_mutex_unlock(&ed->lock);
	return r;
}

void fs_inode_inherit(struct fs *fs, uint32_t from, uint32_t to)
{
	struct fs_edits *ed = fs->edits;
	pthread_mutex_lock(&ed->lock);
	for (size_t i = 0; i < TENSOR_KINDS; i++) {
		const struct fs_inode *old = fs_inode_find(ed, tree_ino(from, tensor_kinds[i]));
		struct fs_inode *n = fs_inode_find(ed, tree_ino(to, tensor_kinds[i]));
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

bool fs_inodes_open(const struct fs_edits *ed, uint32_t entry)
{
	for (size_t i = 0; i < TENSOR_KINDS; i++) {
		const struct fs_inode *n = fs_inode_find(ed, tree_ino(entry, tensor_kinds[i]));
		if (n && n->opens > 0)
			return true;
	}
	return false;
}

void fs_inodes_free(struct fs_edits *ed)
{
	for (size_t i = 0; i < ed->node_capacity; i++)
		free(ed->nodes[i]);
	free(ed->nodes);
}
