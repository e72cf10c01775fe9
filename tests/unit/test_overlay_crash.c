/*
 * test_overlay_crash.c - power cuts: the journal ends anywhere behind the last sync, and slots that
 * no synced record names hold rubbish
 */
#include "overlay_model.h"

#include "journal.h"

#define HISTORY 400

/* What tensors there were, when the journal had a certain length. */
struct moment {
	uint64_t journal_end;
	struct model *m; /* only its entries */
};

static void moment_take(struct moment *t, const struct model *m, const struct sft_overlay *ov)
{
	t->journal_end = ov->staging.journal >= 0 ? ov->staging.journal_end : 0;
	t->m = malloc(sizeof(*m));
	*t->m = *m;
	for (uint32_t i = 0; i < m->count; i++) {
		t->m->entries[i].bytes = malloc(LENGTH_MAX);
		memcpy(t->m->entries[i].bytes, m->entries[i].bytes, LENGTH_MAX);
	}
}

static void moments_drop(struct moment *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		model_clear(t[i].m);
		free(t[i].m);
	}
}

/* Bytes of a journal's first record. */
static uint64_t header_end(int journal)
{
	unsigned char length[8] = { 0 };

	assert_int_equal(pread(journal, length, 4, 0), 4);
	return sft_le64(length) + JOURNAL_FRAME;
}

/* Cut the journal behind its last sync, and spoil slots that no synced record names. */
static uint64_t crash(struct sft_overlay *ov)
{
	char *journal = fixture_join(sft_overlay_staging(ov), "journal");
	char *blocks = fixture_join(sft_overlay_staging(ov), "blocks");
	const struct staging *s = &ov->staging;
	/* The header comes before anything else; its loss is another test's. */
	uint64_t least = s->synced_end ? s->synced_end : header_end(s->journal);
	uint64_t cut = least < s->journal_end ? least + random_below(s->journal_end - least + 1)
					      : s->journal_end;
	unsigned char rubbish[64];
	int fd = open(blocks, O_RDWR);

	memset(rubbish, (int)random_below(256), sizeof(rubbish));
	for (uint32_t i = 0; i < ov->slots.end; i++) {
		bool unused = false;

		for (uint32_t k = 0; k < ov->slots.unused_count; k++)
			unused = unused || ov->slots.unused[k] == i;
		if ((unused || bit_get(ov->slots.fresh, i)) && random_below(3) == 0)
			assert_int_equal(pwrite(fd, rubbish, sizeof(rubbish),
						(off_t)i * SFT_BLOCK + (off_t)random_below(60000)),
					 sizeof(rubbish));
	}
	close(fd);
	sft_overlay_free(ov);
	assert_int_equal(truncate(journal, (off_t)cut), 0);
	free(journal);
	free(blocks);
	return cut;
}

/* Every byte of a tensor is what it was at one of these moments. */
static void check_bytes(const struct model_entry *e, const struct moment *t, size_t first,
			size_t last, uint32_t was)
{
	for (uint64_t i = 0; i < e->length; i++) {
		bool known = false;

		for (size_t k = last + 1; !known && k-- > first;)
			known = was < t[k].m->count && t[k].m->entries[was].bytes[i] == e->bytes[i];
		if (!known)
			fail_msg("byte %" PRIu64 " of %s was never so", i, e->name);
	}
}

/* The overlay shows the last moment that the journal reaches, but for unsynced bytes. */
static void check_after_crash(const struct model *now, const struct moment *t, size_t n,
			      uint64_t cut)
{
	size_t last = 0;
	uint32_t live = 0;

	while (last + 1 < n && t[last + 1].journal_end <= cut)
		last++;
	for (uint32_t i = 0; i < now->count; i++) {
		const struct model_entry *e = &now->entries[i];
		uint32_t was = model_find(t[last].m, e->name, false);

		if (!e->live)
			continue;
		live++;
		assert_int_not_equal(was, SFT_NO_ID);
		assert_int_equal(e->length, t[last].m->entries[was].length);
		if (last == 0)
			assert_memory_equal(e->bytes, t[0].m->entries[was].bytes, e->length);
		else
			check_bytes(e, t, 0, last, was);
	}
	for (uint32_t i = 0; i < t[last].m->count; i++) {
		const struct model_entry *e = &t[last].m->entries[i];
		live -= e->live && !e->scratch;
	}
	assert_int_equal(live, 0);
}

/* Bytes that are cut off now must not come back. */
static void check_growing(const struct model *m, struct sft_overlay *ov)
{
	static unsigned char bytes[LENGTH_MAX];

	for (uint32_t id = 0; id < m->count; id++) {
		uint64_t length = m->entries[id].length;
		size_t done;

		if (!m->entries[id].live)
			continue;
		assert_int_equal(sft_overlay_truncate(ov, id, LENGTH_MAX, NULL), 0);
		assert_int_equal(sft_overlay_read(ov, id, bytes, LENGTH_MAX, 0, &done, NULL), 0);
		for (uint64_t i = length; i < LENGTH_MAX; i++)
			assert_int_equal(bytes[i], 0);
		assert_int_equal(sft_overlay_truncate(ov, id, length, NULL), 0);
	}
}

static void test_a_crash_keeps_what_was_synced(void **state)
{
	static struct model m;
	static struct moment t[HISTORY];
	struct overlay_place p = place();
	(void)state;

	seed("crashes");
	for (unsigned round = 0, n = rounds(150); round < n; round++) {
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		size_t count = 0;

		model_load(&m, ov);
		moment_take(&t[count++], &m, ov);
		for (uint64_t k = random_below(40) + 1; k > 0 && count < HISTORY; k--) {
			random_edit(&m, ov);
			if (random_below(12) == 0)
				assert_int_equal(sft_overlay_sync(ov, NULL), 0);
			/* It may have synced by itself too. */
			if (ov->staging.synced_end == ov->staging.journal_end) {
				moments_drop(t, count);
				count = 0;
			}
			moment_take(&t[count++], &m, ov);
		}
		if (!sft_overlay_dirty(ov)) {
			sft_overlay_free(ov);
			moments_drop(t, count);
			continue;
		}
		uint64_t cut = crash(ov);
		ov = overlay_open(p.source, NULL);
		model_load(&m, ov);
		check_after_crash(&m, t, count, cut);
		check_slots(ov);
		check_growing(&m, ov);
		moments_drop(t, count);
		if (random_below(4) == 0)
			edit_commit(&m, ov);
		sft_overlay_free(ov);
	}
	model_clear(&m);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_crash_keeps_what_was_synced),
	};
	/* Thousands of fsyncs, and nothing here depends on a disk. */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
