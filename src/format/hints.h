/* hints.h - what a source that cannot be opened seems to be, and what to do; internal */
#ifndef SFT_HINTS_H
#define SFT_HINTS_H

#include "sft.h"

/* After a failure: where the first bytes of an open file are those of another format, say so
 * behind the message. What begins like a header is taken for a broken one. */
void hints_of_file(int fd, struct sft_error *err);
/* The same for a directory in which there is nothing to open. */
void hints_of_directory(const char *path, struct sft_error *err);

#endif
