/*
 * ops.c - file operations that read; both kinds of mount use them
 *
 * Concurrency: libfuse calls these from several threads. A read-only mount never changes, so
 * nothing is locked. In an edit mount each takes the shared lock from looking at the tree to
 * sending the reply, since regions and texts borrow from overlay and checkpoint.
 *
 * The data path: fs_op_read -> reply_bytes -> fs_bytes_regions -> one writev(2) from the mapping to
 * the kernel. We never touch mapped bytes ourselves: where somebody has truncated the file the
 * writev fails and the reader gets EIO, while the daemon lives.
 */
#include "bytes.h"
#include "merged_file.h"
#include "node.h"
#include "npy_widen.h"
#include "readahead.h"
#include "request.h"
#include "shown.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#define REGIONS_MAX 64
#define ZEROS_MAX (1u << 20)

static const char zeros[ZEROS_MAX];

void fs_op_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct fs *fs = userdata;
	unsigned off = FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
		       FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE;
	/* Only a read-only mount has cached files that change by themselves (status). In an edit
	 * mount names have no time-out, so what a listing says of a file would be asked again. */
	if (fs->overlay)
		off |= FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS;
	conn->want |= conn->capable & FUSE_CAP_READDIRPLUS;
	conn->want &= ~off;
#ifdef FUSE_CAP_DIRECT_IO_ALLOW_MMAP /* libfuse 3.17; the kernel has it from 6.6 on */
	/* Not for those files alone that an edit mount opens so: what is stored into the mapping of
	 * a view comes when nobody can be told any more that it is bad. */
	if (fs->opt->direct_io)
		conn->want |= conn->capable & FUSE_CAP_DIRECT_IO_ALLOW_MMAP;
#endif
	conn->max_background = 64;
	conn->congestion_threshold = 48;
	conn->time_gran = 1;
	/* libfuse ends the session where this is not what the mount was given. */
	if (fs->opt->max_read)
		conn->max_read = fs->opt->max_read;
}

/*
 * For how long the kernel may keep what it has learnt of a node. In an edit mount views change when
 * something else is written; a tensor's file only by itself, but which one has its name changes
 * with NAME.npy as well, and no one can tell the kernel so from within a request. With allow_root
 * the kernel lets everybody in, and it is libfuse that refuses requests: what is never asked for is
 * not refused.
 */
static double name_timeout(const struct fs *fs, uint64_t ino)
{
	enum tree_kind kind = tree_ino_kind(ino);
	if (fs->opt->allow_root || kind == TREE_STATUS || kind == TREE_PROGRESS)
		return 0;
	return !fs->overlay || kind == TREE_DIR ? FS_FOREVER : 0;
}

static double attr_timeout(const struct fs *fs, uint64_t ino)
{
	if (tree_ino_kind(ino) == TREE_TENSOR)
		return fs->opt->allow_root ? 0 : FS_FOREVER;
	return name_timeout(fs, ino);
}

int fs_entry_param(struct fs *fs, uint64_t ino, struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	int r = fs_node_attr(fs, ino, &e->attr);
	e->ino = ino;
	e->entry_timeout = name_timeout(fs, ino);
	e->attr_timeout = attr_timeout(fs, ino);
	return r;
}

void fs_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e = { .entry_timeout = fs->opt->allow_root ? 0 : FS_FOREVER };
	size_t len = strlen(name);
	/* Whatever is made or renamed is looked up first, so this holds for those too. */
	if (len > TREE_NAME_MAX) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	fs_read_lock(fs);
	uint64_t ino = tree_lookup(fs->tree, parent, name, len);
	if (ino && !fs_node_exists(fs, ino))
		ino = 0;
	ino = fs_current_ino(fs, ino);
	int r = ino ? fs_entry_param(fs, ino, &e) : fs->overlay ? -ENOENT : 0;
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &e); /* ino 0: the kernel remembers that it is not there */
}

void fs_op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat st;
	fs_read_lock(fs);
	int r = fs_node_attr(fs, ino, &st);
	double timeout = attr_timeout(fs, ino);
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, timeout);
}

/* ---- reading ---- */

void fs_reply_text(fuse_req_t req, const struct sft_buf *text, size_t size, off_t offset)
{
	if (text->failed) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	size_t start = (uint64_t)offset < text->len ? (size_t)offset : text->len;
	size_t n = text->len - start < size ? text->len - start : size;
	fuse_reply_buf(req, n ? text->data + start : NULL, n);
}

/*
 * Whether the bytes are still there. Behind the end of a truncated file its last page reads as
 * zeros through the mapping, which would be a wrong answer.
 */
static bool source_has(const struct sft_region *region)
{
	struct stat st;
	return fstat(sft_file_fd(region->file), &st) == 0 &&
	       (uint64_t)st.st_size >= region->offset + region->length;
}

/* Turn regions into pointers. False where that cannot be (staged bytes, a file without a mapping,
 * or too many pieces). */
static bool regions_to_iov(const struct sft_region *regions, size_t n, uint64_t size,
			   struct iovec *iov)
{
	for (size_t i = 0; i < n; i++) {
		const struct sft_region *r = &regions[i];
		if (r->kind == SFT_REGION_STAGED ||
		    (r->kind == SFT_REGION_ZERO && r->length > ZEROS_MAX))
			return false;
		const char *map = r->kind == SFT_REGION_SOURCE ? sft_file_map(r->file) : zeros;
		if (!map)
			return false;
		if (r->kind == SFT_REGION_SOURCE)
			map += r->offset;
		iov[i].iov_base = (void *)(uintptr_t)map;
		iov[i].iov_len = r->length;
		size -= r->length;
	}
	return size == 0;
}

/* Reply with `head_len` bytes at `head` and then the bytes [offset, offset + size) of the body. */
static void reply_range(fuse_req_t req, struct fs *fs, const struct fs_bytes *b, const char *head,
			size_t head_len, uint64_t offset, size_t size)
{
	struct sft_region regions[REGIONS_MAX];
	struct iovec iov[REGIONS_MAX + 1];
	size_t n = size ? fs_bytes_regions(b, offset, size, regions, REGIONS_MAX) : 0;
	for (size_t i = 0; i < n; i++) {
		if (regions[i].kind == SFT_REGION_SOURCE && !source_has(&regions[i])) {
			fuse_reply_err(req, EIO);
			return;
		}
		fs_read_ahead(fs, &regions[i]);
	}
	if (regions_to_iov(regions, n, size, iov + 1)) {
		iov[0] = (struct iovec){ (void *)(uintptr_t)head, head_len };
		fuse_reply_iov(req, head_len ? iov : iov + 1, (int)(head_len ? n + 1 : n));
		return;
	}
	char *buf = malloc(head_len + size);
	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	memcpy(buf, head, head_len);
	int r = fs_bytes_read(b, buf + head_len, size, offset);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, buf, head_len + size);
	free(buf);
}

static void reply_bytes(fuse_req_t req, struct fs *fs, const struct fs_bytes *b, size_t size,
			uint64_t offset)
{
	size_t from_head = 0;
	const char *head_at = "";
	if (offset < b->head->len) {
		from_head = b->head->len - offset < size ? b->head->len - offset : size;
		head_at = b->head->data + offset;
		size -= from_head;
		offset = 0;
	} else {
		offset -= b->head->len;
	}
	if (offset >= b->body)
		size = 0;
	else if (size > b->body - offset)
		size = b->body - offset;
	reply_range(req, fs, b, head_at, from_head, offset, size);
}

/* Widen the elements [first, first + count) of a tensor, a piece that stays in the cache at a time.
 */
static int read_widened(const struct fs *fs, uint32_t id, enum sft_dtype dtype, float *wide,
			uint64_t first, size_t count)
{
	unsigned char narrow[32768];
	const size_t bits = sft_dtype_bits(dtype), piece = sizeof(narrow) * 8 / bits;
	for (size_t done = 0; done < count; done += piece) {
		size_t n = count - done < piece ? count - done : piece;
		int r = fs_tensor_read(fs, id, narrow, n * bits / 8, (first + done) * bits / 8);
		if (r < 0)
			return r;
		npy_widen(dtype, narrow, wide + done, n);
	}
	return 0;
}

/* Reply with a piece of NAME.f32.npy's header, and the bytes [offset, offset + size) behind it. */
static void reply_widened(fuse_req_t req, const struct fs *fs, uint32_t id, struct iovec head,
			  uint64_t offset, size_t size)
{
	struct view_tensor t;
	char reason[FS_REASON_MAX];
	fs_tensor(fs, id, &t, reason);
	/* From the first element that begins a byte to the last one that ends one. */
	uint64_t group = sft_dtype_bits(t.dtype) < 8 ? 8 / sft_dtype_bits(t.dtype) : 1;
	uint64_t unit = group * sizeof(float), first = offset / unit * group;
	size_t count = (size_t)((offset + size + unit - 1) / unit * group - first);
	float *wide = malloc(count * sizeof(float) + 1);
	int r = wide ? read_widened(fs, id, t.dtype, wide, first, count) : -ENOMEM;
	struct iovec iov[2] = {
		head, { (char *)wide + (wide ? offset - first * sizeof(float) : 0), size }
	};
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_iov(req, head.iov_len ? iov : iov + 1, head.iov_len ? 2 : 1);
	free(wide);
}

static void reply_f32(fuse_req_t req, struct fs *fs, uint64_t ino, const struct sft_buf *head,
		      size_t size, uint64_t offset)
{
	struct iovec from_head = { NULL, 0 };
	struct stat st;
	int r = fs_node_attr(fs, ino, &st);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	uint64_t end = (uint64_t)st.st_size;
	if (offset >= end)
		size = 0;
	else if (size > end - offset)
		size = end - offset;
	if (offset < head->len) {
		size_t left = head->len - offset;
		from_head = (struct iovec){ head->data + offset, left < size ? left : size };
	}
	size -= from_head.iov_len;
	offset = offset + from_head.iov_len - head->len;
	reply_widened(req, fs, tree_entry(fs->tree, tree_ino_entry(ino))->id, from_head,
		      size ? offset : 0, size);
}

/* What is made, not sent as it lies. */
static void reply_made(fuse_req_t req, struct fs *fs, uint64_t ino, size_t size, off_t offset)
{
	struct sft_buf text = { 0 };
	if (tree_ino_kind(ino) == TREE_F32) {
		fs_npy_head(fs, ino, &text);
		if (text.failed)
			fuse_reply_err(req, ENOMEM);
		else
			reply_f32(req, fs, ino, &text, size, (uint64_t)offset);
	} else if (fs_node_text(fs, ino, &text)) {
		fs_reply_text(req, &text, size, offset);
	} else {
		fuse_reply_buf(req, NULL, 0);
	}
	sft_buf_free(&text);
}

void fs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fs_bytes bytes = { 0 };
	fs_read_lock(fs);
	int r = fs_node_check(fs, ino);
	bool as_it_lies = fs_is_bytes(ino);
	if (r == 0 && as_it_lies)
		r = fs_bytes_of(fs, ino, &bytes);
	if (r < 0)
		fuse_reply_err(req, -r);
	else if (as_it_lies)
		reply_bytes(req, fs, &bytes, size, (uint64_t)offset);
	else
		reply_made(req, fs, ino, size, offset);
	fs_unlock(fs);
	sft_buf_free(&bytes.own_head);
}

/* Where nothing has to be known of open files, the kernel need not ask: 36 us become 1.5. */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct options *o = fs_of(req)->opt;
	if (!o->direct_io && !o->allow_root) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fi->direct_io = o->direct_io;
	fi->keep_cache = tree_ino_kind(ino) != TREE_STATUS && tree_ino_kind(ino) != TREE_PROGRESS;
	fuse_reply_open(req, fi);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->cache_readdir = fi->keep_cache = 1;
	if (fs_of(req)->opt->allow_root)
		fuse_reply_open(req, fi);
	else
		fuse_reply_err(req, ENOSYS);
}

/* ---- statfs, extended attributes ---- */

void fs_op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = TREE_NAME_MAX };
	struct statvfs room;
	fs_read_lock(fs);
	st.f_blocks = (sft_checkpoint_nbytes(fs_checkpoint(fs)) + 4095) / 4096;
	st.f_files = tree_count(fs->tree);
	/* What can still be written is what the staging has room for. */
	if (fs->overlay && statvfs(sft_overlay_staging(fs->overlay), &room) == 0) {
		st.f_bavail = room.f_bavail * room.f_frsize / 4096;
		st.f_bfree = room.f_bfree * room.f_frsize / 4096;
		st.f_blocks += st.f_bfree;
		st.f_files += st.f_ffree = st.f_favail = 1u << 20;
	}
	fs_unlock(fs);
	fuse_reply_statfs(req, &st);
}

#define XATTR_PREFIX "user.safetensors."
static const char xattr_names[] = XATTR_PREFIX "name\0" XATTR_PREFIX "dtype\0" XATTR_PREFIX "shape";

static int xattr_value(const struct fs *fs, uint64_t ino, const char *name, struct sft_buf *value)
{
	struct view_tensor t;
	char reason[FS_REASON_MAX];
	size_t prefix = strlen(XATTR_PREFIX);
	/* "Not supported" here, and not "there is none": ls -l asks every file of a device for its
	 * ACL until it hears that. */
	if (strncmp(name, "user.", 5) != 0)
		return -EOPNOTSUPP;
	if (tree_ino_kind(ino) != TREE_TENSOR || strncmp(name, XATTR_PREFIX, prefix) != 0)
		return -ENODATA;
	int r = fs_node_check(fs, ino);
	if (r < 0)
		return r;
	fs_tensor(fs, tree_entry(fs->tree, tree_ino_entry(ino))->id, &t, reason);
	name += prefix;
	if (strcmp(name, "name") == 0) {
		sft_buf_add(value, t.name, t.name_len);
	} else if (strcmp(name, "dtype") == 0) {
		sft_buf_printf(value, "%s", sft_dtype_name(t.dtype));
	} else if (strcmp(name, "shape") == 0) {
		sft_buf_shape(value, t.shape, t.rank);
	} else {
		return -ENODATA;
	}
	return value->failed ? -ENOMEM : value->len > 65536 ? -E2BIG : 0;
}

static void reply_xattr(fuse_req_t req, const char *value, size_t len, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, len);
	else if (size < len)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, len);
}

void fs_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	struct sft_buf value = { 0 };
	fs_read_lock(fs);
	int r = xattr_value(fs, ino, name, &value);
	fs_unlock(fs);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_xattr(req, value.data, value.len, size);
	sft_buf_free(&value);
}

void fs_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	bool has = tree_ino_kind(ino) == TREE_TENSOR;
	reply_xattr(req, xattr_names, has ? sizeof(xattr_names) : 0, size);
}

const struct fuse_lowlevel_ops fs_ops_read_only = {
	.init = fs_op_init,
	.lookup = fs_op_lookup,
	.getattr = fs_op_getattr,
	.open = op_open,
	.read = fs_op_read,
	.opendir = op_opendir,
	.readdir = fs_op_readdir,
	.readdirplus = fs_op_readdirplus,
	.statfs = fs_op_statfs,
	.getxattr = fs_op_getxattr,
	.listxattr = fs_op_listxattr,
};
