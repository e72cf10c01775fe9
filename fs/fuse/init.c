/* init.c - what the kernel is asked for when a mount begins */
#include "request.h"

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
