/* control.h - the control files of a mount */
#ifndef CONTROL_H
#define CONTROL_H

#include "json.h"
#include "sft.h"

/*
 * Read a control file of the mount at `mountpoint` as parsed JSON text. Returns 0, or 1 after a
 * line that says that it is no mount of ours, or is dead.
 */
int control_read(const char *mountpoint, const char *name, struct sft_buf *text);

/* The string at a token, decoded, malloced; NULL where there is none (token 0), or no memory. */
char *control_string(const struct sft_json *j, unsigned token);

/* Have the kernel hand over what programs have written through mappings of a mount's files, but not
 * synced yet. */
void control_sync_writers(const char *mountpoint);

#endif
