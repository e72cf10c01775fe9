/* inodes.h - what is known of an inode besides tree and overlay; for edit mounts */
#ifndef INODES_H
#define INODES_H

#include "state.h"

/*
 * What is known of an inode besides tree and overlay: how often it is open, and what chmod, chown,
 * utimes and writing have said of it. For the life of the mount.
 */
struct fs_inode {
	uint64_t ino;
	uint32_t opens;
	bool has_mode, has_owner, has_times;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec atime, mtime, ctime;
	uint32_t numbers; /* of NAME.npy: how many inode numbers it has had before */
};

/* The inode, made if it is not there yet; NULL if memory runs out. */
struct fs_inode *fs_inode(struct fs *fs, uint64_t ino);
/* model.safetensors and NAME.npy have several inode numbers in their time, told apart by a number
 * above entry and kind. */
static inline uint64_t fs_numbered_ino(uint64_t ino, uint64_t number)
{
	return tree_ino(tree_ino_entry(ino), tree_ino_kind(ino)) | number << 36;
}
/* The inode number that NAME.npy has now. Any thread. */
uint64_t fs_npy_ino(const struct fs *fs, uint64_t ino);
/* Put what is known of the inode over st. Any thread. */
void fs_inode_attr(struct fs *fs, uint64_t ino, struct stat *st);
/* For model.safetensors: take from its mode what the user has taken from a tensor's, and set its
 * time to that of the last change. False where a tensor has another owner. Under `lock`. */
bool fs_inodes_restrict(struct fs *fs, struct stat *st);
/* It was written now. */
void fs_inode_touch(struct fs *fs, struct fs_inode *n);
/* A new file: mode and owner are the creator's. */
void fs_inode_set_owner(struct fs *fs, struct fs_inode *n, mode_t mode, uid_t uid, gid_t gid);
/* Get what fs_inode_inherit() needs for the entry that will be the tree's next one. -ENOMEM. */
int fs_inode_inherit_reserve(struct fs *fs, uint32_t from);
/* The tensor of entry `to` takes the place of that of `from`: mode, owner and so on are as they
 * were, its time is now. */
void fs_inode_inherit(struct fs *fs, uint32_t from, uint32_t to);

/* ---- under edits->lock ---- */

/* NULL if nothing is known of it. */
struct fs_inode *fs_inode_find(const struct fs_edits *ed, uint64_t ino);
/* As fs_inode(). */
struct fs_inode *fs_inode_need(struct fs_edits *ed, uint64_t ino);
/* As fs_is_open(). */
bool fs_inodes_open(const struct fs_edits *ed, uint32_t entry);

void fs_inodes_free(struct fs_edits *ed);

#endif
