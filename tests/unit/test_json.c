/* test_json.c - reading tokens, duplicate keys, memory */
#include "json.h"
#include "counting.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A literal that may hold NULs, and its length. */
#define T(s) (s), sizeof(s) - 1

static void values_are_found_by_decoded_key(void **state)
{
	static const char text[] = "{\"a\":{\"b\":[1,{\"c\":2},[]]},\"d\\u0065\":3,\"\":4,"
				   "\"f\\u0000\":5,\"s\":\"x\\ty\"}";
	struct sft_json j;
	uint64_t v;

	assert_int_equal(sft_json_parse(&j, text, sizeof(text) - 1, 0, NULL), 0);
	unsigned a = sft_json_get(&j, 0, "a");
	assert_int_equal(sft_json_next(&j, a), a + 8);
	unsigned b = sft_json_get(&j, a, "b");
	assert_int_equal(j.tokens[b].type, JSMN_ARRAY);
	assert_int_equal(j.tokens[b].size, 3);
	assert_true(sft_json_u64(&j, sft_json_get(&j, 0, "de"), &v));
	assert_int_equal(v, 3);
	assert_true(sft_json_u64(&j, sft_json_get(&j, 0, ""), &v));
	assert_int_equal(v, 4);
	assert_int_equal(sft_json_get(&j, 0, "b"), 0);
	assert_int_equal(sft_json_get(&j, 0, "d"), 0);
	assert_int_equal(sft_json_get(&j, 0, "def"), 0);
	assert_int_equal(sft_json_get(&j, 0, "f"), 0); /* "f" and a NUL is another key */
	assert_true(sft_json_equal(&j, sft_json_get(&j, 0, "s"), "x\ty"));
	assert_false(sft_json_equal(&j, sft_json_get(&j, 0, "s"), "x\\ty"));
	assert_false(sft_json_equal(&j, b, "[]"));
	sft_json_free(&j);
}

static void strings_are_decoded(void **state)
{
	static const struct {
		const char *json;
		const char *text;
		size_t len;
	} cases[] = {
		{ "", T("") },
		{ "plain", T("plain") },
		{ "\\\"\\\\\\/\\b\\f\\n\\r\\t", T("\"\\/\b\f\n\r\t") },
		{ "a\\u0000b", T("a\0b") },
		{ "\\u007f\\u0080\\u07ff", T("\x7f\xc2\x80\xdf\xbf") },
		{ "\\u0800\\uFFFF\\ud7ff\\ue000",
		  T("\xe0\xa0\x80\xef\xbf\xbf\xed\x9f\xbf\xee\x80\x80") },
		{ "\\uD800\\uDC00\\udbff\\udfff", T("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf") },
		{ "\xe2\x82\xac\\u20AC", T("\xe2\x82\xac\xe2\x82\xac") },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[100], out[100];
		struct sft_json j;
		int n = snprintf(text, sizeof(text), "{\"%s\":0}", cases[i].json);

		assert_int_equal(sft_json_parse(&j, text, (size_t)n, 0, NULL), 0);
		assert_true(sft_json_is_string(&j, 1));
		assert_int_equal(sft_json_decode(&j, 1, out), cases[i].len);
		assert_memory_equal(out, cases[i].text, cases[i].len + 1);
		sft_json_free(&j);
	}
}

static void only_plain_integers_of_64_bits_are_u64(void **state)
{
	static const struct {
		const char *json;
		bool ok;
		uint64_t value;
	} cases[] = {
		{ "0", true, 0 },
		{ "7", true, 7 },
		{ "9223372036854775808", true, 1ull << 63 },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "18446744073709551616", false, 0 },
		{ "18446744073709551620", false, 0 },
		{ "99999999999999999999999", false, 0 },
		{ "-0", false, 0 },
		{ "-1", false, 0 },
		{ "1.0", false, 0 },
		{ "1e3", false, 0 },
		{ "1E0", false, 0 },
		{ "0e0", false, 0 },
		{ "true", false, 0 },
		{ "null", false, 0 },
		{ "\"1\"", false, 0 },
		{ "[]", false, 0 },
		{ "{}", false, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_json j;
		uint64_t value = 0;
		char text[60];
		int n = snprintf(text, sizeof(text), "{\"a\":%s}", cases[i].json);

		assert_int_equal(sft_json_parse(&j, text, (size_t)n, 0, NULL), 0);
		assert_int_equal(sft_json_u64(&j, 2, &value), cases[i].ok);
		if (cases[i].ok)
			assert_true(value == cases[i].value);
		sft_json_free(&j);
	}
}

static void kinds_have_names_for_messages(void **state)
{
	static const char text[] = "{\"a\":[{},[],\"\",1,-1,true,false,null]}";
	static const char *const kinds[] = { "an object", "an array", "a string", "a number",
					     "a number",  "true",     "false",	  "null" };
	struct sft_json j;

	assert_int_equal(sft_json_parse(&j, text, sizeof(text) - 1, 0, NULL), 0);
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		assert_string_equal(sft_json_kind(&j, 3 + i), kinds[i]);
	sft_json_free(&j);
}

/* Many keys, of which the last repeats one, in several orders: the sort must bring them together.
 */
static void duplicates_are_found_among_many_keys(void **state)
{
	enum { KEYS = 5000 };
	static const unsigned steps[] = { 1, KEYS - 1, 7, 2477 };
	char *text = malloc(KEYS * 40);

	for (size_t s = 0; s < sizeof(steps) / sizeof(*steps); s++) {
		for (unsigned dup = 0; dup < 3; dup++) {
			struct sft_error err = { 0 };
			struct sft_json j;
			size_t n = (size_t)sprintf(text, "{");

			for (unsigned i = 0; i < KEYS; i++)
				n += (size_t)sprintf(text + n, "\"layer.%u.\\u0077\":0,",
						     i * steps[s] % KEYS);
			n += (size_t)sprintf(text + n, "\"%s\":0}",
					     dup == 0	? "layer"
					     : dup == 1 ? "layer.4321.w"
							: "\\u006cayer.7.w");
			int r = sft_json_parse(&j, text, n, 0, &err);
			assert_int_equal(r, dup ? -EBADMSG : 0);
			assert_string_equal(
				strrchr(err.msg, ':') ? strrchr(err.msg, ':') : "",
				dup == 0   ? ""
				: dup == 1 ? ": key \"layer.4321.w\" occurs twice in one object"
					   : ": key \"layer.7.w\" occurs twice in one object");
			sft_json_free(&j);
		}
	}
	free(text);
}

/* Fill a text of `len` bytes with head, repeated middle and tail. */
static size_t repeat(char *text, size_t len, const char *head, const char *middle, const char *tail)
{
	size_t n = (size_t)sprintf(text, "%s", head);

	while (n + strlen(middle) + strlen(tail) < len)
		n += (size_t)sprintf(text + n, "%s", middle);
	return n + (size_t)sprintf(text + n, "%s", tail);
}

/* sft.h promises 16 bytes a byte for a header, json.h what this is made of. */
static void memory_is_bounded_whatever_the_text(void **state)
{
	static const struct {
		const char *head, *middle, *tail;
		double most; /* bytes of memory for a byte of text */
	} cases[] = {
		{ "{", "[", "", 0 },
		{ "{\"a\":", "[", "", 0 },
		{ "{", "\"\":", "", 0 },
		{ "{\"a\":", "\"\":", "1}", 0 },
		{ "{", "\"\"", "}", 0 },
		{ "{\"a\":[", "[1]", "]}", 0 },
		{ "{\"a\":[", "1,", "1]}", 10.1 },
		{ "{\"a\":[", "[],", "1]}", 10.1 },
		{ "{\"a\":[", "[1],", "1]}", 10.1 },
		{ "{\"a\":[", "\"\",", "1]}", 10.1 },
		{ "{\"a\":[", "{\"\":{}},", "1]}", 10.1 },
		{ "{", "\"\":1,", "\"\":1}", 14.5 },
		{ "{", "\"\":1,\"a\":1,", "\"\":1}", 14.5 },
	};
	const size_t len = 300000;
	char *text = malloc(len + 1);

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_json j;
		size_t n = repeat(text, len, cases[i].head, cases[i].middle, cases[i].tail);

		counting_start();
		sft_json_parse(&j, text, n, 0, NULL);
		if (counting_peak() > cases[i].most * (double)n + 1000)
			fail_msg("%s: %zu bytes for %zu", cases[i].middle, counting_peak(), n);
		sft_json_free(&j);
		assert_int_equal(counting_current(), 0);
	}
	counting_start();
	free(text);
}

static void running_out_of_memory_is_an_error(void **state)
{
	static const char text[] = "{\"i\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,"
				   "\"h\":0,\"a\":{}}";
	struct sft_json j;

	for (size_t n = 1;; n++) {
		struct sft_error err = { 0 };

		counting_start();
		counting_fail(n);
		int r = sft_json_parse(&j, text, sizeof(text) - 1, 0, &err);
		if (counting_calls() < n) {
			assert_int_equal(r, 0);
			assert_int_equal(n, 4); /* tokens, keys, scratch */
			sft_json_free(&j);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		assert_int_equal(counting_current(), 0);
		assert_non_null(strstr(err.msg, "out of memory"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_found_by_decoded_key),
		cmocka_unit_test(strings_are_decoded),
		cmocka_unit_test(only_plain_integers_of_64_bits_are_u64),
		cmocka_unit_test(kinds_have_names_for_messages),
		cmocka_unit_test(duplicates_are_found_among_many_keys),
		cmocka_unit_test(memory_is_bounded_whatever_the_text),
		cmocka_unit_test(running_out_of_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
