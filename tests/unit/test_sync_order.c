/*
 * test_sync_order.c - what is durable before what
 *
 * A process that dies shows nothing of what a power cut does. So the order of the calls is looked
 * at.
 */
#include "edit_fixture.h"
#include "faults.h"

#define A "a.safetensors"
#define B "b.safetensors"
#define INDEX "model.safetensors.index.json"

static char *make_shards(void)
{
	char *dir = fixture_make_dir(), *a = fixture_join(dir, A), *b = fixture_join(dir, B);

	fixture_checkpoint(a, "one U8 2 0102");
	fixture_checkpoint(b, "two U8 3 010203");
	free(a);
	free(b);
	return dir;
}

/* Whether, of the calls before `at` and behind `from`, one is called `name`. */
static bool is_between(char *const *calls, unsigned from, unsigned at, const char *name)
{
	for (unsigned i = from + 1; i < at; i++) {
		if (strcmp(calls[i], name) == 0)
			return true;
	}
	return false;
}

/*
 * What a power cut needs cannot be seen from a process that dies: so the order of the calls is
 * looked at. Before the first rename of a new file nothing may be unsynced: the last writing call
 * is followed by a sync; behind the last one a directory is synced before the journal goes.
 */
static void test_new_files_are_durable_before_they_are_renamed(void **state)
{
	static const char index[] = "{\"weight_map\":{\"one\":\"" A "\",\"two\":\"" B "\"}}";
	const struct sft_overlay_options options = { 0 };
	char *calls[256], *dir = make_shards(), *path = fixture_join(dir, INDEX);
	unsigned n, first = 0, last = 0, written = 0;
	(void)state;

	fixture_put(path, index, strlen(index));
	faults_trace_start();
	fixture_commit(dir, &options, "w one 0 ff; m one 1; m two 2");
	n = faults_trace_stop(calls, 256);
	free(path);
	fixture_remove_dir(dir);
	for (unsigned i = 0; i < n; i++) {
		if (strncmp(calls[i], "renameat ." A, strlen("renameat ." A)) == 0)
			first = i;
		if (strncmp(calls[i], "renameat ." INDEX, strlen("renameat ." INDEX)) == 0)
			last = i;
	}
	assert_true(first > 0 && last == first + 2);
	for (unsigned i = 0; i < first; i++) {
		if (strcmp(calls[i], "pwrite64") == 0 || strcmp(calls[i], "copy_file_range") == 0)
			written = i;
	}
	/* The last write is the record; the files, their directory and it are synced. */
	assert_true(is_between(calls, written, first, "fdatasync"));
	assert_true(is_between(calls, last, n, "fsync"));
	unsigned dropped = last;
	while (dropped < n && strcmp(calls[dropped], "unlinkat journal") != 0)
		dropped++;
	assert_true(dropped < n);
	assert_true(is_between(calls, last, dropped, "fsync"));
	/* Each of the three temporaries has been synced behind its last write. */
	unsigned unsynced = 0;
	for (unsigned i = 0; i < written; i++) {
		if (strcmp(calls[i], "fchmod") == 0) {
			unsynced++;
			assert_string_equal(calls[i + 1], "fsync");
		}
	}
	assert_int_equal(unsynced, 3);
	for (unsigned i = 0; i < n; i++)
		free(calls[i]);
}

static void test_in_place_the_redo_log_is_durable_before_and_the_source_after(void **state)
{
	const struct sft_overlay_options options = { .inplace = true };
	char *calls[256], *dir = make_shards();
	unsigned n, first = 0, last = 0, logged = 0, dropped = 0;
	(void)state;

	faults_trace_start();
	fixture_commit(dir, &options, "w one 0 ff; w two 0 ee");
	n = faults_trace_stop(calls, 256);
	fixture_remove_dir(dir);
	/* Nothing but the application copies here. */
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(calls[i], "copy_file_range") == 0) {
			first = first ? first : i;
			last = i;
		}
		if (strcmp(calls[i], "pwrite64") == 0 && !first)
			logged = i;
		if (strcmp(calls[i], "unlinkat journal") == 0 && !dropped)
			dropped = i;
	}
	assert_true(first > logged && last > first && dropped > last);
	assert_true(is_between(calls, logged, first, "fdatasync"));
	assert_true(is_between(calls, first, last, "fsync"));
	assert_true(is_between(calls, last, dropped, "fsync"));
	for (unsigned i = 0; i < n; i++)
		free(calls[i]);
}

/* The one who wrote the last SYNC may have died before it was on the disk: the next one syncs the
 * journal before it takes that for durable, and writes over blocks that were needed until then. */
static void test_a_resumed_journal_is_synced_before_anything_is_written(void **state)
{
	char *calls[256], *dir = make_shards(), *path = fixture_join(dir, A);
	const struct sft_overlay_options options = { 0 };
	struct sft_overlay *ov;
	unsigned n, synced = 0, written = 0;
	(void)state;

	assert_int_equal(sft_overlay_open(path, &options, &ov, NULL), 0);
	assert_int_equal(fixture_edit(ov, "w one 0 ff; s", NULL), 0);
	sft_overlay_free(ov);
	faults_trace_start();
	assert_int_equal(sft_overlay_open(path, &options, &ov, NULL), 0);
	assert_int_equal(fixture_edit(ov, "w one 0 ee", NULL), 0);
	n = faults_trace_stop(calls, 256);
	sft_overlay_free(ov);
	for (unsigned i = n; i-- > 0;) {
		if (strcmp(calls[i], "fdatasync") == 0)
			synced = i + 1;
		if (strncmp(calls[i], "pwrite", 6) == 0)
			written = i + 1;
		free(calls[i]);
	}
	assert_true(synced > 0 && written > 0 && synced < written);
	free(path);
	fixture_remove_dir(dir);
}

/* Where all was taken back the staging goes at the end. A journal that a power cut brings back
 * needs its blocks. */
static void test_the_journal_is_gone_before_its_blocks_go(void **state)
{
	char *calls[256], *dir = make_shards(), *path = fixture_join(dir, A);
	const struct sft_overlay_options options = { 0 };
	struct sft_overlay *ov;
	unsigned n, journal = 0, blocks = 0;
	(void)state;

	assert_int_equal(sft_overlay_open(path, &options, &ov, NULL), 0);
	assert_int_equal(fixture_edit(ov, "c n; w n 0 ff; s; r n", NULL), 0);
	faults_trace_start();
	sft_overlay_free(ov);
	n = faults_trace_stop(calls, 256);
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(calls[i], "unlinkat journal") == 0)
			journal = i + 1;
		if (strcmp(calls[i], "unlinkat blocks") == 0)
			blocks = i + 1;
	}
	assert_true(journal > 0 && blocks > journal);
	assert_true(is_between(calls, journal - 1, blocks - 1, "fsync"));
	for (unsigned i = 0; i < n; i++)
		free(calls[i]);
	free(path);
	fixture_remove_dir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_journal_is_gone_before_its_blocks_go),
		cmocka_unit_test(test_new_files_are_durable_before_they_are_renamed),
		cmocka_unit_test(test_in_place_the_redo_log_is_durable_before_and_the_source_after),
		cmocka_unit_test(test_a_resumed_journal_is_synced_before_anything_is_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
