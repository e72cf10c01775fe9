/*
 * compare.c - which elements differ, and by how much
 *
 * Most bytes are the same: memcmp says so, a block at a time. A block that differs is gone through
 * in loops of a constant length without branches, of which the compiler makes vectors.
 */
#include "compare.h"

#include "npy_widen.h"

#include <endian.h>
#include <float.h>
#include <math.h>
#include <string.h>

#define BLOCK 64 /* elements */

/* What one call of compare_bytes() carries from block to block. */
struct work {
	/* The maxima so far, of each position in a block: vectors are compared with vectors. */
	double max_abs[BLOCK], max_rel[BLOCK];
	float table[256]; /* what the patterns of up to 8 bits stand for; little-endian */
	enum sft_dtype dtype;
	bool has_table;
};

bool compare_is_float(enum sft_dtype dtype)
{
	return dtype == SFT_F64 || dtype == SFT_F32 || dtype == SFT_C64 || npy_has_f32(dtype);
}

void compare_init(struct compare *c)
{
	*c = (struct compare){ .max_abs = -1, .max_rel = -1 };
}

/* ---- which: 1 where an element differs, else 0 ---- */

#define DIFFER(bits)                                                                               \
	static void differ_##bits(const unsigned char *restrict a,                                 \
				  const unsigned char *restrict b, uint64_t *restrict differs)     \
	{                                                                                          \
		uint##bits##_t x[BLOCK], y[BLOCK];                                                 \
                                                                                                   \
		memcpy(x, a, sizeof(x));                                                           \
		memcpy(y, b, sizeof(y));                                                           \
		for (size_t i = 0; i < BLOCK; i++)                                                 \
			differs[i] = x[i] != y[i];                                                 \
	}

DIFFER(8)
DIFFER(16)
DIFFER(32)
DIFFER(64)

/* 2 elements a byte. */
static void differ_4(const unsigned char *restrict a, const unsigned char *restrict b,
		     uint64_t *restrict differs)
{
	for (size_t i = 0; i < BLOCK; i += 2, a++, b++) {
		differs[i] = ((*a ^ *b) & 0x0f) != 0;
		differs[i + 1] = ((*a ^ *b) & 0xf0) != 0;
	}
}

/* 4 elements in 3 bytes. */
static void differ_6(const unsigned char *restrict a, const unsigned char *restrict b,
		     uint64_t *restrict differs)
{
	for (size_t i = 0; i < BLOCK; i += 4, a += 3, b += 3) {
		uint32_t bits = (uint32_t)(a[0] ^ b[0]) | (uint32_t)(a[1] ^ b[1]) << 8 |
				(uint32_t)(a[2] ^ b[2]) << 16;

		for (size_t k = 0; k < 4; k++)
			differs[i + k] = (bits >> 6 * k & 63) != 0;
	}
}

static void differ(enum sft_dtype dtype, const unsigned char *a, const unsigned char *b,
		   uint64_t *differs)
{
	switch (sft_dtype_bits(dtype)) {
	case 4:
		differ_4(a, b, differs);
		break;
	case 6:
		differ_6(a, b, differs);
		break;
	case 8:
		differ_8(a, b, differs);
		break;
	case 16:
		differ_16(a, b, differs);
		break;
	case 32:
		differ_32(a, b, differs);
		break;
	default:
		differ_64(a, b, differs);
	}
}

/* ---- values ---- */

static void load_f32(const void *restrict in, double *restrict out)
{
	uint32_t bits[BLOCK];
	float values[BLOCK];

	memcpy(bits, in, sizeof(bits));
	for (size_t i = 0; i < BLOCK; i++)
		bits[i] = le32toh(bits[i]);
	memcpy(values, bits, sizeof(values));
	for (size_t i = 0; i < BLOCK; i++)
		out[i] = (double)values[i];
}

static void load_f64(const void *restrict in, double *restrict out)
{
	uint64_t bits[BLOCK];

	memcpy(bits, in, sizeof(bits));
	for (size_t i = 0; i < BLOCK; i++)
		bits[i] = le64toh(bits[i]);
	memcpy(out, bits, sizeof(bits));
}

/* Every pattern, widened once: npy_widen() makes a table of its own at each call. */
static void make_table(struct work *w)
{
	unsigned char patterns[256];
	bool nibbles = sft_dtype_bits(w->dtype) == 4;

	for (size_t i = 0; i < sizeof(patterns); i++) /* as nibbles 0x10, 0x32, ... 0xfe */
		patterns[i] = (unsigned char)(nibbles ? 0x10 + i * 0x22 : i);
	npy_widen(w->dtype, patterns, w->table, nibbles ? 16 : 256);
	w->has_table = true;
}

static void load_small(struct work *w, const unsigned char *in, double *out)
{
	float values[BLOCK];

	if (!w->has_table)
		make_table(w);
	/* As bytes: copying a signalling NaN as a float may change it. */
	if (sft_dtype_bits(w->dtype) == 4) {
		for (size_t i = 0; i < BLOCK; i++)
			memcpy(&values[i], &w->table[in[i / 2] >> i % 2 * 4 & 15], sizeof(float));
	} else {
		for (size_t i = 0; i < BLOCK; i++)
			memcpy(&values[i], &w->table[in[i]], sizeof(float));
	}
	load_f32(values, out);
}

static void load(struct work *w, const unsigned char *in, double *out)
{
	float values[BLOCK];

	if (w->dtype == SFT_F64) {
		load_f64(in, out);
	} else if (w->dtype == SFT_F32) {
		load_f32(in, out);
	} else if (sft_dtype_bits(w->dtype) <= 8) {
		load_small(w, in, out);
	} else {
		npy_widen(w->dtype, in, values, BLOCK);
		load_f32(values, out);
	}
}

/* ---- by how much: NaN where an element does not enter a maximum ---- */

/* x - x is 0 where x is finite, and NaN where it is not. */
static inline void distances(const double *restrict a, const double *restrict b,
			     double *restrict absolute, double *restrict relative, bool large)
{
	for (size_t i = 0; i < BLOCK; i++) {
		double size = fabs(a[i]), distance = fabs(a[i] - b[i]);
		double nan = (a[i] - a[i]) + (b[i] - b[i]), quotient = distance / size;

		/* The difference of two F64 may be no double, but that of their halves is. */
		if (large && distance > DBL_MAX)
			quotient = fabs(a[i] / 2 - b[i] / 2) / (size / 2);
		absolute[i] = distance + nan;
		relative[i] = (size > 0 ? quotient : (double)NAN) + nan;
	}
}

/* By modulus. No square of a float32 overflows a double, or underflows. */
static void distances_complex(const unsigned char *in_a, const unsigned char *in_b,
			      double *absolute, double *relative)
{
	double a[2 * BLOCK], b[2 * BLOCK];

	for (size_t half = 0; half < 2; half++) {
		load_f32(in_a + half * BLOCK * sizeof(float), a + half * BLOCK);
		load_f32(in_b + half * BLOCK * sizeof(float), b + half * BLOCK);
	}
	for (size_t i = 0; i < 2 * BLOCK; i += 2) {
		double re = a[i] - b[i], im = a[i + 1] - b[i + 1];
		double square = re * re + im * im, size = a[i] * a[i] + a[i + 1] * a[i + 1];
		double nan = square - square;

		absolute[i / 2] = sqrt(square) + nan;
		relative[i / 2] = (size > 0 ? sqrt(square / size) : (double)NAN) + nan;
	}
}

/* ---- blocks ---- */

static void raise_maxima(double *restrict maxima, const double *restrict values)
{
	for (size_t i = 0; i < BLOCK; i++)
		maxima[i] = values[i] > maxima[i] ? values[i] : maxima[i]; /* not by a NaN */
}

/* Make those that do not differ NaN. Returns how many others are numbers. */
static uint64_t keep_differing(const uint64_t *restrict differs, double *restrict absolute,
			       double *restrict relative)
{
	uint64_t skip_bits[BLOCK], finite = 0;
	double skip[BLOCK];

	for (size_t i = 0; i < BLOCK; i++)
		skip_bits[i] = (differs[i] - 1) & 0x7ff8000000000000; /* 0.0, or NaN */
	memcpy(skip, skip_bits, sizeof(skip));
	for (size_t i = 0; i < BLOCK; i++) {
		absolute[i] += skip[i];
		relative[i] += skip[i];
	}
	for (size_t i = 0; i < BLOCK; i++)
		finite += (uint64_t)(absolute[i] >= 0);
	return finite;
}

static void compare_block(struct compare *c, struct work *w, uint64_t at, const unsigned char *a,
			  const unsigned char *b)
{
	uint64_t differs[BLOCK], count = 0, first = 0;
	double values_a[BLOCK], values_b[BLOCK], absolute[BLOCK], relative[BLOCK];

	differ(w->dtype, a, b, differs);
	for (size_t i = 0; i < BLOCK; i++)
		count += differs[i];
	if (c->elements == 0) {
		while (!differs[first])
			first++;
		c->first = at + first;
	}
	c->elements += count;
	if (!compare_is_float(w->dtype))
		return;
	if (w->dtype == SFT_C64) {
		distances_complex(a, b, absolute, relative);
	} else {
		load(w, a, values_a);
		load(w, b, values_b);
		if (w->dtype == SFT_F64)
			distances(values_a, values_b, absolute, relative, true);
		else
			distances(values_a, values_b, absolute, relative, false);
	}
	c->nonfinite += count - keep_differing(differs, absolute, relative);
	raise_maxima(w->max_abs, absolute);
	raise_maxima(w->max_rel, relative);
}

static void raise_maximum(double *maximum, double value)
{
	if (value > *maximum)
		*maximum = value < DBL_MAX ? value : DBL_MAX;
}

void compare_bytes(struct compare *c, enum sft_dtype dtype, uint64_t at, const void *a,
		   const void *b, size_t n)
{
	const unsigned char *p = a, *q = b;
	const size_t step = BLOCK * sft_dtype_bits(dtype) / 8;
	unsigned char end_a[BLOCK * 8] = { 0 }, end_b[BLOCK * 8] = { 0 };
	struct work w = { .dtype = dtype };

	for (size_t i = 0; i < BLOCK; i++)
		w.max_abs[i] = w.max_rel[i] = -1;
	for (; n >= step; n -= step, p += step, q += step, at += BLOCK) {
		if (memcmp(p, q, step) != 0)
			compare_block(c, &w, at, p, q);
	}
	if (n && memcmp(p, q, n) != 0) { /* the rest, filled up with what does not differ */
		memcpy(end_a, p, n);
		memcpy(end_b, q, n);
		compare_block(c, &w, at, end_a, end_b);
	}
	for (size_t i = 0; i < BLOCK; i++) {
		raise_maximum(&c->max_abs, w.max_abs[i]);
		raise_maximum(&c->max_rel, w.max_rel[i]);
	}
}

void compare_add(struct compare *sum, const struct compare *part)
{
	if (part->elements && (sum->elements == 0 || part->first < sum->first))
		sum->first = part->first;
	sum->elements += part->elements;
	sum->nonfinite += part->nonfinite;
	raise_maximum(&sum->max_abs, part->max_abs);
	raise_maximum(&sum->max_rel, part->max_rel);
}
