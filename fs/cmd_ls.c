/* cmd_ls.c - list the tensors of a checkpoint, without mounting it */
#include "cmd.h"
#include "log.h"
#include "view.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void view(const struct sft_checkpoint *ck, const struct sft_tensor *t,
		 struct view_tensor *out)
{
	*out = (struct view_tensor){
		.name = t->name,
		.name_len = t->name_len,
		.shape = t->shape,
		.rank = t->rank,
		.dtype = t->dtype,
		.nbytes = t->nbytes,
		.file = sft_checkpoint_shard(ck, t->shard)->name,
		.offset = sft_checkpoint_offset(ck, t),
		.begin = t->begin,
		.declared_nbytes = t->nbytes,
		.placed = true,
	};
}

/* Write out what has gathered, now and then. False where stdout fails. */
static bool flush(struct sft_buf *out, size_t above)
{
	if (out->len <= above)
		return !out->failed;
	bool ok = !out->failed && fwrite(out->data, 1, out->len, stdout) == out->len;
	out->len = 0;
	return ok;
}

static bool print_json(const struct sft_checkpoint *ck, struct sft_buf *out)
{
	struct view_tensor t;
	size_t n = sft_checkpoint_count(ck);
	sft_buf_add(out, "[", 1);
	for (size_t i = 0; i < n; i++) {
		sft_buf_printf(out, "%s\n", i ? "," : "");
		view(ck, sft_checkpoint_at(ck, i), &t);
		view_sidecar_item(out, &t, 2);
		if (!flush(out, 1 << 16))
			return false;
	}
	sft_buf_printf(out, "%s]\n", n ? "\n" : "");
	return flush(out, 0);
}

/* One line a tensor, tab-separated, so that it can be cut and sorted; names quoted only where they
 * would break the line. */
static void add_line(struct sft_buf *out, const struct view_tensor *t)
{
	bool plain = t->name_len > 0;
	for (uint32_t i = 0; plain && i < t->name_len; i++)
		plain = (unsigned char)t->name[i] >= 0x20 && t->name[i] != 0x7f &&
			t->name[i] != '"';
	if (plain)
		sft_buf_add(out, t->name, t->name_len);
	else
		sft_buf_json(out, t->name, t->name_len);
	sft_buf_printf(out, "\t%s\t[", sft_dtype_name(t->dtype));
	for (uint32_t i = 0; i < t->rank; i++)
		sft_buf_printf(out, "%s%llu", i ? "," : "", (unsigned long long)t->shape[i]);
	sft_buf_printf(out, "]\t%llu\t%s\n", (unsigned long long)t->nbytes, t->file);
}

static bool print_lines(const struct sft_checkpoint *ck, struct sft_buf *out)
{
	struct view_tensor t;
	for (size_t i = 0; i < sft_checkpoint_count(ck); i++) {
		view(ck, sft_checkpoint_at(ck, i), &t);
		add_line(out, &t);
		if (!flush(out, 1 << 16))
			return false;
	}
	return flush(out, 0);
}

int cmd_ls(int argc, char **argv)
{
	static const char *const names[] = { "--json", NULL };
	bool json = false;
	struct sft_checkpoint *ck = NULL;
	struct sft_error err = { 0 };
	struct sft_buf out = { 0 };
	const char *line;
	if (cmd_one(argc, argv, names, &json, "SOURCE") != 0)
		return 2;
	if (sft_checkpoint_open(argv[0], 0, &ck, &err) < 0) {
		log_error(argv[0], "%s", err.msg);
		return 1;
	}
	for (size_t i = 0; (line = sft_checkpoint_warning(ck, i)); i++)
		log_warning(argv[0], "%s", line);
	bool ok = (json ? print_json(ck, &out) : print_lines(ck, &out)) && fflush(stdout) == 0;
	if (!ok)
		log_error("stdout", "cannot write the list");
	sft_buf_free(&out);
	sft_checkpoint_free(ck);
	return ok ? 0 : 1;
}
