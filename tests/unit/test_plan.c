/* test_plan.c - headers as the reference writes them; the plan of a commit; the index.json */
#include "edit_fixture.h"

#include "plan.h"

/* ---- headers ---- */

static const struct header_case {
	const char *name;
	struct {
		const char *name;
		uint8_t dtype;
		uint64_t shape[4];
		uint32_t rank;
		uint64_t nbytes;
	} tensors[4];
	size_t count;
	const char *pairs[5]; /* key, value, ..., NULL */
	bool metadata;
	const char *json; /* without the spaces behind it */
} header_cases[] = {
	{ .name = "no tensors", .json = "{}" },
	{ .name = "no tensors, empty metadata", .metadata = true, .json = "{\"__metadata__\":{}}" },
	{ .name = "metadata comes first, in its order",
	  .tensors = { { "a", SFT_U8, { 3 }, 1, 3 } },
	  .count = 1,
	  .pairs = { "z", "1", "a", "2" },
	  .metadata = true,
	  .json = "{\"__metadata__\":{\"z\":\"1\",\"a\":\"2\"},"
		  "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}" },
	{ .name = "dtypes descend, then names ascend",
	  .tensors = { { "a", SFT_BOOL, { 1 }, 1, 1 },
		       { "c", SFT_F32, { 2, 1 }, 2, 8 },
		       { "b", SFT_F32, { 0 }, 0, 4 },
		       { "z", SFT_U64, { 0 }, 1, 0 } },
	  .count = 4,
	  .json = "{\"z\":{\"dtype\":\"U64\",\"shape\":[0],\"data_offsets\":[0,0]},"
		  "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
		  "\"c\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[4,12]},"
		  "\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[12,13]}}" },
	{ .name = "names by bytes, a prefix first, escaped as serde does",
	  .tensors = { { "\xc3\xa9", SFT_U8, { 1 }, 1, 1 },
		       { "a\"\\\n\x01\x7f", SFT_U8, { 1 }, 1, 1 },
		       { "a", SFT_U8, { 1 }, 1, 1 },
		       { "", SFT_U8, { 1 }, 1, 1 } },
	  .count = 4,
	  .json = "{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
		  "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
		  "\"a\\\"\\\\\\n\\u0001\x7f\":{\"dtype\":\"U8\",\"shape\":[1],"
		  "\"data_offsets\":[2,3]},"
		  "\"\xc3\xa9\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}" },
};

static void test_header_is_what_the_reference_writes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(header_cases) / sizeof(*header_cases); i++) {
		const struct header_case *c = &header_cases[i];
		struct header_tensor tensors[4] = { 0 };
		struct sft_pair pairs[2];
		struct sft_metadata metadata = { .present = c->metadata, .pairs = pairs };
		struct sft_buf out = { 0 };
		struct sft_error err = { 0 };

		for (size_t k = 0; k < c->count; k++)
			tensors[k] = (struct header_tensor){
				.name = c->tensors[k].name,
				.name_len = (uint32_t)strlen(c->tensors[k].name),
				.keys = "",
				.dtype = c->tensors[k].dtype,
				.shape = c->tensors[k].shape,
				.rank = c->tensors[k].rank,
				.nbytes = c->tensors[k].nbytes,
			};
		for (; c->pairs[2 * metadata.count]; metadata.count++) {
			const char *const *p = &c->pairs[2 * metadata.count];
			pairs[metadata.count] =
				(struct sft_pair){ p[0], p[1], (uint32_t)strlen(p[0]),
						   (uint32_t)strlen(p[1]) };
		}
		print_message("%s\n", c->name);
		assert_int_equal(
			header_write(tensors, c->count, sizeof(*tensors), &metadata, &out, &err),
			0);
		const size_t length = strlen(c->json), padded = (length + 7) / 8 * 8;
		assert_int_equal(sft_le64((unsigned char *)out.data), padded);
		assert_int_equal(out.len, 8 + padded);
		assert_memory_equal(out.data + 8, c->json, length);
		assert_memory_equal(out.data + 8 + length, "       ", padded - length);
		sft_buf_free(&out);
	}
}

static void test_header_above_the_limit_is_refused_with_both_numbers(void **state)
{
	const size_t count = 40, length = 2500000;
	struct header_tensor *tensors = calloc(count, sizeof(*tensors));
	struct sft_metadata metadata = { 0 };
	struct sft_buf out = { 0 };
	struct sft_error err = { 0 };
	char *names = malloc(count * length);
	(void)state;

	memset(names, 'n', count * length);
	for (size_t i = 0; i < count; i++) {
		names[i * length] = (char)('a' + i);
		tensors[i] = (struct header_tensor){ .name = names + i * length,
						     .name_len = (uint32_t)length,
						     .keys = "",
						     .dtype = SFT_U8 };
	}
	assert_int_equal(header_write(tensors, count, sizeof(*tensors), &metadata, &out, &err),
			 -EFBIG);
	assert_non_null(strstr(err.msg, "header of 40 tensors would have 100002"));
	assert_non_null(strstr(err.msg, "at most 100000000"));
	sft_buf_free(&out);
	free(names);
	free(tensors);
}

static void test_data_beyond_what_a_file_holds_is_refused(void **state)
{
	struct header_tensor tensors[2] = {
		{ .name = "a", .name_len = 1, .keys = "", .dtype = SFT_U8, .nbytes = 1ull << 62 },
		{ .name = "b", .name_len = 1, .keys = "", .dtype = SFT_U8, .nbytes = 1ull << 62 },
	};
	struct sft_metadata metadata = { 0 };
	struct sft_buf out = { 0 };
	struct sft_error err = { 0 };
	(void)state;

	assert_int_equal(header_write(tensors, 2, sizeof(*tensors), &metadata, &out, &err), -EFBIG);
	assert_non_null(strstr(err.msg, "tensor \"b\""));
	sft_buf_free(&out);
}

/* ---- plans ---- */

#define ONE "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v"

static const struct plan_case {
	const char *name, *before, *script;
	bool changed, same_layout;
	const char *order; /* of the new file's tensors */
	int error;
	const char *message;
} plan_cases[] = {
	{ "nothing", ONE, "", false, true, NULL, 0, NULL },
	{ "bytes alone keep the layout", ONE, "w a 0 00", true, true, "ba", 0, NULL },
	{ "a write of the same length by truncating", ONE, "t a 0; w a 0 010203", true, true, "ba",
	  0, NULL },
	{ "another name", ONE, "m a c", true, false, "bc", 0, NULL },
	{ "another shape", ONE, "d a U8 3,1", true, false, "ba", 0, NULL },
	{ "another dtype", ONE, "d b I64 -", true, false, "ba", 0, NULL },
	{ "a new tensor", ONE, "c z; w z 0 0102", true, false, "baz", 0, NULL },
	{ "one fewer", ONE, "r b", true, false, "a", 0, NULL },
	{ "metadata", ONE, "@ 0 k=w", true, false, "ba", 0, NULL },
	{ "metadata gone", ONE, "@ 0 -", true, false, "ba", 0, NULL },
	{ "all gone", ONE, "r a; r b; @ 0 -", true, false, "", 0, NULL },
	{ "replaced by a new one of its dtype and shape", ONE, "c z; w z 0 010203; m z a", true,
	  true, "ba", 0, NULL },
	{ "deleted and made again", ONE, "r a; c a; w a 0 010203", true, true, "ba", 0, NULL },
	{ "too short", ONE, "t b 7", false, false, NULL, -EINVAL, "tensor \"b\": " },
	{ "two too short", ONE, "t b 7; t a 1", false, false, NULL, -EINVAL,
	  "(and 1 more tensor has a problem)" },
	{ "three too short", "c U8 1 01; " ONE, "t b 7; t a 1; t c 0", false, false, NULL, -EINVAL,
	  "(and 2 more tensors have a problem)" },
	{ "scratch is no part of it", ONE, "x .s; w .s 0 01; w a 0 00", true, true, "ba", 0, NULL },
};

static void check_plan(const struct plan_case *c, const struct plan *plan)
{
	const struct plan_shard *s = &plan->shards[0];
	char order[8] = "";

	assert_int_equal(plan->count, 1);
	assert_int_equal(s->changed, c->changed);
	assert_int_equal(s->same_layout, c->same_layout);
	assert_int_equal(s->header == NULL, c->same_layout);
	assert_int_equal(plan->index_changed, !c->same_layout);
	for (size_t i = 0; c->order && i < s->count; i++)
		order[i] = s->tensors[i].h.name[0];
	if (c->order)
		assert_string_equal(order, c->order);
	uint64_t end = 0;
	for (size_t i = 0; c->order && i < s->count; i++) {
		assert_int_equal(s->tensors[i].h.begin, end);
		end += s->tensors[i].h.nbytes;
	}
	if (c->order)
		assert_int_equal(s->file_size, s->header_length + end);
}

static void test_plan_knows_what_differs(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(plan_cases) / sizeof(*plan_cases); i++) {
		const struct plan_case *c = &plan_cases[i];
		const struct sft_overlay_options options = { 0 };
		char *dir = fixture_make_dir(), *path = fixture_join(dir, "m.safetensors");
		struct sft_overlay *ov;
		struct sft_error err = { 0 };
		struct plan plan;

		print_message("%s\n", c->name);
		fixture_checkpoint(path, c->before);
		assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
		assert_int_equal(fixture_edit(ov, c->script, &err), 0);
		assert_int_equal(plan_make(ov, &plan, &err), c->error);
		if (c->error == 0)
			check_plan(c, &plan);
		else
			assert_non_null(strstr(err.msg, c->message));
		plan_free(&plan);
		sft_overlay_free(ov);
		free(path);
		fixture_remove_dir(dir);
	}
}

/* ---- the index ---- */

#define A "a.safetensors"
#define B "b.safetensors"
#define HF(TOTAL, MAP)                                                                             \
	"{\n  \"metadata\": {\n    \"total_size\": " TOTAL "\n  },\n  \"weight_map\": {" MAP       \
	"\n  }\n}\n"
#define AB "\n    \"one\": \"" A "\",\n    \"two\": \"" B "\""

/* Shard a holds `one` (2 bytes), b holds `two` (3 bytes), unless `a` and `b` say otherwise. */
static const struct index_case {
	const char *name, *before, *script, *after;
	const char *a, *b;
	unsigned flags;
} index_cases[] = {
	{ "a change of bytes changes nothing", HF("5", AB), "w one 0 00", HF("5", AB), NULL, NULL,
	  0 },
	{ "what else it says is kept",
	  "{\"x\": [1, {\"weight_map\": 2}],\t\"weight_map\":{\"two\" "
	  ":\"" B "\",\r\n\"one\" :\"" A "\"}, \"metadata\": {\"y\": "
	  "null, \"total_size\":  5} }\n\n",
	  "t one 1; d one U8 1",
	  "{\"x\": [1, {\"weight_map\": 2}],\t\"weight_map\":{\"two\" :\"" B "\",\r\n\"one\" :\"" A
	  "\"}, \"metadata\": {\"y\": null, "
	  "\"total_size\":  4} }\n\n",
	  NULL, NULL, 0 },
	{ "a new tensor", HF("5", AB), "C 0 three; w three 0 01020304",
	  HF("9", "\n    \"one\": \"" A "\",\n    \"three\": \"" A "\",\n    \"two\": \"" B "\""),
	  NULL, NULL, 0 },
	{ "a deleted tensor", HF("5", AB), "r two", HF("2", "\n    \"one\": \"" A "\""), NULL, NULL,
	  0 },
	{ "a renamed tensor stays in its shard", HF("5", AB), "m two alpha",
	  HF("5", "\n    \"alpha\": \"" B "\",\n    \"one\": \"" A "\""), NULL, NULL, 0 },
	{ "no tensors left", HF("5", AB), "r one; r two",
	  "{\n  \"metadata\": {\n    \"total_size\": 0\n  },\n  \"weight_map\": {}\n}\n", NULL,
	  NULL, 0 },
	{ "one line stays one line",
	  "{\"metadata\": {}, \"weight_map\": {\"one\": \"" A "\", \"two\": \"" B "\"}}",
	  "m one zed",
	  "{\"metadata\": {}, \"weight_map\": {\"two\": \"" B "\", \"zed\": \"" A "\"}}", NULL,
	  NULL, 0 },
	{ "a lone entry, compact", "{\"weight_map\":{\"one\":\"" A "\"}}", "C 0 x; w x 0 01",
	  "{\"weight_map\":{\"one\":\"" A "\",\"x\":\"" A "\"}}", NULL, NULL, 0 },
	{ "a lone entry, spaced", "{\"weight_map\": {\"one\": \"" A "\"}}", "C 0 x; w x 0 01",
	  "{\"weight_map\": {\"one\": \"" A "\", \"x\": \"" A "\"}}", NULL, NULL, 0 },
	{ "a lone entry on its line", HF("2", "\n    \"one\": \"" A "\""), "C 0 x; w x 0 01",
	  HF("3", "\n    \"one\": \"" A "\",\n    \"x\": \"" A "\""), NULL, NULL, 0 },
	{ "an unsorted map is sorted when it changes",
	  "{\"weight_map\": {\"two\": \"" B "\", \"one\": \"" A "\"}}", "m one three",
	  "{\"weight_map\": {\"three\": \"" A "\", \"two\": \"" B "\"}}", NULL, NULL, 0 },
	{ "a name that no shard has stays", HF("5", AB ",\n    \"zombie\": \"" A "\""),
	  "m one three",
	  HF("5",
	     "\n    \"three\": \"" A "\",\n    \"two\": \"" B "\",\n    \"zombie\": \"" A "\""),
	  NULL, NULL, 0 },
	{ "unless it is made now", HF("5", AB ",\n    \"zombie\": \"" A "\""),
	  "C 1 zombie; w zombie 0 01", HF("6", AB ",\n    \"zombie\": \"" B "\""), NULL, NULL, 0 },
	{ "what was not listed stays unlisted",
	  HF("5", "\n    \"one\": \"" A "\",\n    \"x\": \"" B "\""), "m one three",
	  HF("5", "\n    \"three\": \"" A "\",\n    \"x\": \"" B "\""), NULL,
	  "two U8 3 010203; x U8 0 -", 0 },
	{ "a missing shard's entries and bytes stay",
	  HF("1005", AB ",\n    \"gone\": \"c.safetensors\""), "t one 1; d one U8 1; m one o",
	  HF("1004",
	     "\n    \"gone\": \"c.safetensors\",\n    \"o\": \"" A "\",\n    \"two\": \"" B "\""),
	  NULL, NULL, SFT_PARTIAL },
	{ "a total that is no number stays",
	  "{\"metadata\": {\"total_size\": \"big\"}, \"weight_map\": "
	  "{\"one\": \"" A "\", \"two\": \"" B "\"}}",
	  "r two",
	  "{\"metadata\": {\"total_size\": \"big\"}, \"weight_map\": {\"one\": \"" A "\"}}", NULL,
	  NULL, 0 },
	{ "a total that is a whole float follows, as a float", HF("5.0", AB), "r two",
	  HF("2.0", "\n    \"one\": \"" A "\""), NULL, NULL, 0 },
	{ "a total with a fraction stays", HF("5.5", AB), "r two",
	  HF("5.5", "\n    \"one\": \"" A "\""), NULL, NULL, 0 },
	{ "parameters follow, wherever they stand",
	  "{\"metadata\": {\"total_parameters\": 5, \"total_size\": 5}, \"weight_map\": {\"one\": "
	  "\"" A "\", \"two\": \"" B "\"}}",
	  "d one F64 -; t one 8; r two",
	  "{\"metadata\": {\"total_parameters\": 1, \"total_size\": 8}, \"weight_map\": {\"one\": "
	  "\"" A "\"}}",
	  NULL, NULL, 0 },
	{ "parameters behind the map",
	  "{\"weight_map\": {\"one\": \"" A "\", \"two\": \"" B "\"}, \"metadata\": "
	  "{\"total_size\":5,\"x\":5,\"total_parameters\":5}}",
	  "C 0 three; d three U16 2,3; t three 12",
	  "{\"weight_map\": {\"one\": \"" A "\", \"three\": \"" A "\", \"two\": \"" B
	  "\"}, \"metadata\": {\"total_size\":17,\"x\":5,\"total_parameters\":11}}",
	  NULL, NULL, 0 },
	{ "parameters that count packed elements get the difference",
	  "{\"metadata\": {\"total_parameters\": 100}, \"weight_map\": {\"one\": \"" A
	  "\", \"two\": \"" B "\"}}",
	  "r two",
	  "{\"metadata\": {\"total_parameters\": 97}, \"weight_map\": {\"one\": \"" A "\"}}", NULL,
	  NULL, 0 },
	{ "one name in two shards: removed from the listed one, the other is listed",
	  HF("4", "\n    \"one\": \"" A "\",\n    \"x\": \"" B "\""), "r one", /* a's: the first */
	  HF("2", "\n    \"one\": \"" B "\",\n    \"x\": \"" B "\""), NULL,
	  "one U8 2 0304; x U8 0 -", SFT_SAME_NAMES },
};

static void test_index_follows_the_edits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(index_cases) / sizeof(*index_cases); i++) {
		const struct index_case *c = &index_cases[i];
		const struct sft_overlay_options options = { .flags = c->flags };
		char *dir = fixture_make_dir(), *a = fixture_join(dir, A),
		     *b = fixture_join(dir, B);
		char *index = fixture_join(dir, "model.safetensors.index.json");
		struct sft_overlay *ov;
		struct sft_error err = { 0 };
		struct sft_buf out = { 0 };
		struct plan plan;

		print_message("%s\n", c->name);
		fixture_checkpoint(a, c->a ? c->a : "one U8 2 0102");
		fixture_checkpoint(b, c->b ? c->b : "two U8 3 010203");
		fixture_put(index, c->before, strlen(c->before));
		assert_int_equal(sft_overlay_open(dir, &options, &ov, &err), 0);
		assert_int_equal(fixture_edit(ov, c->script, &err), 0);
		assert_int_equal(plan_make(ov, &plan, &err), 0);
		assert_int_equal(index_json_write(ov, &plan, &out, &err), 0);
		assert_string_equal(out.data, c->after);
		sft_buf_free(&out);
		plan_free(&plan);
		sft_overlay_free(ov);
		free(index);
		free(a);
		free(b);
		fixture_remove_dir(dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_is_what_the_reference_writes),
		cmocka_unit_test(test_header_above_the_limit_is_refused_with_both_numbers),
		cmocka_unit_test(test_data_beyond_what_a_file_holds_is_refused),
		cmocka_unit_test(test_plan_knows_what_differs),
		cmocka_unit_test(test_index_follows_the_edits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
