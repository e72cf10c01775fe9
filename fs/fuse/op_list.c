/*
 * ops_dir.c - listings
 *
 * A cookie is a position in a stable sorted array: 0 and 1 are "." and "..", node i is i + 2. The
 * array is the tree's current listing, or, in an edit mount, the one that opendir took: a listing
 * that is under way shows each name once, whatever happens meanwhile.
 */
#include "merged_file.h"
#include "node.h"
#include "request.h"

#include <errno.h>
#include <stdlib.h>

/* Add one name to the reply. Returns the bytes that it takes, more than `room` where it does not
 * fit, or -errno. */
static ssize_t add_node(fuse_req_t req, struct fs *fs, char *buf, size_t room, const char *name,
			uint64_t ino, bool is_dot, bool plus, off_t next)
{
	struct fuse_entry_param e;
	if (!plus) {
		enum tree_kind kind = tree_ino_kind(ino);
		bool is_dir = kind == TREE_DIR || kind == TREE_CONTROL;
		struct stat st = { .st_ino = ino, .st_mode = is_dir ? S_IFDIR : S_IFREG };
		return (ssize_t)fuse_add_direntry(req, buf, room, name, &st, next);
	}
	int r = fs_entry_param(fs, ino, &e);
	/* One that cannot be made now (model.safetensors) is listed all the same. */
	if (r < 0 && tree_ino_kind(ino) == TREE_MERGED)
		e.attr = (struct stat){ .st_ino = ino, .st_mode = S_IFREG };
	else if (r < 0)
		return r;
	if (is_dot || r < 0)
		e.ino = 0; /* the kernel links no entry for these */
	return (ssize_t)fuse_add_direntry_plus(req, buf, room, name, &e, next);
}

/* The node at a position, with its name; 0 where it has gone since the listing was taken. */
static uint64_t node_at(const struct fs *fs, uint64_t dir, const struct tree_list *list, size_t at,
			char name[TREE_NAME_MAX + 1])
{
	if (at < 2) {
		name[0] = name[1] = '.';
		name[at + 1] = '\0';
		return at == 0 ? dir : tree_parent(fs->tree, dir);
	}
	uint64_t ino = list->inos[at - 2];
	uint32_t entry = tree_ino_entry(ino);
	/* One that a NAME.npy has replaced. What stood for a view of no tensor is another file. */
	if (!(tree_entry(fs->tree, entry)->flags & TREE_SCRATCH))
		entry = tree_now(fs->tree, entry);
	ino = tree_ino(entry, tree_ino_kind(ino));
	const struct tree_entry *e = tree_entry(fs->tree, entry);
	if (e->flags & TREE_DEAD || tree_parent(fs->tree, ino) != dir || !fs_node_exists(fs, ino))
		return 0;
	tree_name(fs->tree, ino, name);
	return fs_current_ino(fs, ino);
}

static int fill(fuse_req_t req, struct fs *fs, uint64_t dir, const struct tree_list *list,
		char *buf, size_t size, off_t offset, bool plus, size_t *used)
{
	char name[TREE_NAME_MAX + 1];
	*used = 0;
	for (size_t at = (size_t)offset; at < list->count + 2; at++) {
		uint64_t ino = node_at(fs, dir, list, at, name);
		if (!ino)
			continue;
		ssize_t n = add_node(req, fs, buf + *used, size - *used, name, ino, at < 2, plus,
				     (off_t)at + 1);
		/* An error is only reported before the first entry: a lookup that was stored must
		 * reach the kernel. */
		if (n < 0)
			return *used ? 0 : (int)n;
		if ((size_t)n > size - *used)
			break;
		*used += (size_t)n;
	}
	return 0;
}

static void reply_listing(fuse_req_t req, uint64_t ino, size_t size, off_t offset,
			  struct fuse_file_info *fi, bool plus)
{
	struct fs *fs = fs_of(req);
	struct tree_list *held = fs->overlay ? (struct tree_list *)(uintptr_t)fi->fh : NULL;
	size_t used;
	char *buf = malloc(size);
	fs_read_lock(fs);
	struct tree_list *list = held ? held : tree_list(fs->tree, ino);
	if (!buf || !list) {
		fuse_reply_err(req, ENOMEM);
	} else {
		int r = fill(req, fs, ino, list, buf, size, offset, plus, &used);
		if (r < 0)
			fuse_reply_err(req, -r);
		else
			fuse_reply_buf(req, buf, used);
	}
	fs_unlock(fs);
	if (list && !held)
		tree_list_put(list);
	free(buf);
}

void fs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	reply_listing(req, ino, size, offset, fi, false);
}

void fs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	reply_listing(req, ino, size, offset, fi, true);
}
