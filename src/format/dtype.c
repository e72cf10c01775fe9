/* dtype.c - the table of dtypes, and how many bytes a shape takes */
#include "dtype.h"
#include "fields.h"
#include "num.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Names and sizes as in the reference library's `Dtype`. */
static const struct {
	char name[12];
	unsigned bits;
} dtypes[SFT_DTYPE_COUNT] = {
	[SFT_BOOL] = { "BOOL", 8 },
	[SFT_F4] = { "F4", 4 },
	[SFT_F6_E2M3] = { "F6_E2M3", 6 },
	[SFT_F6_E3M2] = { "F6_E3M2", 6 },
	[SFT_U8] = { "U8", 8 },
	[SFT_I8] = { "I8", 8 },
	[SFT_F8_E5M2] = { "F8_E5M2", 8 },
	[SFT_F8_E4M3] = { "F8_E4M3", 8 },
	[SFT_F8_E8M0] = { "F8_E8M0", 8 },
	[SFT_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", 8 },
	[SFT_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", 8 },
	[SFT_I16] = { "I16", 16 },
	[SFT_U16] = { "U16", 16 },
	[SFT_F16] = { "F16", 16 },
	[SFT_BF16] = { "BF16", 16 },
	[SFT_I32] = { "I32", 32 },
	[SFT_U32] = { "U32", 32 },
	[SFT_F32] = { "F32", 32 },
	[SFT_C64] = { "C64", 64 },
	[SFT_F64] = { "F64", 64 },
	[SFT_I64] = { "I64", 64 },
	[SFT_U64] = { "U64", 64 },
};

const char *sft_dtype_name(enum sft_dtype dtype)
{
	return dtypes[dtype].name;
}

unsigned sft_dtype_bits(enum sft_dtype dtype)
{
	return dtypes[dtype].bits;
}

bool sft_dtype_parse(const char *text, size_t len, enum sft_dtype *dtype)
{
	for (int i = 0; i < SFT_DTYPE_COUNT; i++) {
		if (strlen(dtypes[i].name) == len && memcmp(dtypes[i].name, text, len) == 0) {
			*dtype = (enum sft_dtype)i;
			return true;
		}
	}
	return false;
}

int sft_shape_nbytes(enum sft_dtype dtype, const uint64_t *shape, uint32_t rank, uint64_t *nbytes,
		     struct sft_error *err)
{
	uint64_t bits = 1;

	for (uint32_t i = 0; i < rank; i++) {
		if (!sft_mul(bits, shape[i], &bits))
			return sft_fail(
				err, EOVERFLOW,
				"the product of the shape overflows 64 bits at shape[%" PRIu32
				"], which is %" PRIu64,
				i, shape[i]);
	}
	uint64_t elements = bits;
	if (!sft_mul(bits, dtypes[dtype].bits, &bits))
		return sft_fail(err, EOVERFLOW,
				"%" PRIu64 " elements of %s, %u bits each, overflow 64 bits",
				elements, dtypes[dtype].name, dtypes[dtype].bits);
	if (bits % 8)
		return sft_fail(err, EINVAL,
				"%" PRIu64
				" elements of %s, %u bits each, are no whole number of bytes",
				elements, dtypes[dtype].name, dtypes[dtype].bits);
	*nbytes = bits / 8;
	return 0;
}

int sft_dtype_read(const struct sft_json *j, unsigned object, enum sft_dtype *dtype,
		   struct sft_error *err)
{
	unsigned value = sft_json_get(j, object, "dtype");
	struct sft_quoted q;

	if (!value)
		return sft_field_fail(j, object, err, "no dtype");
	if (!sft_json_is_string(j, value))
		return sft_field_fail(j, value, err, "dtype is %s, not a string",
				      sft_json_kind(j, value));
	/* A dtype of n letters takes 6n bytes where each is escaped. */
	char text[6 * 16 + 1];
	if ((size_t)(j->tokens[value].end - j->tokens[value].start) < sizeof(text) &&
	    sft_dtype_parse(text, sft_json_decode(j, value, text), dtype))
		return 0;
	return sft_field_fail(j, value, err, "dtype %s is not one of the format's",
			      sft_json_quote(j, value, &q));
}
