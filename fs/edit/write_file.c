/*
 * write_file.c - what is done with open files: write, truncate, attributes, flush, fsync
 *
 * When a write returns, the edit is in the staging directory. What is written to a sidecar,
 * metadata or .npy file goes to a draft instead, and counts from flush, fsync or a rename on
 * (gather.c).
 *
 * What reaches the user: errors of write, flush and fsync do, those of release do not; so all work
 * is done before release.
 */
#include "edit.h"

#include "classify.h"
#include "gather.h"
#include "inodes.h"
#include "node.h"
#include "shown.h"

#include <errno.h>

static void set_unflushed(struct fs *fs, struct fs_handle *h, bool unflushed)
{
	pthread_mutex_lock(&fs->edits->lock);
	h->unflushed = unflushed;
	pthread_mutex_unlock(&fs->edits->lock);
}

/* ---- write, truncate ---- */

/* Keep how a change of a draft ended: after one that failed the draft is not whole, until it is
 * empty again. */
static void note_draft(struct fs_handle *h, int r, bool emptied)
{
	if (!edit_is_drafted(h->ino) && !h->pending)
		return;
	if (r == 0 && emptied) {
		h->failed = 0;
		h->failure_logged = false;
	} else if (r < 0 && !h->failed) {
		h->failed = r;
	}
}

static int write_bytes(struct fs *fs, struct fs_handle *h, const char *buf, size_t size,
		       uint64_t offset)
{
	bool drafted = edit_is_drafted(h->ino);
	int r = drafted ? edit_draft_need(fs, h, false) : 0;
	if (r == 0)
		r = sft_overlay_write(fs->overlay, drafted ? h->draft : fs_tensor_id(fs, h->ino),
				      buf, size, offset, NULL);
	h->changed = true;
	note_draft(h, r, false);
	if (!drafted)
		fs_inode_touch(fs, h->node);
	return r;
}

int edit_write(struct fs *fs, struct fs_handle *h, const char *buf, size_t size, uint64_t offset)
{
	fs_change_begin(fs);
	int r = write_bytes(fs, h, buf, size, offset);
	fs_change_end(fs);
	set_unflushed(fs, h, true);
	return r;
}

static int set_size(struct fs *fs, uint64_t ino, uint64_t size, struct fs_handle *h)
{
	if (tree_ino_kind(ino) == TREE_COMMIT)
		return 0; /* `echo >` truncates */
	if (tree_ino_kind(ino) == TREE_TENSOR) {
		struct fs_inode *n = h ? h->node : fs_inode(fs, ino);
		int r = n ? sft_overlay_truncate(fs->overlay, fs_tensor_id(fs, ino), size, NULL)
			  : -ENOMEM;
		if (r == 0)
			fs_inode_touch(fs, n);
		if (h) {
			h->changed = true;
			note_draft(h, r, size == 0);
		}
		return r;
	}
	if (!edit_is_drafted(ino) || !h)
		return tree_ino_kind(ino) == TREE_F32 ? -EROFS : -EINVAL;
	int r = edit_draft_need(fs, h, size == 0);
	if (r == 0)
		r = sft_overlay_truncate(fs->overlay, h->draft, size, NULL);
	/* Emptying it is the beginning of writing it, not the end. */
	h->changed = size != 0;
	note_draft(h, r, size == 0);
	return r;
}

/* ---- attributes ---- */

static void set_times(struct fs_inode *n, const struct stat *attr, unsigned what,
		      const struct stat *now)
{
	if (!n->has_times) {
		n->atime = now->st_atim;
		n->mtime = now->st_mtim;
	}
	if (what & EDIT_ATIME)
		n->atime = attr->st_atim;
	if (what & EDIT_MTIME)
		n->mtime = attr->st_mtim;
	clock_gettime(CLOCK_REALTIME, &n->ctime);
	n->has_times = true;
}

/* chmod, chown and times hold for the life of the mount. */
static int set_node(struct fs *fs, uint64_t ino, const struct stat *attr, unsigned what)
{
	struct stat now;
	int r = tree_ino_kind(ino) == TREE_MERGED ? -EPERM : fs_node_attr(fs, ino, &now);
	struct fs_inode *n = r == 0 ? fs_inode(fs, ino) : NULL;
	if (!n)
		return r < 0 ? r : -ENOMEM;
	pthread_mutex_lock(&fs->edits->lock);
	if (what & EDIT_MODE) {
		n->mode = attr->st_mode & 07777;
		n->has_mode = true;
	}
	if (what & (EDIT_UID | EDIT_GID)) {
		n->uid = what & EDIT_UID ? attr->st_uid : now.st_uid;
		n->gid = what & EDIT_GID ? attr->st_gid : now.st_gid;
		n->has_owner = true;
	}
	if (what & (EDIT_ATIME | EDIT_MTIME))
		set_times(n, attr, what, &now);
	pthread_mutex_unlock(&fs->edits->lock);
	return 0;
}

int edit_set_attr(struct fs *fs, uint64_t ino, const struct stat *attr, unsigned what,
		  struct fs_handle *h)
{
	fs_change_begin(fs);
	int r = fs_node_check(fs, ino);
	if (r == 0 && what & EDIT_SIZE)
		r = set_size(fs, ino, (uint64_t)attr->st_size, h);
	if (r == 0 && what & ~(unsigned)EDIT_SIZE)
		r = set_node(fs, ino, attr, what);
	fs_change_end(fs);
	if (r == 0 && what & EDIT_SIZE && h)
		set_unflushed(fs, h, true);
	return r;
}

int edit_attr(struct fs *fs, uint64_t ino, const struct fs_handle *h, struct stat *st)
{
	int r = fs_node_attr(fs, ino, st);
	if (r == 0 && h && h->draft != SFT_NO_ID)
		st->st_size = (off_t)fs_tensor_nbytes(fs, h->draft);
	return r;
}

/* ---- flush, fsync ---- */

int edit_finish_writing(struct fs *fs, struct fs_handle *h, bool sync)
{
	int r = 0;
	fs_change_begin(fs);
	if (h && h->writable)
		r = edit_draft_apply(fs, h);
	pthread_rwlock_unlock(&fs->lock);
	/* A sync may take long: readers go on, only changes wait. */
	if (r == 0 && sync)
		r = sft_overlay_sync(fs->overlay, NULL);
	pthread_mutex_unlock(&fs->edit);
	return r;
}

int edit_flush(struct fs *fs, struct fs_handle *h)
{
	int r = h->writable ? edit_finish_writing(fs, h, false) : 0;
	set_unflushed(fs, h, false);
	return r;
}
