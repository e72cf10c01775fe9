/*
 * session.h - one mount from the opened source to the end of the daemon
 *
 * open -> mount -> loop -> unmount -> commit -> exit code. Nothing is committed in FUSE's destroy,
 * which returns nothing and also runs after an abort.
 */
#ifndef SESSION_H
#define SESSION_H

#include "mount_options.h"

enum {
	SESSION_CLEAN = 0,   /* unmounted, nothing left staged */
	SESSION_FAILED = 1,  /* could not mount, or a commit was refused or failed */
	SESSION_ABORTED = 3, /* the connection was killed under an open writer; nothing committed */
};

/*
 * Open the source, mount it and serve until it is unmounted. `mounted` is called once the kernel
 * has the mount and before the first request is answered; errors before it go to stderr, later ones
 * to the log. Returns one of the codes above. o->source, o->mountpoint, o->staging and o->output
 * are absolute.
 */
int session_run(const struct options *o, void (*mounted)(void *ctx), void *ctx);

#endif
