/* test_tree.c - the mounted tree: look-up, listings and names in every layout */
#include "counting.h"
#include "names.h"
#include "random_names.h"
#include "tree.h"
#include "tree_fixture.h"

#include <errno.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define ROOT_INO tree_ino(TREE_ROOT, TREE_DIR)
#define CONTROL_INO tree_ino(TREE_ROOT, TREE_CONTROL)

#define A10 "aaaaaaaaaa"
#define A240                                                                                       \
	A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10    \
		A10 A10
/* Two names with one FNV-1a hash, found by a search of 2^33 steps, and alike in the first 228. */
#define COLLIDING_1 A240 "-a8zuIYjFsO"
#define COLLIDING_2 A240 "ijTMP0btPcJ"

/* ---- listings and look-up ---- */

static void listings_are_as_expected(void **state)
{
	static const struct {
		enum tree_layout layout;
		bool npy;
		const char *names[8], *shards[3];
		const char *expected; /* every path below the root, in order */
	} cases[] = {
		{ TREE_FLAT, false, { NULL }, { NULL }, "" },
		{ TREE_FLAT, false, { "a", "a.b" }, { NULL }, "a a.b a.b.json a.json" },
		{ TREE_FLAT,
		  true,
		  { "a", "a-b" },
		  { NULL },
		  "a a-b a-b.json a-b.npy a.json a.npy" },
		{ TREE_FLAT,
		  true,
		  { "x", "x.f32" },
		  { NULL },
		  "x x.f32 x.f32.json x.f32.npy x.json x.npy" },
		{ TREE_FLAT,
		  false,
		  { "", ".x", "a/b", "x.json" },
		  { NULL },
		  "% %.json %2Ex %2Ex.json a%2Fb a%2Fb.json x%2Ejson x%2Ejson.json" },
		{ TREE_TREE,
		  false,
		  { "a.b.c", "a.b.d", "e" },
		  { NULL },
		  "a/ a/b/ a/b/c a/b/c.json a/b/d a/b/d.json e e.json" },
		{ TREE_TREE,
		  false,
		  { "a", "a.b", "a.b.c" },
		  { NULL },
		  "a/ a/b/ a/b/c a/b/c.json a/b% a/b%.json a% a%.json" },
		{ TREE_TREE,
		  false,
		  { "a%", "a", "a.b" },
		  { NULL },
		  "a/ a/b a/b.json a% a%.json a%25 a%25.json" },
		{ TREE_TREE,
		  true,
		  { "", ".", ".x", "x." },
		  { NULL },
		  "%/ %/% %/%.json %/%.npy %/x %/x.json %/x.npy %% %%.json %%.npy x/ x/% x/%.json "
		  "x/%.npy" },
		{ TREE_TREE,
		  false,
		  { "x.json", "x" },
		  { NULL },
		  "x/ x/json x/json.json x% x%.json" },
		{ TREE_TREE, false, { "a~.b/c" }, { NULL }, "a%7E/ a%7E/b%2Fc a%7E/b%2Fc.json" },
		{ TREE_FILES,
		  false,
		  { "0:a", "1:a.b", "1:b" },
		  { "x.safetensors", "y~" },
		  "x.safetensors/ x.safetensors/a x.safetensors/a.json y%7E/ y%7E/a.b "
		  "y%7E/a.b.json "
		  "y%7E/b y%7E/b.json" },
		{ TREE_FILES, false, { "0:a" }, { "x", "-" }, "x/ x/a x/a.json" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct fixture f = { .layout = cases[i].layout, .npy = cases[i].npy };
		struct sft_buf listing = { 0 };

		for (size_t k = 0; k < 3 && cases[i].shards[k]; k++)
			fixture_shard(&f, cases[i].shards[k]);
		for (size_t k = 0; k < 8 && cases[i].names[k]; k++) {
			const char *name = cases[i].names[k];
			bool files = f.layout == TREE_FILES;

			fixture_name(&f, files ? name + 2 : name, strlen(name) - 2 * files,
				     files ? (uint32_t)(name[0] - '0') : 0);
		}
		assert_int_equal(fixture_build(&f, NULL), 0);
		list_paths(f.tree, &listing);
		assert_string_equal(listing.data ? listing.data : "", cases[i].expected);
		check_tree(f.tree);
		sft_buf_free(&listing);
		fixture_free(&f);
	}
}

/* Whatever tensors there are: each name listed is listed once, in order, and found again. */
static void random_trees_are_consistent(void **state)
{
	uint64_t seed = random_seed();

	for (int round = 0; round < 60; round++) {
		struct fixture f = { .layout = (enum tree_layout)(round % 3), .npy = round % 2 };

		fixture_shard(&f, "one.safetensors");
		fixture_shard(&f, ".two\n.json");
		fixture_random(&f, &seed, round < 50 ? 200 : 5000);
		assert_int_equal(fixture_build(&f, NULL), 0);
		check_tree(f.tree);
		check_tensor_names(&f);
		fixture_free(&f);
	}
}

static void special_names_belong_to_no_tensor(void **state)
{
	static const char *const names[] = {
		"",
		".safetensorfs",
		".safetensorfs.json",
		"__metadata__.json",
		"__metadata__.json.json",
		"__metadata__.npy",
		".",
		"..",
		"status",
		"commit",
		"__metadata__.",
		".__metadata__",
		".__metadata__.json",
		"%2Esafetensorfs",
		"__metadata__%2Ejson",
	};

	for (int layout = TREE_FLAT; layout <= TREE_FILES; layout++) {
		struct fixture f = { .layout = (enum tree_layout)layout };
		uint64_t seed = random_seed(), in;

		fixture_shard(&f, "__metadata__.json");
		fixture_shard(&f, ".safetensorfs");
		for (size_t i = 0; i < COUNT(names); i++)
			fixture_name(&f, names[i], strlen(names[i]), 0);
		fixture_random(&f, &seed, 2000);
		assert_int_equal(fixture_build(&f, NULL), 0);
		in = layout == TREE_FILES ? tree_ino(1, TREE_DIR) : ROOT_INO;
		assert_int_equal(look(f.tree, in, "__metadata__.json"), 0);
		tree_set_flags(f.tree, tree_ino_entry(in), TREE_HAS_METADATA);
		assert_int_equal(look(f.tree, in, "__metadata__.json"),
				 tree_ino(tree_ino_entry(in), TREE_METADATA));
		assert_int_equal(look(f.tree, ROOT_INO, ".safetensorfs"), CONTROL_INO);
		assert_int_equal(tree_parent(f.tree, CONTROL_INO), ROOT_INO);
		check_tree(f.tree);
		fixture_free(&f);
	}
}

static void control_directory_holds_four_files(void **state)
{
	struct fixture f = { 0 };
	struct sft_buf listing = { 0 };

	fixture_name(&f, "status", 6, 0);
	assert_int_equal(fixture_build(&f, NULL), 0);
	list_names(f.tree, CONTROL_INO, &listing);
	assert_string_equal(listing.data, "commit model.safetensors progress status");
	assert_int_equal(look(f.tree, CONTROL_INO, "status"), tree_ino(0, TREE_STATUS));
	assert_int_equal(look(f.tree, CONTROL_INO, "commit"), tree_ino(0, TREE_COMMIT));
	assert_int_equal(look(f.tree, CONTROL_INO, "progress"), tree_ino(0, TREE_PROGRESS));
	assert_int_equal(look(f.tree, CONTROL_INO, "model.safetensors"), tree_ino(0, TREE_MERGED));
	assert_int_equal(look(f.tree, CONTROL_INO, "status.json"), 0);
	assert_int_equal(tree_parent(f.tree, tree_ino(0, TREE_COMMIT)), CONTROL_INO);
	/* It is in the root alone, and its listing shows nothing of it. */
	assert_int_equal(look(f.tree, ROOT_INO, "status"), tree_ino(1, TREE_TENSOR));
	sft_buf_free(&listing);
	list_names(f.tree, ROOT_INO, &listing);
	assert_string_equal(listing.data, "status status.json");
	sft_buf_free(&listing);
	fixture_free(&f);
}

static void views_are_found_by_name(void **state)
{
	static const struct {
		const char *name;
		uint32_t entry;
		enum tree_kind kind;
	} found[] = {
		{ "x", 1, TREE_TENSOR },
		{ "x.json", 1, TREE_SIDECAR },
		{ "x.npy", 1, TREE_NPY },
		{ "x.f32.npy", 2, TREE_NPY }, /* of x.f32, not widened x */
		{ "x.f32.f32.npy", 2, TREE_F32 },
		{ "x.f32.json", 2, TREE_SIDECAR },
		{ "y.f32.npy", 3, TREE_F32 },
		{ "y.f32", 0, TREE_NONE },
		{ "y.json.json", 0, TREE_NONE },
		{ "y.npy.json", 0, TREE_NONE },
		{ "y.JSON", 0, TREE_NONE },
		{ ".json", 0, TREE_NONE },
		{ ".npy", 0, TREE_NONE },
		{ "json", 0, TREE_NONE },
		{ "", 0, TREE_NONE },
		{ ".", 0, TREE_NONE },
		{ "z", 0, TREE_NONE },
	};
	struct fixture f = { 0 };

	fixture_name(&f, "x", 1, 0);
	fixture_name(&f, "x.f32", 5, 0);
	fixture_name(&f, "y", 1, 0);
	assert_int_equal(fixture_build(&f, NULL), 0);
	for (size_t i = 0; i < COUNT(found); i++)
		assert_int_equal(look(f.tree, ROOT_INO, found[i].name),
				 tree_ino(found[i].entry, found[i].kind));
	/* A file is no directory. */
	assert_int_equal(look(f.tree, tree_ino(1, TREE_TENSOR), "x"), 0);
	assert_int_equal(tree_lookup(f.tree, ROOT_INO, A240 A240, 480), 0);
	fixture_free(&f);
}

static void long_names_leave_room_for_their_views(void **state)
{
	struct fixture f = { .layout = TREE_TREE };
	char name[TREE_NAME_MAX + 1];

	fixture_name(&f, A240 "aaaaaa", 246, 0);
	fixture_name(&f, A240 "aaaaaa.b", 248, 0);
	assert_int_equal(fixture_build(&f, NULL), 0);
	assert_int_equal(tree_name(f.tree, tree_ino(1, TREE_F32), name), TREE_NAME_MAX);
	assert_string_equal(name, A240 "aaaaaa%.f32.npy");
	assert_int_equal(look(f.tree, ROOT_INO, name), tree_ino(1, TREE_F32));
	fixture_free(&f);
}

static void equal_file_names_are_refused(void **state)
{
	static const struct {
		enum tree_layout layout;
		const char *names[2];
		const char *message;
	} cases[] = {
		{ TREE_FLAT, { COLLIDING_1, COLLIDING_2 }, "both come to the file name" },
		{ TREE_TREE, { COLLIDING_1, COLLIDING_2 }, "both come to the file name" },
		{ TREE_TREE, { COLLIDING_1, COLLIDING_2 ".x" }, "both come to the file name" },
		{ TREE_TREE, { COLLIDING_1 ".x", COLLIDING_2 ".y" }, "both come to the file name" },
		{ TREE_FILES, { COLLIDING_1, COLLIDING_2 }, "both come to the file name" },
		{ TREE_FLAT, { "a", "a" }, "tensor \"a\": the name occurs twice" },
		{ TREE_TREE, { "a.b", "a.b" }, "tensor \"a.b\": the name occurs twice" },
	};

	assert_true(name_hash(COLLIDING_1, strlen(COLLIDING_1)) ==
		    name_hash(COLLIDING_2, strlen(COLLIDING_2)));
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct fixture f = { .layout = cases[i].layout };
		struct sft_error err = { 0 };

		fixture_shard(&f, "s");
		for (int k = 0; k < 2; k++)
			fixture_name(&f, cases[i].names[k], strlen(cases[i].names[k]), 0);
		assert_int_equal(fixture_build(&f, &err), -EEXIST);
		assert_int_equal(err.errnum, EEXIST);
		if (!strstr(err.msg, cases[i].message))
			fail_msg("%s", err.msg);
		fixture_free(&f);
	}
}

static void a_tensor_without_its_shard_is_refused(void **state)
{
	struct fixture f = { .layout = TREE_FILES };
	struct sft_error err = { 0 };

	fixture_shard(&f, "-");
	fixture_name(&f, "a", 1, 0);
	assert_int_equal(fixture_build(&f, &err), -EINVAL);
	assert_string_equal(err.msg, "tensor \"a\": its shard is missing");
	fixture_free(&f);
}

/* A thousand directories above a file: nothing may recurse, or take the square of it. */
static void deep_names_are_no_trouble(void **state)
{
	struct fixture f = { .layout = TREE_TREE };
	struct sft_buf name = { 0 };
	size_t depth = 60000;
	char *dots = malloc(depth);
	uint32_t last;

	assert_non_null(dots);
	memset(dots, '.', depth);
	fixture_name(&f, dots, depth, 0);
	assert_int_equal(fixture_build(&f, NULL), 0);
	assert_int_equal(tree_count(f.tree), depth + 2);
	last = tree_count(f.tree) - 1;
	assert_int_equal(tree_tensor_name(f.tree, tree_entry(f.tree, last)->parent, "%", 1, &name),
			 0);
	assert_int_equal(name.len, depth);
	assert_memory_equal(name.data, dots, depth);
	sft_buf_free(&name);
	free(dots);
	fixture_free(&f);
}

/* A byte of a header must not cost a hundred of ours. */
static void names_of_too_many_parts_are_refused(void **state)
{
	static const struct {
		size_t names, dots;
		bool fits;
	} cases[] = {
		{ 1, TREE_DIRS_MORE + 16, true },
		{ 1, TREE_DIRS_MORE + 17, false },
		{ 1, 3000000, false },
		{ 1000, 81, true },
		{ 1000, 200, false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct fixture f = { .layout = TREE_TREE };
		struct sft_error err = { 0 };
		char *name = malloc(cases[i].dots + 16);

		assert_non_null(name);
		for (size_t k = 0; k < cases[i].names; k++) {
			size_t n = (size_t)sprintf(name, "%04zu", k);
			/* The first of them is after the number. */
			memset(name + n, '.', cases[i].dots);
			fixture_name(&f, name, n + cases[i].dots, 0);
		}
		counting_start();
		int ret = fixture_build(&f, &err);
		assert_int_equal(ret, cases[i].fits ? 0 : -E2BIG);
		if (!cases[i].fits) {
			assert_non_null(strstr(err.msg, " dots, and with a directory for each"));
			assert_non_null(strstr(err.msg, "another layout"));
		}
		/* 72 bytes, and what growing takes for a while. */
		assert_true(counting_peak() <=
			    4 * 72 * (TREE_DIRS_EACH * cases[i].names + TREE_DIRS_MORE));
		free(name);
		fixture_free(&f);
	}
}

/* ---- memory ---- */

static void build_takes_the_memory_it_states(void **state)
{
	size_t count = 20000;
	struct fixture f = { 0 };
	char name[64];

	for (size_t i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "model.layers.%05zu.weight", i);
		fixture_name(&f, name, strlen(name), 0);
	}
	counting_start();
	assert_int_equal(fixture_build(&f, NULL), 0);
	assert_in_range(counting_current(), 1, 48 * count + 4096);
	fixture_free(&f);
}

static void a_build_without_memory_says_so(void **state)
{
	static const char *const names[] = { "a", "a.b", "c/d", A240 A10, A240 A10 A10 ".x" };

	for (int layout = TREE_FLAT; layout <= TREE_FILES; layout++) {
		int ret = -ENOMEM;

		for (size_t n = 1; ret; n++) {
			struct fixture f = { .layout = (enum tree_layout)layout };
			struct sft_error err = { 0 };

			fixture_shard(&f, "s");
			for (size_t i = 0; i < COUNT(names); i++)
				fixture_name(&f, names[i], strlen(names[i]), 0);
			counting_fail(n);
			ret = fixture_build(&f, &err);
			counting_fail(0);
			if (ret) {
				assert_int_equal(ret, -ENOMEM);
				assert_string_equal(err.msg, "out of memory");
			}
			fixture_free(&f);
			assert_in_range(n, 1, 100);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listings_are_as_expected),
		cmocka_unit_test(random_trees_are_consistent),
		cmocka_unit_test(special_names_belong_to_no_tensor),
		cmocka_unit_test(control_directory_holds_four_files),
		cmocka_unit_test(views_are_found_by_name),
		cmocka_unit_test(long_names_leave_room_for_their_views),
		cmocka_unit_test(equal_file_names_are_refused),
		cmocka_unit_test(a_tensor_without_its_shard_is_refused),
		cmocka_unit_test(deep_names_are_no_trouble),
		cmocka_unit_test(names_of_too_many_parts_are_refused),
		cmocka_unit_test(build_takes_the_memory_it_states),
		cmocka_unit_test(a_build_without_memory_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
