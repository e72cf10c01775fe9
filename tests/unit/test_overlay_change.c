/* test_overlay_change.c - several changes as one step: all of them, or nothing */
#include "faults.h"
#include "journal.h"
#include "path.h"
#include "overlay_fixture.h"

#define A "a U8 3 aabbcc"
#define B "b F32 2 0102030405060708"
#define K "; @0 k=v"
#define ONE B "; " A "; @k=v"
#define CHANGES_MAX 8

/* A step as text: changes with & between them.
 *   c NAME [DTYPE SHAPE BYTES]   x KEY   m NAME NEW   mx NAME KEY   r NAME   d NAME DTYPE SHAPE
 *   @ SHARD PAIRS|- */
struct step {
	struct sft_change changes[CHANGES_MAX];
	size_t count;
	struct words {
		char word[5][64];
	} words[CHANGES_MAX];
	uint64_t shapes[CHANGES_MAX][4];
	struct sft_metadata metadata[CHANGES_MAX];
};

static void declared(struct step *s, struct sft_change *c, const char *dtype, const char *shape)
{
	uint64_t *dims = s->shapes[c - s->changes];

	assert_true(sft_dtype_parse(dtype, strlen(dtype), &c->dtype));
	c->shape = dims;
	c->rank = fixture_shape(shape, dims);
}

static void parse_metadata(struct sft_metadata *m, const char *pairs)
{
	struct sft_buf json = { 0 };

	*m = (struct sft_metadata){ 0 };
	if (strcmp(pairs, "-") == 0)
		return;
	fixture_pairs(&json, pairs);
	assert_int_equal(sft_metadata_parse(json.data, json.len, m, NULL), 0);
	sft_buf_free(&json);
}

static void parse_change(const struct sft_overlay *ov, struct step *s, const char *text)
{
	struct sft_change *c = &s->changes[s->count];
	char(*w)[64] = s->words[s->count].word;
	int n = sscanf(text, " %63s %63s %63s %63s %63s", w[0], w[1], w[2], w[3], w[4]);

	s->count++;
	*c = (struct sft_change){ .shard = SFT_SHARD_AUTO, .id = fixture_find(ov, w[1]) };
	c->name = w[0][0] == 'm' ? w[2] : w[1];
	c->name_len = strlen(c->name);
	c->scratch = w[0][0] == 'x' || w[0][1] == 'x';
	switch (w[0][0]) {
	case 'c':
		c->kind = SFT_CREATE;
		c->declared = n == 5;
		if (c->declared)
			declared(s, c, w[2], w[3]);
		c->nbytes = n == 5 ? strtoull(w[4], NULL, 10) : 0;
		break;
	case 'x':
		c->kind = SFT_CREATE;
		break;
	case 'm':
		c->kind = SFT_RENAME;
		break;
	case 'r':
		c->kind = SFT_REMOVE;
		break;
	case 'd':
		c->kind = SFT_DECLARE;
		declared(s, c, w[2], w[3]);
		break;
	case '@':
		c->kind = SFT_SET_METADATA;
		c->shard = (uint32_t)atoi(w[1]);
		c->metadata = &s->metadata[c - s->changes];
		parse_metadata(&s->metadata[c - s->changes], w[2]);
		break;
	default:
		fail_msg("%s", text);
	}
}

/* The k-th call of the step itself fails; k 0: none does. */
static int change_with(struct sft_overlay *ov, const char *text, enum fault fault, unsigned k,
		       struct sft_error *err, bool *reached)
{
	char *copy = strdup(text), *save = NULL;
	struct step s = { 0 };
	int r;

	for (char *t = strtok_r(copy, "&", &save); t; t = strtok_r(NULL, "&", &save))
		parse_change(ov, &s, t);
	if (k)
		faults_arm(fault, k);
	r = sft_overlay_change(ov, s.changes, s.count, err);
	if (k)
		*reached = faults_reached();
	faults_disarm();
	for (size_t i = 0; i < s.count; i++)
		sft_metadata_free(&s.metadata[i]);
	free(copy);
	return r;
}

static int change(struct sft_overlay *ov, const char *text, struct sft_error *err)
{
	return change_with(ov, text, FAULT_EIO, 0, err, NULL);
}

/* ---- what a step does ---- */

static const struct change_case {
	const char *name, *before, *step, *shows;
	int error;
	const char *two; /* the second shard */
} cases[] = {
	{ "a new tensor, declared, of zeros", "", "c n U16 3 6",
	  A "; " B "; n U16 3 000000000000 *" K },
	{ "over a tensor, which is gone", "", "r b & m a b", "b U8 3 aabbcc *" K },
	{ "over a tensor, which moves aside", "", "mx b /1 & m a b", "b U8 3 aabbcc *" K },
	{ "a draft over a tensor", "x /2; w /2 0 0102; d /2 I8 2", "mx b /1 & m /2 b",
	  A "; b I8 2 0102 *" K },
	{ "two exchange their names in two steps", "", "mx a /1 & m b a & r /1", A "; " B K,
	  EINVAL },
	{ "all of a directory", "m a d.a; m b d.b; c d.c", "m d.a e.a & m d.b e.b & m d.c e.c",
	  "e.a U8 3 aabbcc *; e.b F32 2 0102030405060708 *; e.c U8 0 - *" K },
	{ "a tensor and the metadata", "", "c n & @ 0 x=y", A "; " B "; n U8 0 - *; @0 x=y" },
	{ "metadata of all shards", "", "@ 0 x=y & @ 1 z=w",
	  "0:a U8 1 01; 1:c U8 1 03; @0 x=y; @1 z=w", 0, "c U8 1 03" },
	{ "nothing that is not so already", "", "m a a & d b F32 2 & @ 0 k=v", A "; " B K },
	{ "a name that a later change frees", "", "m a b & r b", A "; " B K, EEXIST },
	{ "a name twice", "", "c n & c n", A "; " B K, EEXIST },
	{ "a scratch key twice", "", "x .t & mx a .t", A "; " B K, EEXIST },
	{ "a scratch key and a tensor of one name", "", "x n & c n", A "; " B "; n U8 0 - *" K },
	{ "a tensor twice", "", "m a c & r a", A "; " B K, EINVAL },
	{ "a bad name at last", "", "c n & r a & m b __metadata__", A "; " B K, EINVAL },
	{ "an id that is not there", "", "c n & r nobody", A "; " B K, EINVAL },
	{ "a shard that is not there", "", "c n & @ 7 a=b", A "; " B K, EINVAL },
};

static void test_a_step_is_all_of_its_changes_or_none(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct change_case *c = &cases[i];
		struct overlay_place p = overlay_place(c->two ? "a U8 1 01" : ONE, c->two);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		struct sft_error err = { 0 };
		uint64_t before;
		char *shows;

		print_message("%s\n", c->name);
		if (fixture_edit(ov, c->before, &err) < 0)
			fail_msg("%s", err.msg);
		before = ov->staging.journal_end;
		assert_int_equal(change(ov, c->step, &err), -c->error);
		assert_int_equal(err.errnum, c->error);
		if (c->error)
			assert_int_equal(ov->staging.journal_end, before);
		shows = overlay_describe(ov);
		assert_string_equal(shows, c->shows);
		free(shows);
		sft_overlay_free(ov);
		overlay_place_free(&p);
	}
}

/* ---- however little of it was written ---- */

/* What a new process finds: scratch files are gone, or back. */
static char *reopened(const char *source)
{
	struct sft_overlay *ov = overlay_open(source, NULL);
	char *shows = overlay_describe(ov);

	sft_overlay_free(ov);
	return shows;
}

static void test_a_journal_cut_within_a_step_has_nothing_of_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct change_case *c = &cases[i];
		struct overlay_place p = overlay_place(c->two ? "a U8 1 01" : ONE, c->two);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		char *path = fixture_join(sft_overlay_staging(ov), "journal"), *bytes, *old, *now;
		uint64_t begin, end;
		size_t len;

		/* So that there is a journal. */
		assert_int_equal(fixture_edit(ov, "@ 0 u=v; @ 0 k=v", NULL), 0);
		assert_int_equal(fixture_edit(ov, c->before, NULL), 0);
		begin = ov->staging.journal_end;
		if (c->error || change(ov, c->step, NULL) < 0 || ov->staging.journal_end == begin) {
			sft_overlay_free(ov);
			free(path);
			overlay_place_free(&p);
			continue;
		}
		end = ov->staging.journal_end;
		(void)fixture_edit(ov, "x .keep", NULL);
		bytes = fixture_get(path, &len);
		/* As if it had died: nothing is tidied up. */
		ov->staging.broken = true;
		sft_overlay_free(ov);
		fixture_put(path, bytes, begin);
		old = reopened(p.source);
		for (uint64_t cut = begin; cut < end; cut++) {
			char *dir = path_dirname(path);

			(void)mkdir(dir, 0700);
			free(dir);
			fixture_put(path, bytes, cut);
			now = reopened(p.source);
			assert_string_equal(now, old);
			free(now);
		}
		free(old);
		free(bytes);
		free(path);
		overlay_place_free(&p);
	}
}

/* ---- whatever fails ---- */

static void test_a_step_that_fails_changes_nothing(void **state)
{
	static const enum fault kinds[] = { FAULT_ENOSPC, FAULT_EIO, FAULT_NOMEM };
	(void)state;

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
		const struct change_case *c = &cases[i / 2];

		for (size_t f = 0; !c->error && f < sizeof(kinds) / sizeof(*kinds); f++) {
			bool reached = true;

			for (unsigned k = 1; reached; k++) {
				struct overlay_place p =
					overlay_place(c->two ? "a U8 1 01" : ONE, c->two);
				struct sft_overlay *ov = overlay_open(p.source, NULL);
				const char *want = c->shows;
				char *before, *shows, *again;

				/* The first edit makes the journal, the others do not. */
				if (i % 2)
					assert_int_equal(fixture_edit(ov, "@ 0 u=v; @ 0 k=v", NULL),
							 0);
				assert_int_equal(fixture_edit(ov, c->before, NULL), 0);
				before = overlay_describe(ov);
				int r = change_with(ov, c->step, kinds[f], k, NULL, &reached);
				shows = overlay_describe(ov);
				assert_string_equal(shows, r < 0 ? before : want);
				/* And the next one is none the worse for it. */
				if (!ov->staging.broken) {
					assert_int_equal(change(ov, r < 0 ? c->step : "c zz", NULL),
							 0);
					again = overlay_describe(ov);
					if (r < 0)
						assert_string_equal(again, want);
					free(again);
				}
				free(before);
				free(shows);
				sft_overlay_free(ov);
				overlay_place_free(&p);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_step_is_all_of_its_changes_or_none),
		cmocka_unit_test(test_a_journal_cut_within_a_step_has_nothing_of_it),
		cmocka_unit_test(test_a_step_that_fails_changes_nothing),
	};
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
