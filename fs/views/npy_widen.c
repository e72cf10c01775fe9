/* npy_widen.c - small floats to float32, exactly */
#include "npy_widen.h"

#include <endian.h>
#include <string.h>

/* The elements that one inner loop takes: a constant, so that the compiler makes vectors of it. */
#define BLOCK 64

/* The fields of a float of 8 bits: sign, exponent, mantissa, from the top. */
struct small_float {
	int mantissa_bits;
	int bias;
	enum {
		IEEE, /* the highest exponent is infinity and NaN */
		FN,   /* all ones is NaN, there is no infinity */
		FNUZ, /* negative zero is NaN, there is no infinity */
	} specials;
};

/*
 * IEEE and FN: "OCP 8-bit Floating Point Specification", revision 1.0, table 1. FNUZ: Noune et al.,
 * "8-bit Numerical Formats for Deep Neural Networks", arXiv:2206.02915.
 */
static const struct small_float *small_float(enum sft_dtype dtype)
{
	static const struct small_float e5m2 = { 2, 15, IEEE }, e4m3 = { 3, 7, FN },
					e4m3fnuz = { 3, 8, FNUZ }, e5m2fnuz = { 2, 16, FNUZ };

	switch (dtype) {
	case SFT_F8_E5M2:
		return &e5m2;
	case SFT_F8_E4M3:
		return &e4m3;
	case SFT_F8_E4M3FNUZ:
		return &e4m3fnuz;
	case SFT_F8_E5M2FNUZ:
		return &e5m2fnuz;
	default:
		return NULL;
	}
}

bool npy_has_f32(enum sft_dtype dtype)
{
	return dtype == SFT_F16 || dtype == SFT_BF16 || dtype == SFT_F8_E8M0 || dtype == SFT_F4 ||
	       small_float(dtype);
}

/* ---- 8 bits ---- */

static uint32_t widen_small(const struct small_float *f, uint32_t bits)
{
	uint32_t sign = (bits & 0x80) << 24, magnitude = bits & 0x7f;
	uint32_t top = 0x7fu >> f->mantissa_bits; /* the highest exponent */
	uint32_t exponent = magnitude >> f->mantissa_bits;
	uint32_t mantissa = (magnitude << (23 - f->mantissa_bits)) & 0x7fffff;

	if (f->specials == FNUZ && bits == 0x80)
		return sign | 0x7fc00000;
	if ((f->specials == IEEE && exponent == top) || (f->specials == FN && magnitude == 0x7f))
		return sign | 0x7f800000 | mantissa;
	if (magnitude == 0)
		return sign;
	if (exponent == 0) { /* subnormal here, normal in float32 */
		exponent = 1;
		while (!(mantissa & 0x800000)) {
			mantissa <<= 1;
			exponent--;
		}
		mantissa &= 0x7fffff;
	}
	return sign | ((exponent + 127 - (uint32_t)f->bias) << 23) | mantissa;
}

/* "OCP Microscaling Formats (MX) Specification", 5.4.1: 2^(x - 127), 255 is NaN. */
static uint32_t widen_e8m0(uint32_t bits)
{
	if (bits == 0)
		return 0x00400000; /* 2^-127 is a subnormal */
	return bits == 0xff ? 0x7fc00000 : bits << 23;
}

static void widen_8(enum sft_dtype dtype, const unsigned char *in, float *out, size_t count)
{
	const struct small_float *f = small_float(dtype);
	uint32_t table[256]; /* no floats: copying a signalling NaN as one may change it */

	for (uint32_t i = 0; i < 256; i++)
		table[i] = htole32(f ? widen_small(f, i) : widen_e8m0(i));
	for (size_t i = 0; i < count; i++)
		memcpy(&out[i], &table[in[i]], sizeof(*out));
}

/* ---- 4 bits ---- */

/*
 * "OCP Microscaling Formats (MX) Specification", 5.3.3, E2M1: neither infinity nor NaN. Two in a
 * byte, the first in the low bits, as PyTorch's float4_e2m1fn_x2 has them.
 */
static uint32_t widen_f4(uint32_t bits)
{
	static const float magnitudes[] = { 0, 0.5f, 1, 1.5f, 2, 3, 4, 6 };
	uint32_t value;

	memcpy(&value, &magnitudes[bits & 7], sizeof(value));
	return (bits & 8) << 28 | value;
}

static void widen_4(const unsigned char *in, float *out, size_t count)
{
	uint32_t table[256][2];

	for (uint32_t i = 0; i < 256; i++) {
		table[i][0] = htole32(widen_f4(i & 15));
		table[i][1] = htole32(widen_f4(i >> 4));
	}
	for (size_t i = 0; i < count / 2; i++)
		memcpy(&out[2 * i], table[in[i]], sizeof(table[0]));
}

/* ---- 16 bits ---- */

/* IEEE 754 binary16. Masks instead of branches, since those keep compilers from making vectors of
 * it. (The instruction that some machines have for it would make signalling NaNs quiet.) */
static inline uint32_t widen_f16(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff, small;
	uint32_t is_small = 0u - (magnitude < 0x400), is_top = 0u - (magnitude >= 0x7c00);
	/* Exponents grow by the difference of the biases, and 31 becomes 255. */
	uint32_t big =
		(magnitude << 13) + ((127u - 15) << 23) + (is_top & ((255u - 31 - 112) << 23));
	/* A subnormal is its mantissa times 2^-24, which float32 holds exactly. */
	float value = (float)(int32_t)magnitude * 0x1p-24f;

	memcpy(&small, &value, sizeof(small));
	return sign | (small & is_small) | (big & ~is_small);
}

static inline uint16_t load_16(const unsigned char *in)
{
	uint16_t value;

	memcpy(&value, in, sizeof(value));
	return le16toh(value);
}

static inline void store_32(float *out, uint32_t bits)
{
	bits = htole32(bits);
	memcpy(out, &bits, sizeof(bits));
}

static void widen_f16_block(const unsigned char *restrict in, float *restrict out)
{
	for (size_t i = 0; i < BLOCK; i++)
		store_32(&out[i], widen_f16(load_16(in + 2 * i)));
}

static void widen_bf16_block(const unsigned char *restrict in, float *restrict out)
{
	for (size_t i = 0; i < BLOCK; i++)
		store_32(&out[i], (uint32_t)load_16(in + 2 * i) << 16);
}

static void widen_16(bool half, const unsigned char *in, float *out, size_t count)
{
	for (; count >= BLOCK; count -= BLOCK, in += 2 * BLOCK, out += BLOCK) {
		if (half)
			widen_f16_block(in, out);
		else
			widen_bf16_block(in, out);
	}
	for (; count; count--, in += 2, out++)
		store_32(out, half ? widen_f16(load_16(in)) : (uint32_t)load_16(in) << 16);
}

void npy_widen(enum sft_dtype dtype, const void *in, float *out, size_t count)
{
	if (dtype == SFT_F16 || dtype == SFT_BF16)
		widen_16(dtype == SFT_F16, in, out, count);
	else if (dtype == SFT_F4)
		widen_4(in, out, count);
	else
		widen_8(dtype, in, out, count);
}
