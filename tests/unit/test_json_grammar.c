/* test_json_grammar.c - what is JSON and what is not */
#include "json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A literal that may hold NULs, and its length. */
#define T(s) (s), sizeof(s) - 1

static void valid_json_is_accepted(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		unsigned tokens;
	} cases[] = {
		{ T("{}"), 1 },
		{ T(" \t\r\n{ } \t\r\n"), 1 },
		{ T("{\"a\":1}"), 3 },
		{ T("{\"a\":{},\"b\":[],\"c\":[{},[]]}"), 9 },
		{ T("{ \"a\" : [ 1 , 2 ] , \"b\" : null }"), 7 },
		{ T("{\"\":\"\"}"), 3 },
		{ T("{\"a\":[true,false,null]}"), 6 },
		{ T("{\"a\":[0,-0,1,-1,10,0.0,-0.5e+1,1E-9,1e5,"
		    "123456789012345678901234567890,1e999]}"),
		  14 },
		{ T("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\uD834\\uDd1e\"}"), 3 },
		{ T("{\"\xc2\x80\xdf\xbf\":1}"), 3 },
		{ T("{\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\":1}"), 3 },
		{ T("{\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\":1}"), 3 },
		{ T("{\"\x7f\":1}"), 3 },
		{ T("{\"a\":1,\"A\":1,\"b\":{\"a\":1}}"), 9 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		struct sft_json j;

		if (sft_json_parse(&j, cases[i].text, cases[i].len, 0, &err))
			fail_msg("%s: %s", cases[i].text, err.msg);
		assert_int_equal(j.count, cases[i].tokens);
		sft_json_free(&j);
	}
}

static void invalid_json_is_refused_with_place_and_reason(void **state)
{
	static const struct {
		const char *text;
		size_t len, at;
		const char *reason;
	} cases[] = {
		{ T(""), 0, "expected '{' at the start, found the end" },
		{ T("  "), 2, "expected '{' at the start, found the end" },
		{ T("[]"), 0, "expected '{' at the start, found '['" },
		{ T("\xef\xbb\xbf{}"), 0, "expected '{' at the start, found byte 0xef" },
		{ T("{"), 1, "expected a key in double quotes, found the end" },
		{ T("{}{}"), 2, "expected nothing behind the closing '}', found '{'" },
		{ T("{}}"), 2, "expected nothing behind the closing '}', found '}'" },
		{ T("{}\0"), 2, "expected nothing behind the closing '}', found byte 0x00" },
		{ T("{]"), 1, "expected a key in double quotes, found ']'" },
		{ T("{\"a\"}"), 4, "expected ':' behind a key, found '}'" },
		{ T("{\"a\" 1}"), 5, "expected ':' behind a key, found '1'" },
		{ T("{\"a\":}"), 5, "expected a value, found '}'" },
		{ T("{\"a\":"), 5, "expected a value, found the end" },
		{ T("{\"a\"::1}"), 5, "expected a value, found ':'" },
		{ T("{\"a\":1"), 6, "expected ',' or '}', found the end" },
		{ T("{\"a\":1,}"), 7, "expected a key in double quotes, found '}'" },
		{ T("{,\"a\":1}"), 1, "expected a key in double quotes, found ','" },
		{ T("{\"a\":1,,\"b\":1}"), 7, "expected a key in double quotes, found ','" },
		{ T("{\"a\":1 \"b\":1}"), 7, "expected ',' or '}', found '\"'" },
		{ T("{\"a\":1]"), 6, "expected ',' or '}', found ']'" },
		{ T("{\"a\":\"b\":\"c\"}"), 8, "expected ',' or '}', found ':'" },
		{ T("{1:1}"), 1, "expected a key in double quotes, found '1'" },
		{ T("{a:1}"), 1, "expected a key in double quotes, found 'a'" },
		{ T("{'a':1}"), 1, "expected a key in double quotes, found '''" },
		{ T("{{}:1}"), 1, "expected a key in double quotes, found '{'" },
		{ T("{\"a\":[1,]}"), 8, "expected a value, found ']'" },
		{ T("{\"a\":[,1]}"), 6, "expected a value, found ','" },
		{ T("{\"a\":[1 2]}"), 8, "expected ',' or ']', found '2'" },
		{ T("{\"a\":[1}"), 7, "expected ',' or ']', found '}'" },
		{ T("{\"a\":[1:2]}"), 7, "expected ',' or ']', found ':'" },
		{ T("{\"a\":[\"b\":2]}"), 9, "expected ',' or ']', found ':'" },
		{ T("{\"a\":1/*c*/}"), 6, "expected ',' or '}', found '/'" },
		{ T("{\"a\":1}//c"), 7, "expected nothing behind the closing '}', found '/'" },
		{ T("{\"a\":01}"), 5, "a number with a leading zero" },
		{ T("{\"a\":-01}"), 6, "a number with a leading zero" },
		{ T("{\"a\":00}"), 5, "a number with a leading zero" },
		{ T("{\"a\":-}"), 6, "expected a digit behind '-', found '}'" },
		{ T("{\"a\":+1}"), 5, "expected a value, found '+'" },
		{ T("{\"a\":.5}"), 5, "expected a value, found '.'" },
		{ T("{\"a\":1.}"), 7, "expected a digit behind the decimal point, found '}'" },
		{ T("{\"a\":1.e1}"), 7, "expected a digit behind the decimal point, found 'e'" },
		{ T("{\"a\":1e}"), 7, "expected a digit in the exponent, found '}'" },
		{ T("{\"a\":1e+}"), 8, "expected a digit in the exponent, found '}'" },
		{ T("{\"a\":1.5.5}"), 8, "expected ',' or '}', found '.'" },
		{ T("{\"a\":0x1}"), 6, "expected ',' or '}', found 'x'" },
		{ T("{\"a\":NaN}"), 5, "expected a value, found 'N'" },
		{ T("{\"a\":Infinity}"), 5, "expected a value, found 'I'" },
		{ T("{\"a\":-Infinity}"), 6, "expected a digit behind '-', found 'I'" },
		{ T("{\"a\":tru}"), 5, "expected a value, found 't'" },
		{ T("{\"a\":truex}"), 9, "expected ',' or '}', found 'x'" },
		{ T("{\"a\":True}"), 5, "expected a value, found 'T'" },
		{ T("{\"a\":nul"), 5, "expected a value, found 'n'" },
		{ T("{\"a\":\0}"), 5, "expected a value, found byte 0x00" },
		{ T("{\0\"a\":1}"), 1, "expected a key in double quotes, found byte 0x00" },
		{ T("{\"a\":1\v}"), 6, "expected ',' or '}', found byte 0x0b" },
		{ T("{\"a\":1\xc2\xa0}"), 6, "expected ',' or '}', found byte 0xc2" },
		{ T("{\"a"), 1, "a string without an end" },
		{ T("{\"a\\\""), 1, "a string without an end" },
		{ T("{\"a\\"), 3, "a backslash that begins none of JSON's escapes" },
		{ T("{\"a\nb\":1}"), 3, "control character 0x0a in a string" },
		{ T("{\"a\tb\":1}"), 3, "control character 0x09 in a string" },
		{ T("{\"a\0b\":1}"), 3, "control character 0x00 in a string" },
		{ T("{\"a\x1f\":1}"), 3, "control character 0x1f in a string" },
		{ T("{\"\\x41\":1}"), 2, "a backslash that begins none of JSON's escapes" },
		{ T("{\"\\'\":1}"), 2, "a backslash that begins none of JSON's escapes" },
		{ T("{\"\\\0\":1}"), 2, "a backslash that begins none of JSON's escapes" },
		{ T("{\"\\U0041\":1}"), 2, "a backslash that begins none of JSON's escapes" },
		{ T("{\"\\u004\":1}"), 2, "\\u without four hex digits" },
		{ T("{\"\\u00g0\":1}"), 2, "\\u without four hex digits" },
		{ T("{\"\\u00"), 2, "\\u without four hex digits" },
		{ T("{\"\\ud800\":1}"), 2, "lone surrogate \\ud800" },
		{ T("{\"\\udc00\":1}"), 2, "lone surrogate \\udc00" },
		{ T("{\"\\ud800x\":1}"), 2, "lone surrogate \\ud800" },
		{ T("{\"\\ud800\\n\":1}"), 2, "lone surrogate \\ud800" },
		{ T("{\"\\ud800\\u0041\":1}"), 2, "lone surrogate \\ud800" },
		{ T("{\"\\ud800\\ud800\":1}"), 2, "lone surrogate \\ud800" },
		{ T("{\"\\ud800\\u"), 2, "lone surrogate \\ud800" },
		{ T("{\"\x80\":1}"), 2, "not UTF-8: byte 0x80 in a string" },
		{ T("{\"\xff\":1}"), 2, "not UTF-8: byte 0xff in a string" },
		{ T("{\"\xc0\x80\":1}"), 2, "not UTF-8: byte 0xc0 in a string" },
		{ T("{\"\xc1\xbf\":1}"), 2, "not UTF-8: byte 0xc1 in a string" },
		{ T("{\"\xe0\x9f\xbf\":1}"), 2, "not UTF-8: byte 0xe0 in a string" },
		{ T("{\"\xf0\x8f\xbf\xbf\":1}"), 2, "not UTF-8: byte 0xf0 in a string" },
		{ T("{\"\xed\xa0\x80\":1}"), 2, "not UTF-8: byte 0xed in a string" },
		{ T("{\"\xed\xbf\xbf\":1}"), 2, "not UTF-8: byte 0xed in a string" },
		{ T("{\"\xf4\x90\x80\x80\":1}"), 2, "not UTF-8: byte 0xf4 in a string" },
		{ T("{\"\xf5\x80\x80\x80\":1}"), 2, "not UTF-8: byte 0xf5 in a string" },
		{ T("{\"a\xc3\":1}"), 3, "not UTF-8: byte 0xc3 in a string" },
		{ T("{\"\xe2\x82\":1}"), 2, "not UTF-8: byte 0xe2 in a string" },
		{ T("{\"\xe2\x82"), 2, "not UTF-8: byte 0xe2 in a string" },
		{ T("{\"a\":1,\"a\":2}"), 8, "key \"a\" occurs twice in one object" },
		{ T("{\"a\":1,\"\\u0061\":2}"), 8, "key \"a\" occurs twice in one object" },
		{ T("{\"\\n\":1,\"\\u000a\":2}"), 9, "key \"\\n\" occurs twice in one object" },
		{ T("{\"/\":1,\"\\/\":2}"), 8, "key \"/\" occurs twice in one object" },
		{ T("{\"\":1,\"\":2}"), 7, "key \"\" occurs twice in one object" },
		{ T("{\"\xf0\x9d\x84\x9e\":1,\"\\uD834\\uDD1E\":2}"), 11,
		  "key \"\xf0\x9d\x84\x9e\" occurs twice in one object" },
		{ T("{\"x\":[{\"y\":{\"a\":1,\"b\":0,\"a\":2}}]}"), 25,
		  "key \"a\" occurs twice in one object" },
		{ T("{\"a\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,"
		    "\"\\u0063\":0}"),
		  50, "key \"c\" occurs twice in one object" },
		{ T("{\"z\":0,\"b\":0,\"c\":0,\"d\":0,\"e\":0,\"f\":0,\"g\":0,\"h\":0,\"i\":0,"
		    "\"b\":0}"),
		  56, "key \"b\" occurs twice in one object" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		struct sft_json j;
		char msg[600];
		/* Of its very length, so that reading behind it is caught. */
		char *text = malloc(cases[i].len + !cases[i].len);

		memcpy(text, cases[i].text, cases[i].len);
		snprintf(msg, sizeof(msg), "invalid JSON at byte %zu: %s", cases[i].at,
			 cases[i].reason);
		assert_int_equal(sft_json_parse(&j, text, cases[i].len, 0, &err), -EBADMSG);
		assert_int_equal(err.errnum, EBADMSG);
		assert_string_equal(err.msg, msg);
		assert_int_equal(err.offset, cases[i].at);
		assert_int_equal(sft_json_parse(&j, text, cases[i].len, 0, NULL), -EBADMSG);
		free(text);
	}
}

/* Every beginning of a valid text is invalid, and its end is noticed without reading past it. */
static void every_cut_text_is_refused(void **state)
{
	static const char text[] =
		"{\"k\\u00e9\\ud834\\udd1e\\n\":[true,false,null,-1.5e+7,{\"\xe2\x82\xac\":[]}]}";

	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		char *cut = malloc(n + !n);
		struct sft_json j;

		memcpy(cut, text, n);
		assert_int_equal(sft_json_parse(&j, cut, n, 0, NULL), -EBADMSG);
		free(cut);
	}
}

static void a_header_has_nothing_around_it_but_spaces_behind(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t offset;
		const char *msg;
	} cases[] = {
		{ "{}", 0, 0, "" },
		{ "{}   ", 0, 0, "" },
		{ "{\n}", 0, 0, "" },
		{ " {}", -EBADMSG, 8,
		  "invalid JSON at byte 8: expected '{' at the start, found byte 0x20" },
		{ "{}\n", -EBADMSG, 10,
		  "invalid JSON at byte 10: expected only spaces behind the closing '}', found "
		  "byte 0x0a" },
		{ "{} \t", -EBADMSG, 11,
		  "invalid JSON at byte 11: expected only spaces behind the closing '}', found "
		  "byte 0x09" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		struct sft_json j;

		assert_int_equal(sft_json_parse(&j, cases[i].text, strlen(cases[i].text),
						SFT_JSON_HEADER, &err),
				 cases[i].r);
		assert_string_equal(err.msg, cases[i].msg);
		assert_int_equal(err.offset, cases[i].offset);
		sft_json_free(&j);
	}
}

/* {"a":[[[...]]]} or {"a":{"a":{...}}} of this many levels in all. */
static size_t nest(char *text, bool objects, int levels)
{
	size_t n = (size_t)sprintf(text, "{");

	for (int i = 1; i < levels; i++)
		n += (size_t)sprintf(text + n, "%s", objects || i == 1 ? "\"a\":" : ""),
			n += (size_t)sprintf(text + n, "%s", objects ? "{" : "[");
	for (int i = 1; i < levels; i++)
		n += (size_t)sprintf(text + n, "%s", objects ? "}" : "]");
	return n + (size_t)sprintf(text + n, "}");
}

static void nesting_ends_at_127_levels(void **state)
{
	for (int objects = 0; objects < 2; objects++) {
		struct sft_error err = { 0 };
		struct sft_json j;
		char text[2000];
		size_t n = nest(text, objects, 127);

		assert_int_equal(sft_json_parse(&j, text, n, 0, &err), 0);
		assert_int_equal(sft_json_next(&j, 0), j.count);
		sft_json_free(&j);
		n = nest(text, objects, 128);
		assert_int_equal(sft_json_parse(&j, text, n, 0, &err), -EBADMSG);
		assert_non_null(strstr(err.msg, "nested deeper than 127 levels"));
	}
}

static void longer_than_any_header_is_refused(void **state)
{
	struct sft_error err = { 0 };
	struct sft_json j;

	assert_int_equal(sft_json_parse(&j, "{}", SFT_HEADER_MAX + 1, 0, &err), -EBADMSG);
	assert_string_equal(err.msg, "JSON of 100000001 bytes is longer than 100000000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(valid_json_is_accepted),
		cmocka_unit_test(invalid_json_is_refused_with_place_and_reason),
		cmocka_unit_test(every_cut_text_is_refused),
		cmocka_unit_test(a_header_has_nothing_around_it_but_spaces_behind),
		cmocka_unit_test(nesting_ends_at_127_levels),
		cmocka_unit_test(longer_than_any_header_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
