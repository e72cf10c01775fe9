/* array.h - a .npy file that was written becomes a tensor */
#ifndef ARRAY_H
#define ARRAY_H

#include "state.h"

/* The array in overlay id `from` becomes a new scratch tensor with its dtype and shape
 * declared. `replaced` is the tensor whose place it will take, or SFT_NO_ID. */
int edit_convert_npy(struct fs *fs, uint32_t from, uint32_t replaced, uint32_t *id,
		     struct sft_error *err);

#endif
