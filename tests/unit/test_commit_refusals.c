/* test_commit_refusals.c - commits that are refused, and what is left then: everything */
#include "edit_fixture.h"

#include <signal.h>
#include <sys/resource.h>

#define M "model.safetensors"
#define A "a.safetensors"
#define INDEX "model.safetensors.index.json"
#define ONE "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v"

static void replace_source(const char *path)
{
	fixture_checkpoint(path, ONE);
}

static void touch_source(const char *path)
{
	const struct timespec times[2] = { { 1, 0 }, { 1, 0 } };

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void truncate_source(const char *path)
{
	assert_int_equal(truncate(path, 20), 0);
}

static void remove_source(const char *path)
{
	assert_int_equal(unlink(path), 0);
}

static const struct refusal {
	const char *name, *script;
	void (*before)(const char *path); /* behind the edits, before the commit */
	struct sft_overlay_options options;
	int error;
	const char *message;
} refusals[] = {
	{ "bytes and shape disagree", "t b 7", NULL, { 0 }, -EINVAL, "tensor \"b\": " },
	{ "several of them", "t b 7; t a 2", NULL, { 0 }, -EINVAL, "and 1 more" },
	{ "no tensor would be left",
	  "r a; r b",
	  NULL,
	  { 0 },
	  -EINVAL,
	  "2 tensors would go and none be left; if that is what you want, commit with "
	  "--allow-empty" },
	{ "nor when they are put aside", "mx a .a; r b", NULL, { 0 }, -EINVAL, "none be left" },
	{ "the source was written to",
	  "w a 0 00",
	  replace_source,
	  { 0 },
	  -ESTALE,
	  M ": is not the file that was opened: " },
	{ "the source was touched",
	  "w a 0 00",
	  touch_source,
	  { 0 },
	  -ESTALE,
	  M ": is not the file that was opened: modification time 1970-01-01T00:00:01.000000000Z "
	    "instead of 20" },
	{ "the source was truncated",
	  "m a z",
	  truncate_source,
	  { 0 },
	  -ESTALE,
	  M ": is not the file that was opened: size 20 instead of " },
	{ "the source is gone", "w a 0 00", remove_source, { 0 }, -ESTALE, "cannot be found" },
	{ "the source changed, in place",
	  "w a 0 00",
	  touch_source,
	  { .inplace = true },
	  -ESTALE,
	  "is not the file" },
	{ "the output's directory takes no files",
	  "w a 0 00",
	  NULL,
	  { .output = "/proc/x.safetensors" },
	  -ENOENT,
	  "cannot create /proc/" },
};

static void test_refused_commits_leave_source_and_staging_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		const struct refusal *c = &refusals[i];
		/* Others than root may not write in /proc, and hear of it at the opening. */
		if (c->options.output && geteuid() != 0)
			continue;
		char *dir = fixture_make_dir(), *path = fixture_join(dir, M), *result;
		struct sft_overlay *ov;
		struct sft_error err = { 0 };
		uint32_t tensors;
		uint64_t bytes;

		print_message("%s\n", c->name);
		fixture_checkpoint(path, ONE);
		assert_int_equal(sft_overlay_open(path, &c->options, &ov, &err), 0);
		assert_int_equal(fixture_edit(ov, c->script, &err), 0);
		if (c->before)
			c->before(path);
		char *before = fixture_get(path, NULL);
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), c->error);
		if (!strstr(err.msg, c->message))
			print_message("%s\n", err.msg);
		assert_non_null(strstr(err.msg, c->message));
		char *after = fixture_get(path, NULL);
		assert_true(!before == !after && (!before || strcmp(before, after) == 0));
		assert_true(sft_overlay_dirty(ov));
		sft_overlay_staged(ov, &tensors, &bytes);
		assert_true(tensors > 0);
		result = fixture_join(sft_overlay_staging(ov), "result");
		char *text = fixture_get(result, NULL);
		assert_non_null(text);
		assert_non_null(strstr(text, c->message));
		sft_overlay_free(ov);
		assert_true(sft_staging_exists(path, NULL) || c->before == remove_source);
		free(text);
		free(result);
		free(before);
		free(after);
		free(path);
		fixture_remove_dir(dir);
	}
}

static void test_mended_after_a_refusal_it_commits(void **state)
{
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M), *text;
	struct sft_overlay *ov;
	struct sft_error err = { 0 };
	(void)state;

	fixture_checkpoint(path, ONE);
	assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
	assert_int_equal(fixture_edit(ov, "t b 7", &err), 0);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), -EINVAL);
	err = (struct sft_error){ 0 };
	assert_int_equal(fixture_edit(ov, "w b 7 00", &err), 0);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), 0);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	text = fixture_describe(path);
	assert_string_equal(text, "a U8 3 aabbcc; b F32 2 0102030405060700; @k=v");
	assert_false(sft_staging_exists(path, NULL));
	free(text);
	free(path);
	fixture_remove_dir(dir);
}

static void test_output_among_other_checkpoints_is_refused(void **state)
{
	static const struct {
		const char *stranger;
		bool index;
		int error;
	} cases[] = {
		{ "c.safetensors", false, -EEXIST },
		{ "x.safetensors.index.json", false, -EEXIST },
		{ "c.safetensors", true, 0 },
		{ "x.safetensors.index.json", true, -EEXIST },
		{ A, false, -EEXIST },
		{ "readme.md", false, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char *dir = fixture_make_dir(), *source = fixture_join(dir, "in");
		char *a = fixture_join(dir, "in/" A), *index = fixture_join(dir, "in/" INDEX);
		char *out = fixture_join(dir, "out"), *stranger;
		const struct sft_overlay_options options = { .output = out };
		struct sft_overlay *ov;
		struct sft_error err = { 0 };

		print_message("%s\n", cases[i].stranger);
		assert_int_equal(mkdir(source, 0777) | mkdir(out, 0777), 0);
		fixture_checkpoint(a, "one U8 1 01");
		if (cases[i].index)
			fixture_put(index, "{\"weight_map\":{\"one\":\"" A "\"}}", 38);
		stranger = fixture_join(out, cases[i].stranger);
		fixture_put(stranger, "hello", 5);
		/* When it is opened, and where it comes later, by the commit; what is no checkpoint
		 * under the name of a shard, by the former only. */
		assert_int_equal(sft_overlay_open(source, &options, &ov, &err), cases[i].error);
		if (cases[i].error)
			assert_non_null(strstr(err.msg, cases[i].stranger));
		else
			sft_overlay_free(ov);
		assert_int_equal(unlink(stranger), 0);
		err = (struct sft_error){ 0 };
		assert_int_equal(sft_overlay_open(source, &options, &ov, &err), 0);
		fixture_put(stranger, "hello", 5);
		const int error = strcmp(cases[i].stranger, A) == 0 ? 0 : cases[i].error;
		assert_int_equal(fixture_edit(ov, "w one 0 ff", &err), 0);
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), error);
		if (error)
			assert_non_null(strstr(err.msg, cases[i].stranger));
		else
			sft_overlay_adopt(ov);
		sft_overlay_free(ov);
		free(stranger);
		free(out);
		free(index);
		free(a);
		free(source);
		fixture_remove_dir(dir);
	}
}

static void test_too_few_descriptors_are_noticed_before_anything_is_renamed(void **state)
{
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M), *text;
	struct rlimit old, few;
	struct sft_overlay *ov;
	struct sft_error err = { 0 };
	(void)state;

	fixture_checkpoint(path, "a U8 1 01");
	assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
	assert_int_equal(fixture_edit(ov, "m a b", &err), 0);
	int lowest = dup(0);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = (struct rlimit){ (rlim_t)lowest + 5, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_non_null(strstr(err.msg, "takes 10 more open files"));
	text = fixture_describe(path);
	assert_string_equal(text, "a U8 1 01");
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), 0);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	free(text);
	free(path);
	fixture_remove_dir(dir);
}

/* Also in place, where the file is as long as it was: a write behind the limit fails all the same,
 * and then the source would be half written. */
static void test_a_file_above_the_limit_of_sizes_is_refused(void **state)
{
	static const struct sft_overlay_options modes[] = { { 0 }, { .inplace = true } };
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char *dir = fixture_make_dir(), *path = fixture_join(dir, M), *before, *after;
		struct rlimit old, small;
		struct sft_overlay *ov;
		struct sft_error err = { 0 };
		size_t len;

		before = fixture_big(path, 3000000, &len);
		assert_int_equal(sft_overlay_open(path, &modes[i], &ov, &err), 0);
		assert_int_equal(fixture_edit(ov, "w big 2999990 ffff", &err), 0);
		assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
		small = (struct rlimit){ 2000000, old.rlim_max };
		signal(SIGXFSZ, SIG_IGN);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), -EFBIG);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
		assert_non_null(strstr(err.msg, "files of at most 2000000; `ulimit -f`"));
		after = fixture_get(path, &len);
		assert_memory_equal(before, after, len);
		free(after);
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), 0);
		sft_overlay_adopt(ov);
		sft_overlay_free(ov);
		free(before);
		free(path);
		fixture_remove_dir(dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_commits_leave_source_and_staging_whole),
		cmocka_unit_test(test_mended_after_a_refusal_it_commits),
		cmocka_unit_test(test_too_few_descriptors_are_noticed_before_anything_is_renamed),
		cmocka_unit_test(test_a_file_above_the_limit_of_sizes_is_refused),
		cmocka_unit_test(test_output_among_other_checkpoints_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
