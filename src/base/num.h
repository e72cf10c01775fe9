/* num.h - little-endian decoding and checked arithmetic on values that come from a file */
#ifndef SFT_NUM_H
#define SFT_NUM_H

#include <stdbool.h>
#include <stdint.h>

static inline uint64_t sft_le64(const unsigned char *p)
{
	uint64_t v = 0;
	for (int i = 7; i >= 0; i--)
		v = v << 8 | p[i];
	return v;
}

static inline void sft_put_le64(unsigned char *p, uint64_t v)
{
	for (int i = 0; i < 8; i++, v >>= 8)
		p[i] = (unsigned char)v;
}

/* True where the result fits; *out is then set. */
static inline bool sft_add(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_add_overflow(a, b, out);
}

static inline bool sft_mul(uint64_t a, uint64_t b, uint64_t *out)
{
	return !__builtin_mul_overflow(a, b, out);
}

#endif
