/* test_journal.c - journals that end anywhere, are damaged, grow, and do not fit */
#include "overlay_fixture.h"

#include "hash.h"
#include "path.h"
#include "sync.h"

#define ONE "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v"

static char *staged_file(const char *source, const char *name)
{
	const char *slash = strrchr(source, '/');
	char *path = NULL;

	if (asprintf(&path, "%.*s.%s.safetensorfs/%s", (int)(slash + 1 - source), source, slash + 1,
		     name) < 0)
		abort();
	return path;
}

/* ---- cuts ---- */

/* Every kind of record. Between two syncs no slot is used twice, so that every cut behind the last
 * one gives a past state exactly. */
static const char *const steps[] = {
	"w a 1 ff",   "c n",	   "w n 0 0102",     "s",	"d n U16 1", "m n z", "t a 9",
	"w b 4 eeee", "x .t",	   "w .t 0 55",	     "mt .t t", "w z 1 77",  "r b",   "@ 0 x=y",
	"s",	      "t z 70000", "w z 65535 a1a2", "m t b",	"t z 1",     "@ 0 -", "mx a /1",
};
/* How many steps to do, with a sync anywhere or nowhere before. */
static const size_t lengths[] = { 3, 14, 21 };
#define STEP_COUNT (sizeof(steps) / sizeof(*steps))

struct recording {
	struct overlay_place place;
	char *journal_path, *blocks_path;
	char *journal, *blocks; /* their content */
	size_t count, journal_len, blocks_len;
	size_t first_synced, synced;   /* ends of the first and of the last SYNC */
	uint64_t ends[STEP_COUNT + 1]; /* of the journal behind each step */
	char *shows[STEP_COUNT + 1];
};

static void record(struct recording *rec, size_t count)
{
	struct sft_overlay *ov;
	struct sft_error err = { 0 };

	rec->place = overlay_place(ONE, NULL);
	rec->journal_path = staged_file(rec->place.source, "journal");
	rec->blocks_path = staged_file(rec->place.source, "blocks");
	rec->count = count;
	ov = overlay_open(rec->place.source, NULL);
	rec->shows[0] = overlay_describe(ov);
	for (size_t i = 0; i < count; i++) {
		if (fixture_edit(ov, steps[i], &err) < 0)
			fail_msg("%s: %s", steps[i], err.msg);
		rec->ends[i + 1] = ov->staging.journal_end;
		rec->shows[i + 1] = overlay_describe(ov);
		if (steps[i][0] == 's')
			rec->synced = ov->staging.synced_end;
		if (!rec->first_synced)
			rec->first_synced = rec->synced;
	}
	sft_overlay_free(ov);
	rec->journal = fixture_get(rec->journal_path, &rec->journal_len);
	rec->blocks = fixture_get(rec->blocks_path, &rec->blocks_len);
}

static void record_free(struct recording *rec)
{
	for (size_t i = 0; i <= rec->count; i++)
		free(rec->shows[i]);
	free(rec->journal);
	free(rec->blocks);
	free(rec->journal_path);
	free(rec->blocks_path);
	overlay_place_free(&rec->place);
}

/* Put the staging back as it was recorded, with this journal. */
static void restore(const struct recording *rec, const void *journal, size_t len)
{
	char *dir = path_dirname(rec->journal_path);

	(void)mkdir(dir, 0700);
	free(dir);
	fixture_put(rec->journal_path, journal, len);
	fixture_put(rec->blocks_path, rec->blocks, rec->blocks_len);
}

/* The step that a journal of this length ends with. */
static size_t last_step(const struct recording *rec, size_t cut)
{
	size_t last = 0;

	while (last < rec->count && rec->ends[last + 1] <= cut)
		last++;
	return last;
}

static void check_cut(const struct recording *rec, size_t cut)
{
	struct sft_error err = { 0 };
	size_t last = last_step(rec, cut);
	char *shows;

	restore(rec, rec->journal, cut);
	shows = describe_source(rec->place.source, &err);
	if (!shows) {
		/* Only a header that is cut is no journal; then nothing was ever synced. */
		assert_int_equal(last, 0);
		assert_non_null(strstr(err.msg, "header is damaged"));
	} else if (cut >= rec->synced && strcmp(shows, rec->shows[last]) != 0) {
		/* Before the last sync slots may have been used again: that cannot be cut off. */
		fail_msg("cut at %zu of %zu, behind step %zu:\n%s\nnot\n%s", cut, rec->journal_len,
			 last, shows, rec->shows[last]);
	}
	free(shows);
}

static void test_a_journal_cut_anywhere_is_a_moment_of_the_past(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		struct recording rec = { 0 };

		record(&rec, lengths[i]);
		for (size_t cut = 0; cut <= rec.journal_len; cut++)
			check_cut(&rec, cut);
		record_free(&rec);
	}
}

static void test_an_empty_or_blank_journal_is_none(void **state)
{
	static const char zeros[5000];
	struct recording rec = { 0 };
	(void)state;

	record(&rec, STEP_COUNT);
	for (size_t len = 0; len <= sizeof(zeros); len += 1250) {
		char *shows;

		restore(&rec, zeros, len);
		assert_false(sft_staging_exists(rec.place.source, NULL));
		shows = describe_source(rec.place.source, NULL);
		assert_string_equal(shows, rec.shows[0]);
		free(shows);
		assert_int_equal(access(rec.journal_path, F_OK), -1);
	}
	record_free(&rec);
}

/* ---- damage ---- */

static bool is_as_it_was(const char *path, const char *bytes, size_t len)
{
	size_t n;
	char *now = access(path, F_OK) == 0 ? fixture_get(path, &n) : NULL;
	bool same = now && n == len && memcmp(now, bytes, len) == 0;

	free(now);
	return same;
}

/* At the end it is what a crash leaves. Before two syncs it is damage, and nothing is lost. */
static void test_a_damaged_byte_ends_the_journal_or_is_refused(void **state)
{
	struct recording rec = { 0 };
	(void)state;

	record(&rec, STEP_COUNT);
	for (size_t at = 0; at < rec.journal_len; at += 3) {
		struct sft_error err = { 0 };
		size_t last = last_step(&rec, at);
		char *shows;

		rec.journal[at] ^= 0x41;
		restore(&rec, rec.journal, rec.journal_len);
		shows = describe_source(rec.place.source, &err);
		/* The first SYNC itself is not whole where it is hit. */
		if (at + JOURNAL_FRAME + 8 < rec.first_synced)
			assert_null(shows);
		if (!shows) {
			assert_int_equal(err.errnum, EBADMSG);
			assert_non_null(strstr(err.msg, "damaged"));
			assert_true(is_as_it_was(rec.journal_path, rec.journal, rec.journal_len));
			assert_true(is_as_it_was(rec.blocks_path, rec.blocks, rec.blocks_len));
		} else if (at >= rec.synced) {
			assert_string_equal(shows, rec.shows[last]);
		}
		free(shows);
		rec.journal[at] ^= 0x41;
	}
	record_free(&rec);
}

static void test_damage_before_synced_edits_can_be_discarded(void **state)
{
	struct recording rec = { 0 };
	struct sft_error err = { 0 };
	struct sft_buf text = { 0 };
	size_t at;
	char *want = NULL;
	bool found;
	(void)state;

	record(&rec, STEP_COUNT);
	/* The first record behind the header. */
	at = (size_t)(sft_le64((unsigned char *)rec.journal) & UINT32_MAX) + JOURNAL_FRAME;
	rec.journal[at + 9] ^= 1;
	restore(&rec, rec.journal, rec.journal_len);
	assert_null(describe_source(rec.place.source, &err));
	assert_true(asprintf(&want,
			     "the journal is damaged at byte %zu, although later edits in it are "
			     "whole",
			     at) > 0);
	assert_non_null(strstr(err.msg, want));
	assert_true(sft_staging_exists(rec.place.source, NULL));
	assert_int_equal(sft_staging_discard(rec.place.source, NULL, true, &text, &found, NULL), 0);
	assert_true(found);
	assert_non_null(strstr(text.data, want));
	assert_int_equal(access(rec.journal_path, F_OK), -1);
	sft_buf_free(&text);
	free(want);
	record_free(&rec);
}

/* Whatever is left out is said, by an opening and by who only asks. */
static void test_what_is_left_out_is_told(void **state)
{
	static const char zeros[5000];
	struct recording rec = { 0 };
	size_t header;
	(void)state;

	record(&rec, 3);
	header = (size_t)(sft_le64((unsigned char *)rec.journal) & UINT32_MAX) + JOURNAL_FRAME;
	const struct {
		const char *name, *journal;
		size_t len, end;
		bool found;
	} cases[] = {
		{ "whole", rec.journal, rec.journal_len, rec.journal_len, true },
		{ "cut", rec.journal, rec.journal_len - 1, (size_t)rec.ends[2], true },
		{ "cut behind the header", rec.journal, header + 7, header, false },
		{ "the header alone", rec.journal, header, header, false },
		{ "zeros", zeros, sizeof(zeros), 0, false },
		{ "a few zeros", zeros, 5, 0, false },
		{ "empty", zeros, 0, 0, false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_buf text = { 0 };
		char want[80];
		bool found;

		print_message("%s\n", cases[i].name);
		snprintf(want, sizeof(want), "the last %zu bytes of the journal are left out",
			 cases[i].len - cases[i].end);
		restore(&rec, cases[i].journal, cases[i].len);
		assert_int_equal(
			sft_staging_discard(rec.place.source, NULL, false, &text, &found, NULL), 0);
		assert_int_equal(found, cases[i].found);
		/* Where nothing was found it is gone now. */
		restore(&rec, cases[i].journal, cases[i].len);
		struct sft_overlay *ov = overlay_open(rec.place.source, NULL);
		const char *note = sft_overlay_note(ov, 0);
		if (cases[i].len > cases[i].end) {
			assert_non_null(strstr(text.data, want));
			assert_non_null(strstr(note, want));
		} else {
			assert_true(!text.len || !strstr(text.data, "left out"));
			assert_true(!note || !strstr(note, "left out"));
		}
		sft_overlay_free(ov);
		sft_buf_free(&text);
	}
	record_free(&rec);
}

/* Look at everything that is there, lengths of terabytes too. False: it was refused. */
static bool probe(const char *source)
{
	const struct sft_overlay_options options = { 0 };
	struct sft_overlay *ov;
	struct sft_buf text = { 0 };
	bool found;

	assert_int_equal(sft_staging_discard(source, NULL, false, &text, &found, NULL), 0);
	sft_buf_free(&text);
	if (sft_overlay_open(source, &options, &ov, NULL) < 0)
		return false;
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		uint64_t at = e->nbytes > 70000 ? e->nbytes - 70000 : 0;
		static unsigned char bytes[70000];
		struct sft_region regions[8];
		char reason[160];
		size_t done;

		(void)sft_overlay_read(ov, id, bytes, sizeof(bytes), 0, &done, NULL);
		(void)sft_overlay_read(ov, id, bytes, sizeof(bytes), at, &done, NULL);
		(void)sft_overlay_regions(ov, id, 0, e->nbytes, regions, 8);
		(void)sft_overlay_problem(ov, id, reason, sizeof(reason));
		if (e->live)
			(void)sft_overlay_truncate(ov, id, e->nbytes / 2, NULL);
	}
	sft_overlay_free(ov);
	return true;
}

/* Change a record's payload and give it the right hash again: nothing may be believed. */
static void test_records_that_do_not_fit_are_refused_or_harmless(void **state)
{
	struct recording rec = { 0 };
	uint64_t random = 88172645463325252u;
	unsigned refused = 0;
	(void)state;

	record(&rec, STEP_COUNT);
	for (unsigned round = 0; round < 1200; round++) {
		unsigned char *copy = malloc(rec.journal_len);
		size_t at = 0, len = 0, pick;

		memcpy(copy, rec.journal, rec.journal_len);
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		for (pick = (random >> 8) % (STEP_COUNT + 6); at < rec.journal_len; pick--) {
			len = (size_t)(sft_le64(copy + at) & UINT32_MAX);
			if (pick == 0 || at + len + JOURNAL_FRAME >= rec.journal_len)
				break;
			at += len + JOURNAL_FRAME;
		}
		/* Anything in the frame, or four bytes. */
		size_t where = at + 8 + (random >> 20) % len;
		copy[where] = (unsigned char)(random >> 40);
		if (random >> 62 == 0 && where + 4 <= at + 8 + len)
			memset(copy + where, 0xff, 4);
		sft_put_le64(copy + at + 8 + len, hash_bytes(copy + at, len + 8, at));
		restore(&rec, copy, rec.journal_len);
		refused += !probe(rec.place.source);
		free(copy);
	}
	assert_true(refused > 200);
	record_free(&rec);
}

static void test_another_version_is_refused(void **state)
{
	struct recording rec = { 0 };
	struct sft_error err = { 0 };
	(void)state;

	record(&rec, STEP_COUNT);
	size_t len = (size_t)(sft_le64((unsigned char *)rec.journal) & UINT32_MAX);
	rec.journal[16] = 3;
	sft_put_le64((unsigned char *)rec.journal + 8 + len, hash_bytes(rec.journal, len + 8, 0));
	restore(&rec, rec.journal, rec.journal_len);
	assert_null(describe_source(rec.place.source, &err));
	assert_int_equal(err.errnum, EBADMSG);
	assert_non_null(strstr(err.msg, "version 3, and this is for 2"));
	record_free(&rec);
}

static void test_blocks_that_are_missing_are_refused_where_they_were_synced(void **state)
{
	struct recording rec = { 0 };
	struct sft_error err = { 0 };
	(void)state;

	record(&rec, STEP_COUNT);
	restore(&rec, rec.journal, rec.journal_len);
	assert_int_equal(truncate(rec.blocks_path, 0), 0);
	assert_null(describe_source(rec.place.source, &err));
	assert_int_equal(err.errnum, EBADMSG);
	assert_non_null(strstr(err.msg, "is damaged"));
	/* What cannot be read is still there, and can be dropped. */
	assert_true(sft_staging_exists(rec.place.source, NULL));
	record_free(&rec);
}

/* ---- size ---- */

static void test_a_journal_is_compacted_when_it_has_grown(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	uint32_t a = fixture_find(ov, "a");
	uint64_t most = 0;
	char *before, *after;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w b 0 77; c n; m n z; d z I8 5; r b", NULL), 0);
	for (unsigned i = 0; i < 550000; i++) {
		assert_int_equal(sft_overlay_truncate(ov, a, 3 + i % 2, NULL), 0);
		most = ov->staging.journal_end > most ? ov->staging.journal_end : most;
	}
	assert_in_range(most, JOURNAL_COMPACT_MIN - 100, JOURNAL_COMPACT_MIN);
	assert_true(ov->staging.journal_end < JOURNAL_COMPACT_MIN / 2);
	before = overlay_describe(ov);
	sft_overlay_free(ov);
	after = describe_source(p.source, NULL);
	assert_string_equal(before, after);
	free(before);
	free(after);
	overlay_place_free(&p);
}

static void test_a_large_state_survives_compaction(void **state)
{
	static unsigned char block[3 * SFT_BLOCK];
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	uint32_t id, a = fixture_find(ov, "a");
	char name[40];
	(void)state;

	/* Enough for records of several flushes. */
	for (unsigned i = 0; i < 30000; i++) {
		int n = snprintf(name, sizeof(name), "tensor.%u.weight", i * 7919 % 30000);

		assert_int_equal(
			sft_overlay_create(ov, name, (size_t)n, false, SFT_SHARD_AUTO, &id, NULL),
			0);
		assert_int_equal(sft_overlay_truncate(ov, id, i, NULL), 0);
	}
	for (unsigned i = 0; i < 40; i++) {
		memset(block, (int)i + 1, sizeof(block));
		assert_int_equal(sft_overlay_write(ov, a, block, sizeof(block),
						   (uint64_t)i * 5 * SFT_BLOCK + 100, NULL),
				 0);
	}
	assert_int_equal(compact_journal(ov, NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	for (unsigned i = 0; i < 30000; i++) {
		int n = snprintf(name, sizeof(name), "tensor.%u.weight", i * 7919 % 30000);

		id = sft_overlay_find(ov, 0, name, (size_t)n);
		assert_int_equal(sft_overlay_entry(ov, id)->nbytes, i);
	}
	for (unsigned i = 0; i < 40; i++) {
		unsigned char bytes[3];
		size_t done;

		assert_int_equal(sft_overlay_read(ov, fixture_find(ov, "a"), bytes, 3,
						  (uint64_t)i * 5 * SFT_BLOCK + 99, &done, NULL),
				 0);
		assert_int_equal(bytes[0], 0);
		assert_int_equal(bytes[1], i + 1);
	}
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_journal_cut_anywhere_is_a_moment_of_the_past),
		cmocka_unit_test(test_an_empty_or_blank_journal_is_none),
		cmocka_unit_test(test_a_damaged_byte_ends_the_journal_or_is_refused),
		cmocka_unit_test(test_damage_before_synced_edits_can_be_discarded),
		cmocka_unit_test(test_what_is_left_out_is_told),
		cmocka_unit_test(test_records_that_do_not_fit_are_refused_or_harmless),
		cmocka_unit_test(test_another_version_is_refused),
		cmocka_unit_test(test_blocks_that_are_missing_are_refused_where_they_were_synced),
		cmocka_unit_test(test_a_journal_is_compacted_when_it_has_grown),
		cmocka_unit_test(test_a_large_state_survives_compaction),
	};
	/* Thousands of fsyncs, and nothing here depends on a disk. */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
