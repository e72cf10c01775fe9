/* test_view.c - sidecars and metadata as text */
#include "sidecar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static void sidecars_are_as_specified(void **state)
{
	static const uint64_t shape[] = { 2, 3 }, large[] = { UINT64_MAX, 0 };
	static const struct {
		struct view_tensor tensor;
		unsigned indent; /* where not 0, as an item of an array */
		const char *expected;
	} cases[] = {
		{ { .name = "a.weight",
		    .name_len = 8,
		    .dtype = SFT_BF16,
		    .shape = shape,
		    .rank = 2,
		    .nbytes = 12,
		    .file = "model.safetensors",
		    .offset = 108,
		    .begin = 100,
		    .declared_nbytes = 12,
		    .placed = true },
		  0,
		  "{\n"
		  "  \"name\": \"a.weight\",\n"
		  "  \"dtype\": \"BF16\",\n"
		  "  \"shape\": [2, 3],\n"
		  "  \"nbytes\": 12,\n"
		  "  \"file\": \"model.safetensors\",\n"
		  "  \"offset\": 108,\n"
		  "  \"data_offsets\": [100, 112]\n"
		  "}\n" },
		{ { .name = "",
		    .dtype = SFT_F8_E4M3,
		    .nbytes = 1,
		    .file = "f",
		    .placed = true,
		    .declared_nbytes = 1 },
		  0,
		  "{\n"
		  "  \"name\": \"\",\n"
		  "  \"dtype\": \"F8_E4M3\",\n"
		  "  \"shape\": [],\n"
		  "  \"nbytes\": 1,\n"
		  "  \"file\": \"f\",\n"
		  "  \"offset\": 0,\n"
		  "  \"data_offsets\": [0, 1]\n"
		  "}\n" },
		/* What is staged: not in the file yet, and not to be committed like this. */
		{ { .name = "n\0\"\n\xc3\xa9/",
		    .name_len = 7,
		    .dtype = SFT_U8,
		    .shape = large,
		    .rank = 2,
		    .nbytes = UINT64_MAX,
		    .file = "a \"b\"\\",
		    .staged = true,
		    .problem = "7 bytes, but \"shape\"" },
		  0,
		  "{\n"
		  "  \"name\": \"n\\u0000\\\"\\n\xc3\xa9/\",\n"
		  "  \"dtype\": \"U8\",\n"
		  "  \"shape\": [18446744073709551615, 0],\n"
		  "  \"nbytes\": 18446744073709551615,\n"
		  "  \"file\": \"a \\\"b\\\"\\\\\",\n"
		  "  \"offset\": null,\n"
		  "  \"data_offsets\": null,\n"
		  "  \"staged\": true,\n"
		  "  \"problem\": \"7 bytes, but \\\"shape\\\"\"\n"
		  "}\n" },
		/* Staged and in the file: the bytes may be others than those declared. */
		{ { .name = "x",
		    .name_len = 1,
		    .dtype = SFT_I64,
		    .shape = shape,
		    .rank = 1,
		    .nbytes = 5,
		    .file = "f",
		    .offset = 50,
		    .begin = 10,
		    .declared_nbytes = 16,
		    .placed = true,
		    .staged = true },
		  2,
		  "  {\n"
		  "    \"name\": \"x\",\n"
		  "    \"dtype\": \"I64\",\n"
		  "    \"shape\": [2],\n"
		  "    \"nbytes\": 5,\n"
		  "    \"file\": \"f\",\n"
		  "    \"offset\": 50,\n"
		  "    \"data_offsets\": [10, 26],\n"
		  "    \"staged\": true\n"
		  "  }" },
		{ { .name = "x", .name_len = 1, .dtype = SFT_U8, .file = "f" },
		  20,
		  "                    {\n"
		  "                      \"name\": \"x\",\n"
		  "                      \"dtype\": \"U8\",\n"
		  "                      \"shape\": [],\n"
		  "                      \"nbytes\": 0,\n"
		  "                      \"file\": \"f\",\n"
		  "                      \"offset\": null,\n"
		  "                      \"data_offsets\": null\n"
		  "                    }" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sft_buf out = { 0 };

		if (cases[i].indent)
			view_sidecar_item(&out, &cases[i].tensor, cases[i].indent);
		else
			view_sidecar(&out, &cases[i].tensor);
		assert_false(out.failed);
		assert_string_equal(out.data, cases[i].expected);
		assert_int_equal(out.len, strlen(cases[i].expected));
		sft_buf_free(&out);
	}
}

static struct sft_pair pairs[] = {
	{ "format", "pt", 6, 2 },
	{ "a\0b", "\"\x01", 3, 2 },
};
static const struct sft_metadata absent = { .present = false }, empty = { .present = true },
				 two = { .present = true, .count = 2, .pairs = pairs };

static void metadata_is_one_pair_a_line(void **state)
{
	static const struct {
		const struct sft_metadata *metadata;
		const char *expected;
	} cases[] = {
		{ &empty, "{}\n" },
		{ &two, "{\n  \"format\": \"pt\",\n  \"a\\u0000b\": \"\\\"\\u0001\"\n}\n" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sft_buf out = { 0 };

		view_metadata(&out, cases[i].metadata);
		assert_string_equal(out.data, cases[i].expected);
		sft_buf_free(&out);
	}
}

static void shards_metadata_is_keyed_by_file_name(void **state)
{
	static const char *const names[] = { "one", "two \"2\"", "three" };
	static const struct {
		const struct sft_metadata *metadata[3];
		const char *expected;
	} cases[] = {
		{ { &absent, NULL, &absent }, "{}\n" },
		{ { &absent, &empty, NULL }, "{\n  \"two \\\"2\\\"\": {}\n}\n" },
		{ { &two, &absent, &empty },
		  "{\n"
		  "  \"one\": {\n"
		  "    \"format\": \"pt\",\n"
		  "    \"a\\u0000b\": \"\\\"\\u0001\"\n"
		  "  },\n"
		  "  \"three\": {}\n"
		  "}\n" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sft_buf out = { 0 };

		view_metadata_shards(&out, names, cases[i].metadata, 3);
		assert_string_equal(out.data, cases[i].expected);
		sft_buf_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sidecars_are_as_specified),
		cmocka_unit_test(metadata_is_one_pair_a_line),
		cmocka_unit_test(shards_metadata_is_keyed_by_file_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
