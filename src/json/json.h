/*
 * json.h - strict RFC 8259 JSON as jsmn's tokens
 *
 * jsmn splits the text into tokens and validates next to nothing; what makes a text valid is
 * decided in grammar.c, before jsmn sees it. After sft_json_parse() has returned 0, the tokens
 * can be walked without checks: objects hold key, value, key, value, ...; every key is a string; no
 * object has a key twice (as decoded); strings are valid UTF-8 with valid escapes; nesting is at
 * most SFT_JSON_DEPTH.
 */
#ifndef SFT_JSON_H
#define SFT_JSON_H

#include "sft.h"

#ifdef SFT_JSON_IMPLEMENTATION /* json.c compiles jsmn, everybody else only sees its types */
#define JSMN_STATIC
#else
#define JSMN_HEADER
#endif
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

/* Containers within containers, as in serde_json: in a header, a tensor's other keys may then hold
 * JSON of 125 levels. */
#define SFT_JSON_DEPTH 127

struct sft_json {
	const char *text; /* borrowed */
	size_t len;
	unsigned flags; /* of sft_json_parse */
	bool escapes;	/* whether the text has any */
	/* In the text's order, the object itself first. `parent` is not what jsmn stored, but the
	 * token behind this one and all that it holds: sft_json_next() is one look. */
	jsmntok_t *tokens;
	unsigned count;
};

enum {
	/* Nothing before `{` and only spaces behind `}`. Without it: any white space. */
	SFT_JSON_HEADER = 1,
};

/*
 * Parse and validate a text whose value is an object; the text is borrowed until sft_json_free.
 * EBADMSG, also for a text above SFT_HEADER_MAX bytes; ENOMEM. Where it fails *j holds nothing.
 * Takes O(n log n) time, 20 bytes a token (so at most 10 for each byte of text) and, for a while,
 * 32 bytes for each key of the largest object. err->offset counts from the text's start, with
 * SFT_JSON_HEADER from the file's, 8 bytes before.
 */
int sft_json_parse(struct sft_json *j, const char *text, size_t len, unsigned flags,
		   struct sft_error *err);
void sft_json_free(struct sft_json *j);

/* The token behind the value at token i and all that it holds. */
unsigned sft_json_next(const struct sft_json *j, unsigned i);
/* The value's token for a key of the object at token `object`, or 0. */
unsigned sft_json_get(const struct sft_json *j, unsigned object, const char *key);

bool sft_json_is_string(const struct sft_json *j, unsigned i);
/* Whether token i is a string that decodes to `text`. */
bool sft_json_equal(const struct sft_json *j, unsigned i, const char *text);
/* Decode the string at token i into `out`, which holds at least the token's length + 1 bytes; a NUL
 * is added. Returns the decoded length. */
size_t sft_json_decode(const struct sft_json *j, unsigned i, char *out);
/* A plain non-negative integer within 64 bits: no sign, fraction, exponent or leading zero. */
bool sft_json_u64(const struct sft_json *j, unsigned i, uint64_t *value);

/* "a string", "an object", ...: what token i is, for messages. */
const char *sft_json_kind(const struct sft_json *j, unsigned i);
/* sft_quote() of the string at token i. */
const char *sft_json_quote(const struct sft_json *j, unsigned i, struct sft_quoted *q);

#endif
