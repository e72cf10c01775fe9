/* test_hints.c - what is said of sources that hold something else */
#include "sft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/test-hints-XXXXXX";

static const char *in_dir(const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_bytes(const char *name, const char *bytes, size_t len)
{
	FILE *f = fopen(in_dir(name), "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* Bytes, the rule's message, and the hint behind it; "" for none. */
#define BYTES(text) text, sizeof(text) - 1
static const struct {
	const char *bytes;
	size_t len;
	const char *rule, *hint;
} cases[] = {
	{ BYTES("PK\3\4\24\0\0\0\0\0"), "is above 100000000: no safetensors file",
	  "; it looks like a PyTorch pickle (zip): convert it" },
	{ BYTES("\x80\2\x8a\nl\xfc\x9c"
		"F\xf9 j"),
	  "is above 100000000", "; it looks like a Python pickle" },
	{ BYTES("\x80\4\x95\1\2\3\4\5\6\7"), "is above 100000000",
	  "; it looks like a Python pickle" },
	{ BYTES("GGUF\3\0\0\0abc"), "is above 100000000", "; it looks like a GGUF file" },
	{ BYTES("\x89HDF\r\n\x1a\n0"), "is above 100000000", "; it looks like an HDF5 file" },
	{ BYTES("\x93NUMPY\1\0v"), "is above 100000000", "; it looks like a numpy array" },
	{ BYTES("version https://git-lfs.github.com/spec/v1\n"), "is above 100000000",
	  "; it is a git-lfs pointer, not the file itself: run \"git lfs pull\"" },
	{ BYTES("<!DOCTYPE html><html>"), "is above 100000000", "; it looks like a web page" },
	{ BYTES("<!doctype html>"), "is above 100000000", "; it looks like a web page" },
	{ BYTES("<HTML><body>"), "is above 100000000", "; it looks like a web page" },
	{ BYTES("<?xml version='1.0'?>"), "is above 100000000", "; it looks like a web page" },
	{ BYTES("{\"error\": 1}"), "is above 100000000", "; it looks like JSON text" },
	{ BYTES("{}"), "shorter than 8 bytes (it has 2)", "; it looks like JSON text" },
	{ BYTES("\x1f\x8b\x08\0\0\0\0\0\2\3"), "is past the end of the file (10 bytes)",
	  "; it is compressed" },
	{ BYTES("\x28\xb5\x2f\xfd\4\0\1\2\3"), "is above 100000000", "; it is compressed" },
	{ BYTES("\0\0\0\0\0\0\0\0\0\0\0"), "header length is 0", "; it begins with zeros" },
	{ BYTES("\0\0\0\0\0\0\0\0"), "header length is 0", "; it begins with zeros" },
	/* Nothing is known of these. */
	{ BYTES(""), "shorter than 8 bytes (it has 0)", "" },
	{ BYTES("PK\3"), "shorter than 8 bytes (it has 3)", "" },
	{ BYTES("Entry not found"), "is above 100000000", "" },
	{ BYTES("version https://example.org"), "is above 100000000", "" },
	/* These are broken headers, whatever their lengths look like. */
	{ BYTES("\x1f\x8b\x08\0\0\0\0\0{\"a\":"), "is past the end of the file (13 bytes)", "" },
	{ BYTES("\0\0\0\0\0\0\0\0{}"), "header length is 0", "" },
	/* Cut short. */
	{ BYTES("\x40\0\0\0\0\0\0\0{\"a\":"),
	  "is past the end of the file (13 bytes): cut short, or", "" },
};

static void files_of_other_formats_are_recognised(void **state)
{
	int bad = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sft_error err = { 0 };
		struct sft_file *file = NULL;

		write_bytes("f", cases[i].bytes, cases[i].len);
		int r = sft_file_open(in_dir("f"), 0, &file, &err);
		const char *hint = strstr(err.msg, "; ");
		assert_null(file);
		if (r == -EBADMSG && strstr(err.msg, cases[i].rule) &&
		    (cases[i].hint[0] ? hint && strstr(hint, cases[i].hint) == hint : !hint))
			continue;
		print_error("case %zu: wanted \"%s%s\", got %d \"%s\"\n", i, cases[i].rule,
			    cases[i].hint, r, err.msg);
		bad++;
	}
	unlink(in_dir("f"));
	assert_int_equal(bad, 0);
}

static void no_error_to_write_to_is_allowed(void **state)
{
	struct sft_file *file = NULL;

	write_bytes("f", "PK\3\4\24\0\0\0\0\0", 10);
	assert_int_equal(sft_file_open(in_dir("f"), 0, &file, NULL), -EBADMSG);
	unlink(in_dir("f"));
}

static void directory_says(const char *what, const char *hint)
{
	struct sft_checkpoint *ck = NULL;
	struct sft_error err = { 0 };
	int r = sft_checkpoint_open(dir, 0, &ck, &err);

	if (r != -ENOENT || !strstr(err.msg, "no *.safetensors and no ") ||
	    (hint ? !strstr(err.msg, hint) : !!strstr(err.msg, "; ")))
		fail_msg("%s: got %d \"%s\"", what, r, err.msg);
}

static void directories_of_something_else_are_recognised(void **state)
{
	directory_says("empty", NULL);
	write_bytes("notes.txt", "PK\3\4\24\0\0\0\0\0", 10);
	directory_says("other files", NULL);
	write_bytes("data.bin", "0123456789", 10);
	directory_says("what is not known", NULL);
	unlink(in_dir("data.bin"));
	write_bytes("pytorch_model.bin", "PK\3\4\24\0\0\0\0\0", 10);
	directory_says("PyTorch's", "; pytorch_model.bin looks like a PyTorch pickle (zip)");
	mkdir(in_dir("snapshots"), 0700);
	directory_says("a hub's cache", "; in a hub cache the source is a directory in snapshots/");
	rmdir(in_dir("snapshots"));
	unlink(in_dir("pytorch_model.bin"));
	mkdir(in_dir("x.bin"), 0700);
	directory_says("a directory with such a name", NULL);
	rmdir(in_dir("x.bin"));
	unlink(in_dir("notes.txt"));
}

static void a_hint_follows_the_message(void **state)
{
	struct sft_error err = { 0 };

	sft_hint(NULL, "nothing");
	sft_hint(&err, "nothing failed");
	assert_string_equal(err.msg, "");
	sft_fail(&err, EINVAL, "no");
	sft_hint(&err, "do \x1b %d", 1);
	assert_string_equal(err.msg, "no; do \\x1b 1");
	for (int i = 0; i < 300; i++)
		sft_hint(&err, "more and more");
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	assert_string_equal(err.msg + strlen(err.msg) - 3, "...");
	assert_int_equal(err.errnum, EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_of_other_formats_are_recognised),
		cmocka_unit_test(no_error_to_write_to_is_allowed),
		cmocka_unit_test(directories_of_something_else_are_recognised),
		cmocka_unit_test(a_hint_follows_the_message),
	};

	if (!mkdtemp(dir))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
