/* test_dtype.c - the table of dtypes and the bytes of a shape */
#include "sft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const struct {
	enum sft_dtype dtype;
	const char *name;
	unsigned bits;
} known[] = {
	{ SFT_BOOL, "BOOL", 8 },
	{ SFT_F4, "F4", 4 },
	{ SFT_F6_E2M3, "F6_E2M3", 6 },
	{ SFT_F6_E3M2, "F6_E3M2", 6 },
	{ SFT_U8, "U8", 8 },
	{ SFT_I8, "I8", 8 },
	{ SFT_F8_E5M2, "F8_E5M2", 8 },
	{ SFT_F8_E4M3, "F8_E4M3", 8 },
	{ SFT_F8_E8M0, "F8_E8M0", 8 },
	{ SFT_F8_E4M3FNUZ, "F8_E4M3FNUZ", 8 },
	{ SFT_F8_E5M2FNUZ, "F8_E5M2FNUZ", 8 },
	{ SFT_I16, "I16", 16 },
	{ SFT_U16, "U16", 16 },
	{ SFT_F16, "F16", 16 },
	{ SFT_BF16, "BF16", 16 },
	{ SFT_I32, "I32", 32 },
	{ SFT_U32, "U32", 32 },
	{ SFT_F32, "F32", 32 },
	{ SFT_C64, "C64", 64 },
	{ SFT_F64, "F64", 64 },
	{ SFT_I64, "I64", 64 },
	{ SFT_U64, "U64", 64 },
};

static void every_dtype_has_its_name_and_size(void **state)
{
	assert_int_equal(sizeof(known) / sizeof(*known), SFT_DTYPE_COUNT);
	for (size_t i = 0; i < SFT_DTYPE_COUNT; i++) {
		enum sft_dtype dtype;

		assert_string_equal(sft_dtype_name(known[i].dtype), known[i].name);
		assert_int_equal(sft_dtype_bits(known[i].dtype), known[i].bits);
		assert_true(sft_dtype_parse(known[i].name, strlen(known[i].name), &dtype));
		assert_int_equal(dtype, known[i].dtype);
	}
}

static void what_is_no_dtype_is_refused(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} cases[] = {
		{ "", 0 },	 { "f32", 3 },	{ "F3", 2 },	  { "F32 ", 4 },
		{ "F32\0", 4 },	 { "F128", 4 }, { "float32", 7 }, { "F8", 2 },
		{ "F8_E4M", 6 }, { "C128", 4 }, { "I4", 2 },
	};
	enum sft_dtype dtype;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_false(sft_dtype_parse(cases[i].text, cases[i].len, &dtype));
}

static void shapes_take_as_many_bytes_as_in_the_reference(void **state)
{
	const uint64_t max = UINT64_MAX;
	const struct {
		enum sft_dtype dtype;
		uint64_t shape[4];
		uint32_t rank;
		int r;
		uint64_t nbytes;
		const char *msg;
	} cases[] = {
		{ SFT_F32, { 0 }, 0, 0, 4, "" },
		{ SFT_F32, { 2, 3 }, 2, 0, 24, "" },
		{ SFT_U8, { 3, 0, max }, 3, 0, 0, "" },
		{ SFT_F4, { 2, 3 }, 2, 0, 3, "" },
		{ SFT_F6_E2M3, { 4 }, 1, 0, 3, "" },
		{ SFT_U8, { max / 8 }, 1, 0, max / 8, "" },
		{ SFT_F32, { 0, 1ull << 63, 4 }, 3, 0, 0, "" },
		{ SFT_F32, { 1ull << 61, 0 }, 2, 0, 0, "" },
		{ SFT_F32,
		  { 1ull << 63, 4, 0 },
		  3,
		  -EOVERFLOW,
		  0,
		  "the product of the shape overflows 64 bits at shape[1], which is 4" },
		{ SFT_U8,
		  { 1ull << 61 },
		  1,
		  -EOVERFLOW,
		  0,
		  "2305843009213693952 elements of U8, 8 bits each, overflow 64 bits" },
		{ SFT_F4,
		  { 3 },
		  1,
		  -EINVAL,
		  0,
		  "3 elements of F4, 4 bits each, are no whole number of bytes" },
		{ SFT_F6_E3M2,
		  { 0 },
		  0,
		  -EINVAL,
		  0,
		  "1 elements of F6_E3M2, 6 bits each, are no whole number of bytes" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		uint64_t nbytes = 0;

		assert_int_equal(sft_shape_nbytes(cases[i].dtype, cases[i].shape, cases[i].rank,
						  &nbytes, &err),
				 cases[i].r);
		assert_int_equal(nbytes, cases[i].nbytes);
		assert_string_equal(err.msg, cases[i].msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_dtype_has_its_name_and_size),
		cmocka_unit_test(what_is_no_dtype_is_refused),
		cmocka_unit_test(shapes_take_as_many_bytes_as_in_the_reference),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
