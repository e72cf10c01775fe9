/* test_npy_widen.c - every bit pattern of the small floats, against the arithmetic of their fields
 */
#include "npy_widen.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* What the formats' own documents say of them. */
struct format {
	enum sft_dtype dtype;
	unsigned bits, mantissa_bits;
	int bias;
	bool has_sign;
	/* The magnitudes that are infinity, and from which on there is NaN; 0 for none. */
	uint32_t infinity, nan_from;
	bool nan_is_minus_zero;
};

static const struct format formats[] = {
	{ SFT_F16, 16, 10, 15, true, 0x7c00, 0x7c01, false },
	{ SFT_BF16, 16, 7, 127, true, 0x7f80, 0x7f81, false },
	{ SFT_F8_E5M2, 8, 2, 15, true, 0x7c, 0x7d, false },
	{ SFT_F8_E4M3, 8, 3, 7, true, 0, 0x7f, false },
	{ SFT_F8_E8M0, 8, 0, 127, false, 0, 0xff, false },
	{ SFT_F8_E4M3FNUZ, 8, 3, 8, true, 0, 0, true },
	{ SFT_F8_E5M2FNUZ, 8, 2, 16, true, 0, 0, true },
};
static const struct format f4 = { SFT_F4, 4, 1, 1, true, 0, 0, false };

static uint32_t float_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/* The float32 that a pattern stands for, as bits, by ldexp on its fields. */
static uint32_t expected_bits(const struct format *f, uint32_t pattern)
{
	uint32_t minus = f->has_sign ? 1u << (f->bits - 1) : 0;
	bool negative = pattern & minus;
	uint32_t magnitude = pattern & ~minus, hidden = 1u << f->mantissa_bits;
	uint32_t mantissa = magnitude % hidden;
	int exponent = (int)(magnitude / hidden);
	uint32_t sign = negative ? 0x80000000 : 0;

	if (f->nan_is_minus_zero && pattern == minus)
		return sign | 0x7fc00000;
	if (f->dtype == SFT_F8_E8M0)
		return pattern == 0xff ? 0x7fc00000 : float_bits((float)ldexp(1, exponent - 127));
	if (f->nan_from && magnitude >= f->nan_from) /* the payload stays in front */
		return sign | 0x7f800000 | mantissa << (23 - f->mantissa_bits);
	if (f->infinity && magnitude == f->infinity)
		return sign | float_bits(INFINITY);
	if (exponent == 0)
		exponent = 1;
	else
		mantissa += hidden;
	double value = ldexp(mantissa, exponent - f->bias - (int)f->mantissa_bits);
	assert_true((double)(float)value == value);
	return sign | float_bits((float)value);
}

static void every_pattern_is_exact(void **state)
{
	static unsigned char in[2 * 65536 + 1];
	static float out[65536];

	for (size_t i = 0; i < COUNT(formats); i++) {
		const struct format *f = &formats[i];
		uint32_t count = 1u << f->bits, size = f->bits / 8;

		for (unsigned shift = 0; shift < 2; shift++) { /* unaligned input too */
			for (uint32_t k = 0; k < count; k++) {
				in[shift + k * size] = (unsigned char)k;
				if (size == 2)
					in[shift + 2 * k + 1] = (unsigned char)(k >> 8);
			}
			npy_widen(f->dtype, in + shift, out, count);
			for (uint32_t k = 0; k < count; k++) {
				uint32_t bits;

				memcpy(&bits, &out[k], sizeof(bits));
				if (bits != expected_bits(f, k))
					fail_msg("%s 0x%x gives 0x%08x, not 0x%08x",
						 sft_dtype_name(f->dtype), k, bits,
						 expected_bits(f, k));
			}
		}
	}
}

/* Two in a byte, the first in the low bits. */
static void every_pair_of_f4_is_exact(void **state)
{
	static unsigned char in[256 + 1];
	static float out[512];

	for (unsigned shift = 0; shift < 2; shift++) {
		for (unsigned i = 0; i < 256; i++)
			in[shift + i] = (unsigned char)i;
		npy_widen(SFT_F4, in + shift, out, 512);
		for (unsigned i = 0; i < 256; i++) {
			assert_int_equal(float_bits(out[2 * i]), expected_bits(&f4, i & 15));
			assert_int_equal(float_bits(out[2 * i + 1]), expected_bits(&f4, i >> 4));
		}
	}
}

/* A few known values, in case that the arithmetic above errs as the code does. */
static void known_values(void **state)
{
	static const struct {
		enum sft_dtype dtype;
		uint16_t pattern;
		float value;
	} values[] = {
		{ SFT_F16, 0x3c00, 1 },
		{ SFT_F16, 0x7bff, 65504 },
		{ SFT_F16, 0x0001, 0x1p-24f },
		{ SFT_F16, 0x03ff, 0x3ffp-24f },
		{ SFT_F16, 0x0400, 0x1p-14f },
		{ SFT_F16, 0xfc00, -INFINITY },
		{ SFT_BF16, 0x3f80, 1 },
		{ SFT_BF16, 0x0001, 0x1p-133f },
		{ SFT_F8_E5M2, 0x7b, 57344 },
		{ SFT_F8_E5M2, 0x01, 0x1p-16f },
		{ SFT_F8_E5M2, 0x7c, INFINITY },
		{ SFT_F8_E4M3, 0x7e, 448 },
		{ SFT_F8_E4M3, 0x01, 0x1p-9f },
		{ SFT_F8_E4M3, 0x78, 256 },
		{ SFT_F8_E8M0, 0x7f, 1 },
		{ SFT_F8_E8M0, 0x00, 0x1p-127f },
		{ SFT_F8_E8M0, 0xfe, 0x1p127f },
		{ SFT_F8_E4M3FNUZ, 0x7f, 240 },
		{ SFT_F8_E4M3FNUZ, 0x01, 0x1p-10f },
		{ SFT_F8_E5M2FNUZ, 0x7f, 57344 },
		{ SFT_F8_E5M2FNUZ, 0x01, 0x1p-17f },
		{ SFT_F8_E5M2FNUZ, 0x40, 1 },
		{ SFT_F4, 0x1, 0.5f },
		{ SFT_F4, 0x7, 6 },
		{ SFT_F4, 0xb, -1.5f },
	};

	for (size_t i = 0; i < COUNT(values); i++) {
		const unsigned char in[] = { (unsigned char)values[i].pattern,
					     (unsigned char)(values[i].pattern >> 8) };
		float out[2];

		npy_widen(values[i].dtype, in, out, values[i].dtype == SFT_F4 ? 2 : 1);
		if (out[0] != values[i].value)
			fail_msg("%s 0x%x gives %a", sft_dtype_name(values[i].dtype),
				 values[i].pattern, (double)out[0]);
	}
}

/* Whatever the count, all elements and nothing else: the sanitizers watch both ends. */
static void any_count_is_written_whole(void **state)
{
	for (size_t i = 0; i < COUNT(formats); i++) {
		size_t size = formats[i].bits / 8;

		for (size_t count = 0; count < 200; count++) {
			unsigned char *in = malloc(count * size + 1);
			float *out = malloc(count * sizeof(*out) + 1);
			uint32_t bits;

			assert_non_null(in);
			assert_non_null(out);
			memset(in, 0x35, count * size);
			memset(out, 0xee, count * sizeof(*out) + 1);
			npy_widen(formats[i].dtype, in, out, count);
			for (size_t k = 0; k < count; k++) {
				memcpy(&bits, &out[k], sizeof(bits));
				assert_int_equal(bits, expected_bits(&formats[i],
								     size == 2 ? 0x3535 : 0x35));
			}
			assert_int_equal(((unsigned char *)out)[count * sizeof(*out)], 0xee);
			free(in);
			free(out);
		}
	}
}

static void only_small_floats_are_widened(void **state)
{
	for (int dtype = 0; dtype < SFT_DTYPE_COUNT; dtype++) {
		bool small = dtype == SFT_F4;

		for (size_t i = 0; i < COUNT(formats); i++)
			small = small || formats[i].dtype == (enum sft_dtype)dtype;
		assert_int_equal(npy_has_f32((enum sft_dtype)dtype), small);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_pattern_is_exact),
		cmocka_unit_test(every_pair_of_f4_is_exact),
		cmocka_unit_test(known_values),
		cmocka_unit_test(any_count_is_written_whole),
		cmocka_unit_test(only_small_floats_are_widened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
