/* lookup.c - from a name in a directory to its node, and from a node to its name */
#include "nodes.h"

#include <string.h>

/* What a view's file name has behind the tensor's. */
static const char *view_suffix(enum tree_kind kind)
{
	switch (kind) {
	case TREE_SIDECAR:
		return ".json";
	case TREE_NPY:
		return ".npy";
	case TREE_F32:
		return ".f32.npy";
	default:
		return "";
	}
}

/* The name of a node that is no entry's and no view's, or NULL. */
static const char *fixed_name(enum tree_kind kind)
{
	switch (kind) {
	case TREE_METADATA:
		return METADATA_FILE;
	case TREE_CONTROL:
		return CONTROL_DIR;
	case TREE_STATUS:
		return "status";
	case TREE_COMMIT:
		return "commit";
	case TREE_PROGRESS:
		return "progress";
	case TREE_MERGED:
		return "model.safetensors";
	default:
		return NULL;
	}
}

static bool is_named(enum tree_kind kind, const char *name, size_t len)
{
	const char *fixed = fixed_name(kind);

	return strlen(fixed) == len && memcmp(fixed, name, len) == 0;
}

static uint64_t lookup_control(const char *name, size_t len)
{
	for (int kind = TREE_STATUS; kind <= TREE_MERGED; kind++) {
		if (is_named((enum tree_kind)kind, name, len))
			return tree_ino(TREE_ROOT, (enum tree_kind)kind);
	}
	return 0;
}

/* The view of that kind whose name this is, or 0. */
static uint64_t lookup_view(const struct tree *tree, uint32_t dir, const char *name, size_t len,
			    enum tree_kind kind)
{
	const char *suffix = view_suffix(kind);
	size_t n = strlen(suffix);

	if (len <= n || memcmp(name + len - n, suffix, n) != 0)
		return 0;
	uint32_t entry = tree_find(tree, dir, name, len - n);
	if (entry == TREE_NO_ENTRY)
		return 0;
	uint8_t flags = tree->nodes[entry].e.flags;
	if (flags & (TREE_IS_DIR | TREE_SCRATCH))
		return 0;
	if (kind == TREE_SIDECAR && flags & TREE_SIDECAR_HIDDEN)
		return 0;
	return tree_ino(entry, kind);
}

uint64_t tree_lookup(const struct tree *tree, uint64_t dir_ino, const char *name, size_t len)
{
	uint32_t dir = tree_ino_entry(dir_ino);
	uint64_t ino = 0;

	if (tree_ino_kind(dir_ino) == TREE_CONTROL)
		return lookup_control(name, len);
	if (tree_ino_kind(dir_ino) != TREE_DIR || len > TREE_NAME_MAX)
		return 0;
	uint32_t entry = tree_find(tree, dir, name, len);
	if (entry != TREE_NO_ENTRY) {
		bool is_dir = tree->nodes[entry].e.flags & TREE_IS_DIR;

		return tree_ino(entry, is_dir ? TREE_DIR : TREE_TENSOR);
	}
	if (dir == TREE_ROOT && is_named(TREE_CONTROL, name, len))
		return tree_ino(TREE_ROOT, TREE_CONTROL);
	if (tree->nodes[dir].e.flags & TREE_HAS_METADATA && is_named(TREE_METADATA, name, len))
		return tree_ino(dir, TREE_METADATA);
	/* In the order of enum tree_kind, the plain view of x.f32 comes before the F32 view of x.
	 */
	for (int kind = TREE_SIDECAR; kind <= TREE_F32 && !ino; kind++)
		ino = lookup_view(tree, dir, name, len, (enum tree_kind)kind);
	return ino;
}

uint64_t tree_parent(const struct tree *tree, uint64_t ino)
{
	uint32_t entry = tree_ino_entry(ino);

	switch (tree_ino_kind(ino)) {
	case TREE_METADATA:
	case TREE_CONTROL:
		return tree_ino(entry, TREE_DIR);
	case TREE_STATUS:
	case TREE_COMMIT:
	case TREE_PROGRESS:
	case TREE_MERGED:
		return tree_ino(TREE_ROOT, TREE_CONTROL);
	default:
		return tree_ino(tree->nodes[entry].e.parent, TREE_DIR);
	}
}

struct tree_text tree_text(const struct tree *tree, uint32_t entry, enum tree_kind kind)
{
	const struct tree_entry *e = &tree->nodes[entry].e;
	const char *fixed = fixed_name(kind), *suffix = view_suffix(kind);

	if (fixed)
		return (struct tree_text){ .base = fixed, .base_len = strlen(fixed), .suffix = "" };
	return (struct tree_text){ .base = e->name,
				   .base_len = e->name_len,
				   .suffix = suffix,
				   .suffix_len = strlen(suffix) };
}

size_t tree_name(const struct tree *tree, uint64_t ino, char out[TREE_NAME_MAX + 1])
{
	struct tree_text text = tree_text(tree, tree_ino_entry(ino), tree_ino_kind(ino));

	memcpy(out, text.base, text.base_len);
	memcpy(out + text.base_len, text.suffix, text.suffix_len + 1);
	return text.base_len + text.suffix_len;
}
