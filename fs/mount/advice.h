/* advice.h - what to do about a failure, put behind its message; no FUSE here */
#ifndef ADVICE_H
#define ADVICE_H

#include "sft.h"

/* After a failure to open a source, for mistakes with the words of the command line: a mount, a
 * misspelt command, and, where `mountpoint` is not NULL, the two the wrong way round. */
void advise_source(const char *source, const char *mountpoint, struct sft_error *err);

/* What to do where libfuse or fusermount3 has said that it cannot mount: goes behind what they
 * said; may be empty. */
const char *advice_on_mounting(const char *said);

#endif
