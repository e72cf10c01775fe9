/* tree.c - entries, the hash of their names, changes */
#include "nodes.h"

#include <sys/random.h>
#include <time.h>

#define SETTABLE_FLAGS (TREE_SCRATCH | TREE_SIDECAR_HIDDEN | TREE_HAS_METADATA)

/* ---- memory ---- */

/* Make room for one more item of `size` bytes in an array. */
static bool grow(void **items, uint32_t count, uint32_t *capacity, size_t size)
{
	if (count < *capacity)
		return true;
	size_t wanted = *capacity < 16 ? 16 : (size_t)*capacity + *capacity / 2;
	void *more = realloc(*items, wanted * size);
	if (!more)
		return false;
	*items = more;
	*capacity = (uint32_t)wanted;
	return true;
}

/* Have at least `wanted` buckets; what is in the old ones moves over. */
static bool grow_buckets(struct tree *tree, size_t wanted)
{
	size_t count = tree->bucket_count ? tree->bucket_count : 16;

	if (wanted <= tree->bucket_count)
		return true;
	while (count < wanted)
		count *= 2;
	uint32_t *buckets = malloc(count * sizeof(*buckets));
	if (!buckets)
		return false;
	memset(buckets, 0xff, count * sizeof(*buckets));
	for (uint32_t i = 0; i < tree->bucket_count; i++) {
		for (uint32_t at = tree->buckets[i], next; at != TREE_NO_ENTRY; at = next) {
			struct tree_node *node = &tree->nodes[at];
			uint32_t *bucket = &buckets[node->hash & (count - 1)];

			next = node->chain;
			node->chain = *bucket;
			*bucket = at;
		}
	}
	free(tree->buckets);
	tree->buckets = buckets;
	tree->bucket_count = (uint32_t)count;
	return true;
}

static void make_key(struct tree *tree)
{
	struct timespec now;

	if (getrandom(tree->key, sizeof(tree->key), GRND_NONBLOCK) == sizeof(tree->key))
		return;
	/* Early in the boot: the clock and where memory lies are what cannot be known beforehand.
	 */
	clock_gettime(CLOCK_REALTIME, &now);
	tree->key[0] = (uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec;
	tree->key[1] = (uint64_t)(uintptr_t)tree;
}

struct tree *tree_new(enum tree_layout layout, bool list_npy, size_t capacity)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return NULL;
	tree->layout = layout;
	tree->list_npy = list_npy;
	pthread_mutex_init(&tree->list_lock, NULL);
	make_key(tree);
	if (capacity <= TREE_ENTRY_MAX) {
		tree->nodes = malloc(capacity * sizeof(*tree->nodes));
		tree->capacity = tree->nodes ? (uint32_t)capacity : 0;
	}
	if (!tree->nodes || !grow_buckets(tree, capacity) ||
	    tree_insert(tree, TREE_ROOT, (struct tree_stored){ .name = "" }, TREE_IS_DIR, 0,
			NULL)) {
		tree_free(tree);
		return NULL;
	}
	return tree;
}

void tree_shrink(struct tree *tree)
{
	struct tree_node *nodes = realloc(tree->nodes, tree->count * sizeof(*nodes));
	struct tree_dir *dirs = realloc(tree->dirs, tree->dir_count * sizeof(*dirs));

	if (nodes) {
		tree->nodes = nodes;
		tree->capacity = tree->count;
	}
	if (dirs) {
		tree->dirs = dirs;
		tree->dir_capacity = tree->dir_count;
	}
}

void tree_list_put(struct tree_list *list)
{
	if (list && __atomic_sub_fetch(&list->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(list);
}

void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	for (uint32_t i = 0; i < tree->dir_count; i++)
		tree_list_put(tree->dirs[i].list);
	tree_list_put(tree->control_list);
	for (uint32_t i = 0; i < tree->count; i++) {
		if (tree->nodes[i].e.owned)
			free((char *)tree->nodes[i].e.name);
	}
	tree_cuts_free(tree);
	pthread_mutex_destroy(&tree->list_lock);
	free(tree->nodes);
	free(tree->dirs);
	free(tree->buckets);
	free(tree);
}

uint32_t tree_count(const struct tree *tree)
{
	return tree->count;
}

const struct tree_entry *tree_entry(const struct tree *tree, uint32_t entry)
{
	return &tree->nodes[entry].e;
}

/* ---- the hash: parent and name to entry ---- */

static uint32_t *bucket_of(const struct tree *tree, uint32_t hash)
{
	return &tree->buckets[hash & (tree->bucket_count - 1)];
}

uint32_t tree_find(const struct tree *tree, uint32_t parent, const char *name, size_t len)
{
	uint32_t hash = tree_hash(tree, parent, name, len);

	for (uint32_t at = *bucket_of(tree, hash); at != TREE_NO_ENTRY;
	     at = tree->nodes[at].chain) {
		const struct tree_node *node = &tree->nodes[at];

		if (node->hash == hash && node->e.parent == parent && node->e.name_len == len &&
		    memcmp(node->e.name, name, len) == 0)
			return at;
	}
	return TREE_NO_ENTRY;
}

static void hash_add(struct tree *tree, uint32_t entry)
{
	struct tree_node *node = &tree->nodes[entry];

	node->hash = tree_hash(tree, node->e.parent, node->e.name, node->e.name_len);
	uint32_t *bucket = bucket_of(tree, node->hash);
	node->chain = *bucket;
	*bucket = entry;
	tree->live++;
}

static void hash_remove(struct tree *tree, uint32_t entry)
{
	uint32_t *at = bucket_of(tree, tree->nodes[entry].hash);

	while (*at != entry)
		at = &tree->nodes[*at].chain;
	*at = tree->nodes[entry].chain;
	tree->live--;
}

/* ---- what is in a directory ---- */

/* Needs the caller's exclusive lock, as every change does: so nobody is in tree_list(). */
static void forget_list(struct tree *tree, uint32_t entry)
{
	struct tree_dir *dir = tree_dir_of(tree, entry);

	tree_list_put(dir->list);
	dir->list = NULL;
}

static void dir_add(struct tree *tree, uint32_t entry)
{
	struct tree_node *node = &tree->nodes[entry];
	struct tree_dir *dir = tree_dir_of(tree, node->e.parent);

	node->next = TREE_NO_ENTRY;
	node->prev = dir->last;
	if (dir->last == TREE_NO_ENTRY)
		dir->first = entry;
	else
		tree->nodes[dir->last].next = entry;
	dir->last = entry;
	dir->count++;
	if (node->e.flags & TREE_IS_DIR)
		dir->subdirs++;
	forget_list(tree, node->e.parent);
}

static void dir_remove(struct tree *tree, uint32_t entry)
{
	struct tree_node *node = &tree->nodes[entry];
	struct tree_dir *dir = tree_dir_of(tree, node->e.parent);

	if (node->prev == TREE_NO_ENTRY)
		dir->first = node->next;
	else
		tree->nodes[node->prev].next = node->next;
	if (node->next == TREE_NO_ENTRY)
		dir->last = node->prev;
	else
		tree->nodes[node->next].prev = node->prev;
	dir->count--;
	if (node->e.flags & TREE_IS_DIR)
		dir->subdirs--;
	forget_list(tree, node->e.parent);
}

uint32_t tree_subdirs(const struct tree *tree, uint32_t entry)
{
	return tree_dir_of(tree, entry)->subdirs;
}

bool tree_dir_empty(const struct tree *tree, uint32_t entry)
{
	return tree_dir_of(tree, entry)->count == 0;
}

/* ---- changes ---- */

/* Make room for one more entry, a directory or not. */
static int reserve_entry(struct tree *tree, bool dir)
{
	if (tree->count >= TREE_ENTRY_MAX)
		return -ENOSPC;
	if (!grow((void **)&tree->nodes, tree->count, &tree->capacity, sizeof(*tree->nodes)) ||
	    !grow_buckets(tree, (size_t)tree->live + 1))
		return -ENOMEM;
	if (dir &&
	    !grow((void **)&tree->dirs, tree->dir_count, &tree->dir_capacity, sizeof(*tree->dirs)))
		return -ENOMEM;
	return 0;
}

/* The room has been reserved. */
static uint32_t insert(struct tree *tree, uint32_t parent, struct tree_stored name, uint8_t flags,
		       uint32_t id)
{
	uint32_t added = tree->count++;

	if (flags & TREE_IS_DIR)
		tree->dirs[tree->dir_count] =
			(struct tree_dir){ .first = TREE_NO_ENTRY, .last = TREE_NO_ENTRY };
	tree->nodes[added].e = (struct tree_entry){ .name = name.name,
						    .parent = parent,
						    .id = id,
						    .dir = tree->dir_count,
						    .name_len = name.len,
						    .flags = flags,
						    .owned = name.owned };
	tree->dir_count += (flags & TREE_IS_DIR) != 0;
	if (added != TREE_ROOT) { /* the root is in no directory, and has no name to look up */
		hash_add(tree, added);
		dir_add(tree, added);
	}
	return added;
}

int tree_insert(struct tree *tree, uint32_t parent, struct tree_stored name, uint8_t flags,
		uint32_t id, uint32_t *entry)
{
	int ret = reserve_entry(tree, flags & TREE_IS_DIR);

	if (ret) {
		if (name.owned)
			free((char *)name.name);
		return ret;
	}
	uint32_t added = insert(tree, parent, name, flags, id);
	if (entry)
		*entry = added;
	return 0;
}

int tree_reserve(struct tree *tree, const char *file_name, size_t len, struct tree_room *room)
{
	struct tree_stored name;
	int ret = reserve_entry(tree, true);

	*room = (struct tree_room){ 0 };
	if (!ret)
		ret = tree_store_copy(&name, file_name, len);
	if (!ret)
		*room = (struct tree_room){ (char *)name.name, name.len };
	return ret;
}

void tree_room_free(struct tree_room *room)
{
	free(room->name);
	room->name = NULL;
}

static struct tree_stored take_room(struct tree_room *room)
{
	struct tree_stored name = { .name = room->name, .len = room->len, .owned = true };

	room->name = NULL;
	return name;
}

uint32_t tree_put(struct tree *tree, uint32_t parent, struct tree_room *room, uint8_t flags,
		  uint32_t id)
{
	return insert(tree, parent, take_room(room), flags & (SETTABLE_FLAGS | TREE_IS_DIR), id);
}

void tree_place(struct tree *tree, uint32_t entry, uint32_t parent, struct tree_room *room,
		uint8_t flags)
{
	tree_relocate(tree, entry, parent, take_room(room), flags);
}

int tree_add(struct tree *tree, uint32_t parent, const char *file_name, size_t len, uint8_t flags,
	     uint32_t id, uint32_t *entry)
{
	struct tree_room room;
	int ret = tree_reserve(tree, file_name, len, &room);

	if (ret)
		return ret;
	uint32_t added = tree_put(tree, parent, &room, flags, id);
	if (entry)
		*entry = added;
	return 0;
}

void tree_remove(struct tree *tree, uint32_t entry)
{
	struct tree_entry *e = &tree->nodes[entry].e;

	if (entry == TREE_ROOT || e->flags & TREE_DEAD)
		return;
	hash_remove(tree, entry);
	dir_remove(tree, entry);
	if (e->flags & TREE_IS_DIR)
		forget_list(tree, entry);
	e->flags |= TREE_DEAD;
	tree->nodes[entry].chain = TREE_NO_ENTRY;
}

/* A dead entry is in no bucket: `chain` says what has taken its place. */
void tree_supersede(struct tree *tree, uint32_t entry, uint32_t by)
{
	tree_remove(tree, entry);
	tree->nodes[entry].chain = by;
}

uint32_t tree_now(const struct tree *tree, uint32_t entry)
{
	while (tree->nodes[entry].e.flags & TREE_DEAD && tree->nodes[entry].chain != TREE_NO_ENTRY)
		entry = tree->nodes[entry].chain;
	return entry;
}

void tree_relocate(struct tree *tree, uint32_t entry, uint32_t parent, struct tree_stored name,
		   uint8_t flags)
{
	struct tree_entry *e = &tree->nodes[entry].e;

	hash_remove(tree, entry);
	dir_remove(tree, entry);
	if (e->owned)
		free((char *)e->name);
	e->name = name.name;
	e->name_len = name.len;
	e->owned = name.owned;
	e->parent = parent;
	e->flags = (uint8_t)((e->flags & ~SETTABLE_FLAGS) | (flags & SETTABLE_FLAGS));
	hash_add(tree, entry);
	dir_add(tree, entry);
}

void tree_set_flags(struct tree *tree, uint32_t entry, uint8_t flags)
{
	struct tree_entry *e = &tree->nodes[entry].e;

	e->flags = (uint8_t)((e->flags & ~SETTABLE_FLAGS) | (flags & SETTABLE_FLAGS));
	if (e->flags & TREE_IS_DIR)
		forget_list(tree, entry);
	forget_list(tree, e->parent);
}
