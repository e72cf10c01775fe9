/* test_keys.c - other keys of a tensor's header entry: whoever writes a header keeps them */
#include "edit_fixture.h"

#define M "model.safetensors"

/* A file whose header is that text, with n bytes of data: 1, 2, 3, ... */
static void put_file(const char *path, const char *json, size_t n)
{
	struct sft_buf b = { 0 };

	sft_buf_add(&b, "12345678", 8);
	sft_buf_text(&b, json);
	sft_put_le64((unsigned char *)b.data, b.len - 8);
	for (size_t i = 1; i <= n; i++)
		sft_buf_add(&b, (char[]){ (char)i }, 1);
	assert_false(b.failed);
	fixture_put(path, b.data, b.len);
	sft_buf_free(&b);
}

/* The header of a file, without its padding; malloced. */
static char *get_header(const char *path)
{
	size_t len = 0;
	char *bytes = fixture_get(path, &len);
	uint64_t n;

	assert_non_null(bytes);
	n = sft_le64((unsigned char *)bytes);
	assert_true(n <= len - 8);
	memmove(bytes, bytes + 8, n);
	while (n && bytes[n - 1] == ' ')
		n--;
	bytes[n] = '\0';
	return bytes;
}

#define T(NAME, DTYPE, SHAPE, FROM, TO, MORE)                                                      \
	"\"" NAME "\":{\"dtype\":\"" DTYPE "\",\"shape\":[" SHAPE "],\"data_offsets\":[" FROM      \
	"," TO "]" MORE "}"

static const struct {
	const char *name, *before, *script, *after;
} cases
	[] = {
		{ "they come after the three, as they were",
		  "{\"a\": {\"x\" : [ 1, 2.50e3 ,{\"y\":null}], \"dtype\": \"U8\", \"nntr_dtype\": "
		  "\"Q4_0\""
		  ", \"shape\": [2], \"\\u006b\\t\":-0.0, \"data_offsets\": [0, 2]}, "
		  "\"b\": {\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
		  "m b c",
		  "{" T("a", "U8", "2", "0", "2",
			",\"x\":[ 1, 2.50e3 "
			",{\"y\":null}],\"nntr_dtype\":\"Q4_0\",\"\\u006b\\t\":-0.0") "," T("c",
											    "U8",
											    "2",
											    "2",
											    "4",
											    "") "}" },
		{ "an escaped spelling of one of the three is that one",
		  "{\"a\":{\"\\u0064type\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"Dtype\":1}"
		  "}",
		  "d a U8 2,2", "{" T("a", "U8", "2,2", "0", "4", ",\"Dtype\":1") "}" },
		{ "numbers of any size",
		  "{\"a\":{\"n\":123456789012345678901234567890,\"dtype\":\"U8\",\"shape\":[4],"
		  "\"data_offsets\":[0,4]}}",
		  "m a b",
		  "{" T("b", "U8", "4", "0", "4", ",\"n\":123456789012345678901234567890") "}" },
		{ "a renamed tensor takes its own along, also onto another one",
		  "{" T("a", "U8", "2", "0", "2", ",\"k\":\"a\"") "," T("b", "U8", "2", "2", "4",
									",\"k\":\"b\"") "}",
		  "m a b", "{" T("b", "U8", "2", "0", "2", ",\"k\":\"a\"") "}" },
		{ "two that change places change them too",
		  "{" T("a", "U8", "2", "0", "2", ",\"k\":\"a\"") "," T("b", "U8", "2", "2", "4",
									",\"k\":\"b\"") "}",
		  "m a t; m b a; m t b",
		  "{" T("a", "U8", "2", "0", "2", ",\"k\":\"b\"") "," T("b", "U8", "2", "2", "4",
									",\"k\":\"a\"") "}" },
		{ "a new file in a tensor's place has that one's",
		  "{" T("a", "U8", "2", "0", "2", ",\"k\":1") "," T("b", "U8", "2", "2", "4",
								    "") "}",
		  "r a; c a; w a 0 ffff; m b c",
		  "{" T("a", "U8", "2", "0", "2", ",\"k\":1") "," T("c", "U8", "2", "2", "4",
								    "") "}" },
		{ "and one that is renamed there, and one of another type",
		  "{" T("a", "U8", "2", "0", "2", ",\"k\":1") "," T("b", "U8", "2", "2", "4",
								    "") "}",
		  "x .t; w .t 0 01020304; d .t F32 1; r a; mt .t a",
		  "{" T("a", "F32", "1", "0", "4", ",\"k\":1") "," T("b", "U8", "2", "4", "6",
								     "") "}" },
		{ "a new name has none", "{" T("a", "U8", "4", "0", "4", ",\"k\":1") "}",
		  "c b; w b 0 01",
		  "{" T("a", "U8", "4", "0", "4", ",\"k\":1") "," T("b", "U8", "1", "4", "5",
								    "") "}" },
		{ "with the same layout nothing is written anew",
		  "{\"a\" : {\"dtype\":\"U8\",\"k\" : 1,\"shape\":[4],\"data_offsets\":[0,4]}}",
		  "w a 0 ff",
		  "{\"a\" : {\"dtype\":\"U8\",\"k\" : 1,\"shape\":[4],\"data_offsets\":[0,4]}}" },
	};

static void test_a_commit_keeps_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct sft_overlay_options options = { 0 };
		char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
		char *header;

		print_message("%s\n", cases[i].name);
		put_file(path, cases[i].before, 4);
		fixture_commit(path, &options, cases[i].script);
		header = get_header(path);
		assert_string_equal(header, cases[i].after);
		free(header);
		free(path);
		fixture_remove_dir(dir);
	}
}

/* As deep as a reader takes it. */
static void test_deep_ones_are_kept(void **state)
{
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M), *header;
	struct sft_buf deep = { 0 }, before = { 0 }, after = { 0 };
	(void)state;

	for (int i = 0; i < 125; i++)
		sft_buf_text(&deep, "[");
	for (int i = 0; i < 125; i++)
		sft_buf_text(&deep, "]");
	sft_buf_printf(&before, "{" T("a", "U8", "4", "0", "4", ",\"k\":%s") "}", deep.data);
	sft_buf_printf(&after, "{" T("b", "U8", "4", "0", "4", ",\"k\":%s") "}", deep.data);
	put_file(path, before.data, 4);
	fixture_commit(path, &options, "m a b");
	header = get_header(path);
	assert_string_equal(header, after.data);
	free(header);
	sft_buf_free(&deep);
	sft_buf_free(&before);
	sft_buf_free(&after);
	free(path);
	fixture_remove_dir(dir);
}

static void test_the_merged_file_has_them(void **state)
{
	char *dir = fixture_make_dir();
	char *a = fixture_join(dir, "a.safetensors"), *b = fixture_join(dir, "b.safetensors");
	struct sft_checkpoint *ck;
	struct sft_merged *m;
	(void)state;

	put_file(a, "{" T("a", "U8", "2", "0", "2", ",\"k\":{\"z\": 1}") "}", 2);
	put_file(b, "{" T("b", "U8", "3", "0", "3", "") "}", 3);
	assert_int_equal(sft_checkpoint_open(dir, 0, &ck, NULL), 0);
	assert_int_equal(sft_merged_make(ck, NULL, &m, NULL), 0);
	const char *want = "{" T("a", "U8", "2", "0", "2",
				 ",\"k\":{\"z\": 1}") "," T("b", "U8", "3", "2", "5", "") "}";
	assert_true(sft_merged_head(m)->len >= 8 + strlen(want));
	assert_memory_equal(sft_merged_head(m)->data + 8, want, strlen(want));
	sft_merged_free(m);
	sft_checkpoint_free(ck);
	free(a);
	free(b);
	fixture_remove_dir(dir);
}

static void test_shards_and_outputs_have_them(void **state)
{
	char *dir = fixture_make_dir(), *out = fixture_join(dir, "out.safetensors");
	char *path = fixture_join(dir, M), *header;
	const struct sft_overlay_options options = { .output = out };
	(void)state;

	put_file(path, "{" T("a", "U8", "4", "0", "4", ",\"k\":1") "}", 4);
	fixture_commit(path, &options, "m a b");
	header = get_header(out);
	assert_string_equal(header, "{" T("b", "U8", "4", "0", "4", ",\"k\":1") "}");
	free(header);
	free(out);
	free(path);
	fixture_remove_dir(dir);
}

static void test_they_are_read_as_text(void **state)
{
	static const char json[] = "{\"b\":{\"k\" : 1,\"dtype\":\"U8\",\"shape\":[],\"l\": \"x\","
				   "\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[],"
				   "\"data_offsets\":[1,2]}}";
	struct sft_index *index;
	(void)state;

	assert_int_equal(sft_header_parse(json, sizeof(json) - 1, 2, 0, &index, NULL), 0);
	assert_string_equal(sft_tensor_keys(sft_index_at(index, 0)), "");
	assert_string_equal(sft_tensor_keys(sft_index_at(index, 1)), ",\"k\":1,\"l\":\"x\"");
	sft_index_free(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_they_are_read_as_text),
		cmocka_unit_test(test_a_commit_keeps_them),
		cmocka_unit_test(test_deep_ones_are_kept),
		cmocka_unit_test(test_the_merged_file_has_them),
		cmocka_unit_test(test_shards_and_outputs_have_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
