/* options.h - from the words of a command line to struct options */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "mount_options.h"

enum options_for { OPTIONS_MOUNT, OPTIONS_RECOVER, OPTIONS_DISCARD };

/*
 * Parse the arguments behind the verb. Returns 0, or the exit code 2 after a line that names the
 * wrong word. Strings are copied; free with options_free, also after a failure.
 */
int options_parse(struct options *o, enum options_for what, int argc, char **argv);
void options_free(struct options *o);

#endif
