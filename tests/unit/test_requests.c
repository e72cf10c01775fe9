/*
 * test_requests.c - whatever one request appends to the journal is there as a whole or not at all
 *
 * The journal is cut off anywhere in what a request has added, or has zeros from there on, as after
 * a power cut. What is replayed is what was there before the request, and with all of it, what
 * was there afterwards.
 */
#include "overlay_fixture.h"

#define ONE_SHARD "a U8 2 0102; b U8 2 0304; c U8 2 0506"
#define OTHER_SHARD "x U8 1 0a; y U8 1 0b; @k=v"
#define CUTS_MAX 100 /* places that are tried in what a request has added */

typedef int request(struct sft_overlay *ov);

static int change_all(struct sft_overlay *ov, struct sft_change *changes, size_t count)
{
	struct sft_error err = { 0 };
	int r = sft_overlay_change(ov, changes, count, &err);

	if (r < 0)
		print_message("%s\n", err.msg);
	return r;
}

static struct sft_change rename_of(const struct sft_overlay *ov, const char *from, const char *to,
				   bool scratch)
{
	return (struct sft_change){
		.kind = SFT_RENAME,
		.id = fixture_find(ov, from),
		.shard = SFT_SHARD_AUTO,
		.name = to,
		.name_len = strlen(to),
		.scratch = scratch,
	};
}

static int create_whole(struct sft_overlay *ov)
{
	static const uint64_t shape[] = { 2, 2 };
	struct sft_change c = {
		.kind = SFT_CREATE,
		.shard = 0,
		.name = "n",
		.name_len = 1,
		.declared = true,
		.dtype = SFT_U16,
		.shape = shape,
		.rank = 2,
		.nbytes = 8,
	};

	return change_all(ov, &c, 1);
}

static int rename_many(struct sft_overlay *ov)
{
	struct sft_change c[] = {
		rename_of(ov, "a", "d.a", false), rename_of(ov, "b", "d.b", false),
		rename_of(ov, "c", "d.c", false), rename_of(ov, "x", "d.x", false),
		rename_of(ov, "y", "d.y", false),
	};

	return change_all(ov, c, sizeof(c) / sizeof(*c));
}

/* Each takes a name that the one before it has left. */
static int move_up(struct sft_overlay *ov)
{
	struct sft_change c[] = { rename_of(ov, "a", "z", false), rename_of(ov, "b", "a", false) };

	return change_all(ov, c, 2);
}

/* As over a tensor that somebody has open. */
static int rename_over_open(struct sft_overlay *ov)
{
	struct sft_change c[] = { rename_of(ov, "b", "/1", true), rename_of(ov, "a", "b", false) };

	return change_all(ov, c, 2);
}

static int remove_both(struct sft_overlay *ov)
{
	struct sft_change c[] = {
		{ .kind = SFT_REMOVE, .id = fixture_find(ov, "a") },
		{ .kind = SFT_REMOVE, .id = fixture_find(ov, "x") },
	};

	return change_all(ov, c, 2);
}

static int metadata_of_all(struct sft_overlay *ov)
{
	struct sft_pair pair = { "k", "w", 1, 1 };
	const struct sft_metadata one = { .present = true, .count = 1, .pairs = &pair };
	const struct sft_metadata none = { .present = false };
	struct sft_change c[] = {
		{ .kind = SFT_SET_METADATA, .shard = 0, .metadata = &one },
		{ .kind = SFT_SET_METADATA, .shard = 1, .metadata = &none },
	};

	return change_all(ov, c, 2);
}

static int everything(struct sft_overlay *ov)
{
	static const uint64_t shape[] = { 1 };
	struct sft_change c[] = {
		rename_of(ov, "a", "z", false),
		{ .kind = SFT_CREATE,
		  .shard = 1,
		  .name = "a",
		  .name_len = 1,
		  .declared = true,
		  .dtype = SFT_U8,
		  .shape = shape,
		  .rank = 1,
		  .nbytes = 1 },
		{ .kind = SFT_REMOVE, .id = fixture_find(ov, "b") },
		{ .kind = SFT_DECLARE,
		  .id = fixture_find(ov, "c"),
		  .dtype = SFT_U16,
		  .shape = shape,
		  .rank = 1 },
	};

	return change_all(ov, c, sizeof(c) / sizeof(*c));
}

static int write_blocks(struct sft_overlay *ov)
{
	static unsigned char bytes[3 * SFT_BLOCK];

	memset(bytes, 7, sizeof(bytes));
	return sft_overlay_write(ov, fixture_find(ov, "a"), bytes, sizeof(bytes), 1, NULL);
}

static int cut_within_blocks(struct sft_overlay *ov)
{
	return sft_overlay_truncate(ov, fixture_find(ov, "a"), SFT_BLOCK + 3, NULL);
}

#define B_TO_Y "0:b U8 2 0304; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; @1 k=v"
#define AS_IT_IS "0:a U8 2 0102; " B_TO_Y
#define WRITTEN "0:a U8 2 ff02 *; " B_TO_Y

static const struct {
	const char *name, *setup; /* edits */
	const char *edit;	  /* the request: this, or `request` */
	request *request;
	const char *before, *after; /* NULL: too long to write down, but different */
} cases[] = {
	{ "the first write", "", "w a 0 ff", NULL, AS_IT_IS, WRITTEN },
	{ "a write", "w a 0 ff", "w a 1 ee", NULL, WRITTEN, "0:a U8 2 ffee *; " B_TO_Y },
	{ "a write that makes it longer", "w a 0 ff", "w a 1 eeee", NULL, WRITTEN,
	  "0:a U8 2 ffeeee * !; " B_TO_Y },
	{ "a write of several blocks", "w a 0 ff", NULL, write_blocks, WRITTEN, NULL },
	{ "cut off", "w a 0 ff", "t a 1", NULL, WRITTEN, "0:a U8 2 ff * !; " B_TO_Y },
	{ "cut off within written blocks", "t a 200000; w a 70000 01020304", NULL,
	  cut_within_blocks, NULL, NULL },
	{ "made longer", "w a 0 ff", "t a 3", NULL, WRITTEN, "0:a U8 2 ff0200 * !; " B_TO_Y },
	{ "created", "w a 0 ff", "C 1 n", NULL, WRITTEN,
	  "0:a U8 2 ff02 *; 0:b U8 2 0304; 0:c U8 2 0506; 1:n U8 0 - *; 1:x U8 1 0a; "
	  "1:y U8 1 0b; @1 k=v" },
	{ "created with dtype, shape and length", "w a 0 ff", NULL, create_whole, WRITTEN,
	  "0:a U8 2 ff02 *; 0:b U8 2 0304; 0:c U8 2 0506; 0:n U16 2,2 0000000000000000 *; "
	  "1:x U8 1 0a; 1:y U8 1 0b; @1 k=v" },
	{ "declared", "w a 0 ff", "d b U16 1", NULL, WRITTEN,
	  "0:a U8 2 ff02 *; 0:b U16 1 0304 *; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; @1 k=v" },
	{ "removed", "w a 0 ff", "r a", NULL, WRITTEN, B_TO_Y },
	{ "renamed", "w a 0 ff", "m a z", NULL, WRITTEN,
	  "0:b U8 2 0304; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; 0:z U8 2 ff02 *; @1 k=v" },
	{ "renamed over another", "w a 0 ff", "m a b", NULL, WRITTEN,
	  "0:b U8 2 ff02 *; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; @1 k=v" },
	{ "renamed over one that is open", "w a 0 ff", NULL, rename_over_open, WRITTEN,
	  "0:b U8 2 ff02 *; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; @1 k=v" },
	{ "renamed from scratch", "x .t; w .t 0 0909; w a 0 ff", "mt .t b", NULL, WRITTEN,
	  "0:a U8 2 ff02 *; 0:b U8 2 0909 *; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; @1 k=v" },
	{ "put aside, which does not outlive it", "w a 0 ff", "mx b .b", NULL, WRITTEN, WRITTEN },
	{ "a directory renamed", "w a 0 ff", NULL, rename_many, WRITTEN,
	  "0:d.a U8 2 ff02 *; 0:d.b U8 2 0304 *; 0:d.c U8 2 0506 *; 1:d.x U8 1 0a *; "
	  "1:d.y U8 1 0b *; @1 k=v" },
	{ "renamed to what another one was called", "w a 0 ff", NULL, move_up, WRITTEN,
	  "0:a U8 2 0304 *; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; 0:z U8 2 ff02 *; @1 k=v" },
	{ "several removed", "w a 0 ff", NULL, remove_both, WRITTEN,
	  "0:b U8 2 0304; 0:c U8 2 0506; 1:y U8 1 0b; @1 k=v" },
	{ "metadata", "w a 0 ff", "@ 0 q=r", NULL, WRITTEN,
	  "0:a U8 2 ff02 *; 0:b U8 2 0304; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; @0 q=r; @1 "
	  "k=v" },
	{ "metadata of all shards", "w a 0 ff", NULL, metadata_of_all, WRITTEN,
	  "0:a U8 2 ff02 *; 0:b U8 2 0304; 0:c U8 2 0506; 1:x U8 1 0a; 1:y U8 1 0b; @0 k=w" },
	{ "all kinds of changes", "w a 0 ff", NULL, everything, WRITTEN,
	  "1:a U8 1 00 *; 0:c U16 1 0506 *; 1:x U8 1 0a; 1:y U8 1 0b; 0:z U8 2 ff02 *; @1 k=v" },
	{ "all kinds of changes, first of all", "", NULL, everything, AS_IT_IS,
	  "1:a U8 1 00 *; 0:c U16 1 0506 *; 1:x U8 1 0a; 1:y U8 1 0b; 0:z U8 2 0102 *; @1 k=v" },
	{ "synced", "w a 0 ff", "s", NULL, WRITTEN, WRITTEN },
};

/* The two files of a staging. */
struct staged {
	char *dir, *journal_path, *blocks_path;
	char *journal, *blocks;
	size_t before, after, blocks_length; /* bytes of the journal; of the blocks */
};

static size_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

/* Make a staging of which the journal has only so many bytes, and `zeros` behind them. */
static void put_cut(const struct staged *s, size_t cut, size_t zeros)
{
	(void)mkdir(s->dir, 0700);
	fixture_put(s->journal_path, s->journal, cut);
	if (truncate(s->journal_path, (off_t)(cut + zeros)) < 0)
		abort();
	fixture_put(s->blocks_path, s->blocks, s->blocks_length);
	if (chmod(s->journal_path, 0600) < 0 || chmod(s->blocks_path, 0600) < 0)
		abort();
}

/* NULL where it is refused as damaged. */
static char *replayed(const char *source)
{
	const struct sft_overlay_options options = { 0 };
	struct sft_error err = { 0 };
	struct sft_overlay *ov;
	char *text;
	int r = sft_overlay_open(source, &options, &ov, &err);

	if (r == -EBADMSG)
		return NULL;
	if (r < 0)
		fail_msg("%s", err.msg);
	text = overlay_describe(ov);
	sft_overlay_free(ov);
	return text;
}

static void check_cut(const char *source, const struct staged *s, size_t cut, size_t zeros,
		      const char *expected)
{
	put_cut(s, cut, zeros);
	char *text = replayed(source);
	/* A new journal is durable before it gets its name, so that no crash gives this. */
	if (!text && s->before == 0)
		return;
	if (!text)
		fail_msg("refused: %zu of %zu to %zu bytes", cut, s->before, s->after);
	if (strcmp(text, expected) != 0)
		print_message("%zu of %zu to %zu bytes of the journal, then %zu zeros\n", cut,
			      s->before, s->after, zeros);
	assert_string_equal(text, expected);
	free(text);
}

/* Do the request, and keep what the staging holds then. */
static void stage(struct staged *s, const char *source, size_t which)
{
	struct sft_overlay *ov = overlay_open(source, NULL);
	request *make = cases[which].request;

	assert_int_equal(fixture_edit(ov, cases[which].setup, NULL), 0);
	s->dir = strdup(sft_overlay_staging(ov));
	s->journal_path = fixture_join(s->dir, "journal");
	s->blocks_path = fixture_join(s->dir, "blocks");
	s->before = size_of(s->journal_path);
	assert_int_equal(make ? make(ov) : fixture_edit(ov, cases[which].edit, NULL), 0);
	s->journal = fixture_get(s->journal_path, &s->after);
	s->blocks = fixture_get(s->blocks_path, &s->blocks_length);
	assert_true(s->journal && s->blocks && s->after > s->before);
	sft_overlay_free(ov);
}

static void staged_free(struct staged *s)
{
	free(s->dir);
	free(s->journal_path);
	free(s->blocks_path);
	free(s->journal);
	free(s->blocks);
}

static void test_a_request_is_there_as_a_whole_or_not_at_all(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE_SHARD, OTHER_SHARD);
		struct staged s = { 0 };

		print_message("%s\n", cases[i].name);
		stage(&s, p.source, i);
		put_cut(&s, s.before, 0);
		char *before = replayed(p.source);
		put_cut(&s, s.after, 0);
		char *after = replayed(p.source);
		if (cases[i].before)
			assert_string_equal(before, cases[i].before);
		if (cases[i].after)
			assert_string_equal(after, cases[i].after);
		else
			assert_string_not_equal(after, before);
		size_t step = (s.after - s.before) / CUTS_MAX + 1;
		for (size_t cut = s.before; cut < s.after; cut += step) {
			check_cut(p.source, &s, cut, 0, before);
			check_cut(p.source, &s, cut, s.after - cut, before);
		}
		check_cut(p.source, &s, s.after, 0, after);
		free(before);
		free(after);
		staged_free(&s);
		overlay_place_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_is_there_as_a_whole_or_not_at_all),
	};
	/* Thousands of fsyncs, and nothing here depends on a disk. */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
