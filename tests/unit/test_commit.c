/* test_commit.c - edits through to the files they end in */
#include "edit_fixture.h"

#define M "model.safetensors"
#define A "a.safetensors"
#define B "b.safetensors"
#define INDEX "model.safetensors.index.json"
#define ONE "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v"
#define TWO_INDEX(MAP) "{\"metadata\": {\"total_size\": 5}, \"weight_map\": {" MAP "}}"
#define AB "\"one\": \"" A "\", \"two\": \"" B "\""

struct named {
	const char *file, *text;
};

/* ---- what a commit makes of edits ---- */

static const struct commit_case {
	const char *name;
	struct named before[4]; /* an index: the text; a shard: as in edit_fixture.h */
	const char *source;	/* "": the directory */
	struct sft_overlay_options options;
	const char *script; /* `commit` between two "|" parts, and at the end */
	struct named after[8];
	const char *note;
	bool allow_empty;
} commit_cases[] = {
	{ .name = "bytes",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "w a 1 00; w b 7 ff",
	  .after = { { M, "a U8 3 aa00cc; b F32 2 01020304050607ff; @k=v" } } },
	{ .name = "nothing to do",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "c z; r z",
	  .after = { { M, "a U8 3 aabbcc; b F32 2 0102030405060708; @k=v" } } },
	{ .name = "add, delete, rename, another shape, another dtype",
	  .before = { { M, ONE "; c U8 2 0102; d U8 4 01020304" } },
	  .source = M,
	  .script = "c e; w e 0 0a0b0c0d; d e I32 -; r c; m a z; d b F32 2,1; d d BF16 2",
	  .after = { { M, "b F32 2,1 0102030405060708; d BF16 2 01020304; e I32 - 0a0b0c0d; "
			  "z U8 3 aabbcc; @k=v" } } },
	{ .name = "longer and shorter",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "t b 4; d b F32 1; w a 3 ddee; d a U8 5",
	  .after = { { M, "a U8 5 aabbccddee; b F32 1 01020304; @k=v" } } },
	{ .name = "an undeclared new tensor is U8",
	  .before = { { M, "a U8 1 00" } },
	  .source = M,
	  .script = "c n; w n 2 ff",
	  .after = { { M, "a U8 1 00; n U8 3 0000ff" } } },
	{ .name = "metadata: changed, made, removed",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "@ 0 k=w,l=x",
	  .after = { { M, "a U8 3 aabbcc; b F32 2 0102030405060708; @k=w,l=x" } } },
	{ .name = "metadata removed",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "@ 0 -",
	  .after = { { M, "a U8 3 aabbcc; b F32 2 0102030405060708" } } },
	{ .name = "names exchanged",
	  .before = { { M, "a U8 2 0102; b U8 2 0304" } },
	  .source = M,
	  .script = "m a t; m b a; m t b",
	  .after = { { M, "a U8 2 0304; b U8 2 0102" } } },
	{ .name = "names exchanged through a scratch name, in place asked for",
	  .before = { { M, "a U8 2 0102; b U8 2 0304" } },
	  .source = M,
	  .options = { .inplace = true },
	  .script = "mx a .t; m b a; mt .t b",
	  .after = { { M, "a U8 2 0304; b U8 2 0102" } },
	  .note = "bytes have moved from one tensor to another: writing a new file" },
	{ .name = "a tensor over another",
	  .before = { { M, "a U8 2 0102; b U8 2 0304; c U8 1 05" } },
	  .source = M,
	  .script = "m b a",
	  .after = { { M, "a U8 2 0304; c U8 1 05" } } },
	{ .name = "a new tensor over an old one keeps its dtype and shape",
	  .before = { { M, "a BF16 2 01020304; c U8 1 05" } },
	  .source = M,
	  .script = "c n; w n 0 0a0b0c0d; m n a",
	  .after = { { M, "a BF16 2 0a0b0c0d; c U8 1 05" } } },
	{ .name = "down and up again leaves zeros",
	  .before = { { M, "a U8 4 01020304; c U8 1 05" } },
	  .source = M,
	  .script = "t a 1; t a 4",
	  .after = { { M, "a U8 4 01000000; c U8 1 05" } } },
	{ .name = "everything deleted",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "r a; r b",
	  .after = { { M, "@k=v" } },
	  .allow_empty = true },
	{ .name = "a file emptied",
	  .before = { { M, "a U8 1 00" } },
	  .source = M,
	  .script = "r a",
	  .after = { { M, "" } },
	  .allow_empty = true },
	{ .name = "twice, with edits in between",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "w a 0 11; m b x|w a 1 22; w x 0 33; c y; w y 0 44|r y; w a 2 55",
	  .after = { { M, "a U8 3 112255; x F32 2 3302030405060708; @k=v" } } },
	{ .name = "scratch outlives a commit",
	  .before = { { M, ONE } },
	  .source = M,
	  .script = "mx a .s; w b 0 ff|mt .s q; w q 0 00",
	  .after = { { M, "b F32 2 ff02030405060708; q U8 3 00bbcc; @k=v" } } },
	{ .name = "two shards: only the changed one is rewritten",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" } },
	  .source = "",
	  .script = "w two 0 ff; m two too",
	  .after = { { A, "one U8 2 0102" }, { B, "too U8 3 ff0203" } } },
	{ .name = "an index follows",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" }, { INDEX, TWO_INDEX(AB) } },
	  .source = "",
	  .script = "m one 1; C 1 x; w x 0 ff",
	  .after = { { A, "1 U8 2 0102" },
		     { B, "two U8 3 010203; x U8 1 ff" },
		     { INDEX, "{\"metadata\": {\"total_size\": 6}, \"weight_map\": {\"1\": \"" A
			      "\", \"two\": \"" B "\", \"x\": \"" B "\"}}" } } },
	{ .name = "the index given as the source",
	  .before = { { A, "one U8 2 0102" },
		      { B, "two U8 3 010203" },
		      { INDEX, TWO_INDEX(AB) },
		      { "other.safetensors.index.json", TWO_INDEX(AB) } },
	  .source = INDEX,
	  .script = "m one 1",
	  .after = { { A, "1 U8 2 0102" },
		     { INDEX, TWO_INDEX("\"1\": \"" A "\", \"two\": \"" B "\"") },
		     { "other.safetensors.index.json", TWO_INDEX(AB) } } },
	{ .name = "an emptied shard stays as an empty file",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" } },
	  .source = "",
	  .script = "r one",
	  .after = { { A, "" }, { B, "two U8 3 010203" } } },
	{ .name = "an emptied shard with an index, and edits after",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" }, { INDEX, TWO_INDEX(AB) } },
	  .source = "",
	  .script = "r one|w two 0 ff; m two x",
	  .after = { { A, "" },
		     { B, "x U8 3 ff0203" },
		     { INDEX, "{\"metadata\": {\"total_size\": 3}, \"weight_map\": {\"x\": \"" B
			      "\"}}" } } },
	{ .name = "all tensors deleted, and one made in the place that is left",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" }, { INDEX, TWO_INDEX(AB) } },
	  .source = "",
	  .script = "r one; r two|C 1 x; w x 0 ff; c y; w y 0 01",
	  .after = { { A, "y U8 1 01" },
		     { B, "x U8 1 ff" },
		     { INDEX, "{\"metadata\": {\"total_size\": 2}, \"weight_map\": {\"x\": \"" B
			      "\", \"y\": \"" A "\"}}" } },
	  .allow_empty = true },
	{ .name = "missing shards",
	  .before = { { A, "one U8 2 0102" }, { INDEX, TWO_INDEX(AB) } },
	  .source = "",
	  .options = { .flags = SFT_PARTIAL },
	  .script = "w one 0 ff; m one x",
	  .after = { { A, "x U8 2 ff02" },
		     { B, "-" },
		     { INDEX, TWO_INDEX("\"two\": \"" B "\", \"x\": \"" A "\"") } } },
	{ .name = "the same names in two files",
	  .before = { { A, "one U8 2 0102" }, { B, "one U8 2 0304" } },
	  .source = "",
	  .options = { .flags = SFT_SAME_NAMES },
	  .script = "C 1 two; w two 0 ff",
	  .after = { { A, "one U8 2 0102" }, { B, "one U8 2 0304; two U8 1 ff" } } },
	{ .name = "a tensor that another shard's hides stays",
	  .before = { { A, "one U8 2 0102; x U8 1 01" },
		      { B, "x U8 1 02; two U8 3 010203" },
		      { INDEX, TWO_INDEX(AB ", \"x\": \"" A "\"") } },
	  .source = "",
	  .script = "m two too",
	  .after = { { A, "one U8 2 0102; x U8 1 01" },
		     { B, "too U8 3 010203; x U8 1 02" },
		     { INDEX,
		       TWO_INDEX("\"one\": \"" A "\", \"too\": \"" B "\", \"x\": \"" A "\"") } } },
	{ .name = "and goes where the one that hid it does, so as not to take its place",
	  .before = { { A, "one U8 2 0102; x U8 1 01" },
		      { B, "x U8 1 02; two U8 3 010203" },
		      { INDEX, "{\"weight_map\": {" AB ", \"x\": \"" A "\"}}" } },
	  .source = "",
	  .script = "r x",
	  .after = { { A, "one U8 2 0102" },
		     { B, "two U8 3 010203" },
		     { INDEX, "{\"weight_map\": {" AB "}}" } } },
	{ .name = "output: a file",
	  .before = { { M, ONE } },
	  .source = M,
	  .options = { .output = "new.safetensors" },
	  .script = "w a 0 00",
	  .after = { { M, "a U8 3 aabbcc; b F32 2 0102030405060708; @k=v" },
		     { "new.safetensors", "a U8 3 00bbcc; b F32 2 0102030405060708; @k=v" } } },
	{ .name = "output: twice",
	  .before = { { M, ONE } },
	  .source = M,
	  .options = { .output = "new.safetensors" },
	  .script = "w a 0 00|m a z",
	  .after = { { M, "a U8 3 aabbcc; b F32 2 0102030405060708; @k=v" },
		     { "new.safetensors", "b F32 2 0102030405060708; z U8 3 00bbcc; @k=v" } } },
	{ .name = "output: a directory gets unchanged shards and the index too",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" }, { INDEX, TWO_INDEX(AB) } },
	  .source = "",
	  .options = { .output = "out" },
	  .script = "w one 0 ff",
	  .after = { { A, "one U8 2 0102" },
		     { B, "two U8 3 010203" },
		     { INDEX, TWO_INDEX(AB) },
		     { "out/" A, "one U8 2 ff02" },
		     { "out/" B, "two U8 3 010203" },
		     { "out/" INDEX, TWO_INDEX(AB) } } },
	{ .name = "output: a directory, twice",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" } },
	  .source = "",
	  .options = { .output = "out" },
	  .script = "w one 0 ff|m one 1; w two 0 00",
	  .after = { { A, "one U8 2 0102" },
		     { B, "two U8 3 010203" },
		     { "out/" A, "1 U8 2 ff02" },
		     { "out/" B, "two U8 3 000203" } } },
	{ .name = "output of what is there where shards are missing",
	  .before = { { A, "one U8 2 0102" }, { INDEX, TWO_INDEX(AB) } },
	  .source = "",
	  .options = { .output = "out", .flags = SFT_PARTIAL },
	  .script = "w one 0 ff",
	  .after = { { A, "one U8 2 0102" },
		     { "out/" A, "one U8 2 ff02" },
		     { "out/" B, "-" },
		     { "out/" INDEX, TWO_INDEX(AB) } } },
	{ .name = "output beats in place",
	  .before = { { M, ONE } },
	  .source = M,
	  .options = { .output = "new.safetensors", .inplace = true },
	  .script = "w a 0 00",
	  .after = { { M, "a U8 3 aabbcc; b F32 2 0102030405060708; @k=v" },
		     { "new.safetensors", "a U8 3 00bbcc; b F32 2 0102030405060708; @k=v" } },
	  .note = "output= is another place than the source: writing new files" },
	{ .name = "in place",
	  .before = { { M, ONE } },
	  .source = M,
	  .options = { .inplace = true },
	  .script = "w a 1 00; t b 3; t b 8|w a 0 11",
	  .after = { { M, "a U8 3 1100cc; b F32 2 0102030000000000; @k=v" } } },
	{ .name = "in place, two shards",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" }, { INDEX, TWO_INDEX(AB) } },
	  .source = "",
	  .options = { .inplace = true },
	  .script = "w one 0 ff; w two 2 ff",
	  .after = { { A, "one U8 2 ff02" }, { B, "two U8 3 0102ff" }, { INDEX, TWO_INDEX(AB) } } },
	{ .name = "in place with another layout is a new file",
	  .before = { { M, ONE } },
	  .source = M,
	  .options = { .inplace = true },
	  .script = "w a 1 00; m a c",
	  .after = { { M, "b F32 2 0102030405060708; c U8 3 aa00cc; @k=v" } },
	  .note = "names, dtypes, shapes or metadata have changed: writing a new file" },
	{ .name = "in place while scratch shows the old bytes is a new file",
	  .before = { { M, ONE } },
	  .source = M,
	  .options = { .inplace = true },
	  .script = "mx a .a; c a; w a 0 010203|mt .a z",
	  .after = { { M, "a U8 3 010203; b F32 2 0102030405060708; z U8 3 aabbcc; @k=v" } } },
};

static bool is_index(const char *file)
{
	return strstr(file, ".json") != NULL;
}

static void check_file(const char *dir, const struct named *f)
{
	char *path = fixture_join(dir, f->file);
	char *text = is_index(f->file) ? fixture_get(path, NULL) : fixture_describe(path);

	assert_string_equal(text, f->text);
	free(text);
	free(path);
}

/* No temporaries and no staging are left in the directory or in `out`. */
static void check_no_leftovers(const char *dir)
{
	char *command = NULL;

	assert_true(asprintf(&command, "test -z \"$(find '%s' -mindepth 1 -name '.*')\"", dir) > 0);
	assert_int_equal(system(command), 0);
	free(command);
}

/* What the overlay shows is what the new checkpoint holds. */
static void check_overlay_shows(const struct sft_overlay *ov)
{
	const struct sft_checkpoint *ck = sft_overlay_checkpoint(ov);
	size_t live = 0;

	assert_false(sft_overlay_dirty(ov));
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		unsigned char staged[64], committed[64];
		struct sft_error err = { 0 };
		size_t n;

		if (!e->live || e->scratch)
			continue;
		live++;
		assert_false(e->staged);
		assert_non_null(e->committed);
		assert_int_equal(e->committed->nbytes, e->nbytes);
		assert_int_equal(sft_overlay_read(ov, id, staged, sizeof(staged), 0, &n, &err), 0);
		assert_int_equal(n, e->nbytes);
		assert_int_equal(sft_file_read(sft_checkpoint_shard(ck, e->committed->shard)->file,
					       committed, n,
					       sft_checkpoint_offset(ck, e->committed), &err),
				 0);
		assert_memory_equal(staged, committed, n);
	}
	assert_int_equal(live, sft_checkpoint_count(ck));
}

static void run_parts(struct sft_overlay *ov, const char *script, const char *note,
		      bool allow_empty)
{
	const struct sft_commit_options options = { .allow_empty = allow_empty };
	char *copy = strdup(script), *save = NULL;
	struct sft_error err = { 0 };
	bool noted = false;

	for (char *part = strtok_r(copy, "|", &save); part; part = strtok_r(NULL, "|", &save)) {
		char said[160];
		int r = fixture_edit(ov, part, &err);

		if (r == 0)
			r = sft_overlay_commit(ov, &options, said, &err);
		if (r < 0)
			print_message("%s\n", err.msg);
		assert_int_equal(r, 0);
		sft_overlay_adopt(ov);
		check_overlay_shows(ov);
		noted = noted || (note && strcmp(said, note) == 0);
	}
	assert_true(noted == (note != NULL));
	free(copy);
}

static void run_case(const struct commit_case *c)
{
	char *dir = fixture_make_dir(), *source = fixture_join(dir, c->source);
	struct sft_overlay_options options = c->options;
	char *output = options.output ? fixture_join(dir, options.output) : NULL;
	struct sft_overlay *ov;
	struct sft_error err = { 0 };

	options.output = output;
	for (size_t i = 0; i < 4 && c->before[i].file; i++) {
		char *path = fixture_join(dir, c->before[i].file);
		if (is_index(path))
			fixture_put(path, c->before[i].text, strlen(c->before[i].text));
		else
			fixture_checkpoint(path, c->before[i].text);
		free(path);
	}
	assert_int_equal(sft_overlay_open(source, &options, &ov, &err), 0);
	run_parts(ov, c->script, c->note, c->allow_empty);
	sft_overlay_free(ov);
	for (size_t i = 0; i < 8 && c->after[i].file; i++)
		check_file(dir, &c->after[i]);
	check_no_leftovers(dir);
	free(output);
	free(source);
	fixture_remove_dir(dir);
}

static void test_commit_makes_the_edited_checkpoint(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(commit_cases) / sizeof(*commit_cases); i++) {
		print_message("%s\n", commit_cases[i].name);
		run_case(&commit_cases[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commit_makes_the_edited_checkpoint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
