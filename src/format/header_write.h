/* header_write.h - a header as the reference library writes it */
#ifndef SFT_HEADER_WRITE_H
#define SFT_HEADER_WRITE_H

#include "sft.h"

/* What a header says of a tensor. */
struct header_tensor {
	const char *name;
	const char *keys; /* the other ones of its entry, as in sft_tensor_keys() */
	const uint64_t *shape;
	uint64_t begin, nbytes; /* in the data section */
	uint32_t name_len, rank;
	uint8_t dtype;
};

/*
 * The header with its 8 bytes of length. `tensors` are `count` structs of `size` bytes each that
 * begin with a struct header_tensor: they are sorted into the order of the file, and `begin` is
 * filled in. EFBIG above SFT_HEADER_MAX; ENOMEM.
 */
int header_write(void *tensors, size_t count, size_t size, const struct sft_metadata *metadata,
		 struct sft_buf *out, struct sft_error *err);

#endif
