/*
 * test_prepared.c - commits that death has cut short after their PREPARED record
 *
 * A child commits and dies before its n-th rename of a new file. What is then done by whoever comes
 * next: recover, with and without output=, and discard; also where somebody was there in between.
 */
#include "overlay_fixture.h"

#include "commit.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>

#define ONE "a U8 3 aabbcc"
#define TWO "b U8 2 0102"
#define EDITS "w a 0 11; w b 0 22"
#define DIED 7

/* ---- dying ---- */

static int die_at; /* before that rename, from 1 */

int __real_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to)
{
	if (die_at && strstr(from, ".safetensorfs-new") && --die_at == 0)
		_exit(DIED);
	return __real_renameat(a, from, b, to);
}

/* Edit, commit, and die before the n-th rename. */
static void interrupt(const char *source, const struct sft_overlay_options *options,
		      const char *edits, int n)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct sft_overlay *ov = overlay_open(source, options);

		if (fixture_edit(ov, edits, NULL) < 0)
			_exit(1);
		die_at = n;
		_exit(sft_overlay_commit(ov, NULL, NULL, NULL) == 0 ? 2 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), DIED);
}

/* Open, commit what is left, close. */
static int recover(const char *source, const struct sft_overlay_options *options,
		   struct sft_error *err)
{
	const struct sft_overlay_options none = { 0 };
	struct sft_overlay *ov;
	int r = sft_overlay_open(source, options ? options : &none, &ov, err);

	if (r < 0)
		return r;
	r = sft_overlay_commit(ov, NULL, NULL, err);
	if (r == 0)
		sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	return r;
}

static void expect_error(const struct sft_error *err, const char *message)
{
	if (!strstr(err->msg, message))
		fail_msg("\"%s\" lacks \"%s\"", err->msg, message);
}

/* What a file of the directory holds; malloced. */
static char *shows(const char *dir, const char *name)
{
	char *path = fixture_join(dir, name), *text = fixture_describe(path);

	free(path);
	return text ? text : strdup("-");
}

static void expect(const char *dir, const char *name, const char *want)
{
	char *text = shows(dir, name);

	assert_string_equal(text, want);
	free(text);
}

/* Names that begin with a dot. */
static unsigned count_hidden(const char *dir)
{
	unsigned n = 0;
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d)))
		n += e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 &&
		     strcmp(e->d_name, "..") != 0;
	if (d)
		closedir(d);
	return n;
}

/* Cut the journal before its last frame, which is the record of a commit. */
static void cut_last_frame(const char *source)
{
	char *path, *home, *journal;
	struct journal_reader reader;
	struct journal_record rec;
	uint64_t last = 0;

	assert_int_equal(staging_locate(source, &path, &home, NULL), 0);
	journal = fixture_join(home, "journal");
	int fd = open(journal, O_RDONLY | O_CLOEXEC);
	assert_int_equal(journal_open(&reader, fd), 0);
	while (journal_next(&reader, &rec) > 0)
		last = rec.begin;
	journal_close(&reader);
	close(fd);
	assert_int_equal(truncate(journal, (off_t)last), 0);
	free(path);
	free(home);
	free(journal);
}

/* ---- the states ---- */

/* Of two targets: `o` the old file is there, `v` with another time, `n` the new one, `u` with
 * another time, `e` one that is either, `x` another, `-` none; and its temporary: `t`, another
 * file: `x`, or none: `-`. */
static void make_target(struct prepared_target *t, const char *dir, const char *name,
			const char *is)
{
	char *path = fixture_join(dir, name), *temporary;
	static const struct timespec past[2] = { { 1, 0 }, { 1, 0 } };
	const bool alike = is[0] == 'e', new = is[0] == 'n' || is[0] == 'u';

	*t = (struct prepared_target){ .text = true,
				       .name = strdup(name),
				       .temporary = prepared_temporary_name(name, 1) };
	temporary = fixture_join(dir, t->temporary);
	fixture_put(path, alike ? "new" : "older", alike ? 3 : 5);
	assert_int_equal(identity_of_path(path, true, &t->old), 0);
	fixture_put(temporary, "new", 3);
	assert_int_equal(identity_of_path(temporary, true, &t->new), 0);
	if (alike) {
		t->old = t->new;
		t->old.ino = t->new.ino = 0;
	}
	if (new || (alike && is[1] != 't'))
		assert_int_equal(rename(temporary, path), 0);
	else if (alike) {
		const struct timespec times[2] = { { 0 },
						   { (time_t)t->new.sec, (long)t->new.nsec } };

		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	} else if (is[1] != 't')
		assert_int_equal(unlink(temporary), 0);
	if (is[0] == 'u' || is[0] == 'v')
		assert_int_equal(utimensat(AT_FDCWD, path, past, 0), 0);
	if (is[0] == 'x')
		fixture_put(path, "somebody else's", 15);
	if (is[0] == '-')
		assert_int_equal(unlink(path), 0);
	if (is[1] == 'x')
		fixture_put(temporary, "another", 7);
	free(path);
	free(temporary);
}

static void test_a_prepared_commit_is_finished_or_void_or_refused(void **state)
{
	static const struct {
		const char *state, *after;
		int result;
	} cases[] = {
		{ "ot ot", "n n", 0 },	     { "n- ot", "n n", 0 },
		{ "ot n-", "n n", 0 },	     { "n- n-", "n n", 0 },
		{ "o- o-", "o o", -ENOENT }, { "ot o-", "o o", -ENOENT },
		{ "ox ox", "o o", -ENOENT }, { "n- o-", "n o", -ESTALE },
		{ "n- ox", "n o", -ESTALE }, { "xt ot", "s o", -ESTALE },
		{ "ot xt", "o s", -ESTALE }, { "n- xt", "n s", -ESTALE },
		{ "-t ot", "- o", -ESTALE }, { "e- e-", "n n", -ENOENT },
		{ "e- ot", "n n", 0 },	     { "et ot", "n n", 0 },
		{ "e- n-", "n n", 0 },	     { "e- o-", "n o", -ENOENT },
		{ "e- xt", "n s", -ESTALE }, { "u- ot", "n n", 0 },
		{ "u- u-", "n n", 0 },	     { "v- ot", "o o", -ESTALE },
		{ "vt ot", "o o", -ESTALE }, { "x- ot", "s o", -ESTALE },
		{ "-- ot", "- o", -ESTALE },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char *dir = fixture_make_dir(), found[4] = "? ?";
		const struct prepared_places places = { dir, NULL };
		struct prepared_target *t = calloc(2, sizeof(*t));
		struct sft_error err = { 0 };

		print_message("%s\n", cases[i].state);
		for (size_t k = 0; k < 2; k++)
			make_target(&t[k], dir, k ? "b" : "a", cases[i].state + 3 * k);
		assert_int_equal(commit_roll_forward(&places, t, 2, &err), cases[i].result);
		assert_int_equal(err.errnum != 0, cases[i].result == -ESTALE);
		for (size_t k = 0; k < 2; k++) {
			char *path = fixture_join(dir, t[k].name);
			char *text =
				access(path, F_OK) == 0 ? fixture_get(path, NULL) : strdup("-");

			found[2 * k] = text[0];
			free(text);
			free(path);
		}
		assert_string_equal(found, cases[i].after);
		prepared_free(t, 2);
		fixture_remove_dir(dir);
	}
}

/* ---- somebody was there in between ---- */

static void test_another_file_is_not_replaced(void **state)
{
	static const char *const another = "z U8 4 09080706";
	(void)state;

	for (int how = 0; how < 3; how++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *out = fixture_join(p.dir, "out.safetensors"), *victim = how ? out : p.source;
		const struct sft_overlay_options options = { .output = how ? out : NULL };
		struct sft_error err = { 0 };
		struct sft_buf text = { 0 };
		bool found;

		/* The source; an output that was there; one that was not. */
		if (how == 1)
			fixture_checkpoint(out, "o U8 1 01");
		interrupt(p.source, &options, "w a 0 11", 1);
		fixture_checkpoint(victim, another);
		for (int i = 0; i < 2; i++) {
			err = (struct sft_error){ 0 };
			assert_int_equal(recover(p.source, NULL, &err), -ESTALE);
			expect_error(&err,
				     "safetensors is neither the file that it was to replace");
			char *is = fixture_describe(victim);
			assert_string_equal(is, another);
			free(is);
		}
		assert_true(sft_staging_exists(p.source, NULL));
		/* Nothing was renamed: the edits can be dropped, and that leaves nothing. */
		assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, &err), 0);
		assert_true(found);
		expect(p.dir, how ? "out.safetensors" : "m.safetensors", another);
		assert_int_equal(recover(p.source, &options, NULL), 0);
		assert_int_equal(count_hidden(p.dir), 0);
		sft_buf_free(&text);
		free(out);
		overlay_place_free(&p);
	}
}

/* The old file may come back: then it is finished. */
static void test_what_was_copied_with_its_time_is_the_same_file(void **state)
{
	(void)state;

	for (int n = 1; n <= 2; n++) {
		struct overlay_place p = overlay_place(ONE, TWO);
		char *command = NULL;

		interrupt(p.source, NULL, EDITS, n);
		assert_true(asprintf(&command,
				     "cd %s && for f in *.safetensors; do cp -p $f t && mv t $f; "
				     "done && mkdir moved && mv *.safetensors .[a-z]* moved",
				     p.dir) > 0);
		assert_int_equal(system(command), 0);
		free(command);
		char *moved = fixture_join(p.dir, "moved");
		struct sft_error err = { 0 };
		if (recover(moved, NULL, &err) < 0)
			fail_msg("%d: %s", n, err.msg);
		expect(moved, "a.safetensors", "a U8 3 11bbcc");
		expect(moved, "b.safetensors", "b U8 2 2202");
		assert_int_equal(count_hidden(moved), 0);
		free(moved);
		overlay_place_free(&p);
	}
}

/* ---- another output ---- */

static void test_another_output_takes_it_back_or_waits(void **state)
{
	(void)state;

	for (int n = 1; n <= 2; n++) {
		struct overlay_place p = overlay_place(ONE, TWO);
		char *out = fixture_join(p.dir, "out");
		const struct sft_overlay_options options = { .output = out };
		struct sft_error err = { 0 };
		int r;

		interrupt(p.source, NULL, EDITS, n);
		r = recover(p.source, &options, &err);
		if (n == 1) {
			assert_int_equal(r, 0);
			expect(p.dir, "a.safetensors", ONE);
			expect(p.dir, "b.safetensors", TWO);
			expect(out, "a.safetensors", "a U8 3 11bbcc");
			expect(out, "b.safetensors", "b U8 2 2202");
			assert_int_equal(count_hidden(out), 0);
		} else {
			assert_int_equal(r, -EINVAL);
			expect_error(&err, "without this output=, `safetensorfs recover` finishes");
			assert_int_equal(access(out, F_OK), -1);
			assert_int_equal(recover(p.source, NULL, NULL), 0);
			expect(p.dir, "a.safetensors", "a U8 3 11bbcc");
			expect(p.dir, "b.safetensors", "b U8 2 2202");
		}
		assert_int_equal(count_hidden(p.dir), 0);
		free(out);
		overlay_place_free(&p);
	}
}

/* Another file has taken the output's place: nothing was renamed, so the edits may go elsewhere. */
static void test_edits_go_elsewhere_where_the_output_is_taken(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *out = fixture_join(p.dir, "out.safetensors");
	char *other = fixture_join(p.dir, "other.safetensors");
	const struct sft_overlay_options options = { .output = out }, now = { .output = other };
	struct sft_error err = { 0 };
	(void)state;

	interrupt(p.source, &options, "w a 0 11", 1);
	fixture_checkpoint(out, TWO);
	assert_int_equal(recover(p.source, NULL, &err), -ESTALE);
	expect_error(&err, "/out.safetensors is neither the file");
	expect_error(&err, "output=PATH commits the edits to PATH");
	assert_int_equal(recover(p.source, &now, NULL), 0);
	expect(p.dir, "out.safetensors", TWO);
	expect(p.dir, "m.safetensors", ONE);
	expect(p.dir, "other.safetensors", "a U8 3 11bbcc");
	assert_int_equal(count_hidden(p.dir), 0);
	free(out);
	free(other);
	overlay_place_free(&p);
}

/* ---- discard ---- */

static void test_discard_before_the_first_rename_drops_and_after_it_finishes(void **state)
{
	(void)state;

	for (int n = 1; n <= 2; n++) {
		struct overlay_place p = overlay_place(ONE, TWO);
		struct sft_buf text = { 0 };
		struct sft_error err = { 0 };
		bool found;

		interrupt(p.source, NULL, EDITS, n);
		assert_int_equal(sft_staging_discard(p.source, NULL, false, &text, &found, &err),
				 0);
		assert_true(found);
		assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, &err),
				 n - 1);
		expect(p.dir, "a.safetensors", n == 1 ? ONE : "a U8 3 11bbcc");
		expect(p.dir, "b.safetensors", n == 1 ? TWO : "b U8 2 2202");
		assert_int_equal(count_hidden(p.dir), 0);
		assert_false(sft_staging_exists(p.source, NULL));
		sft_buf_free(&text);
		overlay_place_free(&p);
	}
}

/* A renamed shard is another file by now: dropped, the rest would be a mixture for good. */
static void test_discard_keeps_what_may_have_begun(void **state)
{
	static const char *const commands[] = {
		"cd %s && touch -d @1 a.safetensors && cp -p a.safetensors t && mv t a.safetensors",
		"rm %s/a.safetensors",
	};
	(void)state;

	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		struct overlay_place p = overlay_place(ONE, TWO);
		struct sft_buf text = { 0 };
		struct sft_error err = { 0 };
		char *command = NULL;
		bool found;

		interrupt(p.source, NULL, EDITS, 2);
		assert_true(asprintf(&command, commands[i], p.dir) > 0);
		assert_int_equal(system(command), 0);
		free(command);
		assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, &err),
				 -ESTALE);
		expect_error(&err, "a.safetensors is neither the file that it was to replace");
		assert_true(sft_staging_exists(p.source, NULL));
		expect(p.dir, "b.safetensors", TWO);
		sft_buf_free(&text);
		overlay_place_free(&p);
	}
}

/* ---- temporaries ---- */

static void test_temporaries_of_another_staging_are_left_alone(void **state)
{
	struct overlay_place p = overlay_place(ONE, TWO);
	char *stage = fixture_make_dir(), *shard = fixture_join(p.dir, "b.safetensors");
	const struct sft_overlay_options options = { .staging = stage };
	(void)state;

	interrupt(p.source, &options, EDITS, 2);
	unsigned before = count_hidden(p.dir);
	/* A shard alone is another source. */
	assert_int_equal(recover(shard, NULL, NULL), -EEXIST);
	assert_int_equal(count_hidden(p.dir), before);
	assert_int_equal(recover(p.source, &options, NULL), 0);
	expect(p.dir, "a.safetensors", "a U8 3 11bbcc");
	expect(p.dir, "b.safetensors", "b U8 2 2202");
	assert_int_equal(count_hidden(p.dir), 0);
	free(shard);
	fixture_remove_dir(stage);
	overlay_place_free(&p);
}

/* Our own that a process left which died before the record. */
static void test_temporaries_of_the_staging_go_at_its_opening(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	char *mine = prepared_temporary_name("m.safetensors", ov->staging.id);
	char *others = prepared_temporary_name("m.safetensors", ov->staging.id ^ 1);
	char *one = fixture_join(p.dir, mine), *two = fixture_join(p.dir, others);
	sft_overlay_free(ov);
	fixture_put(one, "half", 4);
	fixture_put(two, "half", 4);
	sft_overlay_free(overlay_open(p.source, NULL));
	assert_int_equal(access(one, F_OK), -1);
	assert_int_equal(access(two, F_OK), 0);
	free(mine);
	free(others);
	free(one);
	free(two);
	overlay_place_free(&p);
}

/* Also in an output, and with the lock there. */
static void test_temporaries_of_the_staging_go_with_its_edits(void **state)
{
	for (int how = 0; how < 3; how++) {
		struct overlay_place p = overlay_place(ONE, how == 2 ? TWO : NULL);
		char *out = fixture_join(p.dir, how == 2 ? "out" : "out.safetensors");
		const struct sft_overlay_options options = { .output = how ? out : NULL };
		struct sft_buf text = { 0 };
		bool found;

		(void)state;
		interrupt(p.source, &options, "w a 0 11", 1);
		/* As if it had died a moment before. */
		cut_last_frame(p.source);
		assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, NULL), 0);
		assert_true(found);
		assert_int_equal(count_hidden(p.dir), 0);
		if (how == 2)
			assert_int_equal(count_hidden(out), 0);
		sft_buf_free(&text);
		free(out);
		overlay_place_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_prepared_commit_is_finished_or_void_or_refused),
		cmocka_unit_test(test_another_file_is_not_replaced),
		cmocka_unit_test(test_what_was_copied_with_its_time_is_the_same_file),
		cmocka_unit_test(test_another_output_takes_it_back_or_waits),
		cmocka_unit_test(test_edits_go_elsewhere_where_the_output_is_taken),
		cmocka_unit_test(test_discard_before_the_first_rename_drops_and_after_it_finishes),
		cmocka_unit_test(test_discard_keeps_what_may_have_begun),
		cmocka_unit_test(test_temporaries_of_another_staging_are_left_alone),
		cmocka_unit_test(test_temporaries_of_the_staging_go_at_its_opening),
		cmocka_unit_test(test_temporaries_of_the_staging_go_with_its_edits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
