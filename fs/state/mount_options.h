/* mount_options.h - what the command line of a mount, of recover or of discard asks for */
#ifndef MOUNT_OPTIONS_H
#define MOUNT_OPTIONS_H

#include "sft.h"
#include "tree.h"

struct options {
	char *source, *mountpoint;	       /* once resolved: absolute */
	char *given_source, *given_mountpoint; /* as given, for messages */
	bool foreground, debug, single_thread;
	bool edit, partial, list_npy, direct_io, inplace, allow_other, allow_root;
	bool allow_empty;	   /* recover */
	bool given_rw, from_mount; /* `rw` was given; and words that only mount(8) says */
	bool fake;		   /* mount(8) -f: check the words, mount nothing */
	enum tree_layout layout;
	char *staging, *output; /* NULL: the defaults */
	unsigned max_threads;	/* 0: libfuse's default */
	unsigned max_read;	/* bytes; 0: the kernel's default */
	struct sft_buf fuse;	/* what goes to libfuse, comma-separated and escaped */
};

/* The flags for sft_checkpoint_open. */
static inline unsigned options_flags(const struct options *o)
{
	return (o->partial ? SFT_PARTIAL : 0) | (o->layout == TREE_FILES ? SFT_SAME_NAMES : 0);
}

#endif
