/*
 * grammar.c - the grammar of RFC 8259, as a loop with a stack of bits of bounded depth
 *
 * It runs before jsmn: that way jsmn only ever meets valid JSON, on which its leniency does not
 * show and its time is linear, and the memory for its tokens is known beforehand.
 */
#include "grammar.h"
#include "json.h"
#include "utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What may come next. */
enum expect {
	KEY_OR_CLOSE, /* behind { */
	KEY,	      /* behind a comma in an object */
	COLON,
	VALUE_OR_CLOSE, /* behind [ */
	VALUE,		/* behind a colon, or a comma in an array */
	COMMA_OR_CLOSE,
};

struct check {
	const char *text;
	size_t len, pos;
	unsigned flags, tokens, depth;
	enum expect expect;
	char open[SFT_JSON_DEPTH]; /* the { and [ around pos */
	struct sft_error *err;
};

int sft_json_fail(struct sft_error *err, unsigned flags, size_t pos, const char *fmt, ...)
{
	uint64_t offset = pos + (flags & SFT_JSON_HEADER ? 8 : 0);
	char what[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (err && !err->errnum)
		err->offset = offset;
	return sft_fail(err, EBADMSG, "invalid JSON at byte %llu: %s", (unsigned long long)offset,
			what);
}

static int fail(const struct check *c, const char *what)
{
	return sft_json_fail(c->err, c->flags, c->pos, "%s", what);
}

/* The byte at pos, or -1 at the end. */
static int peek(const struct check *c)
{
	return c->pos < c->len ? (unsigned char)c->text[c->pos] : -1;
}

static int unexpected(const struct check *c, const char *wanted)
{
	int found = peek(c);
	char text[16];

	if (found < 0)
		snprintf(text, sizeof(text), "the end");
	else if (found > 0x20 && found < 0x7f)
		snprintf(text, sizeof(text), "'%c'", found);
	else
		snprintf(text, sizeof(text), "byte 0x%02x", (unsigned)found);
	return sft_json_fail(c->err, c->flags, c->pos, "expected %s, found %s", wanted, text);
}

static void skip_space(struct check *c)
{
	while (c->pos < c->len) {
		char ch = c->text[c->pos];

		if (ch != ' ' && ch != '\t' && ch != '\n' && ch != '\r')
			break;
		c->pos++;
	}
}

/* The four hex digits at `pos`, or -1. */
static long hex4(const struct check *c, size_t pos)
{
	long value = 0;

	for (size_t i = pos; i < pos + 4; i++) {
		int ch = i < c->len ? c->text[i] : 0;

		if (ch >= '0' && ch <= '9')
			value = value * 16 + (ch - '0');
		else if ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'f')
			value = value * 16 + ((ch | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

/* At a backslash within a string. */
static int check_escape(struct check *c)
{
	int ch = c->pos + 1 < c->len ? c->text[c->pos + 1] : 0;

	if (ch && strchr("\"\\/bfnrt", ch)) {
		c->pos += 2;
		return 0;
	}
	if (ch != 'u')
		return fail(c, "a backslash that begins none of JSON's escapes");
	long unit = hex4(c, c->pos + 2);
	if (unit < 0)
		return fail(c, "\\u without four hex digits");
	if (unit < 0xd800 || unit > 0xdfff) {
		c->pos += 6;
		return 0;
	}
	long low = -1;
	if (c->pos + 8 <= c->len && memcmp(c->text + c->pos + 6, "\\u", 2) == 0)
		low = hex4(c, c->pos + 8);
	if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return sft_json_fail(c->err, c->flags, c->pos, "lone surrogate \\u%04lx", unit);
	c->pos += 12;
	return 0;
}

/* At the opening quote of a string. */
static int check_string(struct check *c)
{
	size_t start = c->pos++;

	for (;;) {
		int ch = peek(c);
		size_t n;
		int r;

		if (ch == '"')
			break;
		if (ch < 0) {
			c->pos = start;
			return fail(c, "a string without an end");
		}
		if (ch < 0x20)
			return sft_json_fail(c->err, c->flags, c->pos,
					     "control character 0x%02x in a string", (unsigned)ch);
		if (ch == '\\') {
			r = check_escape(c);
			if (r)
				return r;
			continue;
		}
		n = sft_utf8_char(c->text + c->pos, c->len - c->pos);
		if (n == 0)
			return sft_json_fail(c->err, c->flags, c->pos,
					     "not UTF-8: byte 0x%02x in a string", (unsigned)ch);
		c->pos += n;
	}
	c->pos++;
	c->tokens++;
	return 0;
}

/* Skip digits; false where there are none. */
static bool skip_digits(struct check *c)
{
	size_t start = c->pos;

	while (c->pos < c->len && c->text[c->pos] >= '0' && c->text[c->pos] <= '9')
		c->pos++;
	return c->pos > start;
}

/* At a digit or a minus sign. */
static int check_number(struct check *c)
{
	if (peek(c) == '-')
		c->pos++;
	size_t start = c->pos;
	if (!skip_digits(c))
		return unexpected(c, "a digit behind '-'");
	if (c->text[start] == '0' && c->pos > start + 1) {
		c->pos = start;
		return fail(c, "a number with a leading zero");
	}
	if (peek(c) == '.') {
		c->pos++;
		if (!skip_digits(c))
			return unexpected(c, "a digit behind the decimal point");
	}
	if (peek(c) == 'e' || peek(c) == 'E') {
		c->pos++;
		if (peek(c) == '+' || peek(c) == '-')
			c->pos++;
		if (!skip_digits(c))
			return unexpected(c, "a digit in the exponent");
	}
	c->tokens++;
	return 0;
}

static int check_literal(struct check *c)
{
	static const char *const literals[] = { "true", "false", "null" };

	for (size_t i = 0; i < sizeof(literals) / sizeof(*literals); i++) {
		size_t n = strlen(literals[i]);

		if (n <= c->len - c->pos && memcmp(c->text + c->pos, literals[i], n) == 0) {
			c->pos += n;
			c->tokens++;
			return 0;
		}
	}
	return unexpected(c, "a value");
}

/* At a { or [. */
static int check_open(struct check *c)
{
	char ch = c->text[c->pos];

	if (c->depth == SFT_JSON_DEPTH)
		return sft_json_fail(c->err, c->flags, c->pos,
				     "objects and arrays nested deeper than %d levels",
				     SFT_JSON_DEPTH);
	c->open[c->depth++] = ch;
	c->expect = ch == '{' ? KEY_OR_CLOSE : VALUE_OR_CLOSE;
	c->pos++;
	c->tokens++;
	return 0;
}

/* Where a value may begin. */
static int check_value(struct check *c)
{
	int ch = peek(c);

	if (ch == '{' || ch == '[')
		return check_open(c);
	c->expect = COMMA_OR_CLOSE;
	if (ch == '"')
		return check_string(c);
	if (ch == '-' || (ch >= '0' && ch <= '9'))
		return check_number(c);
	return ch < 0 ? unexpected(c, "a value") : check_literal(c);
}

/* At the } or ] of the innermost container. */
static int check_close(struct check *c)
{
	c->depth--;
	c->pos++;
	c->expect = COMMA_OR_CLOSE;
	return 0;
}

/* Take one element of the grammar, with no white space before it. */
static int check_next(struct check *c)
{
	bool object = c->open[c->depth - 1] == '{';
	int ch = peek(c);

	switch (c->expect) {
	case KEY_OR_CLOSE:
		if (ch == '}')
			return check_close(c);
		/* fallthrough */
	case KEY:
		if (ch != '"')
			return unexpected(c, "a key in double quotes");
		c->expect = COLON;
		return check_string(c);
	case COLON:
		if (ch != ':')
			return unexpected(c, "':' behind a key");
		c->expect = VALUE;
		c->pos++;
		return 0;
	case VALUE_OR_CLOSE:
		if (ch == ']')
			return check_close(c);
		/* fallthrough */
	case VALUE:
		return check_value(c);
	case COMMA_OR_CLOSE:
		break;
	}
	if (ch == (object ? '}' : ']'))
		return check_close(c);
	if (ch != ',')
		return unexpected(c, object ? "',' or '}'" : "',' or ']'");
	c->expect = object ? KEY : VALUE;
	c->pos++;
	return 0;
}

int sft_json_check(const char *text, size_t len, unsigned flags, unsigned *tokens,
		   struct sft_error *err)
{
	struct check c = { .text = text, .len = len, .flags = flags, .err = err };
	bool header = flags & SFT_JSON_HEADER;

	if (!header)
		skip_space(&c);
	if (peek(&c) != '{')
		return unexpected(&c, "'{' at the start");
	int r = check_open(&c);
	while (r == 0 && c.depth) {
		skip_space(&c);
		r = check_next(&c);
	}
	if (r)
		return r;
	if (!header)
		skip_space(&c);
	while (header && peek(&c) == ' ')
		c.pos++;
	if (c.pos < len)
		return unexpected(&c, header ? "only spaces behind the closing '}'"
					     : "nothing behind the closing '}'");
	*tokens = c.tokens;
	return 0;
}
