/* mount.h - the processes of a mount */
#ifndef MOUNT_H
#define MOUNT_H

#include "mount_options.h"

/*
 * Mount what the options say, and return once the mount answers, or with -f once it has ended.
 * Returns an exit code, after a line that says why if it is not 0; in the daemon, its own. Makes
 * the paths of `o` absolute, and fills in the given ones.
 */
int mount_run(struct options *o);

#endif
