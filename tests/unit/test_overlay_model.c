/*
 * test_overlay_model.c - random edits, compared with a model; closed and replayed, compacted and
 * committed in between
 */
#include "overlay_model.h"

#include "journal.h"

/* Ids are others after a replay, and scratch is gone; what is there has to be the same. */
static void compare_replayed(struct model *m, const struct sft_overlay *ov)
{
	static struct model now;
	uint32_t live = 0;

	model_load(&now, ov);
	for (uint32_t id = 0; id < m->count; id++)
		live += m->entries[id].live && !m->entries[id].scratch;
	for (uint32_t id = 0; id < now.count; id++) {
		const struct model_entry *e = &now.entries[id];
		uint32_t was = model_find(m, e->name, false);

		if (!e->live)
			continue;
		live--;
		assert_int_not_equal(was, SFT_NO_ID);
		assert_int_equal(e->length, m->entries[was].length);
		assert_memory_equal(e->bytes, m->entries[was].bytes, e->length);
		struct declared a = model_declared(&now, e);
		struct declared b = model_declared(m, &m->entries[was]);
		assert_memory_equal(&a, &b, sizeof(a));
	}
	assert_int_equal(live, 0);
	assert_int_equal(now.metadata, m->metadata);
	model_clear(&now);
}

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
			assert_int_equal(journal_rewrite(ov, NULL), 0);
		if (random_below(10) == 0)
			compare(&m, ov);
		if (random_below(60) == 0)
			edit_commit(&m, ov);
		if (random_below(50) == 0 || m.count > ENTRIES - 10) {
			sft_overlay_free(ov);
			ov = overlay_open(p.source, NULL);
			compare_replayed(&m, ov);
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
	return cmocka_run_group_tests(tests, NULL, NULL);
}
