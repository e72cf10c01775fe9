/* utf8.h - one character of UTF-8 */
#ifndef SFT_UTF8_H
#define SFT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * The bytes (1 to 4) of the character at the start of the `len` bytes at s; 0 where there is no
 * valid one, that is for overlong forms, surrogates, values above U+10FFFF, stray continuation
 * bytes, cut sequences and len 0. The table is RFC 3629, section 4.
 */
static inline size_t sft_utf8_char(const char *s, size_t len)
{
	const unsigned char *u = (const unsigned char *)s;
	unsigned low = 0x80, high = 0xbf; /* what the second byte may be */
	size_t n;

	if (len == 0)
		return 0;
	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	n = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (len < n)
		return 0;
	if (u[0] == 0xe0)
		low = 0xa0;
	else if (u[0] == 0xed)
		high = 0x9f;
	else if (u[0] == 0xf0)
		low = 0x90;
	else if (u[0] == 0xf4)
		high = 0x8f;
	if (u[1] < low || u[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

/* The code point of a valid character of n bytes. */
static inline uint32_t sft_utf8_value(const char *s, size_t n)
{
	const unsigned char *u = (const unsigned char *)s;
	uint32_t value = n == 1 ? u[0] : u[0] & (0x7fu >> n);

	for (size_t i = 1; i < n; i++)
		value = value << 6 | (u[i] & 0x3fu);
	return value;
}

#endif
