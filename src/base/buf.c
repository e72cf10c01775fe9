/* buf.c - a growing buffer of bytes, and JSON string literals */
#include "buf.h"
#include "sft.h"
#include "utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD in UTF-8 */

/* Make room for n more bytes and a NUL. */
static bool reserve(struct sft_buf *b, size_t n)
{
	size_t need, cap = b->cap ? b->cap : 256;

	if (b->failed)
		return false;
	if (__builtin_add_overflow(b->len, n, &need) || __builtin_add_overflow(need, 1, &need))
		goto fail;
	if (need <= b->cap)
		return true;
	while (cap < need) {
		if (__builtin_mul_overflow(cap, 2, &cap))
			goto fail;
	}
	char *data = realloc(b->data, cap);
	if (!data)
		goto fail;
	b->data = data;
	b->cap = cap;
	return true;
fail:
	b->failed = true;
	return false;
}

void sft_buf_add(struct sft_buf *b, const void *bytes, size_t n)
{
	if (!reserve(b, n))
		return;
	if (n)
		memcpy(b->data + b->len, bytes, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void sft_buf_text(struct sft_buf *b, const char *text)
{
	sft_buf_add(b, text, strlen(text));
}

void sft_buf_u64(struct sft_buf *b, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	sft_buf_add(b, digits + at, sizeof(digits) - at);
}

void sft_buf_shape(struct sft_buf *b, const uint64_t *shape, uint32_t rank)
{
	sft_buf_add(b, "[", 1);
	for (uint32_t i = 0; i < rank; i++) {
		if (i)
			sft_buf_add(b, ",", 1);
		sft_buf_u64(b, shape[i]);
	}
	sft_buf_add(b, "]", 1);
}

void sft_buf_printf(struct sft_buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		b->failed = true;
	if (n < 0 || !reserve(b, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

/* The letter behind the backslash for bytes that have a short escape, else 0. */
static char short_escape(char c)
{
	static const char from[] = "\"\\\b\f\n\r\t";
	static const char to[] = "\"\\bfnrt";
	const char *at = c ? strchr(from, c) : NULL;

	return at ? to[at - from] : 0;
}

void sft_buf_json(struct sft_buf *b, const char *s, size_t len)
{
	size_t plain = 0; /* start of what is to be copied as it is */

	sft_buf_add(b, "\"", 1);
	for (size_t i = 0, n; i < len; i += n) {
		unsigned char c = (unsigned char)s[i];
		char letter;

		n = sft_utf8_char(s + i, len - i);
		if (n && c >= 0x20 && c != '"' && c != '\\')
			continue;
		sft_buf_add(b, s + plain, i - plain);
		plain = i + 1;
		letter = short_escape(s[i]);
		if (n == 0)
			sft_buf_add(b, REPLACEMENT, strlen(REPLACEMENT));
		else if (letter)
			sft_buf_add(b, (char[]){ '\\', letter }, 2);
		else
			sft_buf_printf(b, "\\u%04x", c);
		n = 1;
	}
	sft_buf_add(b, s + plain, len - plain);
	sft_buf_add(b, "\"", 1);
}

void sft_buf_free(struct sft_buf *b)
{
	free(b->data);
	*b = (struct sft_buf){ 0 };
}
