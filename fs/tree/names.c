/* names.c - the percent-encoding of names */
#include "names.h"

#include "utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CUT_MARK "%~" /* no escape, so no name that is not cut holds it */
#define CUT_HASH_DIGITS 16
#define CUT_TAIL (sizeof(CUT_MARK) - 1 + CUT_HASH_DIGITS)

_Static_assert(NAME_CUT_MAX + CUT_TAIL <= NAME_ENCODED_MAX, "a cut name fits");

static bool ends_in(const char *name, size_t len, const char *suffix)
{
	size_t n = strlen(suffix);

	return len >= n && memcmp(name + len - n, suffix, n) == 0;
}

/* The position of the dot that would make a view's file name of this name, or `len`. */
static size_t suffix_dot(const char *name, size_t len)
{
	if (ends_in(name, len, ".json"))
		return len - strlen(".json");
	if (ends_in(name, len, ".npy"))
		return len - strlen(".npy");
	return len;
}

static bool must_escape(const char *name, size_t len, size_t i, size_t dot)
{
	unsigned char c = (unsigned char)name[i];

	if (c < 0x20 || c == 0x7f || c == '%' || c == '/')
		return true;
	if (c == '.')
		return i == 0 || i == dot;
	return c == '~' && i == len - 1;
}

static bool is_plain(const char *name, size_t len, size_t dot)
{
	for (size_t i = 0; i < len; i++) {
		if (must_escape(name, len, i, dot))
			return false;
	}
	return true;
}

/* Encode character by character, and cut. Returns the length; *cut is set where it was cut. */
static size_t encode_slowly(const char *name, size_t len, size_t dot, char *out, bool *cut)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t used = 0, cut_at = 0, n;

	for (size_t i = 0; i < len; i += n) {
		unsigned char c = (unsigned char)name[i];
		bool escape = must_escape(name, len, i, dot);
		char escaped[] = { '%', digits[c >> 4], digits[c & 15] };

		n = sft_utf8_char(name + i, len - i);
		if (n == 0) /* a shard's file name need not be UTF-8 */
			n = 1;
		size_t piece = escape ? sizeof(escaped) : n;
		if (used + piece > NAME_ENCODED_MAX) {
			*cut = true;
			return cut_at + (size_t)snprintf(out + cut_at, CUT_TAIL + 1,
							 "%s%016" PRIx64, CUT_MARK,
							 name_hash(name, len));
		}
		memcpy(out + used, escape ? escaped : name + i, piece);
		used += piece;
		if (used <= NAME_CUT_MAX)
			cut_at = used;
	}
	return used;
}

size_t name_encode(const char *name, size_t len, char out[NAME_ENCODED_MAX + 1], bool *cut)
{
	size_t used = len, dot = suffix_dot(name, len);
	bool is_cut = false;

	if (len == 0)
		out[used++] = '%';
	else if (len <= NAME_ENCODED_MAX && is_plain(name, len, dot))
		memcpy(out, name, len);
	else
		used = encode_slowly(name, len, dot, out, &is_cut);
	out[used] = '\0';
	if (cut)
		*cut = is_cut;
	return used;
}

/* The value of a hex digit of either case, or -1. */
static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Replace escapes by their bytes; a `%` that begins none is nothing. Returns the length. */
static size_t unescape(const char *file_name, size_t len, char *out)
{
	size_t used = 0;

	for (size_t i = 0; i < len; i++) {
		if (file_name[i] != '%') {
			out[used++] = file_name[i];
			continue;
		}
		int high = i + 2 < len ? hex_value(file_name[i + 1]) : -1;
		int low = i + 2 < len ? hex_value(file_name[i + 2]) : -1;
		if (high < 0 || low < 0)
			continue;
		out[used++] = (char)(high << 4 | low);
		i += 2;
	}
	out[used] = '\0';
	return used;
}

static bool is_utf8(const char *s, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		n = sft_utf8_char(s + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}

bool name_decode(const char *file_name, size_t len, char *out, size_t *out_len)
{
	char again[NAME_ENCODED_MAX + 1];

	if (len > NAME_ENCODED_MAX)
		return false;
	*out_len = unescape(file_name, len, out);
	if (!is_utf8(out, *out_len))
		return false;
	/* What decoding forgives, encoding does not write: so this one test holds every rule. */
	return name_encode(out, *out_len, again, NULL) == len && memcmp(again, file_name, len) == 0;
}

/* Fowler, Noll, Vo: draft-eastlake-fnv, 64 bits. */
uint64_t name_hash(const char *name, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3;
	return hash;
}

bool name_is_scratch(const char *file_name, size_t len)
{
	return len > 0 && (file_name[0] == '.' || file_name[len - 1] == '~');
}
