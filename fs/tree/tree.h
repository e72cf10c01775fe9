/*
 * tree.h - the mounted tree: file names to nodes and back; no FUSE here
 *
 * An entry is a directory or a tensor's file. Beside a tensor's file lie its views (sidecar, .npy,
 * .f32.npy), beside a directory's entries its metadata file: these are no entries of their own, but
 * kinds of node. A node is an inode number: entry << 4 | kind. Entries are numbered from 0 (the
 * root) and never reused, so inode numbers are stable for the life of the mount and need no table.
 *
 * Reading the tree needs a shared lock of the caller's, changing it an exclusive one. tree_list()
 * may be called under the shared lock: it guards its cache itself.
 */
#ifndef TREE_H
#define TREE_H

#include "sft.h"

enum tree_kind {
	TREE_NONE,
	TREE_DIR, /* the root is entry 0, so its inode number is 1 */
	TREE_TENSOR,
	TREE_SIDECAR,
	TREE_NPY,
	TREE_F32,
	TREE_METADATA, /* of the directory entry */
	TREE_CONTROL,  /* the directory .safetensorfs; entry 0, as for what is in it */
	TREE_STATUS,
	TREE_COMMIT,
	TREE_PROGRESS,
	TREE_MERGED, /* model.safetensors */
};

enum tree_layout { TREE_FLAT, TREE_TREE, TREE_FILES };

#define TREE_ROOT 0u
#define TREE_NO_ENTRY UINT32_MAX

static inline uint64_t tree_ino(uint32_t entry, enum tree_kind kind)
{
	return (uint64_t)entry << 4 | (uint64_t)kind;
}
static inline uint32_t tree_ino_entry(uint64_t ino)
{
	return (uint32_t)(ino >> 4);
}
static inline enum tree_kind tree_ino_kind(uint64_t ino)
{
	return (enum tree_kind)(ino & 15);
}

enum {
	TREE_DEAD = 1,		 /* removed; the number stays taken */
	TREE_SCRATCH = 2,	 /* a scratch name; has no views */
	TREE_SIDECAR_HIDDEN = 4, /* removed or renamed away by the user, until written again */
	TREE_HAS_METADATA = 8,	 /* directories: __metadata__.json is there */
	TREE_IS_DIR = 16,
};

struct tree_entry {
	const char *name; /* encoded, of name_len bytes, followed by a NUL only where copied */
	uint32_t parent;  /* entry of its directory; the root is its own */
	uint32_t id;  /* tensor: what tree_build() was given. directory: its shard, layout=files */
	uint32_t dir; /* private: position among the directories */
	uint8_t name_len, flags;
	bool owned; /* private: the name is this entry's to free */
};

struct tree;

/* What tree_build() puts into the tree. */
struct tree_item {
	const char *name; /* of the tensor, decoded */
	uint32_t name_len;
	uint32_t shard; /* used by TREE_FILES */
	uint32_t id;	/* kept in the entry */
};

struct tree_source {
	void *ctx;
	size_t count, shards;
	/* Item i, in byte order of names; what `name` points to outlives the tree. */
	void (*item)(void *ctx, size_t i, struct tree_item *item);
	/* File name of shard i, or NULL where it is missing and shall have no directory; need not
	 * outlive the call. Asked for only by TREE_FILES. */
	const char *(*shard)(void *ctx, size_t i);
};

/*
 * Build the tree. `list_npy`: listings show NAME.npy. EEXIST where two tensors come to the same
 * file name (possible only for cut ones, by collision of the hash); ENOSPC above TREE_ENTRY_MAX;
 * E2BIG where the names of TREE_TREE have so many parts that their directories would take many
 * times the header's memory; ENOMEM. Memory: at most 48 bytes a tensor, 72 a directory, plus names
 * that had to be encoded, plus listings (8 bytes a name, made when first asked for). Names are
 * looked up by a hash with a random key, so that no checkpoint can make look-ups slow.
 */
#define TREE_ENTRY_MAX ((1u << 30) - 1) /* entries; a listing packs entry and kind into 32 bits */
#define TREE_DIRS_EACH 16		/* directories for each tensor, as a mean, */
#define TREE_DIRS_MORE 65536		/* and for a checkpoint of few tensors */
int tree_build(enum tree_layout layout, bool list_npy, const struct tree_source *source,
	       struct tree **out, struct sft_error *err);
void tree_free(struct tree *tree);

uint32_t tree_count(const struct tree *tree); /* entries, dead ones too */
/* Valid until the next tree_add(). */
const struct tree_entry *tree_entry(const struct tree *tree, uint32_t entry);

/*
 * The node for a name in a directory (TREE_DIR or TREE_CONTROL), or 0. Views answer by name
 * whether or not they are listed: a TREE_F32 node for any tensor, so ask whether its dtype has one.
 * The plain view of a tensor that is itself called x.f32 goes before the F32 view of x.
 */
uint64_t tree_lookup(const struct tree *tree, uint64_t dir_ino, const char *name, size_t len);

/* The node that holds this one: a directory. The root is its own. */
uint64_t tree_parent(const struct tree *tree, uint64_t ino);

#define TREE_NAME_MAX 255
/* The file name of a node in its directory, with its suffix and a NUL. Returns its length. */
size_t tree_name(const struct tree *tree, uint64_t ino, char out[TREE_NAME_MAX + 1]);

/*
 * A directory's nodes in byte order of their names, without "." and "..". Immutable: a change of
 * the directory makes a new one, this one stays as it is until it is dropped.
 */
struct tree_list {
	size_t count;
	uint64_t *inos;
	unsigned refs; /* private */
};
/*
 * The current listing of a TREE_DIR or TREE_CONTROL; drop it with tree_list_put(), which needs no
 * lock and may come after the tree is gone. NULL where memory runs out. Any thread.
 */
struct tree_list *tree_list(struct tree *tree, uint64_t dir_ino);
void tree_list_put(struct tree_list *list);

/* Subdirectories of a directory, for st_nlink; .safetensorfs is not counted. */
uint32_t tree_subdirs(const struct tree *tree, uint32_t entry);
/* No entries in it; a metadata file does not count. */
bool tree_dir_empty(const struct tree *tree, uint32_t entry);

/* ---- changes ---- */

/*
 * Add an entry, a directory where flags say so; file_name (1 to TREE_NAME_MAX bytes) is copied. The
 * caller has looked that it is free and valid. ENOMEM; ENOSPC when the numbers run out. *entry may
 * be NULL.
 */
int tree_add(struct tree *tree, uint32_t parent, const char *file_name, size_t len, uint8_t flags,
	     uint32_t id, uint32_t *entry);
/* The entry can still be read by its number. A directory has to be empty. */
void tree_remove(struct tree *tree, uint32_t entry);

/*
 * Changes in two halves, for who must not fail once something else has been changed: get what
 * tree_put() or tree_place() will take for a file name. There is room for one entry at a time.
 * ENOMEM, ENOSPC. Free with tree_room_free(), which is safe after its use and on zeros.
 */
struct tree_room {
	char *name;
	uint8_t len;
};
int tree_reserve(struct tree *tree, const char *file_name, size_t len, struct tree_room *room);
void tree_room_free(struct tree_room *room);
/* As tree_add(); the number that the entry gets is tree_count(). */
uint32_t tree_put(struct tree *tree, uint32_t parent, struct tree_room *room, uint8_t flags,
		  uint32_t id);
/* Move and rename; a directory takes what is in it along. The target name is free (or the entry's
 * own), and not inside the directory itself. `flags` as for tree_set_flags(). */
void tree_place(struct tree *tree, uint32_t entry, uint32_t parent, struct tree_room *room,
		uint8_t flags);

/* Remove the entry, since `by` has taken its place: who had the old one by number and means the
 * file, not its bytes, finds the new one by tree_now(). */
void tree_supersede(struct tree *tree, uint32_t entry, uint32_t by);
/* The entry itself, or what has taken its place, and so on. It may be dead. */
uint32_t tree_now(const struct tree *tree, uint32_t entry);

/* Change flags without moving; TREE_DEAD and TREE_IS_DIR stay as they are. */
void tree_set_flags(struct tree *tree, uint32_t entry, uint8_t flags);

/*
 * The tensor name that a file name in a directory stands for by the layout, added to `name`.
 * EINVAL where it is no valid encoding, where no tensor can have the name (`__metadata__`) or be in
 * that directory (the root of layout=files); ENOMEM. A cut name is known only if the tree was built
 * with it, but then for the life of the tree. In layout=tree the `%` behind the name of a file is
 * dropped where its directory has a subdirectory of that name.
 */
int tree_tensor_name(const struct tree *tree, uint32_t parent, const char *file_name, size_t len,
		     struct sft_buf *name);
/*
 * layout=tree: what the names of all tensors begin with that lie in or below the directory
 * `file_name` of `parent`, whether or not it is there; added to `prefix`. EINVAL where that is no
 * valid encoding; ENOMEM.
 */
int tree_dir_prefix(const struct tree *tree, uint32_t parent, const char *file_name, size_t len,
		    struct sft_buf *prefix);

#endif
