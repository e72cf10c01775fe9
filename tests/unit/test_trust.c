/* test_trust.c - a staging that somebody else may have made is not obeyed, and nothing in it waits
 */
#include "overlay_fixture.h"

#include "journal.h"

#include <fcntl.h>
#include <time.h>

#define ONE "a U8 3 aabbcc"
#define HOME ".m.safetensors.safetensorfs"

struct place {
	struct overlay_place p;
	char *home;
};

/* A source with edits staged in its default place. */
static struct place make(void)
{
	struct place q = { .p = overlay_place(ONE, NULL) };
	struct sft_overlay *ov = overlay_open(q.p.source, NULL);

	assert_int_equal(fixture_edit(ov, "w a 0 11; s", NULL), 0);
	sft_overlay_free(ov);
	q.home = fixture_join(q.p.dir, HOME);
	return q;
}

static void place_free(struct place *q)
{
	free(q->home);
	overlay_place_free(&q->p);
}

/* Each verb refuses, with a line that names the owner or what it is, and soon. */
static void check_refused(const char *source, const char *message)
{
	const struct sft_overlay_options none = { 0 };
	struct sft_error errors[4] = { 0 };
	struct sft_overlay *ov;
	struct sft_buf text = { 0 };
	bool found;

	alarm(20);
	assert_int_equal(sft_overlay_open(source, &none, &ov, &errors[0]), -EPERM);
	assert_int_equal(sft_staging_discard(source, NULL, false, &text, &found, &errors[1]),
			 -EPERM);
	assert_int_equal(sft_staging_discard(source, NULL, true, &text, &found, &errors[2]),
			 -EPERM);
	/* A mount that only reads says so. */
	assert_int_equal(sft_staging_check(source, NULL, &errors[3]), -EPERM);
	(void)sft_staging_exists(source, NULL);
	alarm(0);
	for (size_t i = 0; i < 4; i++) {
		if (!strstr(errors[i].msg, message))
			fail_msg("%zu: \"%s\" lacks \"%s\"", i, errors[i].msg, message);
	}
	sft_buf_free(&text);
}

static void test_what_others_may_write_is_refused(void **state)
{
	static const struct {
		const char *name;
		mode_t mode, safe;
	} cases[] = {
		{ "", 0770, 0700 },	   { "", 0702, 0755 },	   { "journal", 0660, 0644 },
		{ "journal", 0602, 0600 }, { "lock", 0660, 0600 },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct place q = make();
		char *path = fixture_join(q.home, cases[i].name);

		assert_int_equal(chmod(path, cases[i].mode), 0);
		if (strcmp(cases[i].name, "lock") != 0) {
			check_refused(q.p.source, "can be written by others (mode 0");
			assert_true(sft_staging_exists(q.p.source, NULL));
		} else {
			struct sft_overlay *ov;
			const struct sft_overlay_options none = { 0 };
			assert_int_equal(sft_overlay_open(q.p.source, &none, &ov, NULL), -EPERM);
		}
		assert_int_equal(chmod(path, cases[i].safe), 0);
		sft_overlay_free(overlay_open(q.p.source, NULL));
		free(path);
		place_free(&q);
	}
}

static void test_what_belongs_to_another_user_is_refused(void **state)
{
	static const char *const names[] = { "", "journal", "blocks" };
	(void)state;

	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct place q = make();
		char *path = fixture_join(q.home, names[i]);
		const struct sft_overlay_options none = { 0 };
		struct sft_overlay *ov;

		assert_int_equal(chown(path, 1234, 1234), 0);
		if (strcmp(names[i], "blocks") != 0) {
			check_refused(q.p.source, "belongs to user 1234 and not to you, user 0");
			assert_true(sft_staging_exists(q.p.source, NULL));
		}
		assert_int_equal(sft_overlay_open(q.p.source, &none, &ov, NULL), -EPERM);
		assert_int_equal(chown(path, 0, 0), 0);
		sft_overlay_free(overlay_open(q.p.source, NULL));
		free(path);
		place_free(&q);
	}
}

/* Neither waited for nor followed. */
static void test_links_and_fifos_are_refused(void **state)
{
	static const struct {
		const char *name;
		bool fifo;
		const char *message;
	} cases[] = {
		{ "journal", true, "is no regular file" },
		{ "journal", false, "is a symbolic link" },
		{ "lock", true, "is no regular file" },
		{ "lock", false, "is a symbolic link" },
		{ "elsewhere", true, "is no regular file" },
		{ "elsewhere", false, "is a symbolic link" },
		{ "", true, "is no directory" },
		{ "", false, "is a symbolic link" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct place q = make();
		char *path =
			cases[i].name[0] ? fixture_join(q.home, cases[i].name) : strdup(q.home);
		char *aside = fixture_join(q.p.dir, "aside");
		const struct sft_overlay_options none = { 0 };
		struct sft_overlay *ov;
		struct sft_error err = { 0 };

		print_message("%s, %s\n", cases[i].name, cases[i].fifo ? "FIFO" : "link");
		if (rename(path, aside) < 0)
			fixture_put(aside, "/tmp\n", 5);
		assert_int_equal(cases[i].fifo ? mkfifo(path, 0600) : symlink(aside, path), 0);
		alarm(20);
		assert_int_equal(sft_overlay_open(q.p.source, &none, &ov, &err), -EPERM);
		alarm(0);
		if (!strstr(err.msg, cases[i].message))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i].message);
		if (strcmp(cases[i].name, "journal") == 0 || !cases[i].name[0])
			check_refused(q.p.source, cases[i].message);
		free(path);
		free(aside);
		place_free(&q);
	}
}

/* A file that is opened only when something failed. */
static void test_a_fifo_as_result_is_not_waited_for(void **state)
{
	struct place q = make();
	char *result = fixture_join(q.home, "result");
	struct sft_overlay *ov;
	(void)state;

	assert_int_equal(mkfifo(result, 0600), 0);
	alarm(20);
	ov = overlay_open(q.p.source, NULL);
	sft_overlay_set_result(ov, "no room");
	sft_overlay_free(ov);
	alarm(0);
	free(result);
	place_free(&q);
}

/* With staging= the default place is locked too, and whose it is counts. */
static void test_a_default_place_of_somebody_elses_is_refused_with_staging_too(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *home = fixture_join(p.dir, HOME);
	const struct sft_overlay_options options = { .staging = stage };
	struct sft_error err = { 0 };
	struct sft_overlay *ov;
	(void)state;

	assert_int_equal(mkdir(home, 0700) + chmod(home, 0777), 0);
	assert_int_equal(sft_overlay_open(p.source, &options, &ov, &err), -EPERM);
	assert_non_null(strstr(err.msg, "can be written by others"));
	/* What is no directory is nobody's staging. */
	assert_int_equal(rmdir(home), 0);
	assert_int_equal(symlink("/tmp", home), 0);
	sft_overlay_free(overlay_open(p.source, &options));
	free(stage);
	free(home);
	overlay_place_free(&p);
}

/* What is not there takes neither time nor memory. */
static void test_sparse_files_cost_nothing(void **state)
{
	static const char *const names[] = { "journal", "blocks" };
	(void)state;

	for (size_t i = 0; i < 2; i++) {
		for (int blank = 0; blank < 2; blank++) {
			struct place q = make();
			char *path = fixture_join(q.home, names[i]);
			struct sft_buf text = { 0 };
			bool found;
			time_t begin = time(NULL);

			if (blank)
				assert_int_equal(truncate(path, 0), 0);
			/* Where the file system has files of that size. */
			if (truncate(path, (off_t)1 << 43) == 0) {
				const struct sft_overlay_options none = { 0 };
				struct sft_overlay *ov = NULL;

				(void)sft_staging_exists(q.p.source, NULL);
				(void)sft_staging_discard(q.p.source, NULL, false, &text, &found,
							  NULL);
				(void)sft_overlay_open(q.p.source, &none, &ov, NULL);
				sft_overlay_free(ov);
				assert_true(time(NULL) - begin < 10);
			}
			sft_buf_free(&text);
			free(path);
			place_free(&q);
		}
	}
}

/* What discard prints goes to a terminal. */
static void test_a_path_is_escaped_in_what_discard_says(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *path = fixture_join(p.dir, "x\033[31m\n.safetensors");
	struct sft_overlay *ov;
	struct sft_buf text = { 0 };
	bool found;
	(void)state;

	assert_int_equal(rename(p.source, path), 0);
	ov = overlay_open(path, NULL);
	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	assert_int_equal(sft_staging_discard(path, NULL, true, &text, &found, NULL), 0);
	assert_non_null(strstr(text.data, "/x\\x1b[31m\\x0a.safetensors, staged in "));
	assert_null(strchr(text.data, '\033'));
	sft_buf_free(&text);
	free(path);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_others_may_write_is_refused),
		cmocka_unit_test(test_what_belongs_to_another_user_is_refused),
		cmocka_unit_test(test_links_and_fifos_are_refused),
		cmocka_unit_test(test_a_fifo_as_result_is_not_waited_for),
		cmocka_unit_test(
			test_a_default_place_of_somebody_elses_is_refused_with_staging_too),
		cmocka_unit_test(test_sparse_files_cost_nothing),
		cmocka_unit_test(test_a_path_is_escaped_in_what_discard_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
