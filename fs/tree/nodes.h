/*
 * nodes.h - the structure that the files of the tree share; private to them
 *
 * Each uses those above it in this list:
 *   cut_names.c    file names that had to be cut
 *   tree.c         entries, the hash of their names, changes
 *   lookup.c       from a name in a directory to its node, and back
 *   list.c         listings and their cache
 *   tensor_name.c  what tensor a file name stands for
 *   build.c        from the tensors of a checkpoint to entries
 */
#ifndef NODES_H
#define NODES_H

#include "siphash.h"
#include "tree.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define METADATA_NAME "__metadata__" /* the header's key, so no tensor's name */
#define METADATA_FILE METADATA_NAME ".json"
#define CONTROL_DIR ".safetensorfs"

struct tree_node {
	struct tree_entry e;
	uint32_t next, prev; /* in the directory, in the order added; TREE_NO_ENTRY at the ends */
	uint32_t chain;	     /* the next in the bucket */
	uint32_t hash;	     /* of parent and name */
};

struct tree_dir {
	uint32_t first, last; /* entries */
	uint32_t count, subdirs;
	struct tree_list *list; /* the current one, or NULL; guarded by tree->list_lock */
};

/* A name, or in layout=tree a component, whose file name had to be cut. */
struct cut_name {
	const char *file_name; /* malloced, with a NUL; entries borrow it */
	const char *name;      /* borrowed from the tree's source */
	uint32_t name_len;
	uint32_t chain;
};

struct tree {
	enum tree_layout layout;
	bool list_npy;
	struct tree_node *nodes;
	uint32_t count, capacity, live; /* nodes; live ones are in the hash */
	struct tree_dir *dirs;
	uint32_t dir_count, dir_capacity;
	uint32_t *buckets; /* a power of two of them, at least as many as live entries */
	uint32_t bucket_count;
	uint64_t key[2];       /* random, for each tree */
	struct cut_name *cuts; /* all file names differ */
	uint32_t cut_count, cut_capacity;
	uint32_t *cut_buckets;
	uint32_t cut_bucket_count;
	struct tree_list *control_list;
	pthread_mutex_t list_lock;
};

static inline struct tree_dir *tree_dir_of(const struct tree *tree, uint32_t entry)
{
	return &tree->dirs[tree->nodes[entry].e.dir];
}

static inline uint32_t tree_hash(const struct tree *tree, uint32_t parent, const char *name,
				 size_t len)
{
	const uint64_t key[2] = { tree->key[0] ^ parent, tree->key[1] };

	return (uint32_t)siphash13(key, name, len);
}

/* A name as an entry keeps it. */
struct tree_stored {
	const char *name;
	uint8_t len;
	bool owned; /* malloced; whoever fails to pass it on frees it */
};

/* -ENOMEM. */
static inline int tree_store_copy(struct tree_stored *out, const char *name, size_t len)
{
	char *copy = malloc(len + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, name, len);
	copy[len] = '\0';
	*out = (struct tree_stored){ .name = copy, .len = (uint8_t)len, .owned = true };
	return 0;
}

/* ---- cut_names.c ---- */

/*
 * Remember which name a cut file name stands for; *file_name is the copy that the tree keeps.
 * EEXIST where another name has come to the same file name; ENOMEM.
 */
int tree_cut_intern(struct tree *tree, const char *file, size_t len, const char *name,
		    uint32_t name_len, const char **file_name, struct sft_error *err);
/* The cut name of that file name, or NULL. */
const struct cut_name *tree_cut_find(const struct tree *tree, const char *file, size_t len);
void tree_cuts_free(struct tree *tree);

/* ---- tree.c ---- */

/* An empty tree with room for `capacity` entries, or NULL. */
struct tree *tree_new(enum tree_layout layout, bool list_npy, size_t capacity);
/* Give back the room that is not used. */
void tree_shrink(struct tree *tree);
/* The live entry of exactly that name, or TREE_NO_ENTRY. */
uint32_t tree_find(const struct tree *tree, uint32_t parent, const char *name, size_t len);

/* Takes `name` over, also where it fails: -ENOMEM, -ENOSPC. *entry may be NULL. */
int tree_insert(struct tree *tree, uint32_t parent, struct tree_stored name, uint8_t flags,
		uint32_t id, uint32_t *entry);
void tree_relocate(struct tree *tree, uint32_t entry, uint32_t parent, struct tree_stored name,
		   uint8_t flags);

/* ---- lookup.c ---- */

/* A node's file name in two pieces. */
struct tree_text {
	const char *base, *suffix;
	size_t base_len, suffix_len;
};
struct tree_text tree_text(const struct tree *tree, uint32_t entry, enum tree_kind kind);

#endif
