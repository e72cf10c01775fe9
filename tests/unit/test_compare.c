/* test_compare.c - differences of all dtypes, against a calculation bit by bit */
#include "compare.h"
#include "npy_widen.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define BYTES_MAX 16384

/* What the formats' own documents say of the floats; C64 is two F32. */
static const struct format {
	enum sft_dtype dtype;
	unsigned exponent_bits, mantissa_bits;
	int bias;
	enum { IEEE, FN, FNUZ, FINITE, SCALE } specials;
} formats[] = {
	{ SFT_F64, 11, 52, 1023, IEEE },     { SFT_F32, 8, 23, 127, IEEE },
	{ SFT_C64, 8, 23, 127, IEEE },	     { SFT_F16, 5, 10, 15, IEEE },
	{ SFT_BF16, 8, 7, 127, IEEE },	     { SFT_F8_E5M2, 5, 2, 15, IEEE },
	{ SFT_F8_E4M3, 4, 3, 7, FN },	     { SFT_F8_E4M3FNUZ, 4, 3, 8, FNUZ },
	{ SFT_F8_E5M2FNUZ, 5, 2, 16, FNUZ }, { SFT_F8_E8M0, 8, 0, 127, SCALE },
	{ SFT_F4, 2, 1, 1, FINITE },
};

/* The format of a dtype that has maxima, or NULL. */
static const struct format *find_format(enum sft_dtype dtype)
{
	for (size_t i = 0; i < COUNT(formats); i++) {
		if (formats[i].dtype == dtype && (dtype != SFT_F4 || npy_has_f32(SFT_F4)))
			return &formats[i];
	}
	return NULL;
}

/* `bits` bits of a little-endian number, from bit `at` on. */
static uint64_t take_bits(const unsigned char *p, uint64_t at, unsigned bits)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bits; i++, at++)
		value |= (uint64_t)(p[at / 8] >> at % 8 & 1) << i;
	return value;
}

static double decode(const struct format *f, uint64_t pattern)
{
	uint64_t mantissa = pattern & ((1ull << f->mantissa_bits) - 1);
	uint64_t top = (1ull << f->exponent_bits) - 1;
	uint64_t exponent = pattern >> f->mantissa_bits & top;
	bool minus = pattern >> (f->mantissa_bits + f->exponent_bits) & 1;
	double value;

	if (f->specials == SCALE)
		return exponent == top ? NAN : ldexp(1, (int)exponent - f->bias);
	if (f->specials == FNUZ && minus && exponent == 0 && mantissa == 0)
		return NAN;
	if (f->specials == IEEE && exponent == top)
		return mantissa ? NAN : minus ? -INFINITY : INFINITY;
	if (f->specials == FN && exponent == top && mantissa == (1ull << f->mantissa_bits) - 1)
		return NAN;
	value = exponent == 0 ? ldexp((double)mantissa, 1 - f->bias - (int)f->mantissa_bits)
			      : ldexp((double)(mantissa + (1ull << f->mantissa_bits)),
				      (int)exponent - f->bias - (int)f->mantissa_bits);
	return minus ? -value : value;
}

static double at_most(double value)
{
	return value < DBL_MAX ? value : DBL_MAX;
}

/* Take one element that differs into account; in long double, which has room for all of it. */
static void expect_element(struct compare *c, const struct format *f, const unsigned char *a,
			   const unsigned char *b, uint64_t at)
{
	unsigned parts = f->dtype == SFT_C64 ? 2 : 1, bits = sft_dtype_bits(f->dtype) / parts;
	double x[2] = { 0 }, y[2] = { 0 };
	bool finite = true;

	for (unsigned i = 0; i < parts; i++) {
		x[i] = decode(f, take_bits(a, at + i * bits, bits));
		y[i] = decode(f, take_bits(b, at + i * bits, bits));
		finite = finite && isfinite(x[i]) && isfinite(y[i]);
	}
	if (!finite) {
		c->nonfinite++;
		return;
	}
	long double size = hypotl(x[0], x[1]);
	long double distance = hypotl((long double)x[0] - y[0], (long double)x[1] - y[1]);
	c->max_abs = fmax(c->max_abs, at_most((double)distance));
	if (size > 0)
		c->max_rel = fmax(c->max_rel, at_most((double)(distance / size)));
}

static struct compare expect(enum sft_dtype dtype, const unsigned char *a, const unsigned char *b,
			     size_t n)
{
	struct compare c = { .max_abs = -1, .max_rel = -1 };
	const struct format *f = find_format(dtype);
	unsigned bits = sft_dtype_bits(dtype);

	for (uint64_t i = 0; i < n * 8 / bits; i++) {
		if (take_bits(a, i * bits, bits) == take_bits(b, i * bits, bits))
			continue;
		if (c.elements++ == 0)
			c.first = i;
		if (f)
			expect_element(&c, f, a, b, i * bits);
	}
	return c;
}

/* Equal but for the last digits, which other ways to round give. */
static bool near(double a, double b)
{
	return a == b || fabs(a - b) <= 4 * DBL_EPSILON * fabs(b);
}

static void check_same(enum sft_dtype dtype, size_t n, const struct compare *got,
		       const struct compare *want)
{
	if (got->elements == want->elements && got->nonfinite == want->nonfinite &&
	    (!want->elements || got->first == want->first) && near(got->max_abs, want->max_abs) &&
	    near(got->max_rel, want->max_rel))
		return;
	fail_msg("%s, %zu bytes: %llu from %llu, %llu not finite, %.17g, %.17g; expected %llu "
		 "from %llu, %llu, %.17g, %.17g",
		 sft_dtype_name(dtype), n, (unsigned long long)got->elements,
		 (unsigned long long)got->first, (unsigned long long)got->nonfinite, got->max_abs,
		 got->max_rel, (unsigned long long)want->elements, (unsigned long long)want->first,
		 (unsigned long long)want->nonfinite, want->max_abs, want->max_rel);
}

/* In pieces of up to `piece` bytes; from places that are not aligned, at whose ends the sanitizers
 * watch. */
static struct compare compare(enum sft_dtype dtype, const unsigned char *a, const unsigned char *b,
			      size_t n, size_t piece)
{
	struct compare c;

	compare_init(&c);
	for (size_t at = 0; at < n; at += piece) {
		size_t part = n - at < piece ? n - at : piece;
		unsigned char *copy_a = malloc(part + 1), *copy_b = malloc(part + 3);

		assert_non_null(copy_a);
		assert_non_null(copy_b);
		memcpy(copy_a + 1, a + at, part);
		memcpy(copy_b + 3, b + at, part);
		compare_bytes(&c, dtype, at * 8 / sft_dtype_bits(dtype), copy_a + 1, copy_b + 3,
			      part);
		free(copy_a);
		free(copy_b);
	}
	return c;
}

static void check_pair(enum sft_dtype dtype, const unsigned char *a, const unsigned char *b,
		       size_t n)
{
	static const size_t pieces[] = { COMPARE_ALIGN, 5 * COMPARE_ALIGN, 64 * COMPARE_ALIGN,
					 BYTES_MAX / COMPARE_ALIGN * COMPARE_ALIGN };
	struct compare want = expect(dtype, a, b, n);

	for (size_t i = 0; i < COUNT(pieces); i++) {
		struct compare got = compare(dtype, a, b, n, pieces[i]);

		check_same(dtype, n, &got, &want);
	}
}

/* The fewest bytes that are whole elements. */
static size_t unit(enum sft_dtype dtype)
{
	unsigned bits = sft_dtype_bits(dtype);

	return bits == 6 ? 3 : bits < 8 ? 1 : bits / 8;
}

/* Any size: around the blocks and pieces, too. Differences in no, one, some and all places. */
static void sizes_and_densities(void **state)
{
	static unsigned char a[BYTES_MAX], b[BYTES_MAX];
	static const size_t units[] = { 1,  2,	3,  5,	 15,  16,  17,	31,   32,  33,
					63, 64, 65, 127, 129, 192, 500, 1535, 2047 };

	srand(1);
	for (int dtype = 0; dtype < SFT_DTYPE_COUNT; dtype++) {
		for (size_t i = 0; i < COUNT(units); i++) {
			size_t n = units[i] * unit((enum sft_dtype)dtype);

			for (unsigned density = 0; density < 4; density++) {
				for (size_t k = 0; k < n; k++) {
					bool change =
						density == 3 || (density == 2 && rand() % 9 == 0);

					a[k] = (unsigned char)rand();
					b[k] = (unsigned char)(change ? rand() : a[k]);
				}
				if (density == 1)
					b[(size_t)rand() % n] ^= (unsigned char)(1 << rand() % 8);
				check_pair((enum sft_dtype)dtype, a, b, n);
			}
		}
	}
}

/* One bit, at each place of what is longer than a block and a piece. */
static void every_place(void **state)
{
	static unsigned char a[700], b[700];

	for (int dtype = 0; dtype < SFT_DTYPE_COUNT; dtype++) {
		size_t n = 600 / unit((enum sft_dtype)dtype) * unit((enum sft_dtype)dtype);
		unsigned bits = sft_dtype_bits((enum sft_dtype)dtype);

		for (size_t bit = 0; bit < n * 8; bit++) {
			b[bit / 8] ^= (unsigned char)(1 << bit % 8);
			struct compare c =
				compare((enum sft_dtype)dtype, a, b, n, 4 * COMPARE_ALIGN);

			assert_int_equal(c.elements, 1);
			assert_int_equal(c.first, bit / bits);
			b[bit / 8] = 0;
		}
	}
}

/* Every pattern of what has few against every other; of the rest, numbers of all magnitudes. */
static void special_patterns(void **state)
{
	static unsigned char a[BYTES_MAX], b[BYTES_MAX];
	static const uint64_t exponents[] = { 0, 1, 2, 127, 1023, ~0ull - 1, ~0ull };

	for (size_t i = 0; i < COUNT(formats); i++) {
		const struct format *f = &formats[i];
		unsigned size = sft_dtype_bits(f->dtype) / (f->dtype == SFT_C64 ? 16 : 8);
		uint64_t patterns[64], top = (1ull << f->exponent_bits) - 1;
		size_t count = 0, n = 0;

		for (size_t k = 0; f->mantissa_bits > 3 && k < 4 * COUNT(exponents); k++) {
			uint64_t p = (exponents[k / 4] & top) << f->mantissa_bits;

			p |= k % 2 ? (1ull << f->mantissa_bits) - 1 - k : 0;
			patterns[count++] = p | (k / 2 % 2 ? (top + 1) << f->mantissa_bits : 0);
		}
		for (size_t k = 0; k < count * count && n + size <= BYTES_MAX; k++, n += size) {
			memcpy(a + n, &patterns[k / count], size); /* little-endian hosts only */
			memcpy(b + n, &patterns[k % count], size);
		}
		for (size_t k = 0; count == 0 && k < BYTES_MAX; k++, n++) {
			a[k] = (unsigned char)(k / 256 * 7);
			b[k] = (unsigned char)k;
		}
		n = n / 8 * 8;
		check_pair(f->dtype, a, b, n);
		/* And each by itself, so that the maxima of others do not hide it. */
		for (size_t k = 0; k + 8 <= n; k += 8)
			check_pair(f->dtype, a + k, b + k, 8);
	}
}

static void known_values(void **state)
{
	static const struct {
		enum sft_dtype dtype;
		uint64_t a, b;
		uint64_t elements, first, nonfinite;
		double max_abs, max_rel;
	} cases[] = {
		{ SFT_F32, 0x3f800000, 0x3fc00000, 1, 0, 0, 0.5, 0.5 },
		{ SFT_F32, 0x3f80000040000000, 0x4000000040000000, 1, 1, 0, 1, 1 },
		{ SFT_F32, 0x00000000, 0x80000000, 1, 0, 0, 0, -1 },	   /* 0, -0 */
		{ SFT_F32, 0x00000000, 0x3f800000, 1, 0, 0, 1, -1 },	   /* 0, 1 */
		{ SFT_F32, 0x00000001, 0x00000003, 1, 0, 0, 0x1p-148, 2 }, /* denormals */
		{ SFT_F32, 0x7fc00000, 0x7fc00001, 1, 0, 1, -1, -1 },	   /* payloads */
		{ SFT_F32, 0x7f800001, 0x7fc00001, 1, 0, 1, -1, -1 },	   /* signalling, quiet */
		{ SFT_F32, 0x7fc00000, 0x7fc00000, 0, 0, 0, -1, -1 },	   /* the same NaN */
		{ SFT_F32, 0x7f800000, 0xff800000, 1, 0, 1, -1, -1 },	   /* infinities */
		{ SFT_F32, 0x7f8000003f800000, 0x3f80000040000000, 2, 0, 1, 1, 1 },
		{ SFT_F32, 0x3f800000, 0x7f800000, 1, 0, 1, -1, -1 },
		{ SFT_F64, 0x7fefffffffffffff, 0xffefffffffffffff, 1, 0, 0, DBL_MAX, 2 },
		{ SFT_F64, 0x0000000000000001, 0x3ff0000000000000, 1, 0, 0, 1, DBL_MAX },
		{ SFT_F64, 0x3ff0000000000000, 0x3ff0000000000001, 1, 0, 0, 0x1p-52, 0x1p-52 },
		{ SFT_F64, 0x7fefffffffffffff, 0x7fefffffffffffff, 0, 0, 0, -1, -1 },
		{ SFT_C64, 0x4080000040400000, 0, 1, 0, 0, 5, 1 }, /* 3 + 4i, 0 */
		{ SFT_C64, 0, 0x4080000040400000, 1, 0, 0, 5, -1 },
		{ SFT_C64, 0x000000003f800000, 0x800000003f800000, 1, 0, 0, 0, 0 }, /* 1, 1 - 0i */
		{ SFT_C64, 0x7f80000000000000, 0, 1, 0, 1, -1, -1 },
		{ SFT_C64, 0, 0x000000007fc00000, 1, 0, 1, -1, -1 },
		{ SFT_F16, 0x3c00, 0x4000, 1, 0, 0, 1, 1 },
		{ SFT_BF16, 0x3f803f80, 0x40003f80, 1, 1, 0, 1, 1 },
		{ SFT_F8_E4M3, 0x3800, 0x4000, 1, 1, 0, 1, 1 },
		{ SFT_F8_E8M0, 0x7f, 0xff, 1, 0, 1, -1, -1 },
		{ SFT_F8_E4M3FNUZ, 0x80, 0x00, 1, 0, 1, -1, -1 },
		{ SFT_F6_E2M3, 0xfc0 | 1 << 12, 0, 2, 1, 0, -1, -1 },
		{ SFT_F6_E3M2, 1ull << 47, 0, 1, 7, 0, -1, -1 },
		{ SFT_U8, 0xff00ff00, 0, 2, 1, 0, -1, -1 },
		{ SFT_BOOL, 1, 2, 1, 0, 0, -1, -1 },
		{ SFT_I64, 1, 2, 1, 0, 0, -1, -1 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct compare want = { cases[i].elements, cases[i].first, cases[i].nonfinite,
					cases[i].max_abs, cases[i].max_rel };
		unsigned char a[8], b[8];

		for (unsigned k = 0; k < 8; k++) {
			a[k] = (unsigned char)(cases[i].a >> 8 * k);
			b[k] = (unsigned char)(cases[i].b >> 8 * k);
		}
		/* Of F6 8 elements are 6 bytes. */
		size_t n = sft_dtype_bits(cases[i].dtype) == 6 ? 6 : 8;
		struct compare got = compare(cases[i].dtype, a, b, n, COMPARE_ALIGN);
		check_same(cases[i].dtype, n, &got, &want);
	}
}

/* The low nibble comes first. */
static void f4_counts_nibbles(void **state)
{
	const unsigned char a[] = { 0x00, 0x00, 0x22 }, b[] = { 0x00, 0x10, 0x42 };
	struct compare c = compare(SFT_F4, a, b, sizeof(a), COMPARE_ALIGN);
	bool known = npy_has_f32(SFT_F4); /* 0.5; 1 and 2 */

	assert_int_equal(compare_is_float(SFT_F4), known);
	assert_int_equal(c.elements, 2);
	assert_int_equal(c.first, 3);
	assert_true(c.max_abs == (known ? 1 : -1));
	assert_true(c.max_rel == (known ? 1 : -1));
}

static void floats_have_maxima(void **state)
{
	for (int dtype = 0; dtype < SFT_DTYPE_COUNT; dtype++)
		assert_int_equal(compare_is_float((enum sft_dtype)dtype),
				 find_format((enum sft_dtype)dtype) != NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_and_densities), cmocka_unit_test(every_place),
		cmocka_unit_test(special_patterns),    cmocka_unit_test(known_values),
		cmocka_unit_test(f4_counts_nibbles),   cmocka_unit_test(floats_have_maxima),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
