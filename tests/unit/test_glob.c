/* test_glob.c - patterns for names of tensors */
#include "glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define NAME(text) text, sizeof(text) - 1

static const struct {
	const char *pattern, *name;
	size_t len;
	bool match;
} cases[] = {
	{ "", NAME(""), true },
	{ "", NAME("a"), false },
	{ "*", NAME(""), true },
	{ "?", NAME(""), false },
	{ "a", NAME("a"), true },
	{ "a", NAME("ab"), false },
	{ "ab", NAME("a"), false },
	{ "*.mlp.*", NAME("model.layers.0.mlp.up"), true },
	{ "*.mlp.*", NAME("mlp.up"), false },
	{ "*/w", NAME("a/b.c/w"), true },
	{ "*", NAME(".hidden"), true },
	{ "**a**", NAME("a"), true },
	{ "*ab", NAME("aaab"), true },
	{ "*ab*ab", NAME("abab"), true },
	{ "*ab*ab", NAME("aab"), false },
	{ "a*b*c", NAME("a.bb.cbc"), true },
	{ "a*b*c", NAME("a.bb.cb"), false },
	{ "layers.?.w", NAME("layers.1.w"), true },
	{ "layers.?.w", NAME("layers.10.w"), false },
	{ "layers.[0-24].w", NAME("layers.4.w"), true },
	{ "layers.[0-24].w", NAME("layers.3.w"), false },
	{ "[!a-c]", NAME("b"), false },
	{ "[^a-c]", NAME("d"), true },
	{ "[!a-c]", NAME(""), false },
	{ "[]]", NAME("]"), true },
	{ "[!]]", NAME("]"), false },
	{ "[a-]", NAME("-"), true },
	{ "[a\\]b]", NAME("]"), true },
	{ "[\\a-\\c]", NAME("b"), true },
	{ "[c-a]", NAME("b"), false },
	{ "[]", NAME("[]"), true },
	{ "x[0", NAME("x[0"), true },
	{ "[", NAME("["), true },
	{ "[", NAME("a"), false },
	{ "[!", NAME("[!"), true },
	{ "[a-", NAME("[a-"), true },
	{ "[\\", NAME("[\\"), true },
	{ "x\\[0\\]", NAME("x[0]"), true },
	{ "\\*", NAME("*"), true },
	{ "\\*", NAME("a"), false },
	{ "a\\", NAME("a\\"), true },
	{ "?", NAME("é"), true },
	{ "??", NAME("é"), false },
	{ "?", NAME("😀"), true },
	{ "é", NAME("é"), true },
	{ "é", NAME("è"), false },
	{ "[è-ê]", NAME("é"), true },
	{ "[!漢]", NAME("é"), true },
	{ "[!漢]?", NAME("é"), false },
	{ "[漢-龍]?", NAME("鰐a"), true },
	{ "[漢-龍]*", NAME("é"), false },
	{ "[😀-😂]", NAME("😁"), true },
	{ "*\xc3", NAME("é"), false },
	{ "\xc3*", NAME("é"), false },
	{ "[\xff]", NAME("ÿ"), false },
	{ "?", NAME("\0"), true },
	{ "a*b", NAME("a\0b"), true },
	{ "a", NAME("a\0"), false },
	{ "a?", NAME("a\0"), true },
	{ "[!a]", NAME("\0"), true },
	{ "[a]", NAME("\0"), false },
};

static void patterns_match_names(void **state)
{
	int bad = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (glob_match(cases[i].pattern, cases[i].name, cases[i].len) == cases[i].match)
			continue;
		print_error("\"%s\" and \"%s\": wanted %d\n", cases[i].pattern, cases[i].name,
			    cases[i].match);
		bad++;
	}
	assert_int_equal(bad, 0);
}

/* Trying each star again would take longer than anybody waits. */
static void many_stars_are_cheap(void **state)
{
	static const char *const patterns[] = {
		"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b",
		"*?a*?a*?a*?a*?a*?a*?b",
		"*[!b]*[!b]*[!b]*[!b]*[!b]*[!b]b",
		"*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
	};
	size_t len = 1 << 20;
	char *name = malloc(len);
	clock_t start = clock();

	assert_non_null(name);
	memset(name, 'a', len);
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		assert_false(glob_match(patterns[i], name, len));
	assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 20);
	free(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_match_names),
		cmocka_unit_test(many_stars_are_cheap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
