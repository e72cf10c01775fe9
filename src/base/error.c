/* error.c - recording failures, and quoting what came from a file */
#include "sft.h"
#include "utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The longest escape of one character: four bytes as \xNN. */
#define ESCAPE_MAX 16

/* Write the escape of the n bytes at s and return its length: \n and \t by letter, else \xNN. */
static size_t escape_bytes(char out[ESCAPE_MAX + 1], const char *s, size_t n)
{
	if (n == 1 && (*s == '\n' || *s == '\t'))
		return (size_t)sprintf(out, "\\%c", *s == '\n' ? 'n' : 't');
	size_t len = 0;
	for (size_t i = 0; i < n; i++)
		len += (size_t)sprintf(out + len, "\\x%02x", (unsigned char)s[i]);
	return len;
}

/* Whether the character of n bytes at s could steer a terminal: C0, DEL and C1 (U+0080-009F). */
static bool is_control(const char *s, size_t n)
{
	const unsigned char *u = (const unsigned char *)s;

	if (n == 1)
		return u[0] < 0x20 || u[0] == 0x7f;
	return n == 2 && u[0] == 0xc2 && u[1] < 0xa0;
}

/*
 * Copy text to `out` with control characters and invalid UTF-8 escaped, `quotes` too where wanted,
 * and never part of a character or of an escape. Returns the bytes written, sets *whole to whether
 * all of the text fitted into `room` bytes. No NUL is added.
 */
static size_t copy_escaped(char *out, size_t room, const char *text, size_t len, bool quotes,
			   bool *whole)
{
	size_t used = 0;

	*whole = true;
	for (size_t i = 0, n; i < len; i += n) {
		char buf[ESCAPE_MAX + 1];
		const char *piece = text + i;
		size_t piece_len;

		n = sft_utf8_char(text + i, len - i);
		piece_len = n;
		if (n == 0 || is_control(piece, n)) {
			n = n ? n : 1;
			piece_len = escape_bytes(buf, piece, n);
			piece = buf;
		} else if (quotes && (*piece == '"' || *piece == '\\')) {
			piece_len = (size_t)sprintf(buf, "\\%c", *piece);
			piece = buf;
		}
		if (piece_len > room - used) {
			*whole = false;
			break;
		}
		memcpy(out + used, piece, piece_len);
		used += piece_len;
	}
	return used;
}

/* Put the text, escaped, into err->msg, with "..." at the end where it had to be cut. */
static void set_message(struct sft_error *err, const char *text, size_t len)
{
	bool whole;
	size_t room = sizeof(err->msg) - sizeof("...");
	size_t used = copy_escaped(err->msg, room, text, len, false, &whole);

	strcpy(err->msg + used, whole ? "" : "...");
}

int sft_fail(struct sft_error *err, int errnum, const char *fmt, ...)
{
	char text[sizeof(err->msg)];
	va_list ap;

	if (!err || err->errnum)
		return -errnum;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0) /* an invalid format for this locale: the number is better than nothing */
		n = snprintf(text, sizeof(text), "error %d", errnum);
	err->errnum = errnum;
	set_message(err, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
	return -errnum;
}

int sft_wrap(struct sft_error *err, const char *fmt, ...)
{
	char text[2 * sizeof(err->msg) + sizeof(": ")];
	va_list ap;

	if (!err || !err->errnum)
		return 0;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n < 0)
		return -err->errnum;
	/* The old message is escaped already; escaping does not change what it made. */
	size_t len = strlen(text);
	len += (size_t)sprintf(text + len, ": %s", err->msg);
	set_message(err, text, len);
	return -err->errnum;
}

void sft_hint(struct sft_error *err, const char *fmt, ...)
{
	char text[2 * sizeof(err->msg) + sizeof("; ")];
	va_list ap;

	if (!err || !err->errnum)
		return;
	size_t len = (size_t)snprintf(text, sizeof(err->msg) + 2, "%s; ", err->msg);
	va_start(ap, fmt);
	int n = vsnprintf(text + len, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n >= 0)
		set_message(err, text, strlen(text));
}

const char *sft_quote(struct sft_quoted *q, const char *name, size_t len)
{
	bool whole;
	size_t room = sizeof(q->text) - sizeof("\"\"...");
	size_t used = copy_escaped(q->text + 1, room, name, len, true, &whole);

	q->text[0] = '"';
	strcpy(q->text + 1 + used, whole ? "\"" : "\"...");
	return q->text;
}
