/* test_merge.c - everything that is shown, as one file: against what commits write */
#include "edit_fixture.h"

#include <dirent.h>

/* All bytes of it, read in pieces of `piece` bytes; malloced. */
static char *read_merged(const struct sft_merged *m, const struct sft_overlay *ov, size_t piece,
			 size_t max, size_t *len)
{
	const struct sft_buf *head = sft_merged_head(m);
	const uint64_t body = sft_merged_body(m);
	char *bytes = malloc(head->len + body + 1);

	*len = head->len + body;
	if (head->len)
		memcpy(bytes, head->data, head->len);
	for (uint64_t at = 0; at < body;) {
		struct sft_region regions[8];
		const uint64_t wanted = body - at < piece ? body - at : piece;
		const size_t n = sft_merged_regions(m, at, wanted, regions, max);
		uint64_t got = 0;

		assert_in_range(n, 1, max);
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(sft_region_read(ov, &regions[i],
							 bytes + head->len + at + got, NULL),
					 0);
			got += regions[i].length;
		}
		assert_in_range(got, 1, wanted);
		if (n < max)
			assert_int_equal(got, wanted);
		at += got;
	}
	return bytes;
}

/* It has exactly those bytes, however it is read. */
static void check_bytes(const struct sft_merged *m, const struct sft_overlay *ov, const char *want,
			size_t want_len)
{
	static const size_t pieces[] = { 1, 7, 65536, SIZE_MAX };

	for (size_t i = 0; i < 4; i++) {
		for (size_t max = 1; max <= 8; max += 7) {
			size_t len;
			char *bytes = read_merged(m, ov, pieces[i], max, &len);

			assert_int_equal(len, want_len);
			assert_memory_equal(bytes, want, len);
			free(bytes);
		}
	}
}

/* ---- one file ---- */

#define ONE "b F32 2 0102030405060708; z U8 0 -; a U8 3 aabbcc; @k=v"

static const char *const edits[] = {
	"",
	"w a 1 00",
	"w a 0 112233; w b 2 ffff",
	"m a c",
	"m a c; w c 0 010203; d b I64 -",
	"c n; w n 0 0102; t n 200000; d n U8 200000",
	"c n; t n 100000; d n U8 100000; w n 70000 55",
	"r b; r a; r z; @ 0 -",
	"@ 0 k=w,x=y",
	"x .s; w .s 0 01",
	"r a; c a; w a 0 010203",
	"t a 1; t a 3",
	"c q; d q U8 0",
};

static void test_one_file_is_what_its_commit_writes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++) {
		char *dir = fixture_make_dir(), *path = fixture_join(dir, "m.safetensors");
		char *out = fixture_join(dir, "out.safetensors");
		const struct sft_overlay_options options = { .output = out };
		struct sft_overlay *ov;
		struct sft_merged *m;
		struct sft_error err = { 0 };
		size_t len = 0;

		print_message("%s\n", edits[i]);
		fixture_checkpoint(path, ONE);
		assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
		assert_int_equal(fixture_edit(ov, edits[i], &err), 0);
		assert_int_equal(sft_merged_make(sft_overlay_checkpoint(ov), ov, &m, &err), 0);
		assert_int_equal(sft_overlay_commit(ov, &fixture_any, NULL, &err), 0);
		/* Where there was nothing to commit, it is the file itself. */
		char *want = fixture_get(sft_overlay_dirty(ov) ? out : path, &len);
		check_bytes(m, ov, want, len);
		sft_merged_free(m);
		sft_overlay_adopt(ov);
		assert_int_equal(sft_merged_make(sft_overlay_checkpoint(ov), ov, &m, &err), 0);
		check_bytes(m, ov, want, len);
		sft_merged_free(m);
		free(want);
		sft_overlay_free(ov);
		free(out);
		free(path);
		fixture_remove_dir(dir);
	}
}

static void test_one_file_without_edits_is_the_file(void **state)
{
	char *dir = fixture_make_dir(), *path = fixture_join(dir, "m.safetensors");
	struct sft_checkpoint *ck;
	struct sft_merged *m;
	struct sft_region region;
	size_t len = 0;
	(void)state;

	fixture_checkpoint(path, ONE);
	char *want = fixture_get(path, &len);
	assert_int_equal(sft_checkpoint_open(path, 0, &ck, NULL), 0);
	assert_int_equal(sft_merged_make(ck, NULL, &m, NULL), 0);
	check_bytes(m, NULL, want, len);
	/* In one piece, whatever number of tensors lies in it. */
	assert_int_equal(sft_merged_regions(m, 1, len - 1, &region, 1), 1);
	assert_int_equal(region.offset, 1);
	assert_int_equal(region.length, len - 1);
	sft_merged_free(m);
	sft_checkpoint_free(ck);
	free(want);
	free(path);
	fixture_remove_dir(dir);
}

static void test_each_valid_file_of_the_corpus_is_itself(void **state)
{
	const char *root = getenv("SOURCE_ROOT");
	char *dir = fixture_join(root ? root : ".", "tests/corpus/valid");
	DIR *files = opendir(dir);
	int count = 0;
	(void)state;

	assert_non_null(files);
	for (struct dirent *d; (d = readdir(files));) {
		char *path = fixture_join(dir, d->d_name), *want;
		struct sft_checkpoint *ck;
		struct sft_merged *m;
		size_t len = 0;

		if (d->d_name[0] != '.') {
			print_message("%s\n", d->d_name);
			want = fixture_get(path, &len);
			assert_int_equal(sft_checkpoint_open(path, 0, &ck, NULL), 0);
			assert_int_equal(sft_merged_make(ck, NULL, &m, NULL), 0);
			check_bytes(m, NULL, want, len);
			sft_merged_free(m);
			sft_checkpoint_free(ck);
			free(want);
			count++;
		}
		free(path);
	}
	closedir(files);
	free(dir);
	assert_true(count > 30);
}

/* ---- shards ---- */

#define A "a.safetensors"
#define B "b.safetensors"

/* Of several shards: the same as one file of all their tensors that was written anew. */
static const struct shards_case {
	const char *name, *a, *b, *script;
	unsigned flags;
	const char *all; /* every tensor */
	const char *metadata;
	int error;
	const char *message;
} shards_cases[] = {
	{ "no edits", "x U8 2 0102; q F32 - 01020304; @format=pt", "m U8 1 ff; @format=pt", "", 0,
	  "x U8 2 0102; q F32 - 01020304; m U8 1 ff", "format=pt", 0, NULL },
	{ "no metadata", "x U8 2 0102", "m U8 1 ff", "", 0, "x U8 2 0102; m U8 1 ff", "-", 0,
	  NULL },
	{ "metadata of one", "x U8 2 0102", "m U8 1 ff; @", "", 0, "x U8 2 0102; m U8 1 ff", "{}",
	  0, NULL },
	{ "the first shard's value, the order of keys", "x U8 2 0102; @z=1,a=2",
	  "m U8 1 ff; @b=5,a=3,c=4", "", 0, "x U8 2 0102; m U8 1 ff", "z=1,a=2,b=5,c=4", 0, NULL },
	{ "edits of every kind", "x U8 2 0102; q F32 - 01020304", "m U8 1 ff",
	  "w q 0 ff; m x y; r m; C 1 n; w n 0 0506", 0,
	  "y U8 2 0102; q F32 - ff020304; n U8 2 0506", "-", 0, NULL },
	{ "nothing left", "x U8 1 01", "m U8 1 ff", "r x; r m", 0, "", "-", 0, NULL },
	{ "problems are refused", "x F32 1 01020304", "m U8 1 ff", "t x 3", 0, NULL, NULL, -EINVAL,
	  "tensor \"x\"" },
	{ "one name in two files", "x U8 1 01", "x F32 1 01020304", "", SFT_SAME_NAMES, NULL, NULL,
	  -EEXIST, "tensor \"x\": in two files" },
	{ "until it is renamed", "x U8 1 01", "x F32 1 01020304", "m x y", SFT_SAME_NAMES,
	  "y U8 1 01; x F32 1 01020304", "-", 0, NULL },
};

/* The bytes of a file of these tensors as a commit writes it anew. */
static char *written_anew(const char *dir, const struct shards_case *c, size_t *len)
{
	char *path = fixture_join(dir, "all.safetensors"), *bytes;
	struct sft_buf spec = { 0 }, script = { 0 };
	const bool metadata = strcmp(c->metadata, "-") != 0;

	/* Of an empty file nothing can be taken away: another one is there first. */
	sft_buf_printf(&spec, "zzz U8 1 00%s%s", *c->all ? "; " : "", c->all);
	fixture_checkpoint(path, spec.data);
	sft_buf_printf(&script, "r zzz%s%s", metadata ? "; @ 0 " : "", metadata ? c->metadata : "");
	fixture_commit(path, &(struct sft_overlay_options){ 0 }, script.data);
	bytes = fixture_get(path, len);
	unlink(path);
	sft_buf_free(&script);
	sft_buf_free(&spec);
	free(path);
	return bytes;
}

static void check_shards(const struct shards_case *c, const char *dir, const char *source)
{
	const struct sft_overlay_options options = { .flags = c->flags };
	struct sft_overlay *ov;
	struct sft_checkpoint *ck;
	struct sft_merged *m;
	struct sft_error err = { 0 };
	char *want = NULL;
	size_t len = 0;

	if (c->error == 0)
		want = written_anew(dir, c, &len);
	assert_int_equal(sft_overlay_open(source, &options, &ov, &err), 0);
	assert_int_equal(fixture_edit(ov, c->script, &err), 0);
	assert_int_equal(sft_merged_make(sft_overlay_checkpoint(ov), ov, &m, &err), c->error);
	if (c->error == 0) {
		check_bytes(m, ov, want, len);
		sft_merged_free(m);
	} else {
		assert_non_null(strstr(err.msg, c->message));
	}
	sft_overlay_free(ov);
	if (*c->script == '\0') {
		assert_int_equal(sft_checkpoint_open(source, c->flags, &ck, NULL), 0);
		assert_int_equal(sft_merged_make(ck, NULL, &m, NULL), c->error);
		if (c->error == 0) {
			check_bytes(m, NULL, want, len);
			sft_merged_free(m);
		}
		sft_checkpoint_free(ck);
	}
	free(want);
}

static void test_shards_are_one_file_written_anew(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(shards_cases) / sizeof(*shards_cases); i++) {
		char *dir = fixture_make_dir(), *source = fixture_join(dir, "source");
		char *a = fixture_join(source, A), *b = fixture_join(source, B);

		print_message("%s\n", shards_cases[i].name);
		assert_int_equal(mkdir(source, 0755), 0);
		fixture_checkpoint(a, shards_cases[i].a);
		fixture_checkpoint(b, shards_cases[i].b);
		check_shards(&shards_cases[i], dir, source);
		free(b);
		free(a);
		free(source);
		fixture_remove_dir(dir);
	}
}

/* ---- what is out of date ---- */

static const struct generation_case {
	const char *before, *script;
	bool grows;
} generation_cases[] = {
	{ "", "w a 0 00", false }, { "", "x .s; w .s 0 01; t .s 9; mx .s .t; r .t", false },
	{ "", "s", false },	   { "", "w a 3 00", true },
	{ "", "t a 1", true },	   { "", "m a c", true },
	{ "", "mx a c", true },	   { "x .s", "mt .s c", true },
	{ "", "c n", true },	   { "", "r a", true },
	{ "", "d a I8 3", true },  { "", "@ 0 k=w", true },
};

static void test_generation_grows_with_what_moves_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(generation_cases) / sizeof(*generation_cases); i++) {
		const struct generation_case *c = &generation_cases[i];
		char *dir = fixture_make_dir(), *path = fixture_join(dir, "m.safetensors");
		struct sft_overlay *ov;

		print_message("%s\n", c->script);
		fixture_checkpoint(path, ONE);
		assert_int_equal(
			sft_overlay_open(path, &(struct sft_overlay_options){ 0 }, &ov, NULL), 0);
		assert_int_equal(fixture_edit(ov, c->before, NULL), 0);
		const uint64_t before = sft_overlay_generation(ov);
		assert_int_equal(fixture_edit(ov, c->script, NULL), 0);
		assert_int_equal(sft_overlay_generation(ov) > before, c->grows);
		/* What is committed is what was shown. */
		const uint64_t shown = sft_overlay_generation(ov);
		if (sft_overlay_problems(ov) == 0) {
			assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), 0);
			sft_overlay_adopt(ov);
			assert_int_equal(sft_overlay_generation(ov), shown);
		}
		sft_overlay_free(ov);
		free(path);
		fixture_remove_dir(dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_file_is_what_its_commit_writes),
		cmocka_unit_test(test_one_file_without_edits_is_the_file),
		cmocka_unit_test(test_each_valid_file_of_the_corpus_is_itself),
		cmocka_unit_test(test_shards_are_one_file_written_anew),
		cmocka_unit_test(test_generation_grows_with_what_moves_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
