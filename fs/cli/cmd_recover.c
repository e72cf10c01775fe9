/* cmd_recover.c - recover and discard: edits that were left staged, without mounting */
#include "advice.h"
#include "cmd.h"
#include "commit_edits.h"
#include "log.h"
#include "options.h"
#include "progress.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void report(void *ctx, uint64_t done, uint64_t total)
{
	progress_step(ctx, done, total);
}

static int commit(struct sft_overlay *ov, const char *source, bool allow_empty)
{
	struct sft_error err = { 0 };
	struct progress bar;
	struct sft_commit_options options = { { report, &bar }, allow_empty };
	char note[160] = "";
	if (!sft_overlay_dirty(ov))
		return 0;
	progress_start(&bar, "recover");
	int r = sft_overlay_commit(ov, &options, note, &err);
	progress_end(&bar);
	if (note[0])
		log_warning(source, "%s", note);
	if (r < 0) {
		edit_log_problems(ov, source);
		log_error(source, "not committed: %s", err.msg);
		return 1;
	}
	sft_overlay_adopt(ov);
	printf("%s: committed\n", source);
	return 0;
}

/* Edits may outlive their source, so a name that leads nowhere was no error so far. */
static int nothing_staged(const char *source)
{
	if (access(source, F_OK) < 0) {
		log_error(source, "%s", strerror(errno));
		return 1;
	}
	printf("%s: nothing is staged\n", source);
	return 0;
}

static int recover(const struct options *o)
{
	struct sft_overlay_options options = {
		.staging = o->staging,
		.output = o->output,
	};
	struct sft_overlay *ov = NULL;
	struct sft_error err = { 0 };
	struct sft_buf text = { 0 };
	bool found = false;
	const char *note;
	size_t i;
	/* Only asks: this says too whether a mount has the source. */
	int r = sft_staging_discard(o->source, o->staging, false, &text, &found, &err);
	if (r == 0 && !found && text.len)
		fwrite(text.data, 1, text.len, stdout);
	sft_buf_free(&text);
	if (r == 0 && !found)
		return nothing_staged(o->source);
	/* Where that fails for another reason, opening says which. */
	const bool refused = r == -EBUSY || r == -EPERM || r == -EEXIST;
	if (refused || sft_overlay_open(o->source, &options, &ov, &err) < 0) {
		advise_source(o->source, NULL, &err);
		log_error(o->source, "%s", err.msg);
		return 1;
	}
	for (i = 0; (note = sft_overlay_note(ov, i)); i++)
		log_info(o->source, "%s", note);
	int code = sft_overlay_dirty(ov) || i ? commit(ov, o->source, o->allow_empty)
					      : nothing_staged(o->source);
	sft_overlay_free(ov);
	return code;
}

/* What is staged is said before it is dropped: where that cannot be printed, it stays. */
static int discard(const struct options *o)
{
	struct sft_buf text = { 0 };
	struct sft_error err = { 0 };
	bool found = false;
	int code = 1;
	int r = sft_staging_discard(o->source, o->staging, false, &text, &found, &err);
	if (text.len)
		fwrite(text.data, 1, text.len, stdout);
	if (r == 0 && cmd_flush() != 0)
		goto out;
	sft_buf_free(&text);
	if (r == 0)
		r = sft_staging_discard(o->source, o->staging, true, &text, &found, &err);
	if (r < 0) {
		advise_source(o->source, NULL, &err);
		log_error(o->source, "%s", err.msg);
		goto out;
	}
	if (r == 1)
		printf("%s: a commit was interrupted while it was changing files, so it was "
		       "finished "
		       "instead\n",
		       o->source);
	else if (found)
		printf("%s: discarded\n", o->source);
	code = found ? 0 : nothing_staged(o->source);
out:
	sft_buf_free(&text);
	return code;
}

static int run(int argc, char **argv, enum options_for what, int (*verb)(const struct options *o))
{
	struct options o;
	int code = options_parse(&o, what, argc, argv);
	if (code == 0)
		code = verb(&o);
	options_free(&o);
	return code;
}

int cmd_recover(int argc, char **argv)
{
	return run(argc, argv, OPTIONS_RECOVER, recover);
}

int cmd_discard(int argc, char **argv)
{
	return run(argc, argv, OPTIONS_DISCARD, discard);
}
