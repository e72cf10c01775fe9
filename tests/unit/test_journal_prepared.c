/* test_journal_prepared.c - records of prepared commits: written, taken back, not believed */
#include "overlay_fixture.h"

#include "sync.h"

#define ONE "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v"

static struct prepared_target target_of(const struct sft_overlay *ov)
{
	return (struct prepared_target){
		.name = strdup("m.safetensors"),
		.temporary = prepared_temporary_name("m.safetensors", ov->staging.id),
		.old = identity_of_file(sft_checkpoint_shard(ov->base, 0)->file),
		.new = { .there = true, .size = 2, .ino = 7, .hash = 1 },
	};
}

static void target_free(struct prepared_target *t)
{
	free(t->name);
	free(t->temporary);
}

static void test_a_commit_that_is_taken_back_is_none(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	struct prepared_target target = target_of(ov);
	struct journal_summary sum;
	uint64_t end;
	char *shows;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	assert_int_equal(sync_prepared(ov, JOURNAL_PREPARED_REPLACE, &target, 1, &end, NULL), 0);
	assert_int_equal(journal_summarize(ov->staging.journal, &sum, NULL), 0);
	assert_true(sum.prepared);
	assert_int_equal(sum.target_count, 1);
	assert_string_equal(sum.targets[0].temporary, target.temporary);
	assert_string_equal(sum.targets[0].name, target.name);
	assert_true(identity_same(&sum.targets[0].old, &target.old));
	assert_int_equal(sum.targets[0].old.ino, target.old.ino);
	assert_true(identity_same(&sum.targets[0].new, &target.new));
	assert_int_equal(sum.targets[0].new.ino, 7);
	journal_summary_free(&sum);
	assert_int_equal(journal_take_back(&ov->staging, end, NULL), 0);
	assert_int_equal(journal_summarize(ov->staging.journal, &sum, NULL), 0);
	assert_false(sum.prepared);
	assert_int_equal(sum.synced, end);
	journal_summary_free(&sum);
	assert_int_equal(fixture_edit(ov, "w a 1 22", NULL), 0);
	sft_overlay_free(ov);
	target_free(&target);
	shows = describe_source(p.source, NULL);
	assert_string_equal(shows, "a U8 3 1122cc *; b F32 2 0102030405060708; @0 k=v");
	free(shows);
	overlay_place_free(&p);
}

static void test_a_prepared_commit_without_its_files_is_void(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	struct prepared_target target = target_of(ov);
	uint64_t end;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	assert_int_equal(sync_prepared(ov, JOURNAL_PREPARED_REPLACE, &target, 1, &end, NULL), 0);
	sft_overlay_free(ov);
	target_free(&target);
	for (int i = 0; i < 2; i++) {
		char *shows = describe_source(p.source, NULL);

		assert_string_equal(shows, "a U8 3 11bbcc *; b F32 2 0102030405060708; @0 k=v");
		free(shows);
	}
	overlay_place_free(&p);
}

/* Nothing but files beside the source, and the staging's own, can be named. */
static void test_a_prepared_commit_names_files_beside_the_source_only(void **state)
{
	static const struct {
		const char *name, *temporary; /* NULL: as a commit makes it */
	} cases[] = {
		{ "../m.safetensors", NULL },
		{ "/etc/passwd", NULL },
		{ "..", NULL },
		{ "", NULL },
		{ "m", "../m" },
		{ "m", "/tmp/m" },
		{ "m", "m.safetensors" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		struct prepared_target good = target_of(ov), bad = good;
		const struct sft_overlay_options none = { 0 };
		struct sft_error err = { 0 };
		uint64_t end;

		bad.name = (char *)(uintptr_t)cases[i].name;
		if (cases[i].temporary)
			bad.temporary = (char *)(uintptr_t)cases[i].temporary;
		assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
		assert_int_equal(sync_prepared(ov, JOURNAL_PREPARED_REPLACE, &bad, 1, &end, NULL),
				 0);
		sft_overlay_free(ov);
		target_free(&good);
		assert_int_equal(sft_overlay_open(p.source, &none, &ov, &err), -EBADMSG);
		assert_non_null(strstr(err.msg, "record of a commit is damaged"));
		overlay_place_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_commit_that_is_taken_back_is_none),
		cmocka_unit_test(test_a_prepared_commit_without_its_files_is_void),
		cmocka_unit_test(test_a_prepared_commit_names_files_beside_the_source_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
