/* cmd_ls.c - list the tensors of a checkpoint, without mounting it */
#include "advice.h"
#include "cmd.h"
#include "log.h"
#include "ls.h"
#include "sidecar.h"

#include <stdio.h>
#include <stdlib.h>
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

static bool print_json(const struct ls_list *list)
{
	struct sft_buf out = { 0 };
	struct view_tensor t;
	bool ok = true;
	sft_buf_text(&out, "[");
	for (size_t i = 0; ok && i < list->count; i++) {
		sft_buf_text(&out, i ? ",\n" : "\n");
		view(list->ck, list->tensors[i], &t);
		view_sidecar_item(&out, &t, 2);
		ok = cmd_write(&out, 1 << 16);
	}
	sft_buf_text(&out, list->count ? "\n]\n" : "]\n");
	ok = ok && cmd_write(&out, 0);
	sft_buf_free(&out);
	return ok;
}

/* Say which globs nothing matches. False where there is one. */
static bool all_matched(const char *source, char *const *globs, size_t count, const bool *matched)
{
	bool all = true;
	for (size_t i = 0; i < count; i++) {
		if (matched[i])
			continue;
		all = false;
		log_error(globs[i], "%s; the names are listed by: safetensorfs ls %s",
			  access(globs[i], F_OK) == 0
				  ? "is no tensor's name (ls takes one source, then names)"
				  : "matches no tensor's name",
			  source);
	}
	return all;
}

enum { JSON, HUMAN, SORT, OPTIONS };

static int list(const struct sft_checkpoint *ck, const bool *options, char **argv, size_t globs)
{
	struct ls_list list = { 0 };
	bool *matched = calloc(globs + 1, sizeof(*matched)), ok = false;
	if (!matched || !ls_select(&list, ck, argv + 1, globs, matched, options[SORT])) {
		log_error(argv[0], "no memory");
		goto out;
	}
	/* Where globs match nothing there is no table, as ls(1) prints nothing then. */
	if (options[JSON])
		ok = print_json(&list);
	else
		ok = (globs && !list.count) || ls_table(&list, options[HUMAN]);
	ok = fflush(stdout) == 0 && ok;
	if (!ok)
		log_error("stdout", "cannot write the list");
	ok = all_matched(argv[0], argv + 1, globs, matched) && ok;
out:
	free(list.tensors);
	free(matched);
	return ok ? 0 : 1;
}

int cmd_ls(int argc, char **argv)
{
	static const char *const names[] = {
		[JSON] = "--json", [HUMAN] = "-h", [SORT] = "--sort", [OPTIONS] = NULL
	};
	bool options[OPTIONS] = { false };
	struct sft_checkpoint *ck = NULL;
	struct sft_error err = { 0 };
	const char *line;
	int n = cmd_words(argc, argv, names, options);
	if (n < 1)
		return n < 0 ? 2 : cmd_usage("SOURCE", "missing (see safetensorfs --help)");
	if (options[JSON] && options[HUMAN])
		return cmd_usage("-h", "contradicts --json");
	if (sft_checkpoint_open(argv[0], 0, &ck, &err) < 0) {
		advise_source(argv[0], NULL, &err);
		log_error(argv[0], "%s", err.msg);
		return 1;
	}
	for (size_t i = 0; (line = sft_checkpoint_warning(ck, i)); i++)
		log_warning(argv[0], "%s", line);
	int code = list(ck, options, argv, (size_t)n - 1);
	sft_checkpoint_free(ck);
	return code;
}
