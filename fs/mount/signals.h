/* signals.h - what ends a mount besides unmounting it */
#ifndef SIGNALS_H
#define SIGNALS_H

#include "state.h"

/* Whether our mount is still there. After umount -l, or where the mountpoint is a mount itself,
 * something else may be. */
bool signals_still_mounted(const struct fs *fs);

/* Have signals end the session that the mount has. *thread is set for signals_unwatch(). -1 on
 * failure. */
int signals_watch(struct fs *fs, pthread_t *thread);
void signals_unwatch(struct fs *fs, pthread_t thread);

#endif
