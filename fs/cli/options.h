/* options.h - the command line of a mount, of recover and of discard; no FUSE here */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "sft.h"
#include "tree.h"

struct options {
	char *source, *mountpoint;	     /* once resolved: absolute */
	char *said_source, *said_mountpoint; /* as given, for messages */
	bool foreground, debug, single_thread;
	bool edit, partial, list_npy, direct_io, inplace, allow_other, allow_root;
	bool allow_empty;	  /* recover */
	bool said_rw, from_mount; /* `rw` was given; and words that only mount(8) says */
	bool fake;		  /* mount(8) -f: check the words, mount nothing */
	enum tree_layout layout;
	char *staging, *output; /* NULL: the defaults */
	unsigned max_threads;	/* 0: libfuse's default */
	unsigned max_read;	/* bytes; 0: the kernel's default */
	struct sft_buf fuse;	/* what goes to libfuse, comma-separated and escaped */
};

enum options_for { OPTIONS_MOUNT, OPTIONS_RECOVER, OPTIONS_DISCARD };

/*
 * Parse the arguments behind the verb. Returns 0, or the exit code 2 after a line that names the
 * wrong word. Strings are copied; free with options_free, also after a failure.
 */
int options_parse(struct options *o, enum options_for what, int argc, char **argv);
void options_free(struct options *o);

/* The flags for sft_checkpoint_open. */
unsigned options_flags(const struct options *o);

#endif
