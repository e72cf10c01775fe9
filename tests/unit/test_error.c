/* test_error.c - error messages, quoting, and the growing buffer */
#include "sft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void fail_records_the_first_error_only(void **state)
{
	struct sft_error err = { 0 };

	assert_int_equal(sft_fail(&err, EBADMSG, "tensor %s: %d", "a", 7), -EBADMSG);
	assert_int_equal(sft_fail(&err, ENOMEM, "later"), -ENOMEM);
	assert_int_equal(err.errnum, EBADMSG);
	assert_string_equal(err.msg, "tensor a: 7");
}

static void fail_without_an_error_returns_the_code(void **state)
{
	assert_int_equal(sft_fail(NULL, EIO, "nobody reads this"), -EIO);
	assert_int_equal(sft_wrap(NULL, "nor this"), 0);
}

static void fail_escapes_what_could_steer_a_terminal(void **state)
{
	static const struct {
		const char *text, *msg;
	} cases[] = {
		{ "a\nb\tc", "a\\nb\\tc" },
		{ "\x1b[31m", "\\x1b[31m" },
		{ "\x7f", "\\x7f" },
		{ "\xc2\x9b", "\\xc2\\x9b" },
		{ "\xff", "\\xff" },
		{ "caf\xc3\xa9 \xc2\xa0", "caf\xc3\xa9 \xc2\xa0" },
		{ "back\\slash \"quote\"", "back\\slash \"quote\"" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };

		sft_fail(&err, EINVAL, "%s", cases[i].text);
		assert_string_equal(err.msg, cases[i].msg);
	}
}

/* Long text is cut with "..." and never within a character or an escape. */
static void fail_cuts_long_messages_between_characters(void **state)
{
	static const char *const units[] = { "x", "\xc3\xa9", "\xe2\x82\xac", "\n", "\x01" };

	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
		for (size_t shift = 0; shift < 4; shift++) {
			struct sft_error err = { 0 };
			char text[2048] = "abcd";
			size_t len = shift;

			while (len + 8 < sizeof(text)) {
				strcpy(text + len, units[i]);
				len += strlen(units[i]);
			}
			sft_fail(&err, EINVAL, "%s", text);
			size_t n = strlen(err.msg);
			assert_true(n > sizeof(err.msg) - 16 && n < sizeof(err.msg));
			assert_string_equal(err.msg + n - 3, "...");
			const char *shown = i == 3 ? "\\n" : i == 4 ? "\\x01" : units[i];
			assert_memory_equal(err.msg + n - 3 - strlen(shown), shown, strlen(shown));
		}
	}
}

static void wrap_puts_context_before_the_message(void **state)
{
	struct sft_error err = { 0 };

	assert_int_equal(sft_wrap(&err, "nothing failed"), 0);
	assert_string_equal(err.msg, "");
	sft_fail(&err, EBADMSG, "no dtype\n");
	assert_int_equal(sft_wrap(&err, "tensor %s", "\x1b"), -EBADMSG);
	assert_int_equal(sft_wrap(&err, "f"), -EBADMSG);
	assert_string_equal(err.msg, "f: tensor \\x1b: no dtype\\n");
}

static void wrap_keeps_within_the_message(void **state)
{
	char context[600];

	memset(context, 'c', sizeof(context));
	for (size_t n = 480; n < sizeof(context); n++) {
		struct sft_error err = { 0 };

		sft_fail(&err, EBADMSG, "a reason of some length, longer than what is left");
		sft_wrap(&err, "%.*s", (int)n, context);
		assert_true(strlen(err.msg) < sizeof(err.msg));
		assert_string_equal(err.msg + strlen(err.msg) - 3, "...");
	}
}

static void quote_shows_names_safely(void **state)
{
	static const struct {
		const char *name;
		size_t len;
		const char *quoted;
	} cases[] = {
		{ "", 0, "\"\"" },
		{ "a.b", 3, "\"a.b\"" },
		{ "a\0b", 3, "\"a\\x00b\"" },
		{ "\"\\", 2, "\"\\\"\\\\\"" },
		{ "\n\t\r", 3, "\"\\n\\t\\x0d\"" },
		{ "\xe2\x82\xac", 3, "\"\xe2\x82\xac\"" },
		{ "\xe2\x82", 2, "\"\\xe2\\x82\"" },
		{ "\xed\xa0\x80", 3, "\"\\xed\\xa0\\x80\"" },
	};
	struct sft_quoted q;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_string_equal(sft_quote(&q, cases[i].name, cases[i].len), cases[i].quoted);
}

static void quote_cuts_long_names_with_dots_behind(void **state)
{
	struct sft_quoted q;
	char name[1000];

	memset(name, '\x01', sizeof(name));
	sft_quote(&q, name, sizeof(name));
	assert_true(strlen(q.text) < sizeof(q.text));
	assert_string_equal(q.text + strlen(q.text) - 8, "\\x01\"...");
	memset(name, 'n', sizeof(name));
	assert_null(strstr(sft_quote(&q, name, 154), "..."));
	assert_non_null(strstr(sft_quote(&q, name, 155), "n\"..."));
}

static void buffer_grows_and_ends_in_a_nul(void **state)
{
	struct sft_buf b = { 0 };

	for (int i = 0; i < 1000; i++)
		sft_buf_printf(&b, "%03d,", i);
	sft_buf_add(&b, "\0z", 2);
	sft_buf_add(&b, NULL, 0);
	assert_false(b.failed);
	assert_int_equal(b.len, 4002);
	assert_memory_equal(b.data + 3992, "998,999,\0z", 11);
	sft_buf_free(&b);
	assert_null(b.data);
}

static void buffer_remembers_that_memory_ran_out(void **state)
{
	struct sft_buf b = { 0 };

	sft_buf_add(&b, "x", 1);
	sft_buf_add(&b, "x", SIZE_MAX - 1);
	assert_true(b.failed);
	sft_buf_add(&b, "y", 1);
	assert_int_equal(b.len, 1);
	sft_buf_free(&b);
	sft_buf_free(&b);
}

static void json_strings_are_escaped_as_the_reference_does(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *json;
	} cases[] = {
		{ "", 0, "\"\"" },
		{ "plain/\x7f", 7, "\"plain/\x7f\"" },
		{ "\"\\\b\f\n\r\t", 7, "\"\\\"\\\\\\b\\f\\n\\r\\t\"" },
		{ "\0\x1f", 2, "\"\\u0000\\u001f\"" },
		{ "\xe2\x80\xa8\xf0\x9f\x98\x80", 7, "\"\xe2\x80\xa8\xf0\x9f\x98\x80\"" },
		{ "a\xff\xe2\x80", 4, "\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_buf b = { 0 };

		sft_buf_json(&b, cases[i].text, cases[i].len);
		assert_string_equal(b.data, cases[i].json);
		sft_buf_free(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fail_records_the_first_error_only),
		cmocka_unit_test(fail_without_an_error_returns_the_code),
		cmocka_unit_test(fail_escapes_what_could_steer_a_terminal),
		cmocka_unit_test(fail_cuts_long_messages_between_characters),
		cmocka_unit_test(wrap_puts_context_before_the_message),
		cmocka_unit_test(wrap_keeps_within_the_message),
		cmocka_unit_test(quote_shows_names_safely),
		cmocka_unit_test(quote_cuts_long_names_with_dots_behind),
		cmocka_unit_test(buffer_grows_and_ends_in_a_nul),
		cmocka_unit_test(buffer_remembers_that_memory_ran_out),
		cmocka_unit_test(json_strings_are_escaped_as_the_reference_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
