/* fields.c - the fields of a tensor's JSON object, in headers and sidecars */
#include "fields.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int sft_field_fail(const struct sft_json *j, unsigned token, struct sft_error *err, const char *fmt,
		   ...)
{
	char text[sizeof(err->msg)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (err && !err->errnum)
		err->offset =
			(uint64_t)j->tokens[token].start + (j->flags & SFT_JSON_HEADER ? 8 : 0);
	return sft_fail(err, EBADMSG, "%s", text);
}

int sft_field_array(const struct sft_json *j, unsigned object, const char *key, unsigned *array,
		    struct sft_error *err)
{
	unsigned value = sft_json_get(j, object, key);

	if (!value)
		return sft_field_fail(j, object, err, "no %s", key);
	if (j->tokens[value].type != JSMN_ARRAY)
		return sft_field_fail(j, value, err, "%s is %s, not an array", key,
				      sft_json_kind(j, value));
	*array = value;
	return 0;
}

int sft_field_integers(const struct sft_json *j, unsigned array, const char *key, uint64_t *out,
		       struct sft_error *err)
{
	unsigned i = 0;

	for (unsigned t = array + 1; t < sft_json_next(j, array); t = sft_json_next(j, t), i++) {
		const jsmntok_t *token = &j->tokens[t];
		int len = token->end - token->start;

		if (sft_json_u64(j, t, &out[i]))
			continue;
		if (token->type != JSMN_PRIMITIVE)
			return sft_field_fail(j, t, err, "%s[%u] is %s, not an integer", key, i,
					      sft_json_kind(j, t));
		return sft_field_fail(
			j, t, err, "%s[%u] is %.*s%s, not a plain integer from 0 to 2^64-1", key, i,
			len < 40 ? len : 40, j->text + token->start, len > 40 ? "..." : "");
	}
	return 0;
}
