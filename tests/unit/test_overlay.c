/* test_overlay.c - what each edit does, at once, after a replay, and after a compaction */
#include "overlay_fixture.h"

#include "sync.h"

/* ---- edits ---- */

#define ONE "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v"
#define A "a U8 3 aabbcc"
#define B "b F32 2 0102030405060708"
#define K "; @0 k=v"

static const struct edit_case {
	const char *name, *script, *shows;
	uint32_t staged; /* tensors */
	bool clean;	 /* not dirty */
	const char *two; /* a second shard */
	unsigned flags;
} edit_cases[] = {
	{ "nothing is staged at first", "", A "; " B K, 0, true },
	{ "a write changes its bytes", "w a 1 ff", "a U8 3 aaffcc *; " B K, 1 },
	{ "writing the same bytes is staged all the same", "w a 0 aa", "a U8 3 aabbcc *; " B K, 1 },
	{ "a write of nothing stages nothing", "w a 9 -", A "; " B K, 0, true },
	{ "a write behind the end leaves zeros", "w a 5 ff", "a U8 3 aabbcc0000ff * !; " B K, 1 },
	{ "cut and grown again reads zeros", "t a 1; t a 3", "a U8 3 aa0000 *; " B K, 1 },
	{ "grown and cut again is as before", "t a 9; t a 3", A "; " B K, 0, true },
	{ "a staged tail does not come back", "w a 0 112233; t a 1; t a 3", "a U8 3 110000 *; " B K,
	  1 },
	{ "a staged tail does not come back by a write", "w a 0 112233; t a 1; w a 2 ff",
	  "a U8 3 1100ff *; " B K, 1 },
	{ "cut to nothing", "t a 0", "a U8 3 - * !; " B K, 1 },
	{ "declared as it is stages nothing", "d a U8 3", A "; " B K, 0, true },
	{ "declared otherwise", "d a I8 3,1", "a I8 3,1 aabbcc *; " B K, 1 },
	{ "declared otherwise and back", "d a I8 3,1; d a U8 3", A "; " B K, 0, true },
	{ "declared with other bytes is a problem", "d a U8 4", "a U8 4 aabbcc * !; " B K, 1 },
	{ "the problem goes with the bytes", "d a U8 4; w a 3 dd", "a U8 4 aabbccdd *; " B K, 1 },
	{ "declared as a scalar", "t a 1; d a U8 -", "a U8 - aa *; " B K, 1 },
	{ "removed", "r a", B K, 1 },
	{ "all removed", "r a; r b", "@0 k=v", 2 },
	{ "renamed", "m a c", B "; c U8 3 aabbcc *" K, 1 },
	{ "renamed and back", "m a c; m c a", A "; " B K, 0, true },
	{ "names exchanged", "m a t; m b a; m t b", "a F32 2 0102030405060708 *; b U8 3 aabbcc *" K,
	  2 },
	{ "renamed over another", "m a b", "b U8 3 aabbcc *" K, 2 },
	{ "a renamed tensor keeps what was declared and written", "d a I8 3; w a 0 11; m a c",
	  B "; c I8 3 11bbcc *" K, 1 },
	{ "new, with the shape of its bytes", "c n; w n 0 0102", A "; " B "; n U8 2 0102 *" K, 1 },
	{ "new and empty", "c n", A "; " B "; n U8 0 - *" K, 1 },
	{ "new and removed", "c n; w n 0 01; r n", A "; " B K, 0, true },
	{ "new with a dtype and shape", "c n; t n 8; d n F32 2",
	  A "; " B "; n F32 2 0000000000000000 *" K, 1 },
	{ "removed and made again keeps dtype and shape", "r b; c b; w b 0 0807060504030201",
	  A "; b F32 2 0807060504030201 *" K, 1 },
	{ "made again with other bytes is a problem", "r b; c b; w b 0 08", A "; b F32 2 08 * !" K,
	  1 },
	{ "from scratch over a tensor keeps dtype and shape",
	  "x .tmp; w .tmp 0 0807060504030201; mt .tmp b", A "; b F32 2 0807060504030201 *" K, 1 },
	{ "from scratch to a new name", "x .tmp; w .tmp 0 01; mt .tmp n",
	  A "; " B "; n U8 1 01 *" K, 1 },
	{ "a new tensor's shape follows its name", "c n; w n 0 0102030405060708; r b; m n b",
	  A "; b F32 2 0102030405060708 *" K, 1 },
	{ "what was declared for scratch stays", "x .tmp; t .tmp 2; d .tmp U16 1; mt .tmp n",
	  A "; " B "; n U16 1 0000 *" K, 1 },
	{ "a tensor through scratch and back", "mx a a~; mt a~ a", A "; " B K, 0, true },
	{ "a scratch file of a tensor's name is another", "x a; x b; r a; w a 0 77", B K, 1 },
	{ "metadata replaced", "@ 0 x=1,y=2", A "; " B "; @0 x=1,y=2", 0 },
	{ "metadata removed", "@ 0 -", A "; " B, 0 },
	{ "metadata emptied", "@ 0 {}", A "; " B "; @0", 0 },
	{ "metadata replaced and back", "@ 0 x=1; @ 0 k=v", A "; " B K, 0, true },
	{ "sync changes nothing", "w a 0 11; s; r b; s; m a b", "b U8 3 11bbcc *" K, 2 },
	{ "two shards: a rename keeps the shard", "m a z", "1:c U8 1 03; 0:z U8 1 01 *", 1, false,
	  "c U8 1 03" },
	{ "two shards: new joins the shard before it", "c d; c 0; c b",
	  "0:0 U8 0 - *; 0:a U8 1 01; 0:b U8 0 - *; 1:c U8 1 03; 1:d U8 0 - *", 3, false,
	  "c U8 1 03" },
	{ "two shards: the one before it is a committed one", "C 0 d; c e",
	  "0:a U8 1 01; 1:c U8 1 03; 0:d U8 0 - *; 1:e U8 0 - *", 2, false, "c U8 1 03" },
	{ "two shards: so it may be removed", "r c; c d", "0:a U8 1 01; 1:d U8 0 - *", 2, false,
	  "c U8 1 03" },
	{ "two shards: a name goes back to its shard", "r a; C 1 b; c a",
	  "0:a U8 1 - * !; 1:b U8 0 - *; 1:c U8 1 03", 2, false, "c U8 1 03" },
	{ "two shards: scratch gets one by its name", "x .t; w .t 0 07; r c; mt .t c",
	  "0:a U8 1 01; 1:c U8 1 07 *", 1, false, "c U8 1 03" },
	{ "same names: the shard tells them apart", "C 1 b; m b x; r a",
	  "1:a U8 1 03; 1:x U8 0 - *", 2, false, "a U8 1 03", SFT_SAME_NAMES },
};

static void check_overlay(struct sft_overlay *ov, const struct edit_case *c, const char *when)
{
	char *shows = overlay_describe(ov);
	uint32_t tensors;
	uint64_t bytes;

	sft_overlay_staged(ov, &tensors, &bytes);
	if (strcmp(shows, c->shows) != 0)
		fail_msg("%s, %s: shows\n %s\nnot\n %s", c->name, when, shows, c->shows);
	if (tensors != c->staged || sft_overlay_dirty(ov) == c->clean)
		fail_msg("%s, %s: %u tensors staged, not %u; dirty %d", c->name, when, tensors,
			 c->staged, sft_overlay_dirty(ov));
	free(shows);
}

static void test_each_edit_shows_what_it_did(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(edit_cases) / sizeof(*edit_cases); i++) {
		const struct edit_case *c = &edit_cases[i];
		struct overlay_place p = overlay_place(c->two ? "a U8 1 01" : ONE, c->two);
		const struct sft_overlay_options options = { .flags = c->flags };
		struct sft_overlay *ov = overlay_open(p.source, &options);
		struct sft_error err = { 0 };

		if (fixture_edit(ov, c->script, &err) < 0)
			fail_msg("%s: %s", c->name, err.msg);
		check_overlay(ov, c, "at once");
		sft_overlay_free(ov);
		ov = overlay_open(p.source, &options);
		check_overlay(ov, c, "replayed");
		if (!c->clean)
			assert_int_equal(compact_journal(ov, &err), 0);
		check_overlay(ov, c, "compacted");
		sft_overlay_free(ov);
		ov = overlay_open(p.source, &options);
		check_overlay(ov, c, "replayed from the compacted journal");
		sft_overlay_free(ov);
		/* Nothing is left behind where nothing is staged. */
		assert_int_equal(sft_staging_exists(p.source, NULL), !c->clean);
		overlay_place_free(&p);
	}
}

static const struct refused_case {
	const char *name, *script;
	int error;
	const char *message;
} refused_cases[] = {
	{ "a name that is taken", "c a", EEXIST, "tensor \"a\": there is one of that name" },
	{ "a reserved name", "c __metadata__", EINVAL, "\"__metadata__\": reserved" },
	{ "a name that is no UTF-8", "c a\xff", EINVAL, "not valid UTF-8 at byte 1" },
	{ "renaming to a reserved name", "m a __metadata__", EINVAL, "reserved" },
	{ "a write beyond what a tensor can hold", "w a 281474976710656 00", EFBIG,
	  "tensor \"a\": writing 1 bytes at 281474976710656: the limit is 281474976710656" },
	{ "growing beyond it", "t a 281474976710657", EFBIG,
	  "tensor \"a\": 281474976710657 bytes" },
	{ "a shard that is not there", "C 7 n", EINVAL, "shard 7 is missing" },
	{ "metadata of a shard that is not there", "@ 7 k=v", EINVAL, "shard 7 is missing" },
};

static void test_refused_edits_change_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refused_cases) / sizeof(*refused_cases); i++) {
		const struct refused_case *c = &refused_cases[i];
		struct overlay_place p = overlay_place(ONE, NULL);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		struct sft_error err = { 0 };
		char *shows;

		print_message("%s\n", c->name);
		assert_int_equal(fixture_edit(ov, c->script, &err), -c->error);
		if (!strstr(err.msg, c->message))
			fail_msg("%s: \"%s\" lacks \"%s\"", c->name, err.msg, c->message);
		shows = overlay_describe(ov);
		assert_string_equal(shows, A "; " B K);
		assert_false(sft_overlay_dirty(ov));
		free(shows);
		sft_overlay_free(ov);
		overlay_place_free(&p);
	}
}

static void test_problems_say_what_does_not_fit(void **state)
{
	static const struct {
		const char *script, *reason;
	} cases[] = {
		{ "w a 3 dd", "has 4 bytes, but U8 [3] takes 3" },
		{ "d b F64 3,2", "has 8 bytes, but F64 [3,2] takes 48" },
		{ "d a F4 3", "no whole number of bytes" },
		{ "d a U64 4294967296,4294967296,8", "64 bits" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		char reason[160] = "";

		assert_int_equal(fixture_edit(ov, cases[i].script, NULL), 0);
		assert_int_equal(sft_overlay_problems(ov), 1);
		assert_true(sft_overlay_problem(ov, fixture_find(ov, "a"), reason, 160) !=
			    sft_overlay_problem(ov, fixture_find(ov, "b"), reason, 160));
		if (!strstr(reason, cases[i].reason) || !reason[0])
			fail_msg("\"%s\" lacks \"%s\"", reason, cases[i].reason);
		assert_int_equal(fixture_edit(ov, "r a; r b", NULL), 0);
		assert_int_equal(sft_overlay_problems(ov), 0);
		sft_overlay_free(ov);
		overlay_place_free(&p);
	}
}

/* ---- commits, as far as the overlay sees them ---- */

/* Commit by hand: what the commit half does is tested with it. */
static void commit(struct sft_overlay *ov)
{
	struct sft_error err = { 0 };

	if (sft_overlay_commit(ov, NULL, NULL, &err) < 0)
		fail_msg("commit: %s", err.msg);
	sft_overlay_adopt(ov);
}

static void test_a_commit_leaves_nothing_staged_and_keeps_ids(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	uint32_t a = fixture_find(ov, "a"), b = fixture_find(ov, "b"), n;
	char *shows;
	(void)state;

	assert_int_equal(fixture_edit(ov, "c n; w n 0 0102; m a z; r b; w z 0 11; @ 0 q=r", NULL),
			 0);
	n = fixture_find(ov, "n");
	commit(ov);
	assert_false(sft_overlay_dirty(ov));
	assert_false(sft_staging_exists(p.source, NULL));
	assert_string_equal(sft_overlay_entry(ov, a)->name, "z");
	assert_string_equal(sft_overlay_entry(ov, n)->name, "n");
	assert_false(sft_overlay_entry(ov, b)->live);
	assert_non_null(sft_overlay_entry(ov, n)->committed);
	shows = overlay_describe(ov);
	assert_string_equal(shows, "n U8 2 0102; z U8 3 11bbcc; @0 q=r");
	free(shows);
	/* Edits go on, and a replay finds them by what the tensors are called now. */
	assert_int_equal(fixture_edit(ov, "w n 1 ff; m z a; c y", NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	shows = overlay_describe(ov);
	assert_string_equal(shows, "a U8 3 11bbcc *; n U8 2 01ff *; y U8 0 - *; @0 q=r");
	free(shows);
	assert_int_equal(fixture_edit(ov, "c x; w n 0 ee", NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	shows = overlay_describe(ov);
	assert_string_equal(shows,
			    "a U8 3 11bbcc *; n U8 2 eeff *; x U8 0 - *; y U8 0 - *; @0 q=r");
	free(shows);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void expect_bytes(struct sft_overlay *ov, uint32_t id, const char *hex)
{
	unsigned char want[64], have[64];
	size_t n = fixture_unhex(hex, want), done;

	assert_int_equal(sft_overlay_entry(ov, id)->nbytes, n);
	assert_int_equal(sft_overlay_read(ov, id, have, sizeof(have), 0, &done, NULL), 0);
	assert_int_equal(done, n);
	assert_memory_equal(have, want, n);
}

static void test_scratch_outlives_commits_and_comes_back_whole(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	uint32_t b = fixture_find(ov, "b"), t;
	char *shows;
	(void)state;

	/* b's bytes come from a file that two commits have replaced. */
	assert_int_equal(fixture_edit(ov, "mx b b~; x .t; w .t 0 0a0b; w a 0 11", NULL), 0);
	t = fixture_find(ov, ".t");
	commit(ov);
	expect_bytes(ov, b, "0102030405060708");
	expect_bytes(ov, t, "0a0b");
	assert_int_equal(fixture_edit(ov, "w a 1 22; w b~ 7 ff", NULL), 0);
	commit(ov);
	expect_bytes(ov, b, "01020304050607ff");
	assert_int_equal(sft_overlay_entry(ov, b)->dtype, SFT_F32);
	assert_int_equal(fixture_edit(ov, "mt b~ b; mt .t t", NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	shows = overlay_describe(ov);
	assert_string_equal(shows, "a U8 3 1122cc; b F32 2 01020304050607ff *; t U8 2 0a0b *" K);
	free(shows);
	commit(ov);
	sft_overlay_free(ov);
	shows = fixture_describe(p.source);
	assert_string_equal(shows, "a U8 3 1122cc; b F32 2 01020304050607ff; t U8 2 0a0b; @k=v");
	free(shows);
	overlay_place_free(&p);
}

static void test_scratch_does_not_outlive_the_overlay(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	(void)state;

	assert_int_equal(fixture_edit(ov, "x .t; w .t 0 0a0b; s; w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	assert_int_equal(fixture_find(ov, ".t"), SFT_NO_ID);
	/* Its slot is free again. */
	assert_int_equal(ov->slots.unused_count, 1);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void test_a_tensor_put_aside_by_a_dead_editor_is_back(void **state)
{
	static const struct {
		const char *script, *shows;
		bool told;
	} cases[] = {
		{ "mx a a~", A "; " B K, true },
		{ "mx a a~; w a~ 1 ff", "a U8 3 aaffcc *; " B K, true },
		{ "mx a a~; d a~ I8 3", "a I8 3 aabbcc *; " B K, true },
		{ "mx a a~; mx b b~", A "; " B K, true },
		{ "m b z; mx z z~", A "; " B K, true },
		{ "mx a a~; m b a", "a F32 2 0102030405060708 *" K, false },
		{ "mx a a~; c a", "a U8 3 - * !; " B K, false },
		{ "mx a /1", B K, false },
		{ "c n; mx n n~", A "; " B K, false },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		struct sft_error err = { 0 };
		const char *line;
		bool told = false;

		print_message("%s\n", cases[i].script);
		if (fixture_edit(ov, cases[i].script, &err) < 0)
			fail_msg("%s", err.msg);
		sft_overlay_free(ov);
		for (int again = 0; again < 2; again++) {
			ov = overlay_open(p.source, NULL);
			for (size_t k = 0; (line = sft_overlay_note(ov, k)); k++)
				told = told || strstr(line, "is back");
			char *shows = overlay_describe(ov);
			assert_string_equal(shows, cases[i].shows);
			free(shows);
			sft_overlay_free(ov);
		}
		assert_int_equal(told, cases[i].told);
		overlay_place_free(&p);
	}
}

static void test_a_file_that_appears_in_the_directory_is_kept(void **state)
{
	struct overlay_place p = overlay_place("a U8 1 01", "m U8 1 02");
	char *between = fixture_join(p.dir, "aa.safetensors");
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	uint32_t m = fixture_find(ov, "m");
	char *shows;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w m 0 22; @ 1 k=v", NULL), 0);
	fixture_checkpoint(between, "c U8 1 03; @q=r");
	commit(ov);
	shows = overlay_describe(ov);
	assert_string_equal(shows, "0:a U8 1 01; 1:c U8 1 03; 2:m U8 1 22; @1 q=r; @2 k=v");
	free(shows);
	assert_int_equal(sft_overlay_entry(ov, m)->shard, 2);
	assert_int_equal(fixture_edit(ov, "c b; w b 0 44; c d; w d 0 55", NULL), 0);
	commit(ov);
	sft_overlay_free(ov);
	shows = fixture_describe(between);
	assert_string_equal(shows, "c U8 1 03; d U8 1 55; @q=r");
	free(shows);
	free(between);
	overlay_place_free(&p);
}

static void test_the_base_after_output_is_the_output(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *output = fixture_join(p.dir, "out.safetensors");
	const struct sft_overlay_options options = { .output = output };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	char *shows;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	commit(ov);
	assert_int_equal(fixture_edit(ov, "w a 1 22", NULL), 0);
	sft_overlay_free(ov);
	/* Without saying where the output is: the journal knows. */
	ov = overlay_open(p.source, NULL);
	shows = overlay_describe(ov);
	assert_string_equal(shows, "a U8 3 1122cc *; " B K);
	free(shows);
	commit(ov);
	sft_overlay_free(ov);
	shows = fixture_describe(output);
	assert_string_equal(shows, "a U8 3 1122cc; " B "; @k=v");
	free(shows);
	shows = fixture_describe(p.source);
	assert_string_equal(shows, A "; " B "; @k=v");
	free(shows);
	free(output);
	overlay_place_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_edit_shows_what_it_did),
		cmocka_unit_test(test_refused_edits_change_nothing),
		cmocka_unit_test(test_problems_say_what_does_not_fit),
		cmocka_unit_test(test_a_commit_leaves_nothing_staged_and_keeps_ids),
		cmocka_unit_test(test_scratch_outlives_commits_and_comes_back_whole),
		cmocka_unit_test(test_scratch_does_not_outlive_the_overlay),
		cmocka_unit_test(test_a_tensor_put_aside_by_a_dead_editor_is_back),
		cmocka_unit_test(test_a_file_that_appears_in_the_directory_is_kept),
		cmocka_unit_test(test_the_base_after_output_is_the_output),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
