/* test_names.c - tensor names to file names and back */
#include "names.h"
#include "python.h"
#include "random_names.h"

#define BYTES(literal) literal, sizeof(literal) - 1
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

#define A10 "aaaaaaaaaa"
#define A100 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10
#define A220 A100 A100 A10 A10
#define E_ACUTE "\xc3\xa9"
#define CLEF "\xf0\x9d\x84\x9e"
#define E10 E_ACUTE E_ACUTE E_ACUTE E_ACUTE E_ACUTE E_ACUTE E_ACUTE E_ACUTE E_ACUTE E_ACUTE

static const struct {
	const char *name;
	size_t len;
	const char *file_name;
} whole[] = {
	{ BYTES(""), "%" },
	{ BYTES("a"), "a" },
	{ BYTES("model.layers.0.weight"), "model.layers.0.weight" },
	{ BYTES("%"), "%25" },
	{ BYTES("%41"), "%2541" },
	{ BYTES("%2E"), "%252E" },
	{ BYTES("a/b"), "a%2Fb" },
	{ BYTES("/"), "%2F" },
	{ BYTES("\0"), "%00" },
	{ BYTES("a\0b"), "a%00b" },
	{ BYTES("\x01\x1f\x7f\n\t"), "%01%1F%7F%0A%09" },
	{ BYTES("\xc2\x80"), "\xc2\x80" },
	{ BYTES("."), "%2E" },
	{ BYTES(".."), "%2E." },
	{ BYTES("..."), "%2E.." },
	{ BYTES(".safetensorfs"), "%2Esafetensorfs" },
	{ BYTES("a."), "a." },
	{ BYTES("~"), "%7E" },
	{ BYTES("~~"), "~%7E" },
	{ BYTES("~a"), "~a" },
	{ BYTES("a~"), "a%7E" },
	{ BYTES(".~"), "%2E%7E" },
	{ BYTES(".json"), "%2Ejson" },
	{ BYTES("..json"), "%2E%2Ejson" },
	{ BYTES("x.json"), "x%2Ejson" },
	{ BYTES("x.json.json"), "x.json%2Ejson" },
	{ BYTES("x.json.weight"), "x.json.weight" },
	{ BYTES("xjson"), "xjson" },
	{ BYTES("x.JSON"), "x.JSON" },
	{ BYTES("x.json~"), "x.json%7E" },
	{ BYTES("__metadata__.json"), "__metadata__%2Ejson" },
	{ BYTES("a.npy"), "a%2Enpy" },
	{ BYTES("a.f32.npy"), "a.f32%2Enpy" },
	{ BYTES("a.f32"), "a.f32" },
	{ BYTES(".npy"), "%2Enpy" },
	{ BYTES("\xe2\x82\xac\""), "\xe2\x82\xac\"" },
	{ BYTES(A220 A10 A10 "aaaaaa"), A220 A10 A10 "aaaaaa" }, /* 246 bytes */
	{ BYTES(A220 A10 A10 "aaa/"), A220 A10 A10 "aaa%2F" },
	{ BYTES(A220 A10 "aaaaaaaaa.json"), A220 A10 "aaaaaaaaa%2Ejson" },
};

/* The hash is written out where the name is short to say; else the prefix is what matters. */
static const struct {
	const char *name;
	size_t len;
	const char *prefix;
} cut[] = {
	{ BYTES(A220 A10 A10 "aaaaaaa"), A220 "aaaaaaaa" }, /* 247 bytes */
	{ BYTES(A220 A10 A10 "aaaa/"), A220 "aaaaaaaa" },   /* 245, encoded 247 */
	{ BYTES(A220 A10 A10 "aa.json"), A220 "aaaaaaaa" }, /* 247, for the suffix */
	{ BYTES(A220 A10 A10 "aaaaaa~"), A220 "aaaaaaaa" },
	{ BYTES(A220 A100), A220 "aaaaaaaa" },
	{ BYTES(A220 "aaaaaaa" E10 E10), A220 "aaaaaaa" },	 /* a character over 228 */
	{ BYTES(A220 "aaaaaa" E10 E10), A220 "aaaaaa" E_ACUTE }, /* one that ends at 228 */
	{ BYTES(A220 "aaaaa" CLEF A100), A220 "aaaaa" },
	{ BYTES(A220 "aaaa" CLEF A100), A220 "aaaa" CLEF },
	{ BYTES(A220 "aaaaaa/" A100), A220 "aaaaaa" }, /* an escape over 228 */
	{ BYTES(A220 "aaaaa/" A100), A220 "aaaaa%2F" },
	{ BYTES("." A220 A100), "%2E" A220 "aaaaa" },
	{ BYTES(A220 "aaaaaaaa%~" A100), A220 "aaaaaaaa" },
	{ BYTES(A220 "\0" A100), A220 "%00aaaaa" },
};

static void encodes_and_decodes(void **state)
{
	for (size_t i = 0; i < COUNT(whole); i++) {
		char file_name[NAME_ENCODED_MAX + 1], name[NAME_ENCODED_MAX + 1];
		bool was_cut = true;
		size_t n = name_encode(whole[i].name, whole[i].len, file_name, &was_cut);

		assert_string_equal(file_name, whole[i].file_name);
		assert_int_equal(n, strlen(whole[i].file_name));
		assert_false(was_cut);
		assert_true(name_decode(file_name, n, name, &n));
		assert_int_equal(n, whole[i].len);
		assert_memory_equal(name, whole[i].name, n + 1);
	}
}

static void cuts_between_characters_and_escapes(void **state)
{
	for (size_t i = 0; i < COUNT(cut); i++) {
		char file_name[NAME_ENCODED_MAX + 1], expected[400], name[NAME_ENCODED_MAX + 1];
		bool was_cut = false;
		size_t n = name_encode(cut[i].name, cut[i].len, file_name, &was_cut);

		snprintf(expected, sizeof(expected), "%s%%~%016" PRIx64, cut[i].prefix,
			 name_hash(cut[i].name, cut[i].len));
		assert_string_equal(file_name, expected);
		assert_int_equal(n, strlen(expected));
		assert_true(was_cut);
		assert_false(name_decode(file_name, n, name, &n));
	}
}

static void cuts_what_is_not_utf8(void **state)
{
	char raw[300], file_name[NAME_ENCODED_MAX + 1];
	bool was_cut;

	memset(raw, 0xa9, sizeof(raw));
	assert_int_equal(name_encode(raw, sizeof(raw), file_name, &was_cut), NAME_ENCODED_MAX);
	assert_true(was_cut);
	assert_memory_equal(raw, file_name, NAME_CUT_MAX);
}

static void decode_refuses_what_encode_does_not_write(void **state)
{
	static const struct {
		const char *file_name;
		size_t len;
	} bad[] = {
		{ BYTES("") },
		{ BYTES("%%") },
		{ BYTES("a%") },
		{ BYTES("%a") },
		{ BYTES("%4") },
		{ BYTES("%41") },
		{ BYTES("%2f") },
		{ BYTES("a%2fb") },
		{ BYTES("%2G") },
		{ BYTES("a%2Eb") },
		{ BYTES("a%7Eb") },
		{ BYTES(".a") },
		{ BYTES("a~") },
		{ BYTES("a.json") },
		{ BYTES("a.npy") },
		{ BYTES("a/b") },
		{ BYTES("a\nb") },
		{ BYTES("a\0b") },
		{ BYTES("\x7f") },
		{ BYTES("\xff") },
		{ BYTES("\xc3") },
		{ BYTES("%C3%A9") },
		{ BYTES("%FF") },
		{ BYTES("\xed\xa0\x80") },
		{ BYTES("\xc0\x80") },
		{ BYTES("a%25%") },
		{ BYTES("x%2Ejson%2Ejson") },
		{ BYTES("%~0123456789abcdef") },
		{ BYTES("a%~0123456789abcdef") },
		{ BYTES(A220 A10 A10 "aaaaaaa") }, /* 247 bytes */
	};

	for (size_t i = 0; i < COUNT(bad); i++) {
		char name[NAME_ENCODED_MAX + 10];
		size_t n;

		if (name_decode(bad[i].file_name, bad[i].len, name, &n))
			fail_msg("decoded %s", bad[i].file_name);
	}
}

static void knows_scratch_names(void **state)
{
	static const struct {
		const char *file_name;
		bool scratch;
	} names[] = {
		{ "", false },
		{ "a", false },
		{ ".", true },
		{ ".a", true },
		{ "a~", true },
		{ "~", true },
		{ "~a", false },
		{ "%2Ea", false },
		{ "a%7E", false },
		{ "a%~0123456789abcdef", false },
		{ "%~0123456789abcdef", false },
		{ ".%~0123456789abcdef", true },
		{ "a%~0123456789ABCDEF", false },
		{ "a%~0123456789abcde", false },
		{ "a%~0123456789abcdeg", false },
		{ "a%~0123456789abcdef0", false },
		{ "a%~0123456789abcdef~", true },
	};

	for (size_t i = 0; i < COUNT(names); i++) {
		size_t n = strlen(names[i].file_name);

		assert_int_equal(name_is_scratch(names[i].file_name, n), names[i].scratch);
	}
}

static void hash_is_fnv1a(void **state)
{
	/* From the reference implementation's test vectors. */
	assert_true(name_hash("", 0) == 0xcbf29ce484222325);
	assert_true(name_hash("a", 1) == 0xaf63dc4c8601ec8c);
	assert_true(name_hash("foobar", 6) == 0x85944171f73967e8);
}

/* That decoding gives every name back is also what makes the encoding injective. */
static void random_names_come_back(void **state)
{
	uint64_t seed = random_seed();

	for (int i = 0; i < 300000; i++) {
		char raw[RANDOM_NAME_MAX], file_name[NAME_ENCODED_MAX + 1];
		char name[NAME_ENCODED_MAX + 1];
		size_t len = random_name(&seed, raw), n;
		bool was_cut;

		n = name_encode(raw, len, file_name, &was_cut);
		assert_true(n > 0 && n <= NAME_ENCODED_MAX && strlen(file_name) == n);
		assert_null(strchr(file_name, '/'));
		assert_false(name_is_scratch(file_name, n));
		assert_int_equal(name_decode(file_name, n, name, &n), !was_cut);
		if (was_cut)
			continue;
		assert_int_equal(n, len);
		assert_memory_equal(name, raw, len);
	}
}

/* Names without a view's suffix and without what the driver keeps for itself. */
static void file_names_collide_with_nothing_special(void **state)
{
	uint64_t seed = random_seed();

	for (int i = 0; i < 300000; i++) {
		char raw[RANDOM_NAME_MAX], file_name[NAME_ENCODED_MAX + 1];
		size_t n = name_encode(raw, random_name(&seed, raw), file_name, NULL);

		assert_true(n < 5 || strcmp(file_name + n - 5, ".json") != 0);
		assert_true(n < 4 || strcmp(file_name + n - 4, ".npy") != 0);
		assert_true(file_name[0] != '.');
	}
}

/* ---- against the implementation in tests/oracles/names.py ---- */

static void add_name(struct sft_buf *names, struct sft_buf *expected, const char *name, size_t len)
{
	char file_name[NAME_ENCODED_MAX + 1];
	size_t n = name_encode(name, len, file_name, NULL);

	add_json_line(names, name, len);
	add_json_line(expected, file_name, n);
}

static void agrees_with_the_python_implementation(void **state)
{
	struct sft_buf names = { 0 }, expected = { 0 }, actual = { 0 };
	uint64_t seed = random_seed();

	for (size_t i = 0; i < COUNT(whole); i++)
		add_name(&names, &expected, whole[i].name, whole[i].len);
	for (size_t i = 0; i < COUNT(cut); i++)
		add_name(&names, &expected, cut[i].name, cut[i].len);
	for (int i = 0; i < 1000; i++) {
		char raw[RANDOM_NAME_MAX];
		size_t len = random_name(&seed, raw);

		add_name(&names, &expected, raw, len);
	}
	ask_python("names.py encode", &names, &actual);
	assert_string_equal(actual.data, expected.data);
	sft_buf_free(&names);
	sft_buf_free(&expected);
	sft_buf_free(&actual);
}

/* Random file names, valid or not: an escape, a wrong one, what should have been escaped. */
static void decodes_as_the_python_implementation(void **state)
{
	static const char *const pieces[] = { "%",   "%41", "%2F",	"%2f",	"%25", "%2E",
					      "%00", "a",   ".",	"~",	"%7E", ".json",
					      "npy", "%C3", "\xc3\xa9", "%FF%", "/",   "\n",
					      "0",   "E",   "2" };
	struct sft_buf names = { 0 }, expected = { 0 }, actual = { 0 };
	uint64_t seed = random_seed();

	for (int i = 0; i < 5000; i++) {
		char file_name[64] = "", name[64];
		size_t len;

		for (uint64_t n = random_below(&seed, 5); n > 0; n--)
			strcat(file_name, pieces[random_below(&seed, COUNT(pieces))]);
		add_json_line(&names, file_name, strlen(file_name));
		if (name_decode(file_name, strlen(file_name), name, &len))
			add_json_line(&expected, name, len);
		else
			sft_buf_add(&expected, "null\n", 5);
	}
	ask_python("names.py decode", &names, &actual);
	assert_string_equal(actual.data, expected.data);
	sft_buf_free(&names);
	sft_buf_free(&expected);
	sft_buf_free(&actual);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_and_decodes),
		cmocka_unit_test(cuts_between_characters_and_escapes),
		cmocka_unit_test(cuts_what_is_not_utf8),
		cmocka_unit_test(decode_refuses_what_encode_does_not_write),
		cmocka_unit_test(knows_scratch_names),
		cmocka_unit_test(hash_is_fnv1a),
		cmocka_unit_test(random_names_come_back),
		cmocka_unit_test(file_names_collide_with_nothing_special),
		cmocka_unit_test(agrees_with_the_python_implementation),
		cmocka_unit_test(decodes_as_the_python_implementation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
