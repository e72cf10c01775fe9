/* python.h - ask a script in tests/ for a second opinion; PYTHON and SOURCE_ROOT say where it is */
#ifndef PYTHON_H
#define PYTHON_H

#include "sft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/*
 * Run tests/SCRIPT (with its arguments, words for the shell) with `input` (may be NULL) on its
 * standard input, and add what it prints to `output`. Skips the test where there is no Python, or
 * where the script exits with 77.
 */
static inline void ask_python(const char *script, const struct sft_buf *input,
			      struct sft_buf *output)
{
	const char *python = getenv("PYTHON"), *root = getenv("SOURCE_ROOT");
	char path[] = "/tmp/test-python-XXXXXX", command[1024], chunk[4096];

	if (!python || !root)
		skip();
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	FILE *file = fdopen(fd, "w");
	assert_non_null(file);
	if (input && input->len)
		assert_int_equal(fwrite(input->data, 1, input->len, file), input->len);
	assert_int_equal(fclose(file), 0);
	snprintf(command, sizeof(command), "'%s' '%s'/tests/oracles/%s <%s", python, root, script, path);
	file = popen(command, "r");
	assert_non_null(file);
	for (size_t n; (n = fread(chunk, 1, sizeof(chunk), file)) > 0;)
		sft_buf_add(output, chunk, n);
	int status = pclose(file);
	assert_int_equal(unlink(path), 0);
	if (status == 77 << 8)
		skip();
	assert_int_equal(status, 0);
	assert_false(output->failed);
}

/* Add a JSON string and a newline. */
static inline void add_json_line(struct sft_buf *out, const char *text, size_t len)
{
	sft_buf_json(out, text, len);
	sft_buf_add(out, "\n", 1);
}

#endif
