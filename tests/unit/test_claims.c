/*
 * test_claims.c - one writer at a time, of the source and of the output, whatever the staging is
 *
 * On NFS and its like flock() of a directory reaches nobody on another machine, and an exclusive
 * one of a file needs a descriptor that can be written to: so it is here, where that is asked for.
 */
#include "staging_fixture.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

#define ONE "a U8 3 aabbcc"
#define HOME ".m.safetensors.safetensorfs"

/* ---- the share ---- */

static bool share;   /* as another machine sees it */
static int no_locks; /* an errno: what the file system says to each lock */

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
	struct stat st;

	if (no_locks) {
		errno = no_locks;
		return -1;
	}
	if (!share || fstat(fd, &st) < 0)
		return __real_flock(fd, operation);
	if (S_ISDIR(st.st_mode))
		return 0;
	if (operation & LOCK_EX && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
		errno = EBADF;
		return -1;
	}
	return __real_flock(fd, operation);
}

/* ---- what others find ---- */

static int discard(const char *source, const char *staging, struct sft_error *err)
{
	struct sft_buf text = { 0 };
	bool found;
	int r = sft_staging_discard(source, staging, true, &text, &found, err);

	sft_buf_free(&text);
	return r < 0 ? r : found;
}

/* ---- on a share ---- */

static void test_another_machine_neither_drops_nor_disables_a_live_staging(void **state)
{
	(void)state;

	share = true;
	for (int staged = 0; staged < 2; staged++) {
		struct overlay_place p = overlay_place(ONE, staged ? "b U8 2 0102" : NULL);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		struct sft_error err = { 0 };

		if (staged)
			assert_int_equal(fixture_edit(ov, "w a 0 11; s", NULL), 0);
		expect_refused(p.source, NULL, EBUSY, "is being edited by process");
		assert_int_equal(discard(p.source, NULL, &err), -EBUSY);
		assert_non_null(strstr(err.msg, "is being edited by process"));
		/* The first one goes on. */
		assert_int_equal(fixture_edit(ov, "w a 1 22; s", NULL), 0);
		sft_overlay_free(ov);
		ov = overlay_open(p.source, NULL);
		char *shows = overlay_describe(ov);
		assert_non_null(strstr(shows, staged ? "a U8 3 1122cc *" : "a U8 3 aa22cc *"));
		free(shows);
		sft_overlay_free(ov);
		overlay_place_free(&p);
	}
	share = false;
}

static void test_what_cannot_be_locked_is_an_error(void **state)
{
	static const int errors[] = { ENOLCK, EOPNOTSUPP, EBADF };
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11; s", NULL), 0);
	sft_overlay_free(ov);
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		no_locks = errors[i];
		expect_refused(p.source, NULL, errors[i], "cannot be locked");
		assert_int_equal(discard(p.source, NULL, NULL), -errors[i]);
		no_locks = 0;
		assert_true(sft_staging_exists(p.source, NULL));
	}
	overlay_place_free(&p);
}

/* ---- the lock ---- */

/* Whoever had it may have removed it between our opening and our locking it. */
static void test_a_lock_that_was_removed_is_none(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *home = fixture_join(p.dir, HOME), *lock = fixture_join(home, "lock");
	struct sft_error err = { 0 };
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	/* Of the staging under a mount: nothing more is acknowledged. */
	assert_int_equal(unlink(lock), 0);
	assert_int_equal(fixture_edit(ov, "w a 1 22; s", NULL), -EIO);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), -EIO);
	assert_non_null(strstr(err.msg, "was removed by somebody else"));
	assert_non_null(strstr(err.msg, "copy it"));
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	sft_overlay_free(ov);
	free(home);
	free(lock);
	overlay_place_free(&p);
}

static void test_nothing_is_left_where_nothing_is_staged(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *out = fixture_join(p.dir, "out");
	const struct sft_overlay_options options = { .staging = stage, .output = out };
	(void)state;

	for (int i = 0; i < 3; i++) {
		struct sft_buf text = { 0 };
		bool found;

		/* As a process leaves them that dies with nothing staged. */
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			overlay_open(p.source, &options);
			_exit(0);
		}
		assert_int_equal(waitpid(child, NULL, 0), child);
		assert_true(is_there(p.dir, "stage") && is_there(p.dir, HOME) &&
			    is_there(p.dir, ".out.safetensorfs"));
		if (i == 0)
			assert_int_equal(try_open(p.source, &options, NULL), 0);
		else if (i == 1)
			assert_int_equal(discard(p.source, stage, NULL), 0);
		else /* as recover asks */
			assert_int_equal(
				sft_staging_discard(p.source, stage, false, &text, &found, NULL),
				0);
		assert_false(is_there(p.dir, "stage"));
		assert_false(is_there(p.dir, HOME));
		assert_int_equal(is_there(p.dir, ".out.safetensorfs"), i > 0);
	}
	free(stage);
	free(out);
	overlay_place_free(&p);
}

/* With staging= they are known by the lock. */
static void test_a_blank_journal_and_half_a_slot_are_ours(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage");
	const struct sft_overlay_options options = { .staging = stage };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	char *journal = fixture_join(stage, "journal"), *blocks = fixture_join(stage, "blocks");
	static const char zeros[100];
	fixture_put(journal, zeros, sizeof(zeros));
	fixture_put(blocks, "half", 4);
	assert_int_equal(try_open(p.source, &options, NULL), 0);
	assert_false(is_there(p.dir, "stage"));
	free(journal);
	free(blocks);
	free(stage);
	overlay_place_free(&p);
}

static void test_a_lock_of_somebody_elses_is_refused_and_kept(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *lock = fixture_join(stage, "lock");
	const struct sft_overlay_options options = { .staging = stage };
	(void)state;

	assert_int_equal(mkdir(stage, 0700), 0);
	fixture_put(lock, "1234\n", 5);
	expect_refused(p.source, &options, EEXIST, "holds a file lock that is not one of ours");
	assert_int_equal(discard(p.source, stage, NULL), -EEXIST);
	assert_true(is_there(stage, "lock"));
	free(lock);
	free(stage);
	overlay_place_free(&p);
}

/* ---- two places ---- */

static void test_edits_in_one_place_keep_others_out_of_the_other(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *third = fixture_join(p.dir, "third");
	const struct sft_overlay_options there = { .staging = stage }, other = { .staging = third };
	struct sft_error err = { 0 };
	struct sft_overlay *ov;
	(void)state;

	/* Staged in the default place. */
	ov = overlay_open(p.source, NULL);
	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	expect_refused(p.source, &there, EEXIST, HOME);
	assert_int_equal(discard(p.source, stage, &err), -EEXIST);
	assert_false(is_there(p.dir, "stage"));
	assert_int_equal(sft_staging_check(p.source, NULL, NULL), 0);
	assert_int_equal(sft_staging_check(p.source, stage, NULL), -EEXIST);
	assert_int_equal(discard(p.source, NULL, NULL), 1);
	/* In DIR. */
	ov = overlay_open(p.source, &there);
	expect_refused(p.source, NULL, EBUSY, "is being edited by process");
	expect_refused(p.source, &other, EBUSY, "is being edited by process");
	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	for (int i = 0; i < 2; i++) {
		const struct sft_overlay_options *options = i ? &other : NULL;

		expect_refused(p.source, options, EEXIST, stage);
		expect_refused(p.source, options, EEXIST, "staging=");
		err = (struct sft_error){ 0 };
		assert_int_equal(discard(p.source, i ? third : NULL, &err), -EEXIST);
		assert_non_null(strstr(err.msg, stage));
		assert_true(sft_staging_exists(p.source, i ? third : NULL));
		err = (struct sft_error){ 0 };
		assert_int_equal(sft_staging_check(p.source, i ? third : NULL, &err), -EEXIST);
		assert_non_null(strstr(err.msg, stage));
	}
	assert_int_equal(sft_staging_check(p.source, stage, NULL), 0);
	/* The marker outlives being refused. */
	ov = overlay_open(p.source, &there);
	char *shows = overlay_describe(ov);
	assert_string_equal(shows, "a U8 3 11bbcc *");
	free(shows);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), 0);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	assert_false(is_there(p.dir, HOME));
	assert_int_equal(try_open(p.source, NULL, NULL), 0);
	free(stage);
	free(third);
	overlay_place_free(&p);
}

static void test_a_marker_that_leads_to_no_edits_goes(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *stage = fixture_make_dir(), *home = fixture_join(p.dir, HOME);
	char *marker = fixture_join(home, "elsewhere"), *text = NULL;
	(void)state;

	assert_int_equal(mkdir(home, 0700), 0);
	assert_true(asprintf(&text, "%s\n", stage) > 0);
	for (int i = 0; i < 2; i++) {
		/* One that death has torn, too: nothing was staged then. */
		fixture_put(marker, text, strlen(text) - (size_t)i);
		assert_int_equal(try_open(p.source, NULL, NULL), 0);
		assert_false(is_there(p.dir, HOME));
		assert_int_equal(mkdir(home, 0700), 0);
	}
	/* A directory that is not there may be on a disk that is not mounted. */
	fixture_put(marker, text, strlen(text));
	assert_int_equal(rmdir(stage), 0);
	expect_refused(p.source, NULL, EEXIST, "which cannot be looked at");
	assert_int_equal(discard(p.source, stage, NULL), 0);
	assert_int_equal(try_open(p.source, NULL, NULL), 0);
	free(text);
	free(stage);
	free(marker);
	free(home);
	overlay_place_free(&p);
}

/* ---- the output ---- */

static void test_one_writer_at_a_time_holds_for_the_output(void **state)
{
	(void)state;

	for (int directory = 0; directory < 2; directory++) {
		const char *second = directory ? "b U8 1 01" : NULL;
		struct overlay_place p = overlay_place(ONE, second), q = overlay_place(ONE, second);
		char *out = fixture_join(p.dir, "out"), *link = fixture_join(q.dir, "link");
		const struct sft_overlay_options options = { .output = out };
		struct sft_overlay *ov = overlay_open(p.source, &options);

		print_message("%s\n", directory ? "a directory" : "a file");
		if (directory) {
			/* It is there from the first commit on. */
			assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
			assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), 0);
			sft_overlay_adopt(ov);
		}
		expect_refused(q.source, &options, EBUSY, "is being edited by process");
		if (!directory)
			fixture_checkpoint(out, ONE);
		expect_refused(out, NULL, EBUSY, "is being edited by process");
		sft_overlay_free(ov);
		/* The reverse: it is edited as a source, or has edits. */
		ov = overlay_open(out, NULL);
		expect_refused(p.source, &options, EBUSY, "is being edited by process");
		assert_int_equal(fixture_edit(ov, "w a 0 77", NULL), 0);
		sft_overlay_free(ov);
		expect_refused(p.source, &options, EEXIST, "edits of it are staged in");
		assert_int_equal(discard(out, NULL, NULL), 1);
		assert_int_equal(try_open(p.source, &options, NULL), 0);
		free(out);
		free(link);
		overlay_place_free(&p);
		overlay_place_free(&q);
	}
}

/* A directory that two commits would make at the same time. */
static void test_an_output_directory_belongs_to_who_makes_it(void **state)
{
	struct overlay_place p = overlay_place(ONE, "b U8 1 01"),
			     q = overlay_place(ONE, "b U8 1 01");
	char *out = fixture_join(p.dir, "out");
	const struct sft_overlay_options options = { .output = out };
	struct sft_overlay *one = overlay_open(p.source, &options);
	struct sft_overlay *two = overlay_open(q.source, &options);
	struct sft_error err = { 0 };
	(void)state;

	assert_int_equal(fixture_edit(one, "w a 0 11", NULL), 0);
	assert_int_equal(fixture_edit(two, "w a 0 22", NULL), 0);
	assert_int_equal(sft_overlay_commit(one, NULL, NULL, NULL), 0);
	sft_overlay_adopt(one);
	assert_int_equal(sft_overlay_commit(two, NULL, NULL, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "is being edited by process"));
	sft_overlay_free(one);
	assert_int_equal(sft_overlay_commit(two, NULL, NULL, NULL), 0);
	sft_overlay_adopt(two);
	sft_overlay_free(two);
	assert_false(is_there(out, ".safetensorfs"));
	free(out);
	overlay_place_free(&p);
	overlay_place_free(&q);
}

/* ---- a directory and one of its files ---- */

static void stage(const char *source, const struct sft_overlay_options *options, const char *edits)
{
	struct sft_overlay *ov = overlay_open(source, options);

	assert_int_equal(fixture_edit(ov, edits, NULL), 0);
	sft_overlay_free(ov);
}

static void test_a_shard_and_its_directory_are_not_edited_apart(void **state)
{
	(void)state;

	for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
		struct overlay_place p = overlay_place(ONE, "b U8 2 0102");
		char *shard = fixture_join(p.dir, "a.safetensors");
		char *out = fixture_join(p.dir, "out"), *stage_dir = fixture_make_dir();
		const struct sft_overlay_options options = { .staging =
								     elsewhere ? stage_dir : NULL };
		const struct sft_overlay_options other = { .output = out };

		stage(p.source, &options, "w b 0 11");
		expect_refused(shard, NULL, EEXIST, "which it is a shard of, are staged in");
		/* Nor where the directory's edits are somebody else's to look at. */
		char *whole = fixture_join(p.dir, ".safetensorfs");
		if (!elsewhere) {
			assert_int_equal(chmod(whole, 0770), 0);
			expect_refused(shard, NULL, EPERM, "can be written by others");
			assert_int_equal(chmod(whole, 0700), 0);
		}
		free(whole);
		assert_int_equal(discard(p.source, options.staging, NULL), 1);
		stage(shard, &options, "w a 0 11");
		expect_refused(p.source, NULL, EEXIST,
			       "its shard a.safetensors alone are staged: `safetensorfs recover");
		/* What is committed to another place leaves it alone. */
		assert_int_equal(try_open(p.source, &other, NULL), 0);
		assert_int_equal(discard(shard, options.staging, NULL), 1);
		assert_int_equal(try_open(p.source, NULL, NULL), 0);
		free(shard);
		free(out);
		fixture_remove_dir(stage_dir);
		overlay_place_free(&p);
	}
}

/* An output too may be a shard of what is edited, or have one. */
static void test_an_output_and_what_is_part_of_it_are_not_edited_apart(void **state)
{
	struct overlay_place p = overlay_place(ONE, "b U8 2 0102"), q = overlay_place(ONE, NULL);
	struct overlay_place o = overlay_place("c U8 1 01", "d U8 1 02");
	char *shard = fixture_join(p.dir, "a.safetensors");
	const struct sft_overlay_options one = { .output = shard }, dir = { .output = p.dir };
	(void)state;

	stage(p.source, NULL, "w b 0 11");
	expect_refused(q.source, &one, EEXIST, "which it is a shard of, are staged in");
	assert_int_equal(discard(p.source, NULL, NULL), 1);
	stage(shard, NULL, "w a 0 11");
	expect_refused(o.source, &dir, EEXIST, "its shard a.safetensors alone are staged");
	free(shard);
	overlay_place_free(&p);
	overlay_place_free(&q);
	overlay_place_free(&o);
}

/* There they would be taken for the other's edits, and dropped with them. */
static void test_edits_are_not_staged_in_the_default_place_of_another(void **state)
{
	struct overlay_place p = overlay_place(ONE, "b U8 2 0102");
	char *shard = fixture_join(p.dir, "a.safetensors");
	char *others = fixture_join(p.dir, ".b.safetensors.safetensorfs");
	char *whole = fixture_join(p.dir, ".safetensorfs");
	char *nobodys = fixture_join(p.dir, ".c.safetensors.safetensorfs");
	(void)state;

	expect_refused(shard, &(struct sft_overlay_options){ .staging = others }, EEXIST,
		       "where edits of b.safetensors are staged");
	expect_refused(shard, &(struct sft_overlay_options){ .staging = whole }, EEXIST,
		       "where edits of the directory are staged");
	assert_int_equal(try_open(shard, &(struct sft_overlay_options){ .staging = nobodys }, NULL),
			 0);
	assert_int_equal(
		try_open(p.source, &(struct sft_overlay_options){ .staging = whole }, NULL), 0);
	free(shard);
	free(others);
	free(whole);
	free(nobodys);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_another_machine_neither_drops_nor_disables_a_live_staging),
		cmocka_unit_test(test_what_cannot_be_locked_is_an_error),
		cmocka_unit_test(test_a_lock_that_was_removed_is_none),
		cmocka_unit_test(test_nothing_is_left_where_nothing_is_staged),
		cmocka_unit_test(test_a_blank_journal_and_half_a_slot_are_ours),
		cmocka_unit_test(test_a_lock_of_somebody_elses_is_refused_and_kept),
		cmocka_unit_test(test_edits_in_one_place_keep_others_out_of_the_other),
		cmocka_unit_test(test_a_marker_that_leads_to_no_edits_goes),
		cmocka_unit_test(test_one_writer_at_a_time_holds_for_the_output),
		cmocka_unit_test(test_an_output_directory_belongs_to_who_makes_it),
		cmocka_unit_test(test_a_shard_and_its_directory_are_not_edited_apart),
		cmocka_unit_test(test_an_output_and_what_is_part_of_it_are_not_edited_apart),
		cmocka_unit_test(test_edits_are_not_staged_in_the_default_place_of_another),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
