/* cmd_diff.c - what differs between two checkpoints, by tensor name */
#include "cmd.h"
#include "control.h"
#include "diff.h"
#include "log.h"
#include "ls.h"
#include "mountpoint.h"
#include "progress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MERGED ".safetensorfs/model.safetensors" /* all that a mount shows, as one file */
#define NAME_WIDTH 100 /* characters, as for ls: longer names stand out of their column */

/* ---- the two sources ---- */

/* What is mounted at `mnt`, staged edits included. */
static int open_mounted(const char *mnt, struct sft_checkpoint **ck, struct sft_error *err)
{
	char *path = NULL;
	if (asprintf(&path, "%s/" MERGED, mnt) < 0)
		return sft_fail(err, ENOMEM, "no memory");
	control_sync_writers(mnt);
	int r = sft_checkpoint_open(path, 0, ck, err);
	free(path);
	if (r == -EINVAL)
		sft_hint(err, "a staged tensor does not fit its shape (see safetensorfs status)");
	if (r == -EEXIST)
		sft_hint(err, "a name is in two shards, so they are no one file: compare the "
			      "shards");
	return r < 0 ? sft_wrap(err, MERGED) : 0;
}

static struct sft_checkpoint *open_source(const char *source)
{
	struct sft_checkpoint *ck = NULL;
	struct sft_error err = { 0 };
	const char *line;
	int r = mountpoint_is_ours(source) ? open_mounted(source, &ck, &err)
					   : sft_checkpoint_open(source, 0, &ck, &err);
	if (r < 0)
		log_error(source, "%s", err.msg);
	for (size_t i = 0; r == 0 && (line = sft_checkpoint_warning(ck, i)); i++)
		log_warning(source, "%s", line);
	return ck;
}

static void report(void *ctx, uint64_t done, uint64_t total)
{
	progress_step(ctx, done, total);
}

/* ---- what both outputs print ---- */

static uint64_t elements(const struct sft_tensor *t)
{
	return t->nbytes * 8 / sft_dtype_bits(t->dtype);
}

/* The place of a flat element number; there are elements, so no dimension is 0. */
static void add_index(struct sft_buf *out, const struct sft_tensor *t, uint64_t flat)
{
	uint64_t stride = elements(t);
	for (uint32_t i = 0; i < t->rank; i++) {
		stride /= t->shape[i];
		sft_buf_text(out, i ? "," : "[");
		sft_buf_u64(out, flat / stride);
		flat %= stride;
	}
	sft_buf_text(out, t->rank ? "]" : "[]");
}

/* ---- JSON ---- */

static void add_declared(struct sft_buf *out, const char *key, const struct sft_tensor *t)
{
	sft_buf_printf(out, ", \"%s\": ", key);
	if (!t) {
		sft_buf_text(out, "null");
		return;
	}
	sft_buf_printf(out, "{\"dtype\": \"%s\", \"shape\": ", sft_dtype_name(t->dtype));
	sft_buf_shape(out, t->shape, t->rank);
	sft_buf_printf(out, ", \"nbytes\": %llu}", (unsigned long long)t->nbytes);
}

static void add_maximum(struct sft_buf *out, const char *key, double value)
{
	if (value < 0)
		sft_buf_printf(out, ", \"%s\": null", key);
	else
		sft_buf_printf(out, ", \"%s\": %.17g", key, value);
}

static void add_object(struct sft_buf *out, const struct diff_item *item)
{
	static const char *const kinds[] = {
		[DIFF_ONLY_IN_A] = "only_in_a",
		[DIFF_ONLY_IN_B] = "only_in_b",
		[DIFF_DECLARED] = "declared",
		[DIFF_BYTES] = "bytes",
	};
	const struct sft_tensor *t = item->a ? item->a : item->b;
	const struct compare *c = item->bytes;
	sft_buf_text(out, "    {\"name\": ");
	sft_buf_json(out, t->name, t->name_len);
	sft_buf_printf(out, ", \"kind\": \"%s\"", kinds[diff_kind(item)]);
	add_declared(out, "a", item->a);
	add_declared(out, "b", item->b);
	if (c) {
		sft_buf_printf(out, ", \"elements\": %llu, \"of\": %llu, \"first\": %llu",
			       (unsigned long long)c->elements, (unsigned long long)elements(t),
			       (unsigned long long)c->first);
		sft_buf_text(out, ", \"index\": ");
		add_index(out, t, c->first);
	}
	if (c && compare_is_float(t->dtype)) {
		add_maximum(out, "max_abs", c->max_abs);
		add_maximum(out, "max_rel", c->max_rel);
		sft_buf_printf(out, ", \"nonfinite\": %llu", (unsigned long long)c->nonfinite);
	}
	sft_buf_text(out, "}");
}

static bool print_json(const struct diff *d, const size_t *counts, char **paths,
		       struct sft_buf *out)
{
	bool any = false;
	sft_buf_text(out, "{\n  \"a\": ");
	sft_buf_json(out, paths[0], strlen(paths[0]));
	sft_buf_text(out, ",\n  \"b\": ");
	sft_buf_json(out, paths[1], strlen(paths[1]));
	sft_buf_printf(out, ",\n  \"same\": %zu,\n  \"differences\": [", counts[DIFF_SAME]);
	for (size_t i = 0; i < d->count; i++) {
		if (diff_kind(&d->items[i]) == DIFF_SAME)
			continue;
		sft_buf_text(out, any ? ",\n" : "\n");
		add_object(out, &d->items[i]);
		any = true;
		if (!cmd_write(out, 1 << 16))
			return false;
	}
	sft_buf_text(out, any ? "\n  ]\n}\n" : "]\n}\n");
	return cmd_write(out, 0);
}

/* ---- text ---- */

struct text {
	size_t column;		/* characters that names take */
	struct sft_buf name;	/* of the line at hand */
	struct sft_buf scratch; /* for it */
	struct sft_buf *out;
};

/* Render a name. Returns its characters; of one that is too wide anyway not all are counted. */
static size_t take_name(struct text *t, const struct diff_item *item)
{
	const struct sft_tensor *tensor = item->a ? item->a : item->b;
	size_t n = 0;
	t->name.len = 0;
	ls_add_word(&t->name, tensor->name, tensor->name_len, &t->scratch);
	for (size_t i = 0; i < t->name.len && n <= NAME_WIDTH; i++)
		n += ((unsigned char)t->name.data[i] & 0xc0) != 0x80;
	return n;
}

static void measure_names(struct text *t, const struct diff *d)
{
	for (size_t i = 0; i < d->count; i++) {
		if (diff_kind(&d->items[i]) == DIFF_SAME)
			continue;
		size_t n = take_name(t, &d->items[i]);
		if (n > t->column && n <= NAME_WIDTH)
			t->column = n;
	}
}

static void add_type(struct sft_buf *out, const struct sft_tensor *t)
{
	sft_buf_printf(out, "%s ", sft_dtype_name(t->dtype));
	sft_buf_shape(out, t->shape, t->rank);
}

static void add_bytes(struct sft_buf *out, const struct diff_item *item)
{
	const struct compare *c = item->bytes;
	sft_buf_printf(out, "%llu of %llu elements, first %llu ", (unsigned long long)c->elements,
		       (unsigned long long)elements(item->a), (unsigned long long)c->first);
	add_index(out, item->a, c->first);
	if (c->max_abs >= 0)
		sft_buf_printf(out, ", max abs %.6g", c->max_abs);
	if (c->max_rel >= 0)
		sft_buf_printf(out, ", max rel %.6g", c->max_rel);
	if (c->nonfinite)
		sft_buf_printf(out, ", %llu not finite", (unsigned long long)c->nonfinite);
}

static void add_line(struct text *t, const struct diff_item *item)
{
	struct sft_buf *out = t->out;
	size_t n = take_name(t, item);
	sft_buf_add(out, t->name.data, t->name.len);
	sft_buf_printf(out, "%*s", (int)(n < t->column ? t->column - n : 0) + 2, "");
	out->failed |= t->name.failed;
	switch (diff_kind(item)) {
	case DIFF_ONLY_IN_A:
		sft_buf_text(out, "only in A  ");
		add_type(out, item->a);
		break;
	case DIFF_ONLY_IN_B:
		sft_buf_text(out, "only in B  ");
		add_type(out, item->b);
		break;
	case DIFF_DECLARED:
		sft_buf_text(out, "declared   ");
		add_type(out, item->a);
		sft_buf_text(out, " in A, ");
		add_type(out, item->b);
		sft_buf_text(out, " in B");
		break;
	default:
		sft_buf_text(out, "bytes      ");
		add_bytes(out, item);
	}
	sft_buf_text(out, "\n");
}

static void add_summary(struct sft_buf *out, const struct diff *d, const size_t *counts)
{
	static const char *const what[] = {
		[DIFF_ONLY_IN_A] = "only in A",
		[DIFF_ONLY_IN_B] = "only in B",
		[DIFF_DECLARED] = "in dtype or shape",
		[DIFF_BYTES] = "in bytes",
	};
	const char *between = ":";
	sft_buf_printf(out, "%zu of %zu tensors differ", d->count - counts[DIFF_SAME], d->count);
	for (size_t k = DIFF_ONLY_IN_A; k < DIFF_KINDS; k++) {
		if (!counts[k])
			continue;
		sft_buf_printf(out, "%s %zu %s", between, counts[k], what[k]);
		between = ",";
	}
	sft_buf_text(out, "\n");
}

static bool print_lines(const struct diff *d, const size_t *counts, struct sft_buf *out)
{
	struct text t = { .out = out };
	bool ok = true;
	measure_names(&t, d);
	for (size_t i = 0; ok && i < d->count; i++) {
		if (diff_kind(&d->items[i]) != DIFF_SAME)
			add_line(&t, &d->items[i]);
		ok = cmd_write(out, 1 << 16);
	}
	if (d->count > counts[DIFF_SAME])
		add_summary(out, d, counts);
	sft_buf_free(&t.name);
	sft_buf_free(&t.scratch);
	return ok && cmd_write(out, 0);
}

/* ---- the verb ---- */

static int print(const struct diff *d, char **paths, bool json)
{
	struct sft_buf out = { 0 };
	size_t counts[DIFF_KINDS] = { 0 };
	for (size_t i = 0; i < d->count; i++)
		counts[diff_kind(&d->items[i])]++;
	bool ok = json ? print_json(d, counts, paths, &out) : print_lines(d, counts, &out);
	sft_buf_free(&out);
	if (!ok || fflush(stdout) != 0) {
		log_error("stdout", "cannot write what differs");
		return 2;
	}
	return counts[DIFF_SAME] == d->count ? 0 : 1;
}

static int diff(const struct sft_checkpoint *a, const struct sft_checkpoint *b, char **paths,
		bool json)
{
	struct progress bar;
	const struct diff_progress progress = { report, &bar };
	struct sft_error err = { 0 };
	struct diff d;
	bool in_b;
	progress_start(&bar, "diff");
	int code = diff_checkpoints(&d, a, b, &progress, &in_b, &err) < 0 ? 2 : 0;
	progress_end(&bar);
	if (err.errnum == ESTALE)
		sft_hint(&err, "it was edited meanwhile: try again");
	if (code)
		log_error(paths[in_b], "%s", err.msg);
	else
		code = print(&d, paths, json);
	diff_free(&d);
	return code;
}

int cmd_diff(int argc, char **argv)
{
	static const char *const names[] = { "--json", NULL };
	bool json = false;
	int n = cmd_words(argc, argv, names, &json);
	if (n < 0)
		return 2;
	if (n < 2)
		return cmd_usage(n ? "B" : "A", "missing (see safetensorfs --help)");
	if (n > 2)
		return cmd_usage(argv[2], "two checkpoints, no more");
	struct sft_checkpoint *a = open_source(argv[0]), *b = a ? open_source(argv[1]) : NULL;
	int code = a && b ? diff(a, b, argv, json) : 2;
	sft_checkpoint_free(a);
	sft_checkpoint_free(b);
	return code;
}
