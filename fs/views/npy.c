/*
 * npy.c - the headers of the numpy views, and which type numpy has for which of ours
 *
 * Source: numpy's format specification, numpy/lib/format.py. The bytes are those that np.save
 * writes, its padding included, so that a view and a saved array can be compared with cmp.
 */
#include "npy.h"

#include "num.h"

#include <inttypes.h>
#include <string.h>

#define ALIGN 64
#define PREFIX_V1 10 /* magic, version, 16 bits of length */
#define PREFIX_V2 12 /* ... 32 bits of length */
/* np.save leaves room for the first dimension to grow to this many digits. */
#define GROWTH_DIGITS 21

/* What a dtype looks like to numpy; `instead` where it lacks the type. */
static const struct {
	const char *descr;
	bool instead;
} types[SFT_DTYPE_COUNT] = {
	[SFT_BOOL] = { "|b1", false },	     [SFT_F4] = { "|u1", true },
	[SFT_F6_E2M3] = { "|u1", true },     [SFT_F6_E3M2] = { "|u1", true },
	[SFT_U8] = { "|u1", false },	     [SFT_I8] = { "|i1", false },
	[SFT_F8_E5M2] = { "|u1", true },     [SFT_F8_E4M3] = { "|u1", true },
	[SFT_F8_E8M0] = { "|u1", true },     [SFT_F8_E4M3FNUZ] = { "|u1", true },
	[SFT_F8_E5M2FNUZ] = { "|u1", true }, [SFT_I16] = { "<i2", false },
	[SFT_U16] = { "<u2", false },	     [SFT_F16] = { "<f2", false },
	[SFT_BF16] = { "<u2", true },	     [SFT_I32] = { "<i4", false },
	[SFT_U32] = { "<u4", false },	     [SFT_F32] = { "<f4", false },
	[SFT_C64] = { "<c8", false },	     [SFT_F64] = { "<f8", false },
	[SFT_I64] = { "<i8", false },	     [SFT_U64] = { "<u8", false },
};

bool npy_type_find(const char *code, size_t len, enum sft_dtype *dtype)
{
	for (int i = 0; i < SFT_DTYPE_COUNT; i++) {
		if (!types[i].instead && strlen(types[i].descr) == len + 1 &&
		    memcmp(types[i].descr + 1, code, len) == 0) {
			*dtype = (enum sft_dtype)i;
			return true;
		}
	}
	return false;
}

enum sft_dtype npy_keep_dtype(enum sft_dtype npy, enum sft_dtype old)
{
	return types[old].instead && strcmp(types[old].descr, types[npy].descr) == 0 ? old : npy;
}

/* The dict as numpy writes it: keys sorted, a comma behind each, even the last. */
static void add_dict(struct sft_buf *dict, const char *descr, const uint64_t *shape, uint32_t rank)
{
	size_t digits = 0;

	sft_buf_printf(dict, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
	for (uint32_t i = 0; i < rank; i++) {
		size_t start;

		if (i)
			sft_buf_add(dict, ", ", 2);
		start = dict->len;
		sft_buf_printf(dict, "%" PRIu64, shape[i]);
		if (i == 0)
			digits = dict->len - start;
	}
	sft_buf_printf(dict, "%s), }", rank == 1 ? "," : "");
	if (rank)
		sft_buf_printf(dict, "%*s", (int)(GROWTH_DIGITS - digits), "");
}

static void add_header(struct sft_buf *out, const char *descr, const uint64_t *shape, uint32_t rank)
{
	unsigned char prefix[PREFIX_V2 + 4] = "\x93NUMPY\x01";
	struct sft_buf dict = { 0 };
	size_t prefix_len = PREFIX_V1, padding;

	add_dict(&dict, descr, shape, rank);
	/* As numpy does, a whole ALIGN of spaces where none were needed. */
	padding = ALIGN - (prefix_len + dict.len + 1) % ALIGN;
	if (dict.len + padding + 1 > UINT16_MAX) {
		prefix[6] = 2;
		prefix_len = PREFIX_V2;
		padding = ALIGN - (prefix_len + dict.len + 1) % ALIGN;
	}
	/* Little-endian: for version 1.0 the dict overwrites the upper, zero bytes. */
	sft_put_le64(prefix + 8, dict.len + padding + 1);
	if (dict.failed || dict.len > UINT32_MAX - ALIGN) {
		out->failed = true;
		goto out;
	}
	sft_buf_add(out, prefix, prefix_len);
	sft_buf_add(out, dict.data, dict.len);
	sft_buf_printf(out, "%*s\n", (int)padding, "");
out:
	sft_buf_free(&dict);
}

void npy_header(struct sft_buf *out, enum sft_dtype dtype, const uint64_t *shape, uint32_t rank,
		uint64_t nbytes)
{
	if (sft_dtype_bits(dtype) < 8)
		add_header(out, types[dtype].descr, &nbytes, 1);
	else
		add_header(out, types[dtype].descr, shape, rank);
}

void npy_header_f32(struct sft_buf *out, const uint64_t *shape, uint32_t rank)
{
	add_header(out, types[SFT_F32].descr, shape, rank);
}
