/* fields.h - the fields of a tensor's JSON object, in headers and sidecars; internal */
#ifndef SFT_FIELDS_H
#define SFT_FIELDS_H

#include "json.h"

/* All of these fail with EBADMSG, and with err->offset at the token at fault. */

/* Fail at a token. */
int sft_field_fail(const struct sft_json *j, unsigned token, struct sft_error *err, const char *fmt,
		   ...) __attribute__((format(printf, 4, 5)));

/* The token of the array that an object has for `key`; its size is the number of elements. */
int sft_field_array(const struct sft_json *j, unsigned object, const char *key, unsigned *array,
		    struct sft_error *err);

/* Store the elements of an array of plain integers; `out` has room for all. */
int sft_field_integers(const struct sft_json *j, unsigned array, const char *key, uint64_t *out,
		       struct sft_error *err);

#endif
