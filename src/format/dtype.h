/* dtype.h - the dtype in a tensor's JSON object, in headers and sidecars; internal */
#ifndef SFT_DTYPE_H
#define SFT_DTYPE_H

#include "json.h"

/* The dtype that an object's `dtype` names. EBADMSG, with err->offset at the token at fault. */
int sft_dtype_read(const struct sft_json *j, unsigned object, enum sft_dtype *dtype,
		   struct sft_error *err);

#endif
