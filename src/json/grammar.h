/* grammar.h - whether a text is JSON; internal to the library */
#ifndef SFT_JSON_GRAMMAR_H
#define SFT_JSON_GRAMMAR_H

#include "sft.h"

/*
 * Prove that every byte of the text belongs to one JSON object as RFC 8259 has it, in valid UTF-8,
 * nested no deeper than SFT_JSON_DEPTH; `flags` are those of sft_json_parse. *tokens becomes the
 * number of tokens that jsmn will make: one a container, string (keys too), number and literal.
 * Takes no memory, and time proportional to len. EBADMSG.
 */
int sft_json_check(const char *text, size_t len, unsigned flags, unsigned *tokens,
		   struct sft_error *err);

/*
 * Fail with EBADMSG at byte `pos` of the text; the message begins with "invalid JSON at byte N".
 * With SFT_JSON_HEADER N and err->offset count from the start of the file, so 8 more than `pos`.
 */
int sft_json_fail(struct sft_error *err, unsigned flags, size_t pos, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
