/* control.h - the control files of a mount */
#ifndef CONTROL_H
#define CONTROL_H

#include "json.h"
#include "sft.h"

/* A control file as it was read; its text is JSON. Zero-initialise it. */
struct control {
	struct sft_buf text;
	struct sft_json json;
};

/*
 * Read a control file of the mount at `mountpoint`. Returns 0, or 1 after a line that says that it
 * is no mount of ours, or is dead. Free with control_free(), also after a failure.
 */
int control_read(struct control *c, const char *mountpoint, const char *name);
void control_free(struct control *c);

/* The string at a token, decoded, malloced; NULL where there is none (token 0), or no memory. */
char *control_string(const struct sft_json *j, unsigned token);

/* Have the kernel hand over what programs have written through mappings of a mount's files, but not
 * synced yet. */
void control_sync_writers(const char *mountpoint);

#endif
