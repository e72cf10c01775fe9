/* notes.h - lines to tell somebody, in order */
#ifndef SFT_NOTES_H
#define SFT_NOTES_H

#include <stddef.h>

/* Zero-initialise. */
struct notes {
	char **lines;
	size_t count;
};
/* Add a line. -ENOMEM: it is left out. */
int notes_add(struct notes *notes, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The i-th line, or NULL after the last. */
const char *notes_line(const struct notes *notes, size_t i);
void notes_free(struct notes *notes);

#endif
