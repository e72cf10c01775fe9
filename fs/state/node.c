/* node.c - whether a node is there, its attributes, its text */
#include "node.h"

#include "bytes.h"
#include "inodes.h"
#include "npy_widen.h"
#include "shown.h"
#include "status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Whether the bytes of a removed or replaced tensor are kept for who has it open. */
static bool is_kept(const struct fs *fs, const struct tree_entry *e)
{
	return sft_overlay_entry(fs->overlay, e->id)->live;
}

static int check_tensor(const struct fs *fs, const struct tree_entry *e, enum tree_kind kind)
{
	if (e->flags & TREE_IS_DIR)
		return -ENOENT;
	if (e->flags & TREE_DEAD && !is_kept(fs, e))
		return -ESTALE;
	return kind != TREE_F32 || npy_has_f32((enum sft_dtype)fs_shown(fs, e->id).dtype) ? 0
											  : -ENOENT;
}

int fs_node_check(const struct fs *fs, uint64_t ino)
{
	uint32_t entry = tree_ino_entry(ino);
	if (entry >= tree_count(fs->tree))
		return -ENOENT;
	const struct tree_entry *e = tree_entry(fs->tree, entry);
	bool is_dir = e->flags & TREE_IS_DIR;
	enum tree_kind kind = tree_ino_kind(ino);
	switch (kind) {
	case TREE_DIR:
		return is_dir ? 0 : -ENOENT;
	case TREE_METADATA:
		return is_dir && e->flags & TREE_HAS_METADATA ? 0 : -ENOENT;
	case TREE_CONTROL:
	case TREE_STATUS:
	case TREE_COMMIT:
	case TREE_PROGRESS:
	case TREE_MERGED:
		return entry == TREE_ROOT ? 0 : -ENOENT;
	case TREE_TENSOR:
	case TREE_SIDECAR:
	case TREE_NPY:
	case TREE_F32:
		return check_tensor(fs, e, kind);
	default:
		return -ENOENT;
	}
}

static void metadata_text(const struct fs *fs, uint32_t entry, struct sft_buf *text)
{
	const struct sft_checkpoint *ck = fs_checkpoint(fs);
	if (!sft_checkpoint_is_directory(ck)) {
		view_metadata(text, fs_metadata(fs, 0));
		return;
	}
	if (fs->opt->layout == TREE_FILES) {
		view_metadata(text, fs_metadata(fs, tree_entry(fs->tree, entry)->id));
		return;
	}
	size_t n = sft_checkpoint_shards(ck);
	const char **names = calloc(n + 1, sizeof(*names));
	const struct sft_metadata **metadata = calloc(n + 1, sizeof(*metadata));
	if (!names || !metadata)
		text->failed = true;
	for (size_t i = 0; !text->failed && i < n; i++) {
		names[i] = sft_checkpoint_shard(ck, i)->name;
		metadata[i] = fs_metadata(fs, (uint32_t)i);
	}
	if (!text->failed)
		view_metadata_shards(text, names, metadata, n);
	free(metadata);
	free(names);
}

bool fs_node_text(struct fs *fs, uint64_t ino, struct sft_buf *text)
{
	uint32_t entry = tree_ino_entry(ino);
	struct view_tensor t;
	char reason[FS_REASON_MAX];
	switch (tree_ino_kind(ino)) {
	case TREE_SIDECAR:
		fs_tensor(fs, tree_entry(fs->tree, entry)->id, &t, reason);
		view_sidecar(text, &t);
		return true;
	case TREE_METADATA:
		metadata_text(fs, entry, text);
		return true;
	case TREE_STATUS:
		fs_status(fs, text);
		return true;
	case TREE_PROGRESS:
		fs_progress(fs, text);
		return true;
	default:
		return false;
	}
}

/* Bytes of a file node. */
static int node_size(struct fs *fs, uint64_t ino, uint64_t *size)
{
	struct fs_bytes bytes;
	struct sft_buf text = { 0 };
	int r;
	*size = 0;
	if (fs_is_bytes(ino)) {
		r = fs_bytes_of(fs, ino, &bytes);
		*size = r == 0 ? bytes.head->len + bytes.body : 0;
		sft_buf_free(&bytes.own_head);
		return r;
	}
	if (tree_ino_kind(ino) == TREE_F32) {
		uint32_t id = tree_entry(fs->tree, tree_ino_entry(ino))->id;
		fs_npy_head(fs, ino, &text);
		*size = fs_tensor_nbytes(fs, id) * 8 /
			sft_dtype_bits((enum sft_dtype)fs_shown(fs, id).dtype) * sizeof(float);
	} else {
		fs_node_text(fs, ino, &text);
	}
	*size += text.len;
	r = text.failed ? -ENOMEM : 0;
	sft_buf_free(&text);
	return r;
}

/* Owner, times and mode of a tensor's files are those of the file it lies in. */
static void source_attr(const struct fs *fs, uint32_t shard, struct stat *st)
{
	const struct sft_checkpoint *ck = fs_checkpoint(fs);
	const struct sft_file *file = NULL;
	if (shard < sft_checkpoint_shards(ck))
		file = sft_checkpoint_shard(ck, shard)->file;
	mode_t mode = 0444;
	if (file) {
		const struct stat *s = sft_file_stat(file);
		mode = s->st_mode & 0777;
		st->st_uid = s->st_uid;
		st->st_gid = s->st_gid;
		st->st_atim = s->st_atim;
		st->st_mtim = s->st_mtim;
		st->st_ctim = s->st_ctim;
	}
	st->st_mode = S_IFREG | (fs->overlay ? mode : mode & 0444);
}

static bool is_newer(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* Who may read every shard may read it; it is as new as the newest, or as the last edit. */
static void merged_attr(struct fs *fs, struct stat *st)
{
	const struct sft_checkpoint *ck = fs_checkpoint(fs);
	bool same_owner = true;
	source_attr(fs, 0, st);
	st->st_mode &= ~(mode_t)0333;
	for (size_t i = 0; i < sft_checkpoint_shards(ck); i++) {
		const struct sft_file *file = sft_checkpoint_shard(ck, i)->file;
		const struct stat *s = file ? sft_file_stat(file) : st;
		st->st_mode &= S_IFMT | s->st_mode;
		same_owner = same_owner && s->st_uid == st->st_uid && s->st_gid == st->st_gid;
		if (is_newer(&s->st_mtim, &st->st_mtim))
			st->st_mtim = st->st_ctim = s->st_mtim;
	}
	if (fs->overlay)
		same_owner = fs_inodes_restrict(fs, st) && same_owner;
	/* Whose mode counts for whom is then another question for each: only if all may read all.
	 */
	if (!same_owner && (st->st_mode & 0444) != 0444)
		st->st_mode &= S_IFMT;
}

int fs_node_attr(struct fs *fs, uint64_t ino, struct stat *st)
{
	enum tree_kind kind = tree_ino_kind(ino);
	uint32_t entry = tree_ino_entry(ino);
	uint64_t size = 0;
	int r = fs_node_check(fs, ino);
	if (r < 0)
		return r;
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_uid = fs->uid;
	st->st_gid = fs->gid;
	st->st_atim = st->st_mtim = st->st_ctim = fs->dir_time;
	st->st_blksize = 1 << 20; /* coreutils then read in large pieces */
	st->st_nlink = tree_entry(fs->tree, entry)->flags & TREE_DEAD ? 0 : 1;
	if (kind == TREE_DIR || kind == TREE_CONTROL) {
		st->st_mode = S_IFDIR | fs->dir_mode;
		st->st_nlink = 2 + (kind == TREE_DIR ? tree_subdirs(fs->tree, entry) : 0);
		if (fs->overlay)
			fs_inode_attr(fs, ino, st);
		return 0;
	}
	r = node_size(fs, ino, &size);
	if (r < 0)
		return r;
	st->st_size = (off_t)size;
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
	if (kind == TREE_STATUS || kind == TREE_PROGRESS || kind == TREE_COMMIT) {
		st->st_mode = S_IFREG | (kind == TREE_COMMIT ? 0200 : 0444);
		/* These change by themselves: a new time makes the kernel drop what it has cached.
		 */
		clock_gettime(CLOCK_REALTIME, &st->st_mtim);
		st->st_ctim = st->st_mtim;
		return 0;
	}
	if (kind == TREE_MERGED) {
		merged_attr(fs, st);
		return 0;
	}
	uint32_t shard = kind == TREE_METADATA ? 0 : fs_shown(fs, fs_tensor_id(fs, ino)).shard;
	if (kind == TREE_METADATA && fs->opt->layout == TREE_FILES && entry != TREE_ROOT)
		shard = tree_entry(fs->tree, entry)->id;
	source_attr(fs, shard, st);
	if (fs->overlay)
		fs_inode_attr(fs, ino, st);
	if (kind == TREE_F32)
		st->st_mode &= ~(mode_t)0222;
	return 0;
}
