/* test_metadata.c - the JSON that people edit: metadata files and sidecars */
#include "counting.h"
#include "sft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void metadata_may_have_white_space_around(void **state)
{
	struct sft_metadata m;

	static const char text[] = "\n{\n\t\"format\": \"pt\",\r\n\t\"\\u00e9\": \"\"\n}\n";
	assert_int_equal(sft_metadata_parse(text, sizeof(text) - 1, &m, NULL), 0);
	assert_true(m.present);
	assert_int_equal(m.count, 2);
	assert_string_equal(m.pairs[0].value, "pt");
	assert_string_equal(m.pairs[1].key, "\xc3\xa9");
	sft_metadata_free(&m);
	assert_false(m.present);
	assert_int_equal(sft_metadata_parse("{}", 2, &m, NULL), 0);
	assert_true(m.present);
	assert_int_equal(m.count, 0);
	sft_metadata_free(&m);
	sft_metadata_free(NULL);
}

static void bad_metadata_is_einval(void **state)
{
	static const struct {
		const char *text, *msg;
	} cases[] = {
		{ "", "invalid JSON at byte 0: expected '{' at the start, found the end" },
		{ "null", "invalid JSON at byte 0: expected '{' at the start, found 'n'" },
		{ "{\"a\":1}", "the value of \"a\" is a number, not a string" },
		{ "{\"a\":{\"b\":\"c\"}}", "the value of \"a\" is an object, not a string" },
		{ "{\"a\":\"b\",\"a\":\"c\"}",
		  "invalid JSON at byte 10: key \"a\" occurs twice in one object" },
		{ "{\"a\":\"b\"} x",
		  "invalid JSON at byte 10: expected nothing behind the closing '}', found 'x'" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		struct sft_metadata m;

		assert_int_equal(sft_metadata_parse(cases[i].text, strlen(cases[i].text), &m, &err),
				 -EINVAL);
		assert_int_equal(err.errnum, EINVAL);
		assert_string_equal(err.msg, cases[i].msg);
		assert_false(m.present);
		assert_null(m.pairs);
	}
}

static const char *const shards[] = { "a.safetensors", "b.safetensors", "c.safetensors" };

static void shards_get_the_metadata_under_their_names(void **state)
{
	static const char text[] =
		"{\"c.safetensors\":{\"k\":\"v\"}, \"\\u0061.safetensors\": {}}\n";
	struct sft_metadata m[3];

	assert_int_equal(sft_metadata_parse_shards(text, sizeof(text) - 1, shards, 3, m, NULL), 0);
	assert_true(m[0].present);
	assert_int_equal(m[0].count, 0);
	assert_false(m[1].present);
	assert_true(m[2].present);
	assert_string_equal(m[2].pairs[0].value, "v");
	for (size_t i = 0; i < 3; i++)
		sft_metadata_free(&m[i]);
}

static void bad_metadata_of_shards_is_einval(void **state)
{
	static const struct {
		const char *text, *msg;
	} cases[] = {
		{ "[]", "invalid JSON at byte 0: expected '{' at the start, found '['" },
		{ "{\"a.safetensors\":{},\"d\":{}}", "\"d\" is no shard of this checkpoint" },
		{ "{\"a.safetensors\\u0000\":{}}",
		  "\"a.safetensors\\x00\" is no shard of this checkpoint" },
		{ "{\"a.safetensors\":{},\"b.safetensors\":null}",
		  "metadata of \"b.safetensors\": expected an object of strings, found null" },
		{ "{\"a.safetensors\":{\"k\":\"v\"},\"b.safetensors\":{\"k\":0}}",
		  "metadata of \"b.safetensors\": the value of \"k\" is a number, not a string" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		struct sft_metadata m[3];

		assert_int_equal(sft_metadata_parse_shards(cases[i].text, strlen(cases[i].text),
							   shards, 3, m, &err),
				 -EINVAL);
		assert_int_equal(err.errnum, EINVAL);
		assert_string_equal(err.msg, cases[i].msg);
		for (size_t s = 0; s < 3; s++)
			assert_null(m[s].pairs);
	}
}

static void keys_keep_the_order_that_they_had(void **state)
{
	static const struct {
		const char *old, *text, *keys;
	} cases[] = {
		{ "{}", "{\"b\":\"\",\"a\":\"\"}", "ba" },
		{ "{\"z\":\"\",\"a\":\"\",\"m\":\"\"}",
		  "{\"n\":\"\",\"a\":\"\",\"b\":\"\",\"m\":\"\",\"z\":\"\"}", "zamnb" },
		{ "{\"z\":\"\",\"a\":\"\",\"m\":\"\"}", "{\"m\":\"\",\"z\":\"\"}", "zm" },
		{ "{\"a\":\"\"}", "{}", "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_metadata old, m;

		assert_int_equal(sft_metadata_parse(cases[i].old, strlen(cases[i].old), &old, NULL),
				 0);
		assert_int_equal(sft_metadata_parse(cases[i].text, strlen(cases[i].text), &m, NULL),
				 0);
		assert_int_equal(sft_metadata_keep_order(&m, &old, NULL), 0);
		assert_int_equal(m.count, strlen(cases[i].keys));
		for (uint32_t k = 0; k < m.count; k++)
			assert_memory_equal(m.pairs[k].key, cases[i].keys + k, 1);
		sft_metadata_free(&m);
		sft_metadata_free(&old);
	}
}

static void a_sidecar_gives_dtype_and_shape(void **state)
{
	static const struct {
		const char *text;
		enum sft_dtype dtype;
		uint32_t rank;
		uint64_t shape[2];
	} cases[] = {
		{ " {\"dtype\": \"BF16\", \"shape\": [ 2, 3 ]}\n", SFT_BF16, 2, { 2, 3 } },
		{ "{\"shape\":[],\"dtype\":\"F64\"}", SFT_F64, 0, { 0 } },
		{ "{\"name\":7,\"nbytes\":-1.5,\"data_offsets\":{},\"file\":null,\"shape\":[0],"
		  "\"dtype\":\"\\u0055\\u0038\"}",
		  SFT_U8,
		  1,
		  { 0 } },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		enum sft_dtype dtype;
		uint64_t *shape;
		uint32_t rank;

		assert_int_equal(sft_sidecar_parse(cases[i].text, strlen(cases[i].text), &dtype,
						   &shape, &rank, NULL),
				 0);
		assert_int_equal(dtype, cases[i].dtype);
		assert_int_equal(rank, cases[i].rank);
		assert_memory_equal(shape, cases[i].shape, rank * sizeof(*shape));
		free(shape);
	}
}

static void a_bad_sidecar_is_einval(void **state)
{
	static const struct {
		const char *text, *msg;
	} cases[] = {
		{ "", "invalid JSON at byte 0: expected '{' at the start, found the end" },
		{ "{\"shape\":[1]}", "no dtype" },
		{ "{\"dtype\":\"U8\"}", "no shape" },
		{ "{\"dtype\":\"U9\",\"shape\":[1]}", "dtype \"U9\" is not one of the format's" },
		{ "{\"dtype\":null,\"shape\":[1]}", "dtype is null, not a string" },
		{ "{\"dtype\":\"U8\",\"shape\":\"[1]\"}", "shape is a string, not an array" },
		{ "{\"dtype\":\"U8\",\"shape\":[1,true]}",
		  "shape[1] is true, not a plain integer from 0 to 2^64-1" },
		{ "{\"dtype\":\"U8\",\"shape\":[-1]}",
		  "shape[0] is -1, not a plain integer from 0 to 2^64-1" },
		{ "{\"dtype\":\"F4\",\"shape\":[5]}",
		  "5 elements of F4, 4 bits each, are no whole number of bytes" },
		{ "{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296]}",
		  "the product of the shape overflows 64 bits at shape[1], which is 4294967296" },
		{ "{\"dtype\":\"U8\",\"shape\":[1],\"dtype\":\"I8\"}",
		  "invalid JSON at byte 27: key \"dtype\" occurs twice in one object" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		enum sft_dtype dtype;
		uint64_t *shape;
		uint32_t rank;

		assert_int_equal(sft_sidecar_parse(cases[i].text, strlen(cases[i].text), &dtype,
						   &shape, &rank, &err),
				 -EINVAL);
		assert_int_equal(err.errnum, EINVAL);
		assert_string_equal(err.msg, cases[i].msg);
		assert_null(shape);
	}
}

static void running_out_of_memory_is_an_error(void **state)
{
	static const char text[] = "{\"a.safetensors\":{\"k\":\"v\"},\"b.safetensors\":{}}";
	static const char sidecar[] = "{\"dtype\":\"U8\",\"shape\":[1]}";

	for (size_t n = 1; n <= 5; n++) {
		struct sft_metadata m[3];

		counting_start();
		counting_fail(n);
		int r = sft_metadata_parse_shards(text, sizeof(text) - 1, shards, 3, m, NULL);
		/* The fourth gives memory back; the old block serves as well. */
		assert_int_equal(r, n == 4 ? 0 : -ENOMEM);
		for (size_t s = 0; s < 3; s++)
			sft_metadata_free(&m[s]);
		assert_int_equal(counting_current(), 0);
	}
	for (size_t n = 1; n <= 2; n++) {
		struct sft_error err = { 0 };
		enum sft_dtype dtype;
		uint64_t *shape;
		uint32_t rank;

		counting_start();
		counting_fail(n);
		assert_int_equal(sft_sidecar_parse(sidecar, sizeof(sidecar) - 1, &dtype, &shape,
						   &rank, &err),
				 -ENOMEM);
		assert_int_equal(err.errnum, ENOMEM);
		assert_int_equal(counting_current(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(metadata_may_have_white_space_around),
		cmocka_unit_test(bad_metadata_is_einval),
		cmocka_unit_test(shards_get_the_metadata_under_their_names),
		cmocka_unit_test(bad_metadata_of_shards_is_einval),
		cmocka_unit_test(keys_keep_the_order_that_they_had),
		cmocka_unit_test(a_sidecar_gives_dtype_and_shape),
		cmocka_unit_test(a_bad_sidecar_is_einval),
		cmocka_unit_test(running_out_of_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
