/* cmd_status.c - what is mounted, what is staged, what blocks a commit */
#include "cmd.h"
#include "control.h"
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value as text: strings decoded, everything else as it stands. */
static void value(const struct sft_json *j, unsigned i, struct sft_buf *out)
{
	size_t n = (size_t)(j->tokens[i].end - j->tokens[i].start);
	char *decoded = sft_json_is_string(j, i) ? malloc(n + 1) : NULL;
	if (decoded)
		sft_buf_add(out, decoded, sft_json_decode(j, i, decoded));
	else
		sft_buf_add(out, j->text + j->tokens[i].start, n);
	free(decoded);
}

static void line(const struct sft_json *j, unsigned object, const char *key, const char *label,
		 struct sft_buf *out)
{
	unsigned i = sft_json_get(j, object, key);
	if (!i)
		return;
	sft_buf_printf(out, "%-12s ", label);
	value(j, i, out);
	sft_buf_add(out, "\n", 1);
}

static void problem_lines(const struct sft_json *j, struct sft_buf *out)
{
	unsigned array = sft_json_get(j, 0, "problems");
	unsigned end = array ? sft_json_next(j, array) : 0;
	for (unsigned i = array + 1; array && i < end; i = sft_json_next(j, i)) {
		sft_buf_printf(out, "%-12s ", "problem");
		value(j, sft_json_get(j, i, "tensor"), out);
		sft_buf_printf(out, ": ");
		value(j, sft_json_get(j, i, "reason"), out);
		sft_buf_add(out, "\n", 1);
	}
}

/* "1 tensor", "2 tensors" */
static void counted(const struct sft_json *j, unsigned i, const char *what, struct sft_buf *out)
{
	size_t before = out->len;
	value(j, i, out);
	bool one = !out->failed && out->len == before + 1 && out->data[before] == '1';
	sft_buf_printf(out, " %s%s", what, one ? "" : "s");
}

static void render(const struct sft_json *j, struct sft_buf *out)
{
	static const char *const keys[] = { "source", "mountpoint", "mode",   "layout",
					    "pid",    "tensors",    "shards", "bytes" };
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		line(j, 0, keys[i], keys[i], out);
	line(j, 0, "read_ahead_kb", "read ahead", out);
	unsigned staged = sft_json_get(j, 0, "staged");
	if (staged) {
		sft_buf_printf(out, "%-12s ", "staged");
		counted(j, sft_json_get(j, staged, "tensors"), "tensor", out);
		sft_buf_printf(out, ", ");
		counted(j, sft_json_get(j, staged, "bytes"), "byte", out);
		sft_buf_printf(out, "\n");
	}
	problem_lines(j, out);
	unsigned last = sft_json_get(j, 0, "last_commit");
	if (last && j->tokens[last].type == JSMN_OBJECT) {
		line(j, last, "result", "last commit", out);
		line(j, last, "time", "", out);
		if (sft_json_is_string(j, sft_json_get(j, last, "error")))
			line(j, last, "error", "", out);
	}
}

int cmd_status(int argc, char **argv)
{
	static const char *const names[] = { "--json", NULL };
	bool as_json = false;
	struct control c = { 0 };
	struct sft_buf out = { 0 };
	if (cmd_one(argc, argv, names, &as_json, "MOUNTPOINT") != 0)
		return 2;
	int code = control_read(&c, argv[0], "status");
	if (code == 0 && !as_json)
		render(&c.json, &out);
	if (code == 0) {
		const struct sft_buf *print = as_json ? &c.text : &out;
		if (fwrite(print->data, 1, print->len, stdout) != print->len ||
		    fflush(stdout) != 0) {
			log_error("stdout", "%s", strerror(errno));
			code = 1;
		}
	}
	sft_buf_free(&out);
	control_free(&c);
	return code;
}
