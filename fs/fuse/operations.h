/* operations.h - who answers which request of the kernel */
#ifndef OPERATIONS_H
#define OPERATIONS_H

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>

/* Their userdata is a struct fs. */
extern const struct fuse_lowlevel_ops fs_ops_read_only;
extern const struct fuse_lowlevel_ops fs_ops_edit;

#endif
