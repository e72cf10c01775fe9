/* op_xattr.c - extended attributes, and what statfs says */
#include "node.h"
#include "request.h"
#include "shown.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

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
