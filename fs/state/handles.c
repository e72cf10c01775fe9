/* handles.c - which files are open */
#include "handles.h"

#include "inodes.h"
#include "keys.h"
#include "merged_file.h"

#include <stdlib.h>

struct fs_handle *fs_handle_new(struct fs *fs, uint64_t ino, bool writable)
{
	struct fs_edits *ed = fs->edits;
	struct fs_handle *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	h->ino = ino;
	h->entry = tree_ino_entry(ino);
	h->writable = writable;
	h->draft = SFT_NO_ID;
	h->kind = tree_ino_kind(ino);
	pthread_mutex_lock(&ed->lock);
	h->node = fs_inode_need(ed, ino);
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

bool fs_handle_free(struct fs *fs, struct fs_handle *h)
{
	struct fs_edits *ed = fs->edits;
	pthread_mutex_lock(&ed->lock);
	h->node->opens--;
	bool last = !fs_inodes_open(ed, tree_ino_entry(h->ino));
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

bool fs_handle_fits(struct fs *fs, struct fs_handle *h)
{
	struct fs_edits *ed = fs->edits;
	bool taken = false;
	if (tree_ino_kind(h->ino) != TREE_NPY)
		return h->ino == fs_current_ino(fs, h->ino);
	pthread_mutex_lock(&ed->lock);
	for (const struct fs_handle *o = h->node->opens > 1 ? ed->handles : NULL; o; o = o->next)
		taken = taken || (o->fits && o->ino == h->ino && o->writable != h->writable);
	if ((taken || h->writable) && h->ino == fs_numbered_ino(h->ino, h->node->numbers))
		h->node->numbers++; /* for whoever looks the name up from now on */
	h->fits = !taken;
	pthread_mutex_unlock(&ed->lock);
	return !taken;
}

bool fs_is_open(struct fs *fs, uint32_t entry)
{
	pthread_mutex_lock(&fs->edits->lock);
	bool open = fs_inodes_open(fs->edits, entry);
	pthread_mutex_unlock(&fs->edits->lock);
	return open;
}

void fs_writers(struct fs *fs, struct sft_buf *paths)
{
	pthread_mutex_lock(&fs->edits->lock);
	for (const struct fs_handle *h = fs->edits->handles; h; h = h->next) {
		const struct tree_entry *e = tree_entry(fs->tree, tree_ino_entry(h->ino));
		if (!h->writable || tree_ino_kind(h->ino) != TREE_TENSOR || e->flags & TREE_DEAD)
			continue;
		fs_key_path(fs, e->parent, e->name, e->name_len, paths);
		sft_buf_add(paths, "", 1);
	}
	pthread_mutex_unlock(&fs->edits->lock);
}

/*
 * After an ordinary unmount nothing is open any more, but the last RELEASE may get lost on the way,
 * while FLUSH never does: close(2) waits for it. So once the mount is gone only a handle that was
 * written and not flushed tells of an abort; while it is still there, dead, every open writer does.
 */
bool fs_may_be_torn(const struct fs *fs, bool still_mounted)
{
	for (const struct fs_handle *h = fs->edits->handles; h; h = h->next) {
		if (h->writable && (still_mounted || h->unflushed))
			return true;
	}
	return false;
}

void fs_handles_free(struct fs_edits *ed)
{
	for (struct fs_handle *h = ed->handles, *next; h; h = next) {
		next = h->next;
		sft_buf_free(&h->text);
		free(h);
	}
}
