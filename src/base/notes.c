/* notes.c - lines to tell somebody, in order */
#include "notes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int notes_add(struct notes *notes, const char *fmt, ...)
{
	char *line = NULL, **grown;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&line, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	grown = realloc(notes->lines, (notes->count + 1) * sizeof(char *));
	if (!grown) {
		free(line);
		return -ENOMEM;
	}
	notes->lines = grown;
	notes->lines[notes->count++] = line;
	return 0;
}

const char *notes_line(const struct notes *notes, size_t i)
{
	return i < notes->count ? notes->lines[i] : NULL;
}

void notes_free(struct notes *notes)
{
	for (size_t i = 0; i < notes->count; i++)
		free(notes->lines[i]);
	free(notes->lines);
	*notes = (struct notes){ 0 };
}
