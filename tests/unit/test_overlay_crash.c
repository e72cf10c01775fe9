/*
 * test_overlay_crash.c - power cuts in the middle of random edits
 *
 * A run of random edits is recorded. In some of the states in which the disk may be after a power
 * cut on its way (power_cut.h) it is opened: it shows what there was after one of the edits, as a
 * whole, and that not before the last sync; after the death of the process alone, after the last
 * edit that had returned, or the one that was on its way.
 */
#include "overlay_edits.h"
#include "power_cut.h"

#include "hash.h"

#define HISTORY 400
#define STATES 12 /* of a run */

/* What there was after an edit. */
struct moment {
	struct shown {
		uint64_t tensors; /* the same for the same names, bytes and all */
		uint32_t live;
		int metadata[SHARDS];
	} shown;
	bool synced;
};

static uint64_t entry_hash(const struct model *m, const struct model_entry *e)
{
	struct declared d = model_declared(m, e);
	uint64_t h = hash_bytes(e->name, strlen(e->name), d.dtype);

	if (e->length)
		h = hash_bytes(e->bytes, e->length, h);
	return hash_bytes(d.shape, d.rank * sizeof(*d.shape), h + d.rank);
}

static void moment_take(struct moment *t, const struct model *m)
{
	memset(t, 0, sizeof(*t));
	for (uint32_t i = 0; i < m->count; i++) {
		if (m->entries[i].live && !m->entries[i].scratch) {
			t->shown.tensors += entry_hash(m, &m->entries[i]);
			t->shown.live++;
		}
	}
	memcpy(t->shown.metadata, m->metadata, sizeof(m->metadata));
}

/* As it will be found after the overlay is closed, by whatever end. */
static void moment_take_closed(struct moment *t, const struct model *m)
{
	struct model *copy = malloc(sizeof(*copy));

	*copy = *m;
	for (uint32_t i = 0; i < m->count; i++) {
		struct model_entry *e = &copy->entries[i];

		/* Only put-aside ones are needed, and their bytes are not touched. */
		if (e->live && e->scratch && e->own.is &&
		    model_find(copy, e->own_name, false) == SFT_NO_ID) {
			memcpy(e->name, e->own_name, sizeof(e->name));
			e->scratch = false;
		}
	}
	moment_take(t, copy);
	free(copy);
}

/* ---- a run ---- */

struct history {
	struct moment moments[HISTORY];
	size_t count;
	struct recording recording;
};

static void next_moment(struct history *h, const struct model *m, bool synced)
{
	moment_take_closed(&h->moments[h->count], m);
	h->moments[h->count].synced = synced;
	recorder_mark(h->count++);
}

static void commit_step_by_step(struct history *h, struct model *m, struct sft_overlay *ov)
{
	for (uint32_t id = 0; id < m->count; id++) {
		if (m->entries[id].live && !m->entries[id].scratch) {
			edit_fit(m, ov, id);
			next_moment(h, m, false);
		}
	}
	commit_all(m, ov);
	next_moment(h, m, true);
}

static void make_history(struct history *h, struct model *m, const char *source)
{
	struct sft_overlay *ov;

	h->count = 0;
	ov = overlay_open(source, NULL);
	model_load(m, ov);
	next_moment(h, m, true);
	for (uint64_t k = random_below(120) + 1; k > 0 && h->count < HISTORY - 2 * NAMES - 4; k--) {
		random_edit(m, ov);
		next_moment(h, m, false);
		if (random_below(20) == 0) {
			assert_int_equal(sft_overlay_sync(ov, NULL), 0);
			next_moment(h, m, true);
		}
		if (random_below(60) == 0)
			commit_step_by_step(h, m, ov);
	}
	sft_overlay_free(ov);
	h->recording = recorder_stop();
}

/* ---- what is found afterwards ---- */

static void check_moment(const struct history *h, size_t at, unsigned kind, const struct model *m)
{
	size_t last = 0, first;
	struct moment now;

	for (size_t i = 0; i < at; i++) {
		if (h->recording.events[i].kind == RECORDED_MARK)
			last = h->recording.events[i].length;
	}
	first = last;
	while (kind != POWER_ALL_KEPT && first && !h->moments[first].synced)
		first--;
	moment_take(&now, m);
	for (size_t i = first; i <= last + 1 && i < h->count; i++) {
		if (memcmp(&now.shown, &h->moments[i].shown, sizeof(now.shown)) == 0)
			return;
	}
	fail_msg("call %zu, kind %u: what is shown is no moment of %zu to %zu", at, kind, first,
		 last + 1);
}

/* Bytes that are cut off now must not come back. */
static void check_growing(const struct model *m, struct sft_overlay *ov)
{
	static unsigned char bytes[2 * SFT_BLOCK];

	for (uint32_t id = 0; id < m->count; id++) {
		uint64_t length = m->entries[id].length;
		size_t done;

		if (!m->entries[id].live)
			continue;
		assert_int_equal(sft_overlay_truncate(ov, id, length + sizeof(bytes), NULL), 0);
		assert_int_equal(
			sft_overlay_read(ov, id, bytes, sizeof(bytes), length, &done, NULL), 0);
		for (uint64_t i = 0; i < sizeof(bytes); i++)
			assert_int_equal(bytes[i], 0);
		assert_int_equal(sft_overlay_truncate(ov, id, length, NULL), 0);
	}
}

static void check_state(const struct history *h, const struct power_cut *cut, unsigned kind,
			uint64_t state_seed)
{
	static struct model m;
	struct power_state state = power_cut_state(cut, kind, state_seed);
	char *dir = fixture_make_dir();
	struct sft_overlay *ov;

	power_state_write(&state, dir, NULL);
	power_state_free(&state);
	ov = overlay_open(dir, NULL);
	model_load(&m, ov);
	check_moment(h, cut->at, kind, &m);
	check_slots(ov);
	check_growing(&m, ov);
	if (random_below(4) == 0)
		edit_commit(&m, ov);
	sft_overlay_free(ov);
	ov = overlay_open(dir, NULL);
	compare_shown(&m, ov);
	sft_overlay_free(ov);
	model_clear(&m);
	fixture_remove_dir(dir);
}

static void test_a_crash_keeps_what_was_synced(void **state)
{
	static struct model m;
	static struct history h;
	(void)state;

	seed("crashes");
	for (unsigned round = 0, n = rounds(12); round < n; round++) {
		struct overlay_place p = place();
		struct power_cut cut;

		recorder_start(p.dir, NULL);
		make_history(&h, &m, p.source);
		power_cut_begin(&cut, &h.recording);
		for (uint64_t i = 1; i <= STATES; i++) {
			uint64_t calls = h.recording.count - h.recording.first;
			power_cut_advance(&cut, h.recording.first + calls * i / STATES);
			check_state(&h, &cut, (unsigned)random_below(2 * POWER_FIXED),
				    random_below(1u << 30));
		}
		power_cut_free(&cut);
		recording_free(&h.recording);
		overlay_place_free(&p);
	}
	model_clear(&m);
}

/* A file's end may be lost although the record that made it longer is there: what that says is
 * given up by then, and stays so when all of it is synced. */
static void test_blocks_that_were_given_up_need_not_be_there(void **state)
{
	struct overlay_place p = overlay_place("a U8 3 aabbcc", NULL);
	static unsigned char bytes[2 * SFT_BLOCK];
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *blocks = fixture_join(sft_overlay_staging(ov), "blocks");
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 00; s; c n", NULL), 0);
	assert_int_equal(
		sft_overlay_write(ov, fixture_find(ov, "n"), bytes, sizeof(bytes), 0, NULL), 0);
	assert_int_equal(fixture_edit(ov, "r n", NULL), 0);
	sft_overlay_free(ov);
	assert_int_equal(truncate(blocks, SFT_BLOCK), 0);
	for (int again = 0; again < 3; again++) {
		ov = overlay_open(p.source, NULL);
		char *shows = overlay_describe(ov);
		assert_string_equal(shows, "a U8 3 00bbcc *");
		free(shows);
		assert_int_equal(fixture_edit(ov, "w a 0 00; s", NULL), 0);
		sft_overlay_free(ov);
	}
	free(blocks);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_that_were_given_up_need_not_be_there),
		cmocka_unit_test(test_a_crash_keeps_what_was_synced),
	};
	/* Thousands of fsyncs, and nothing here depends on a disk. */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
