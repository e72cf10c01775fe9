/*
 * json.h - strict RFC 8259 JSON on top of jsmn's tokens
 *
 * jsmn splits the text into tokens and validates next to nothing; what makes a text valid is
 * decided here. After sft_json_parse() has returned 0, the tokens can be walked without checks:
 * objects hold key, value, key, value, ...; every key is a string; no object has a key twice (as
 * decoded); strings are valid UTF-8 with valid escapes; nesting is at most SFT_JSON_DEPTH.
 */
#ifndef SFT_JSON_H
#define SFT_JSON_H

#include "sft.h"

#define JSMN_HEADER
#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

/* Containers within containers, as in serde_json: in a header, a tensor's other keys may then hold
 * JSON of 125 levels. */
#define SFT_JSON_DEPTH 127

struct sft_json {
	const char *text; /* borrowed */
	size_t len;
	jsmntok_t *tokens;
	unsigned count;
};

enum {
	/* A header: nothing before `{`, nothing but spaces behind `}`. Otherwise any white space. */
	SFT_JSON_HEADER = 1,
};

/* Parse and validate a text whose value is an object. EBADMSG, ENOMEM. */
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

#endif
