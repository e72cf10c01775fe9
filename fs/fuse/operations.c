/* operations.c - who answers which request of the kernel */
#include "request.h"

const struct fuse_lowlevel_ops fs_ops_read_only = {
	.init = fs_op_init,
	.lookup = fs_op_lookup,
	.getattr = fs_op_getattr,
	.open = fs_op_open,
	.read = fs_op_read,
	.opendir = fs_op_opendir,
	.readdir = fs_op_readdir,
	.readdirplus = fs_op_readdirplus,
	.statfs = fs_op_statfs,
	.getxattr = fs_op_getxattr,
	.listxattr = fs_op_listxattr,
};

const struct fuse_lowlevel_ops fs_ops_edit = {
	.init = fs_op_init,
	.lookup = fs_op_lookup,
	.getattr = fs_op_edit_getattr,
	.setattr = fs_op_edit_setattr,
	.open = fs_op_edit_open,
	.create = fs_op_edit_create,
	.read = fs_op_edit_read,
	.write = fs_op_edit_write,
	.flush = fs_op_edit_flush,
	.fsync = fs_op_edit_fsync,
	.release = fs_op_edit_release,
	.opendir = fs_op_edit_opendir,
	.readdir = fs_op_readdir,
	.releasedir = fs_op_edit_releasedir,
	.fsyncdir = fs_op_edit_fsyncdir,
	.statfs = fs_op_statfs,
	.getxattr = fs_op_getxattr,
	.listxattr = fs_op_listxattr,
	.unlink = fs_op_edit_unlink,
	.rename = fs_op_edit_rename,
	.mkdir = fs_op_edit_mkdir,
	.rmdir = fs_op_edit_rmdir,
	.mknod = fs_op_edit_mknod,
	.symlink = fs_op_edit_symlink,
	.link = fs_op_edit_link,
};
