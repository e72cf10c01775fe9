/*
 * fs_fixture.h - an edit mount without FUSE, and operations on it, as short texts
 *
 * The operations, where H is a letter for an open file, and paths begin at the mount's root:
 *   "o H PATH r|w|t" open to read, to write, to write from empty   "c H PATH" create
 *   "w H OFFSET TEXT" write   "n H COUNT BYTE" write a .npy of COUNT bytes of U8
 *   "f H" flush   "s H" fsync   "x H" release   "u PATH" unlink   "m OLD NEW" rename
 *   "d PATH" mkdir   "D PATH" rmdir   "t PATH SIZE" truncate   "a PATH MODE" chmod
 * A `!` before it: it is refused.
 */
#ifndef FS_FIXTURE_H
#define FS_FIXTURE_H

#include "edit_fixture.h"

#include "bytes.h"
#include "classify.h"
#include "edit.h"
#include "log.h"
#include "merged_file.h"
#include "mount_tree.h"
#include "node.h"
#include "npy.h"
#include "shown.h"

#define WORLD_ROOT tree_ino(TREE_ROOT, TREE_DIR)

struct world {
	char *dir, *source;
	struct options options;
	struct fs fs;
	struct fs_handle *handles[26];
};

/* ---- opening and closing ---- */

static inline void world_open(struct world *w)
{
	struct sft_overlay_options edit = {
		.flags = w->options.layout == TREE_FILES ? SFT_SAME_NAMES : 0,
	};
	struct sft_error err = { 0 };

	w->options.source = w->source;
	w->options.mountpoint = (char *)(uintptr_t) "/nowhere";
	fs_init(&w->fs, &w->options);
	w->fs.dir_mode = 0755;
	if (sft_overlay_open(w->source, &edit, &w->fs.overlay, &err) < 0 ||
	    fs_build_tree(&w->fs, &err) < 0)
		fail_msg("%s", err.msg);
}

/* As by a daemon that dies: what is open is not released. */
static inline void world_close(struct world *w)
{
	fs_free(&w->fs);
	memset(w->handles, 0, sizeof(w->handles));
}

/* ---- operations ---- */

/* The directory of a path, which becomes the name in it. */
static inline uint64_t world_parent(const struct world *w, const char **path)
{
	uint64_t ino = WORLD_ROOT;

	for (const char *slash; ino && (slash = strchr(*path, '/')); *path = slash + 1)
		ino = tree_lookup(w->fs.tree, ino, *path, (size_t)(slash - *path));
	return ino;
}

static inline uint64_t world_look(const struct world *w, const char *path)
{
	uint64_t parent = world_parent(w, &path);

	return parent ? fs_current_ino(&w->fs, tree_lookup(w->fs.tree, parent, path, strlen(path)))
		      : 0;
}

static inline int world_write_npy(struct world *w, struct fs_handle *h, uint64_t count, int byte)
{
	char file[1024];
	struct sft_buf head = { 0 };
	size_t len;

	npy_header(&head, SFT_U8, &count, 1, count);
	if (head.failed)
		return -ENOMEM;
	len = head.len;
	memcpy(file, head.data, len);
	memset(file + len, byte, count);
	sft_buf_free(&head);
	return edit_write(&w->fs, h, file, len + count, 0);
}

static inline int world_handle_op(struct world *w, char verb, struct fs_handle **h,
				  const char *text)
{
	unsigned long long a = 0;
	int b = 0;

	if (!*h)
		return -EBADF; /* could not be opened, for the fault that is meant to happen */
	switch (verb) {
	case 'w':
		sscanf(text, "%llu", &a);
		text += strcspn(text, " ") + 1;
		return edit_write(&w->fs, *h, text, strlen(text), a);
	case 'n':
		sscanf(text, "%llu %d", &a, &b);
		return world_write_npy(w, *h, a, b);
	case 'f':
		return edit_flush(&w->fs, *h);
	case 's':
		return edit_finish_writing(&w->fs, *h, true);
	default:
		edit_release(&w->fs, *h);
		*h = NULL;
		return 0;
	}
}

static inline int world_open_op(struct world *w, char verb, struct fs_handle **h, char *text)
{
	char *how = strchr(text, ' ');
	const char *name = text;

	if (verb == 'c') {
		uint64_t parent = world_parent(w, &name);
		return edit_create(&w->fs, parent, name, 0644, 1, 1, h);
	}
	*how = '\0';
	uint64_t ino = world_look(w, text);
	const int flags = how[1] == 'r' ? O_RDONLY : how[1] == 'w' ? O_RDWR : O_RDWR | O_TRUNC;
	int r = ino ? edit_open(&w->fs, ino, flags, h) : -ENOENT;
	/* As the kernel does. */
	return r == -ESTALE ? edit_open(&w->fs, world_look(w, text), flags, h) : r;
}

static inline int world_name_op(struct world *w, char verb, const char *name, const char *rest)
{
	struct stat st = { .st_size = (off_t)strtoull(rest, NULL, 10),
			   .st_mode = (mode_t)strtoul(rest, NULL, 8) };
	uint64_t ino = world_look(w, name), parent = world_parent(w, &name), made;

	switch (verb) {
	case 'u':
		return edit_unlink(&w->fs, parent, name);
	case 'm': {
		uint64_t to = world_parent(w, &rest);
		return edit_rename(&w->fs, parent, name, to, rest, 0);
	}
	case 'd':
		return edit_mkdir(&w->fs, parent, name, 0755, 1, 1, &made);
	case 'D':
		return edit_rmdir(&w->fs, parent, name);
	case 't':
	case 'a':
		return ino ? edit_set_attr(&w->fs, ino, &st, verb == 't' ? EDIT_SIZE : EDIT_MODE,
					   NULL)
			   : -ENOENT;
	default:
		abort();
	}
}

/* Returns what the operation returns. */
static inline int world_do(struct world *w, const char *op)
{
	char text[512], *rest;

	op += op[0] == '!';
	snprintf(text, sizeof(text), "%s", op + 2);
	if (strchr("wnfsx", op[0]))
		return world_handle_op(w, op[0], &w->handles[text[0] - 'a'],
				       text[1] ? text + 2 : "");
	if (strchr("oc", op[0]))
		return world_open_op(w, op[0], &w->handles[text[0] - 'a'], text + 2);
	rest = strchr(text, ' ');
	if (rest)
		*rest++ = '\0';
	return world_name_op(w, op[0], text, rest ? rest : "");
}

/* ---- what there is ---- */

static inline void world_add_bytes(const struct world *w, uint32_t id, struct sft_buf *out)
{
	char bytes[4096];
	size_t done = 0;

	assert_true(sft_overlay_entry(w->fs.overlay, id)->nbytes <= sizeof(bytes));
	assert_int_equal(sft_overlay_read(w->fs.overlay, id, bytes, sizeof(bytes), 0, &done, NULL),
			 0);
	for (size_t i = 0; i < done; i++)
		sft_buf_printf(out, "%02x", (unsigned char)bytes[i]);
}

static inline void world_add_entry(const struct world *w, uint32_t id, struct sft_buf *out)
{
	const struct sft_entry *e = sft_overlay_entry(w->fs.overlay, id);

	sft_buf_printf(out, " %s ", sft_dtype_name((enum sft_dtype)e->dtype));
	sft_buf_shape(out, e->shape, e->rank);
	sft_buf_printf(out, " ");
	world_add_bytes(w, id, out);
	sft_buf_printf(out, "\n");
}

/* All that the mount shows below a directory, a line each. */
static inline void world_shown(struct world *w, uint64_t dir, struct sft_buf *out)
{
	struct tree_list *list = tree_list(w->fs.tree, dir);
	char name[TREE_NAME_MAX + 1];

	assert_non_null(list);
	for (size_t i = 0; i < list->count; i++) {
		uint64_t ino = list->inos[i];

		tree_name(w->fs.tree, ino, name);
		sft_buf_printf(out, "%llu %s", (unsigned long long)dir, name);
		if (tree_ino_kind(ino) == TREE_TENSOR)
			world_add_entry(w, fs_tensor_id(&w->fs, ino), out);
		else if (!fs_node_text(&w->fs, ino, out))
			sft_buf_printf(out, "\n");
		if (tree_ino_kind(ino) == TREE_DIR)
			world_shown(w, ino, out);
	}
	tree_list_put(list);
	assert_false(out->failed);
}

/*
 * What a new mount shows after the death of this one, by name: all tensors, also a committed one
 * that was put aside and whose name is free; and the metadata.
 */
static inline char *world_kept(const struct world *w)
{
	const struct sft_overlay *ov = w->fs.overlay;
	const struct sft_checkpoint *ck = sft_overlay_checkpoint(ov);
	struct sft_buf lines[64] = { { 0 } }, out = { 0 };
	size_t n = 0;

	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		const struct sft_tensor *c = e->committed;
		bool aside = e->scratch && e->name[0] != '/' && c &&
			     sft_overlay_find(ov, c->shard, c->name, c->name_len) == SFT_NO_ID;

		if (!e->live || (e->scratch && !aside))
			continue;
		assert_true(n < 64);
		sft_buf_printf(&lines[n], "%s %u", aside ? c->name : e->name, e->shard);
		world_add_entry(w, id, &lines[n++]);
	}
	for (size_t i = 0; i < n; i++) { /* in order of names */
		size_t least = i;
		for (size_t k = i + 1; k < n; k++)
			least = strcmp(lines[k].data, lines[least].data) < 0 ? k : least;
		struct sft_buf first = lines[least];
		lines[least] = lines[i];
		lines[i] = first;
		sft_buf_add(&out, first.data, first.len);
	}
	for (uint32_t i = 0; i < sft_checkpoint_shards(ck); i++)
		view_metadata(&out, sft_overlay_metadata(ov, i));
	for (size_t i = 0; i < n; i++)
		sft_buf_free(&lines[i]);
	sft_buf_add(&out, "", 0);
	assert_false(out.failed);
	return out.data ? out.data : strdup("");
}

/* Tree and overlay agree: each file has its live tensor or scratch file of that very name, and the
 * reverse, but for drafts and for what is kept for who has it open. */
static inline void world_check(const struct world *w)
{
	const struct sft_overlay *ov = w->fs.overlay;
	size_t files = 0, live = 0;

	for (uint32_t i = 0; i < tree_count(w->fs.tree); i++) {
		const struct tree_entry *t = tree_entry(w->fs.tree, i);
		const struct sft_entry *e = sft_overlay_entry(ov, t->id);
		bool scratch = t->flags & TREE_SCRATCH;
		struct edit_name name = { scratch ? TARGET_SCRATCH : TARGET_TENSOR, t->parent,
					  t->name_len, i };
		struct sft_buf full = { 0 };

		if (t->flags & (TREE_DEAD | TREE_IS_DIR))
			continue;
		files++;
		assert_int_equal(edit_overlay_name(&w->fs, &name, t->name, &full), 0);
		assert_true(e->live);
		assert_int_equal(e->scratch, scratch);
		assert_int_equal(e->name_len, full.len);
		assert_memory_equal(e->name, full.data ? full.data : "", full.len);
		sft_buf_free(&full);
	}
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		live += e->live && (!e->scratch || e->name[0] != '/');
	}
	assert_int_equal(files, live);
}

#endif
