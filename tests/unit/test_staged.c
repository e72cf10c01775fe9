/* test_staged.c - edits that are found staged: whose they are, resumed, refused, and dropped */
#include "staging_fixture.h"

#include "journal.h"

#include <fcntl.h>

#define ONE "a U8 3 aabbcc"
#define TWO "b U8 2 0102"

/* ---- resuming ---- */

static void test_edits_of_a_source_that_has_changed_are_refused(void **state)
{
	static const struct {
		const char *name, *differs;
	} changes[] = {
		{ "touched", "edits were staged: modification time " },
		{ "replaced", "edits were staged: another header" },
		{ "longer", "edits were staged: size 72 instead of 71" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *copy = fixture_join(p.dir, "copy");
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		struct sft_buf text = { 0 };
		struct stat st;
		bool found;

		print_message("%s\n", changes[i].name);
		assert_int_equal(fixture_edit(ov, "w a 0 11; m a x", NULL), 0);
		sft_overlay_free(ov);
		assert_int_equal(stat(p.source, &st), 0);
		struct timespec times[2] = { st.st_atim, st.st_mtim };
		fixture_checkpoint(i == 1 ? copy : p.source, i == 2   ? "a U8 4 aabbccdd"
							     : i == 1 ? "b U8 3 aabbcc"
								      : ONE);
		if (i == 1)
			assert_int_equal(rename(copy, p.source), 0);
		times[1].tv_nsec = (times[1].tv_nsec + (i == 0)) % 1000000000;
		assert_int_equal(utimensat(AT_FDCWD, p.source, times, 0), 0);
		expect_refused(p.source, NULL, ESTALE, changes[i].differs);
		expect_refused(p.source, NULL, ESTALE, "; `safetensorfs discard` drops them");
		assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, NULL), 0);
		assert_true(found);
		assert_non_null(
			strstr(text.data, "tensor \"a\": renamed to \"x\", bytes changed\n"));
		assert_false(is_there(p.dir, ".m.safetensors.safetensorfs"));
		assert_int_equal(try_open(p.source, NULL, NULL), 0);
		sft_buf_free(&text);
		free(copy);
		overlay_place_free(&p);
	}
}

static void test_edits_move_with_their_source(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *moved = NULL, *shows;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	assert_true(asprintf(&moved, "%s-moved", p.dir) > 0);
	assert_int_equal(rename(p.dir, moved), 0);
	free(p.source);
	p.source = fixture_join(moved, "m.safetensors");
	ov = overlay_open(p.source, NULL);
	shows = overlay_describe(ov);
	assert_string_equal(shows, "a U8 3 11bbcc *");
	assert_non_null(strstr(sft_overlay_note(ov, 0), "resuming edits staged in"));
	assert_non_null(strstr(sft_overlay_note(ov, 0), ": 1 tensor, 65536 bytes"));
	assert_null(sft_overlay_note(ov, 1));
	free(shows);
	sft_overlay_free(ov);
	free(p.dir);
	p.dir = moved;
	overlay_place_free(&p);
}

static void change_nothing(const struct overlay_place *p)
{
	(void)p;
}

static void move_source(const struct overlay_place *p)
{
	char *to = fixture_join(p->dir, "moved");

	assert_int_equal(rename(p->source, to), 0);
	free(to);
}

static void link_source(const struct overlay_place *p)
{
	char *to = fixture_join(p->dir, "moved");

	move_source(p);
	assert_int_equal(symlink(to, p->source), 0);
	free(to);
}

static void replace_source(const struct overlay_place *p)
{
	char *copy = fixture_join(p->dir, "copy");

	fixture_checkpoint(copy, ONE);
	assert_int_equal(rename(copy, p->source), 0);
	free(copy);
}

static void copy_source(const struct overlay_place *p)
{
	char *to = fixture_join(p->dir, "moved");

	fixture_checkpoint(to, ONE);
	free(to);
}

/* What identifies a source is its path, or its inode. */
static void test_edits_of_another_source_are_refused_and_kept(void **state)
{
	static const struct {
		const char *name;
		void (*change)(const struct overlay_place *p);
		const char *source;
		int error;
		const char *message;
	} cases[] = {
		{ "another file", copy_source, "moved", EEXIST, "" },
		{ "the same", change_nothing, "m.safetensors", 0, "" },
		{ "moved", move_source, "moved", 0, "" },
		{ "moved, and linked to", link_source, "m.safetensors", 0, "" },
		{ "replaced", replace_source, "m.safetensors", ESTALE, "has changed" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *stage = fixture_join(p.dir, "stage"), *real = realpath(p.source, NULL);
		char *source = fixture_join(p.dir, cases[i].source), *others = NULL;
		const struct sft_overlay_options options = { .staging = stage };
		struct sft_overlay *ov = overlay_open(p.source, &options);
		struct sft_buf text = { 0 };
		struct sft_error err = { 0 };
		bool found, other = cases[i].error == EEXIST;

		print_message("%s\n", cases[i].name);
		assert_true(asprintf(&others, "%s holds the edits of %s, not of this source", stage,
				     real) > 0);
		assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
		sft_overlay_free(ov);
		cases[i].change(&p);
		assert_int_equal(sft_staging_exists(source, stage), !other);
		if (cases[i].error)
			expect_refused(source, &options, cases[i].error,
				       other ? others : cases[i].message);
		else
			assert_int_equal(try_open(source, &options, NULL), 0);
		assert_true(is_there(stage, "journal") && is_there(stage, "blocks"));
		assert_int_equal(sft_staging_discard(source, stage, true, &text, &found, &err),
				 other ? -EEXIST : 0);
		assert_int_equal(text.len > 0, !other);
		if (other)
			assert_string_equal(err.msg, others);
		assert_int_equal(is_there(stage, "journal") && is_there(stage, "blocks"), other);
		sft_buf_free(&text);
		free(stage);
		free(real);
		free(source);
		free(others);
		overlay_place_free(&p);
	}
}

struct own_file {
	const char *name, *bytes;
	size_t len;
};

static void check_own_files(const char *dir, const struct own_file *files)
{
	for (const struct own_file *f = files; f->name; f++) {
		char *path = fixture_join(dir, f->name);
		size_t len;
		char *bytes = fixture_get(path, &len);

		assert_int_equal(len, f->len);
		assert_memory_equal(bytes, f->bytes, len);
		free(bytes);
		free(path);
	}
}

#define FILE_OF(NAME, BYTES)                                                                       \
	{                                                                                          \
		NAME, BYTES, sizeof(BYTES) - 1                                                     \
	}
#define ZEROS "\0\0\0\0\0\0\0\0\0\0\0\0"
#define BEGINS "\100\0\0\0\1\0\0\0"

static void test_files_of_the_users_own_are_kept(void **state)
{
	static const struct {
		const char *name;
		struct own_file files[4];
		int opened, discarded;
		bool kept; /* by an opening too */
		const char *message;
	} cases[] = {
		{ "text",
		  { FILE_OF("journal", "Monday: rain\n"), FILE_OF("blocks", "b"),
		    FILE_OF("result", "r") },
		  EEXIST,
		  EEXIST,
		  true,
		  "holds a file journal and no journal of edits" },
		{ "alone",
		  { FILE_OF("journal", "Monday: rain\n") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "short", { FILE_OF("journal", "hi\n") }, EEXIST, EEXIST, true, "a file journal" },
		{ "another type",
		  { FILE_OF("journal", "\1\0\0\0\2\0\0\0") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "no version",
		  { FILE_OF("journal", BEGINS "\0\0\0\0") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "a version of text",
		  { FILE_OF("journal", BEGINS "abcd") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "zeros, then text",
		  { FILE_OF("journal", ZEROS "text") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "empty, and blocks",
		  { FILE_OF("journal", ""), FILE_OF("blocks", "b") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file blocks" },
		{ "zeros, and a result",
		  { FILE_OF("journal", ZEROS), FILE_OF("result", "r") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file result" },
		{ "no journal",
		  { FILE_OF("blocks", "b"), FILE_OF("result", "r") },
		  EEXIST,
		  0,
		  true,
		  "a file blocks and no journal" },
		{ "another version",
		  { FILE_OF("journal", BEGINS "\1\0\0\0rest of it") },
		  EBADMSG,
		  0,
		  false,
		  "version 1, and this is for 2" },
		{ "a header that is cut",
		  { FILE_OF("journal", "\7\0\0\0"
				       "ftj2rest of it") },
		  0,
		  0,
		  false,
		  "" },
		{ "zeros", { FILE_OF("journal", ZEROS), FILE_OF("blocks", "") }, 0, 0, false, "" },
		{ "empty", { FILE_OF("journal", "") }, 0, 0, false, "" },
	};
	(void)state;

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
		const bool opens = i % 2;
		struct overlay_place p = overlay_place(ONE, NULL);
		char *own = fixture_join(p.dir, "own");
		const struct sft_overlay_options options = { .staging = own };
		const struct own_file *files = cases[i / 2].files;
		struct sft_buf text = { 0 };
		struct sft_error err = { 0 };
		bool found;
		int error = opens ? cases[i / 2].opened : cases[i / 2].discarded;

		print_message("%s, %s\n", cases[i / 2].name, opens ? "opened" : "discarded");
		assert_int_equal(mkdir(own, 0700), 0);
		for (const struct own_file *f = files; f->name; f++) {
			char *path = fixture_join(own, f->name);

			fixture_put(path, f->bytes, f->len);
			free(path);
		}
		if (cases[i / 2].kept)
			assert_false(sft_staging_exists(p.source, own));
		int r = opens ? try_open(p.source, &options, &err)
			      : sft_staging_discard(p.source, own, true, &text, &found, &err);
		assert_int_equal(r, -error);
		if (error && !strstr(err.msg, cases[i / 2].message))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i / 2].message);
		if (cases[i / 2].kept || error) {
			check_own_files(own, files);
			if (error == EEXIST && !files[1].name)
				assert_false(is_there(own, "blocks"));
		} else {
			assert_false(is_there(own, "journal"));
		}
		sft_buf_free(&text);
		free(own);
		overlay_place_free(&p);
	}
}

/* The header says whose they are, also where what follows cannot be read. */
static void test_damaged_edits_of_another_source_are_kept(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL), q = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *journal = fixture_join(stage, "journal");
	const struct sft_overlay_options options = { .staging = stage };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	struct sft_buf text = { 0 };
	size_t len = 0;
	bool found;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11; s; w a 1 22; s; w a 2 33; s", NULL), 0);
	sft_overlay_free(ov);
	char *bytes = fixture_get(journal, &len);
	size_t header = (size_t)(sft_le64((unsigned char *)bytes) & UINT32_MAX) + JOURNAL_FRAME;
	bytes[header + 8] ^= 1;
	fixture_put(journal, bytes, len);
	expect_refused(q.source, &options, EEXIST, "holds the edits of");
	assert_int_equal(sft_staging_discard(q.source, stage, true, &text, &found, NULL), -EEXIST);
	assert_false(sft_staging_exists(q.source, stage));
	expect_refused(p.source, &options, EBADMSG, "is damaged at byte");
	assert_true(sft_staging_exists(p.source, stage));
	assert_int_equal(sft_staging_discard(p.source, stage, true, &text, &found, NULL), 0);
	/* We made it. */
	assert_false(is_there(p.dir, "stage"));
	sft_buf_free(&text);
	free(bytes);
	free(journal);
	free(stage);
	overlay_place_free(&p);
	overlay_place_free(&q);
}

static void test_a_directory_in_use_for_another_source(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL), q = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *real = realpath(p.source, NULL), *want = NULL;
	const struct sft_overlay_options options = { .staging = stage };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	(void)state;

	assert_true(asprintf(&want, "%s is in use by process %d", stage, (int)getpid()) > 0);
	expect_refused(q.source, &options, EBUSY, want);
	free(want);
	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	assert_true(asprintf(&want, "%s is in use for %s by process %d", stage, real,
			     (int)getpid()) > 0);
	expect_refused(q.source, &options, EBUSY, want);
	expect_refused(p.source, &options, EBUSY, "is being edited by process");
	sft_overlay_free(ov);
	free(want);
	free(real);
	free(stage);
	overlay_place_free(&p);
	overlay_place_free(&q);
}

static void test_the_reason_of_a_failed_commit_is_told_again(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	staging_result(&ov->staging, "no\x1broom");
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	assert_string_equal(sft_overlay_note(ov, 1), "the last commit failed: no?room");
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void test_options_come_back_from_the_journal(void **state)
{
	struct overlay_place p = overlay_place(ONE, TWO);
	char *first = fixture_join(p.dir, "first"), *second = fixture_join(p.dir, "second");
	struct sft_overlay_options options = { .output = first,
					       .inplace = true,
					       .flags = SFT_SAME_NAMES };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	assert_string_equal(ov->options.output, first);
	assert_true(ov->options.inplace);
	assert_int_equal(ov->options.flags, SFT_SAME_NAMES);
	sft_overlay_free(ov);
	/* What is said later replaces it. */
	options = (struct sft_overlay_options){ .output = second };
	ov = overlay_open(p.source, &options);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	assert_string_equal(ov->options.output, second);
	sft_overlay_free(ov);
	free(first);
	free(second);
	overlay_place_free(&p);
}

/* ---- discard ---- */

static void test_discard_says_what_it_drops(void **state)
{
	struct overlay_place p = overlay_place("a U8 3 aabbcc; b U8 1 01; c U8 1 02; d U8 1 03; "
					       "e U8 1 04; @k=v",
					       NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	struct sft_buf text = { 0 };
	char *want = NULL, *real = realpath(p.source, NULL);
	bool found;
	(void)state;

	assert_int_equal(fixture_edit(ov,
				      "w a 0 11; r b; m c x; d d I8 1; c n; c gone; r gone; x .t; "
				      "mx e e~; @ 0 q=r",
				      NULL),
			 0);
	assert_true(asprintf(&want,
			     "edits of %s, staged in %s:\n"
			     "tensor \"a\": bytes changed\n"
			     "tensor \"b\": removed\n"
			     "tensor \"c\": renamed to \"x\"\n"
			     "tensor \"d\": dtype and shape declared\n"
			     "tensor \"n\": new\n"
			     "tensor \"e\": removed\n"
			     "metadata: changed\n",
			     real, sft_overlay_staging(ov)) > 0);
	sft_overlay_free(ov);
	assert_int_equal(sft_staging_discard(p.source, NULL, false, &text, &found, NULL), 0);
	assert_true(found);
	assert_string_equal(text.data, want);
	assert_true(sft_staging_exists(p.source, NULL));
	sft_buf_free(&text);
	assert_int_equal(unlink(p.source), 0);
	/* Also where the source is gone. */
	assert_true(sft_staging_exists(p.source, NULL));
	assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, NULL), 0);
	assert_true(found);
	assert_string_equal(text.data, want);
	sft_buf_free(&text);
	assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, NULL), 0);
	assert_false(found);
	assert_int_equal(text.len, 0);
	free(want);
	free(real);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edits_of_a_source_that_has_changed_are_refused),
		cmocka_unit_test(test_edits_move_with_their_source),
		cmocka_unit_test(test_edits_of_another_source_are_refused_and_kept),
		cmocka_unit_test(test_files_of_the_users_own_are_kept),
		cmocka_unit_test(test_damaged_edits_of_another_source_are_kept),
		cmocka_unit_test(test_a_directory_in_use_for_another_source),
		cmocka_unit_test(test_the_reason_of_a_failed_commit_is_told_again),
		cmocka_unit_test(test_options_come_back_from_the_journal),
		cmocka_unit_test(test_discard_says_what_it_drops),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
