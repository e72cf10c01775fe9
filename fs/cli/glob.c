/* glob.c - patterns for names of tensors */
#include "glob.h"

#include "utf8.h"

#include <string.h>

/* Take a character of a set. Bytes that are no UTF-8 are like no character of a name. */
static uint32_t take(const char **p)
{
	if (**p == '\\' && (*p)[1])
		(*p)++;
	size_t n = sft_utf8_char(*p, strnlen(*p, 4));
	uint32_t c = n ? sft_utf8_value(*p, n) : UINT32_MAX;
	*p += n ? n : 1;
	return c;
}

/* `p` is behind the `[`. What is behind the set where c is in it; else NULL. */
static const char *match_set(const char *p, uint32_t c)
{
	const char *unclosed = c == '[' ? p : NULL;
	bool negated = *p == '!' || *p == '^', found = false;
	p += negated;
	const char *first = p; /* a `]` that comes first is one */
	while (*p && (*p != ']' || p == first)) {
		uint32_t low = take(&p), high = low;
		if (*p == '-' && p[1] && p[1] != ']') {
			p++;
			high = take(&p);
		}
		found = found || (low <= c && c <= high);
	}
	if (!*p)
		return unclosed;
	return found != negated ? p + 1 : NULL;
}

/* Match the n bytes of one character. The rest of the pattern, or NULL. */
static const char *match_one(const char *p, const char *s, size_t n)
{
	if (*p == '?')
		return p + 1;
	if (*p == '[')
		return match_set(p + 1, sft_utf8_value(s, n));
	if (*p == '\\' && p[1])
		p++;
	return *p && strncmp(p, s, n) == 0 ? p + n : NULL;
}

bool glob_match(const char *pattern, const char *name, size_t len)
{
	const char *p = pattern, *s = name, *end = name + len;
	const char *star = NULL;  /* behind the last `*`, */
	const char *retry = name; /* and where what follows it was last tried */
	while (s < end) {
		size_t n = sft_utf8_char(s, (size_t)(end - s));
		if (*p == '*') {
			star = ++p;
			retry = s;
			continue;
		}
		const char *rest = match_one(p, s, n);
		if (rest) {
			p = rest;
			s += n;
		} else if (star) {
			/* An earlier `*` need not be tried again: it found its first match. */
			retry += sft_utf8_char(retry, (size_t)(end - retry));
			s = retry;
			p = star;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return !*p;
}
