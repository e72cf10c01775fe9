/* test_tree_names.c - the mounted tree: which tensor a file name stands for */
#include "python.h"
#include "tree_fixture.h"

#include <errno.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))
#define ROOT_INO tree_ino(TREE_ROOT, TREE_DIR)

#define A10 "aaaaaaaaaa"
#define A240                                                                                       \
	A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10    \
		A10 A10

static void tensor_names_follow_the_layout(void **state)
{
	static const struct {
		enum tree_layout layout;
		const char *dir, *file_name;
		const char *expected; /* NULL: EINVAL */
	} cases[] = {
		{ TREE_FLAT, "", "n", "n" },
		{ TREE_FLAT, "", "%", "" },
		{ TREE_FLAT, "", "n.m", "n.m" },
		{ TREE_FLAT, "", "n%2Ejson", "n.json" },
		{ TREE_FLAT, "", "n%2Fm", "n/m" },
		{ TREE_FLAT, "", "a%", NULL },
		{ TREE_FLAT, "", ".n", NULL },
		{ TREE_FLAT, "", "n~", NULL },
		{ TREE_FLAT, "", "n.json", NULL },
		{ TREE_FLAT, "", "n%2fm", NULL },
		{ TREE_FLAT, "", "\xff", NULL },
		{ TREE_FLAT, "", "n%~0123456789abcdef", NULL },
		{ TREE_FLAT, "", "__metadata__", NULL },
		{ TREE_FLAT, "", A240 A10, NULL },
		{ TREE_TREE, "", "n", "n" },
		{ TREE_TREE, "", "a%", "a" }, /* a directory a is there */
		{ TREE_TREE, "", "n%", NULL },
		{ TREE_TREE, "", "a%%", NULL },
		{ TREE_TREE, "", "%", "" },
		{ TREE_TREE, "", "%%", NULL },
		{ TREE_TREE, "", "a.n", NULL },
		{ TREE_TREE, "", "%2En", NULL },
		{ TREE_TREE, "", "n%2Ejson", NULL },
		{ TREE_TREE, "", "__metadata__", NULL },
		{ TREE_TREE, "a", "__metadata__", "a.__metadata__" },
		{ TREE_TREE, "a", "n", "a.n" },
		{ TREE_TREE, "a", "%", "a." },
		{ TREE_TREE, "a", "b%", "a.b" },
		{ TREE_TREE, "a", "n%2F", "a.n/" },
		{ TREE_FILES, "", "n", NULL },
		{ TREE_FILES, "s", "n", "n" },
		{ TREE_FILES, "s", "n.m", "n.m" },
		{ TREE_FILES, "s", ".n", NULL },
		{ TREE_FILES, "s", "__metadata__", NULL },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct fixture f = { .layout = cases[i].layout };
		struct sft_buf name = { 0 };
		uint64_t dir = ROOT_INO;
		int ret;

		fixture_shard(&f, "s");
		fixture_name(&f, "a.b.c", 5, 0);
		assert_int_equal(fixture_build(&f, NULL), 0);
		if (*cases[i].dir)
			dir = look(f.tree, dir, cases[i].dir);
		sft_buf_add(&name, "<", 1); /* what is there already stays */
		ret = tree_tensor_name(f.tree, tree_ino_entry(dir), cases[i].file_name,
				       strlen(cases[i].file_name), &name);
		assert_int_equal(ret, cases[i].expected ? 0 : -EINVAL);
		if (cases[i].expected)
			assert_string_equal(name.data + 1, cases[i].expected);
		sft_buf_free(&name);
		fixture_free(&f);
	}
}

/* Paths of a whole checkpoint, there and back, as tests/oracles/names.py has them. */
static void agrees_with_the_python_implementation(void **state)
{
	struct sft_buf names = { 0 }, paths = { 0 }, decoded = { 0 }, answer = { 0 };
	struct fixture f = { .layout = TREE_TREE };
	uint64_t seed = random_seed();
	uint32_t *entries;

	fixture_random(&f, &seed, 1000);
	assert_int_equal(fixture_build(&f, NULL), 0);
	entries = calloc(f.count, sizeof(*entries));
	assert_non_null(entries);
	for (uint32_t i = 0; i < tree_count(f.tree); i++) {
		if (!(tree_entry(f.tree, i)->flags & TREE_IS_DIR))
			entries[tree_entry(f.tree, i)->id] = i;
	}
	for (size_t i = 0; i < f.count; i++) {
		struct sft_buf path = { 0 };

		add_path(f.tree, tree_ino(entries[i], TREE_TENSOR), &path);
		add_json_line(&names, f.items[i].name, f.items[i].len);
		add_json_line(&paths, path.data, path.len);
		if (strstr(path.data, "%~"))
			sft_buf_add(&decoded, "null\n", 5);
		else
			add_json_line(&decoded, f.items[i].name, f.items[i].len);
		sft_buf_free(&path);
	}
	ask_python("names.py encode --layout tree", &names, &answer);
	assert_string_equal(answer.data, paths.data);
	answer.len = 0;
	ask_python("names.py decode --layout tree", &paths, &answer);
	assert_string_equal(answer.data, decoded.data);
	sft_buf_free(&names);
	sft_buf_free(&paths);
	sft_buf_free(&decoded);
	sft_buf_free(&answer);
	free(entries);
	fixture_free(&f);
}

static void cut_names_are_known_after_removal(void **state)
{
	for (int layout = TREE_FLAT; layout <= TREE_TREE; layout++) {
		struct fixture f = { .layout = (enum tree_layout)layout };
		struct sft_buf name = { 0 };
		char file_name[TREE_NAME_MAX + 1];
		size_t len;

		fixture_name(&f, A240 A10, 250, 0);
		assert_int_equal(fixture_build(&f, NULL), 0);
		len = tree_name(f.tree, tree_ino(1, TREE_TENSOR), file_name);
		tree_remove(f.tree, 1);
		assert_int_equal(look(f.tree, ROOT_INO, file_name), 0);
		assert_int_equal(tree_tensor_name(f.tree, TREE_ROOT, file_name, len, &name), 0);
		assert_string_equal(name.data, A240 A10);
		sft_buf_free(&name);
		fixture_free(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tensor_names_follow_the_layout),
		cmocka_unit_test(agrees_with_the_python_implementation),
		cmocka_unit_test(cut_names_are_known_after_removal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
