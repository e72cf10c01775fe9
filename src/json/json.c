/*
 * json.c - jsmn's tokens over a text that grammar.c has accepted, and reading them
 *
 * The only file that compiles jsmn. JSMN_PARENT_LINKS makes it linear: without, closing a container
 * searches all tokens before it.
 */
#define SFT_JSON_IMPLEMENTATION
#include "json.h"
#include "grammar.h"
#include "num.h"
#include "sort.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Up to this many keys, comparing each with each is quicker than sorting. */
#define FEW_KEYS 8

/* From this much on, huge pages are worth asking for. */
#define HUGE_BYTES (8u << 20)

static const char *token_text(const struct sft_json *j, unsigned i)
{
	return j->text + j->tokens[i].start;
}

static size_t token_len(const struct sft_json *j, unsigned i)
{
	return (size_t)(j->tokens[i].end - j->tokens[i].start);
}

/* ---- strings ---- */

static unsigned hex4(const char *p)
{
	unsigned value = 0;

	for (int i = 0; i < 4; i++)
		value = value * 16 +
			(unsigned)(p[i] <= '9' ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	return value;
}

static size_t encode_utf8(unsigned c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)((0xf00 >> n) | c);
	return n;
}

/* Decode the plain byte or the escape at *p (validated before), and step behind it. */
static size_t decode_one(const char **p, char out[4])
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	const char *s = *p;

	if (*s != '\\') {
		out[0] = *s;
		*p += 1;
		return 1;
	}
	if (s[1] != 'u') {
		const char *at = strchr(from, s[1]);

		out[0] = at ? to[at - from] : s[1];
		*p += 2;
		return 1;
	}
	unsigned c = hex4(s + 2);
	*p += 6;
	if (c >= 0xd800 && c <= 0xdbff) {
		c = 0x10000 + ((c - 0xd800) << 10) + (hex4(s + 8) - 0xdc00);
		*p += 6;
	}
	return encode_utf8(c, out);
}

/* The decoded bytes of a string, one by one. */
struct cursor {
	const char *p, *end;
	char bytes[4];
	size_t at, count;
};

static struct cursor cursor_start(const struct sft_json *j, unsigned i)
{
	const char *text = token_text(j, i);

	return (struct cursor){ .p = text, .end = text + token_len(j, i) };
}

/* The next byte, or -1 at the end. */
static int cursor_next(struct cursor *c)
{
	if (c->at == c->count) {
		if (c->p == c->end)
			return -1;
		c->count = decode_one(&c->p, c->bytes);
		c->at = 0;
	}
	return (unsigned char)c->bytes[c->at++];
}

static bool has_escape(const struct sft_json *j, unsigned i)
{
	return j->escapes && memchr(token_text(j, i), '\\', token_len(j, i));
}

/* Byte order of two decoded strings; an sft_compare. */
static int compare_strings(uint32_t a, uint32_t b, const void *ctx)
{
	const struct sft_json *j = ctx;

	if (!has_escape(j, a) && !has_escape(j, b))
		return sft_name_compare(token_text(j, a), token_len(j, a), token_text(j, b),
					token_len(j, b));
	struct cursor x = cursor_start(j, a), y = cursor_start(j, b);
	int p, q;
	do {
		p = cursor_next(&x);
		q = cursor_next(&y);
	} while (p == q && p >= 0);
	return p - q;
}

/* ---- duplicate keys ---- */

static int fail_duplicate(const struct sft_json *j, unsigned key, struct sft_error *err)
{
	struct sft_quoted q;

	return sft_json_fail(err, j->flags, (size_t)j->tokens[key].start,
			     "key %s occurs twice in one object", sft_json_quote(j, key, &q));
}

static int check_few_keys(const struct sft_json *j, unsigned object, struct sft_error *err)
{
	unsigned keys[FEW_KEYS], n = 0;

	for (unsigned k = object + 1; k < sft_json_next(j, object); k = sft_json_next(j, k + 1)) {
		for (unsigned i = 0; i < n; i++) {
			if (compare_strings(keys[i], k, j) == 0)
				return fail_duplicate(j, k, err);
		}
		keys[n++] = k;
	}
	return 0;
}

/* Set the sorting prefix of each key. */
static void set_prefixes(const struct sft_json *j, struct sft_sort_item *keys, size_t n)
{
	const char *first = token_text(j, keys[0].item);
	size_t common = token_len(j, keys[0].item);

	for (size_t i = 0; i < n && common; i++) {
		unsigned k = keys[i].item;

		common = sft_sort_common(first, common, token_text(j, k), token_len(j, k));
		if (has_escape(j, k))
			common = 0;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned k = keys[i].item;
		struct cursor c = cursor_start(j, k);
		char start[8];
		size_t len = 0;
		int byte;

		if (!has_escape(j, k)) {
			keys[i].prefix = sft_sort_prefix(token_text(j, k), token_len(j, k), common);
			continue;
		}
		while (len < sizeof(start) && (byte = cursor_next(&c)) >= 0)
			start[len++] = (char)byte;
		keys[i].prefix = sft_sort_prefix(start, len, 0);
	}
}

static int check_many_keys(const struct sft_json *j, unsigned object, struct sft_error *err)
{
	size_t count = (size_t)j->tokens[object].size, n = 0;
	struct sft_sort_item *keys = malloc(count * sizeof(*keys));
	int r;

	if (!keys) {
		r = sft_fail(err, ENOMEM, "out of memory for %zu keys", count);
		goto out;
	}
	for (unsigned k = object + 1; k < sft_json_next(j, object); k = sft_json_next(j, k + 1))
		keys[n++].item = k;
	set_prefixes(j, keys, n);
	r = sft_sort_items(keys, n, compare_strings, j);
	if (r) {
		sft_fail(err, -r, "out of memory for %zu keys", count);
		goto out;
	}
	for (size_t i = 1; i < n && r == 0; i++) {
		if (keys[i - 1].prefix == keys[i].prefix &&
		    compare_strings(keys[i - 1].item, keys[i].item, j) == 0)
			r = fail_duplicate(j, keys[i].item, err);
	}
out:
	free(keys);
	return r;
}

static int check_duplicates(const struct sft_json *j, struct sft_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < j->count && r == 0; i++) {
		if (j->tokens[i].type != JSMN_OBJECT)
			continue;
		r = j->tokens[i].size <= FEW_KEYS ? check_few_keys(j, i, err)
						  : check_many_keys(j, i, err);
	}
	return r;
}

/* ---- parsing ---- */

/* Replace each token's parent by the token behind it and all that it holds. */
static void link_next(struct sft_json *j)
{
	unsigned open[SFT_JSON_DEPTH], depth = 0;

	for (unsigned i = 0; i < j->count; i++) {
		jsmntok_t *t = &j->tokens[i];

		while (depth && j->tokens[open[depth - 1]].end <= t->start)
			j->tokens[open[--depth]].parent = (int)i;
		t->parent = (int)i + 1;
		if (t->type == JSMN_OBJECT || t->type == JSMN_ARRAY)
			open[depth++] = i;
	}
	while (depth)
		j->tokens[open[--depth]].parent = (int)j->count;
}

/*
 * Memory for `count` tokens. A header of 100 MB makes 260 MB of them, which the kernel hands out
 * and clears page by page: with huge pages, where it has any, parsing takes half the time.
 */
static jsmntok_t *allocate_tokens(size_t count)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	jsmntok_t *tokens = malloc(count * sizeof(*tokens));

	if (!tokens || count < HUGE_BYTES / sizeof(*tokens))
		return tokens;
	uintptr_t start = ((uintptr_t)tokens + page - 1) & ~(page - 1);
	uintptr_t end = (uintptr_t)(tokens + count) & ~(page - 1);
	madvise((void *)start, end - start, MADV_HUGEPAGE);
	return tokens;
}

int sft_json_parse(struct sft_json *j, const char *text, size_t len, unsigned flags,
		   struct sft_error *err)
{
	jsmn_parser parser;
	unsigned count;

	*j = (struct sft_json){ .text = text, .len = len, .flags = flags };
	/* Also what keeps positions and counts within jsmn's int. */
	if (len > SFT_HEADER_MAX)
		return sft_fail(err, EBADMSG, "JSON of %zu bytes is longer than %u", len,
				SFT_HEADER_MAX);
	int r = sft_json_check(text, len, flags, &count, err);
	if (r)
		return r;
	j->escapes = memchr(text, '\\', len);
	j->tokens = allocate_tokens(count);
	if (!j->tokens)
		return sft_fail(err, ENOMEM, "out of memory for %u JSON tokens", count);
	jsmn_init(&parser);
	r = jsmn_parse(&parser, text, len, j->tokens, count);
	if (r < 0 || (unsigned)r != count) {
		r = sft_fail(err, EBADMSG, "jsmn makes %d of %u JSON tokens", r, count);
		goto out;
	}
	j->count = count;
	link_next(j);
	r = check_duplicates(j, err);
out:
	if (r)
		sft_json_free(j);
	return r;
}

void sft_json_free(struct sft_json *j)
{
	free(j->tokens);
	*j = (struct sft_json){ 0 };
}

/* ---- reading ---- */

unsigned sft_json_next(const struct sft_json *j, unsigned i)
{
	return (unsigned)j->tokens[i].parent;
}

unsigned sft_json_get(const struct sft_json *j, unsigned object, const char *key)
{
	for (unsigned k = object + 1; k < sft_json_next(j, object); k = sft_json_next(j, k + 1)) {
		if (sft_json_equal(j, k, key))
			return k + 1;
	}
	return 0;
}

bool sft_json_is_string(const struct sft_json *j, unsigned i)
{
	return j->tokens[i].type == JSMN_STRING;
}

bool sft_json_equal(const struct sft_json *j, unsigned i, const char *text)
{
	size_t len = strlen(text);

	if (!sft_json_is_string(j, i))
		return false;
	if (!has_escape(j, i))
		return token_len(j, i) == len && memcmp(token_text(j, i), text, len) == 0;
	struct cursor c = cursor_start(j, i);
	for (size_t n = 0; n < len; n++) {
		if (cursor_next(&c) != (unsigned char)text[n])
			return false;
	}
	return cursor_next(&c) < 0;
}

size_t sft_json_decode(const struct sft_json *j, unsigned i, char *out)
{
	const char *p = token_text(j, i), *end = p + token_len(j, i);
	size_t n = 0;

	while (p < end) {
		const char *escape = memchr(p, '\\', (size_t)(end - p));
		size_t plain = (size_t)((escape ? escape : end) - p);

		memcpy(out + n, p, plain);
		n += plain;
		p += plain;
		if (escape) {
			char bytes[4];
			size_t count = decode_one(&p, bytes);

			memcpy(out + n, bytes, count);
			n += count;
		}
	}
	out[n] = '\0';
	return n;
}

bool sft_json_u64(const struct sft_json *j, unsigned i, uint64_t *value)
{
	const char *p = token_text(j, i), *end = p + token_len(j, i);
	uint64_t v = 0;

	if (j->tokens[i].type != JSMN_PRIMITIVE)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		if (!sft_mul(v, 10, &v) || !sft_add(v, (uint64_t)(*p - '0'), &v))
			return false;
	}
	*value = v;
	return true;
}

const char *sft_json_kind(const struct sft_json *j, unsigned i)
{
	switch (j->tokens[i].type) {
	case JSMN_OBJECT:
		return "an object";
	case JSMN_ARRAY:
		return "an array";
	case JSMN_STRING:
		return "a string";
	default:
		break;
	}
	switch (*token_text(j, i)) {
	case 'n':
		return "null";
	case 't':
		return "true";
	case 'f':
		return "false";
	default:
		return "a number";
	}
}

const char *sft_json_quote(const struct sft_json *j, unsigned i, struct sft_quoted *q)
{
	char bytes[sizeof(q->text) + 4]; /* more than a quotation can show */
	struct cursor c = cursor_start(j, i);
	size_t n = 0;
	int byte;

	while (n < sizeof(bytes) && (byte = cursor_next(&c)) >= 0)
		bytes[n++] = (char)byte;
	return sft_quote(q, bytes, n);
}
