/*
 * test_overlay_model.c - random edits, compared with a model; closed and replayed, compacted and
 * committed in between
 */
#include "overlay_edits.h"

#include "sync.h"

static void test_random_edits_are_what_the_model_says(void **state)
{
	static struct model m;
	struct overlay_place p = place();
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	(void)state;

	seed("random edits");
	model_load(&m, ov);
	for (unsigned round = 0, n = rounds(3000); round < n; round++) {
		random_edit(&m, ov);
		if (random_below(40) == 0)
			assert_int_equal(sft_overlay_sync(ov, NULL), 0);
		if (random_below(100) == 0 && ov->staging.journal >= 0)
			assert_int_equal(compact_journal(ov, NULL), 0);
		if (random_below(20) == 0)
			compare(&m, ov);
		if (random_below(60) == 0)
			edit_commit(&m, ov);
		if (random_below(50) == 0 || m.count > ENTRIES - 10) {
			sft_overlay_free(ov);
			ov = overlay_open(p.source, NULL);
			model_close(&m);
			compare_shown(&m, ov);
			model_load(&m, ov);
		}
		check_slots(ov);
	}
	compare(&m, ov);
	sft_overlay_free(ov);
	model_clear(&m);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_edits_are_what_the_model_says),
	};
	/* Thousands of fsyncs, and nothing here depends on a disk. */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
