/*
 * op_read.c - reading; both kinds of mount use it
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
#include "handles.h"
#include "node.h"
#include "npy_widen.h"
#include "readahead.h"
#include "request.h"
#include "shown.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define REGIONS_MAX 64
#define ZEROS_MAX (1u << 20)

static const char zeros[ZEROS_MAX];

/* Reply with [offset, offset + size) of a text. */
static void reply_text(fuse_req_t req, const struct sft_buf *text, size_t size, off_t offset)
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

/* What is generated, not sent verbatim. */
static void reply_generated(fuse_req_t req, struct fs *fs, uint64_t ino, size_t size, off_t offset)
{
	struct sft_buf text = { 0 };
	if (tree_ino_kind(ino) == TREE_F32) {
		fs_npy_head(fs, ino, &text);
		if (text.failed)
			fuse_reply_err(req, ENOMEM);
		else
			reply_f32(req, fs, ino, &text, size, (uint64_t)offset);
	} else if (fs_node_text(fs, ino, &text)) {
		reply_text(req, &text, size, offset);
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
	bool verbatim = fs_is_bytes(ino);
	if (r == 0 && verbatim)
		r = fs_bytes_of(fs, ino, &bytes);
	if (r < 0)
		fuse_reply_err(req, -r);
	else if (verbatim)
		reply_bytes(req, fs, &bytes, size, (uint64_t)offset);
	else
		reply_generated(req, fs, ino, size, offset);
	fs_unlock(fs);
	sft_buf_free(&bytes.own_head);
}

/* ---- of an open file (edit) ---- */

static void read_draft(fuse_req_t req, struct fs *fs, const struct fs_handle *h, size_t size,
		       off_t offset)
{
	size_t done = 0;
	char *buf = malloc(size);
	int r = buf ? sft_overlay_read(fs->overlay, h->draft, buf, size, (uint64_t)offset, &done,
				       NULL)
		    : -ENOMEM;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, buf, done);
	free(buf);
}

/* From a copy: once the reply is on its way the reader may close, and the handle is gone. */
static void read_text(fuse_req_t req, const struct fs_handle *h, size_t size, off_t offset)
{
	struct sft_buf piece = { 0 };
	if ((uint64_t)offset < h->text.len) {
		size_t left = h->text.len - (size_t)offset;
		sft_buf_add(&piece, h->text.data + offset, left < size ? left : size);
	}
	reply_text(req, &piece, size, 0);
	sft_buf_free(&piece);
}

void fs_op_edit_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	const struct fs_handle *h = handle_of(fi);
	bool has_bytes = fs_is_bytes(ino) || tree_ino_kind(ino) == TREE_F32;
	fs_read_lock(fs);
	bool drafted = h->draft != SFT_NO_ID;
	if (drafted)
		read_draft(req, fs, h, size, offset);
	else if (!has_bytes)
		read_text(req, h, size, offset);
	fs_unlock(fs);
	if (!drafted && has_bytes)
		fs_op_read(req, ino, size, offset, fi);
}
