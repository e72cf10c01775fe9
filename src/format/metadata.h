/* metadata.h - free-form metadata out of parsed JSON; internal to the library */
#ifndef SFT_METADATA_H
#define SFT_METADATA_H

#include "json.h"

/*
 * Make *out of the value at token i, which has to be an object of string to string. EBADMSG,
 * ENOMEM; then *out is empty. The message says what is wrong, the caller adds whose metadata it is.
 */
int sft_metadata_read(const struct sft_json *j, unsigned i, struct sft_metadata *out,
		      struct sft_error *err);

/* The same pairs in the same order, or both absent. */
bool sft_metadata_equal(const struct sft_metadata *a, const struct sft_metadata *b);
/* A copy, for sft_metadata_free(). -ENOMEM. */
int sft_metadata_copy(struct sft_metadata *out, const struct sft_metadata *in);

#endif
