/* test_tree_edit.c - the mounted tree: changes, and listings under them */
#include "counting.h"
#include "tree_fixture.h"

#include <errno.h>
#include <time.h>

#define ROOT_INO tree_ino(TREE_ROOT, TREE_DIR)

/* A flat or nested tree of the names that `names` lists, ended by NULL. */
static void build(struct fixture *f, enum tree_layout layout, const char *const *names)
{
	*f = (struct fixture){ .layout = layout };
	for (; *names; names++)
		fixture_name(f, *names, strlen(*names), 0);
	assert_int_equal(fixture_build(f, NULL), 0);
}

static uint32_t add(struct tree *tree, uint32_t parent, const char *name, uint8_t flags)
{
	uint32_t entry;

	assert_int_equal(tree_add(tree, parent, name, strlen(name), flags, 7, &entry), 0);
	return entry;
}

static void move(struct tree *tree, uint32_t entry, uint32_t parent, const char *name,
		 uint8_t flags)
{
	struct tree_room room;

	assert_int_equal(tree_reserve(tree, name, strlen(name), &room), 0);
	tree_place(tree, entry, parent, &room, flags);
	tree_room_free(&room);
}

static void assert_paths(struct tree *tree, const char *expected)
{
	struct sft_buf paths = { 0 };

	check_tree(tree);
	list_paths(tree, &paths);
	assert_string_equal(paths.data ? paths.data : "", expected);
	sft_buf_free(&paths);
}

static void entries_come_and_go(void **state)
{
	struct fixture f;
	char name[] = "b";
	uint32_t b, scratch;

	build(&f, TREE_FLAT, (const char *const[]){ "a", "c", NULL });
	assert_paths(f.tree, "a a.json c c.json");
	b = add(f.tree, TREE_ROOT, name, 0);
	name[0] = '?'; /* names are copied */
	assert_int_equal(b, 3);
	assert_int_equal(tree_entry(f.tree, b)->id, 7);
	assert_paths(f.tree, "a a.json b b.json c c.json");
	tree_remove(f.tree, 1);
	assert_int_equal(look(f.tree, ROOT_INO, "a"), 0);
	assert_int_equal(look(f.tree, ROOT_INO, "a.json"), 0);
	assert_paths(f.tree, "b b.json c c.json");
	/* A dead entry can be read, and its number stays taken. */
	assert_int_equal(tree_entry(f.tree, 1)->flags, TREE_DEAD);
	assert_memory_equal(tree_entry(f.tree, 1)->name, "a", 1);
	assert_int_equal(add(f.tree, TREE_ROOT, "a", 0), 4);
	assert_int_equal(look(f.tree, ROOT_INO, "a"), tree_ino(4, TREE_TENSOR));
	scratch = add(f.tree, TREE_ROOT, ".a.swp", TREE_SCRATCH);
	assert_int_equal(look(f.tree, ROOT_INO, ".a.swp"), tree_ino(scratch, TREE_TENSOR));
	assert_int_equal(look(f.tree, ROOT_INO, ".a.swp.json"), 0);
	assert_int_equal(look(f.tree, ROOT_INO, ".a.swp.npy"), 0);
	assert_paths(f.tree, ".a.swp a a.json b b.json c c.json");
	tree_remove(f.tree, scratch);
	tree_remove(f.tree, scratch); /* twice is once */
	tree_remove(f.tree, 2);
	tree_remove(f.tree, b);
	tree_remove(f.tree, 4);
	assert_paths(f.tree, "");
	assert_true(tree_dir_empty(f.tree, TREE_ROOT));
	fixture_free(&f);
}

static void moves_keep_the_number(void **state)
{
	struct fixture f;
	uint32_t dir, file;

	build(&f, TREE_TREE, (const char *const[]){ "a.x", "b", NULL });
	dir = tree_ino_entry(look(f.tree, ROOT_INO, "a"));
	file = tree_ino_entry(look(f.tree, ROOT_INO, "b"));
	move(f.tree, file, dir, "b", 0);
	assert_paths(f.tree, "a/ a/b a/b.json a/x a/x.json");
	move(f.tree, file, dir, ".b~", TREE_SCRATCH);
	assert_paths(f.tree, "a/ a/.b~ a/x a/x.json");
	move(f.tree, file, TREE_ROOT, tree_entry(f.tree, file)->name, TREE_SCRATCH);
	assert_paths(f.tree, ".b~ a/ a/x a/x.json");
	move(f.tree, file, TREE_ROOT, "c", 0);
	move(f.tree, dir, TREE_ROOT, "z", 0);
	assert_paths(f.tree, "c c.json z/ z/x z/x.json");
	assert_int_equal(look(f.tree, ROOT_INO, "z"), tree_ino(dir, TREE_DIR));
	assert_int_equal(look(f.tree, ROOT_INO, "a"), 0);
	assert_int_equal(tree_subdirs(f.tree, TREE_ROOT), 1);
	fixture_free(&f);
}

static void directories_are_made_and_removed(void **state)
{
	struct fixture f;
	uint32_t a, b, file;

	build(&f, TREE_TREE, (const char *const[]){ NULL });
	a = add(f.tree, TREE_ROOT, "a", TREE_IS_DIR);
	b = add(f.tree, a, "b", TREE_IS_DIR);
	file = add(f.tree, b, "c", 0);
	assert_paths(f.tree, "a/ a/b/ a/b/c a/b/c.json");
	assert_false(tree_dir_empty(f.tree, b));
	move(f.tree, b, TREE_ROOT, "d", 0);
	assert_paths(f.tree, "a/ d/ d/c d/c.json");
	assert_true(tree_dir_empty(f.tree, a));
	tree_remove(f.tree, a);
	tree_remove(f.tree, file);
	assert_paths(f.tree, "d/");
	tree_remove(f.tree, b);
	assert_paths(f.tree, "");
	assert_int_equal(tree_subdirs(f.tree, TREE_ROOT), 0);
	fixture_free(&f);
}

static void another_entry_takes_the_place(void **state)
{
	struct tree_room room;
	struct fixture f;

	build(&f, TREE_FLAT, (const char *const[]){ "a", "b", NULL });
	for (uint32_t was = 2; was < 5; was = was == 2 ? 3 : was + 1) {
		uint32_t next = tree_count(f.tree);

		assert_int_equal(tree_now(f.tree, was), was);
		assert_int_equal(tree_reserve(f.tree, "b", 1, &room), 0);
		tree_supersede(f.tree, was, next);
		assert_int_equal(tree_put(f.tree, TREE_ROOT, &room, 0, 7 + was), next);
		tree_room_free(&room);
		assert_int_equal(tree_now(f.tree, was), next);
		assert_int_equal(tree_now(f.tree, 2), next);
		assert_int_equal(look(f.tree, ROOT_INO, "b"), tree_ino(next, TREE_TENSOR));
		assert_int_equal(tree_entry(f.tree, next)->id, 7 + was);
	}
	assert_true(tree_entry(f.tree, 2)->flags & TREE_DEAD);
	assert_paths(f.tree, "a a.json b b.json");
	tree_remove(f.tree, 5);
	assert_int_equal(tree_now(f.tree, 2), 5); /* dead too: nothing has come after it */
	assert_true(tree_entry(f.tree, 5)->flags & TREE_DEAD);
	fixture_free(&f);
}

static void what_is_reserved_cannot_fail(void **state)
{
	struct tree_room put, place;
	struct fixture f;

	build(&f, TREE_TREE, (const char *const[]){ "a", NULL });
	assert_int_equal(tree_reserve(f.tree, "c", 1, &place), 0);
	assert_int_equal(tree_reserve(f.tree, "d", 1, &put), 0);
	counting_start();
	uint32_t dir = tree_put(f.tree, TREE_ROOT, &put, TREE_IS_DIR, 0);
	tree_place(f.tree, 1, dir, &place, 0);
	assert_int_equal(counting_calls(), 0);
	tree_room_free(&put);
	tree_room_free(&place);
	assert_paths(f.tree, "d/ d/c d/c.json");
	fixture_free(&f);
}

static void directories_have_prefixes(void **state)
{
	static const struct {
		uint32_t parent;
		const char *name, *prefix;
		int ret;
	} cases[] = {
		{ 0, "q", "q.", 0 },
		{ 0, "%", ".", 0 },
		{ 1, "x%2Fy", "a.x/y.", 0 },
		{ 1, "%zz", NULL, -EINVAL },
	};
	struct fixture f;

	build(&f, TREE_TREE, (const char *const[]){ "a.b", NULL });
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_buf got = { 0 };

		assert_int_equal(tree_dir_prefix(f.tree, cases[i].parent, cases[i].name,
						 strlen(cases[i].name), &got),
				 cases[i].ret);
		if (cases[i].ret == 0)
			assert_string_equal(got.data, cases[i].prefix);
		sft_buf_free(&got);
	}
	fixture_free(&f);
}

static void flags_hide_and_show(void **state)
{
	struct fixture f;

	build(&f, TREE_FLAT, (const char *const[]){ "a", "z", NULL });
	tree_set_flags(f.tree, 1, TREE_SIDECAR_HIDDEN);
	assert_int_equal(look(f.tree, ROOT_INO, "a.json"), 0);
	assert_int_equal(look(f.tree, ROOT_INO, "a.npy"), tree_ino(1, TREE_NPY));
	assert_paths(f.tree, "a z z.json");
	tree_set_flags(f.tree, TREE_ROOT, TREE_HAS_METADATA);
	assert_int_equal(look(f.tree, ROOT_INO, "__metadata__.json"), tree_ino(0, TREE_METADATA));
	assert_paths(f.tree, "__metadata__.json a z z.json");
	tree_set_flags(f.tree, 1, 0);
	tree_set_flags(f.tree, TREE_ROOT, 0);
	assert_int_equal(look(f.tree, ROOT_INO, "__metadata__.json"), 0);
	assert_paths(f.tree, "a a.json z z.json");
	/* What an entry is cannot be changed by flags. */
	assert_int_equal(tree_entry(f.tree, TREE_ROOT)->flags, TREE_IS_DIR);
	tree_set_flags(f.tree, 1, TREE_IS_DIR | TREE_DEAD);
	assert_int_equal(tree_entry(f.tree, 1)->flags, 0);
	fixture_free(&f);
}

static void a_listing_in_use_stays_as_it_is(void **state)
{
	struct fixture f;
	struct tree_list *before, *same, *after;

	build(&f, TREE_FLAT, (const char *const[]){ "a", "b", NULL });
	before = tree_list(f.tree, ROOT_INO);
	same = tree_list(f.tree, ROOT_INO);
	assert_ptr_equal(before, same);
	tree_list_put(same);
	add(f.tree, TREE_ROOT, "c", 0);
	tree_remove(f.tree, 1);
	after = tree_list(f.tree, ROOT_INO);
	assert_ptr_not_equal(before, after);
	assert_int_equal(before->count, 4);
	assert_int_equal(before->inos[0], tree_ino(1, TREE_TENSOR));
	assert_int_equal(after->count, 4);
	assert_int_equal(after->inos[0], tree_ino(2, TREE_TENSOR));
	tree_list_put(after);
	fixture_free(&f);
	assert_int_equal(before->inos[3],
			 tree_ino(2, TREE_SIDECAR)); /* even behind the tree's end */
	tree_list_put(before);
}

static void a_change_elsewhere_keeps_a_listing(void **state)
{
	struct fixture f;
	struct tree_list *before, *after;

	build(&f, TREE_TREE, (const char *const[]){ "a.x", "b.x", NULL });
	before = tree_list(f.tree, look(f.tree, ROOT_INO, "a"));
	add(f.tree, tree_ino_entry(look(f.tree, ROOT_INO, "b")), "y", 0);
	after = tree_list(f.tree, look(f.tree, ROOT_INO, "a"));
	assert_ptr_equal(before, after);
	tree_list_put(before);
	tree_list_put(after);
	fixture_free(&f);
}

static void a_change_without_memory_changes_nothing(void **state)
{
	struct fixture f;

	build(&f, TREE_FLAT, (const char *const[]){ "a", NULL });
	/* A new entry needs a name, and here more room for entries; a listing an array and a copy.
	 */
	for (size_t n = 1; n <= 2; n++) {
		counting_fail(n);
		assert_int_equal(tree_add(f.tree, TREE_ROOT, "b", 1, 0, 0, NULL), -ENOMEM);
		counting_fail(n);
		assert_null(tree_list(f.tree, ROOT_INO));
		counting_fail(0);
		assert_paths(f.tree, "a a.json");
		tree_set_flags(f.tree, TREE_ROOT, 0); /* forget the listing */
	}
	counting_fail(1);
	struct tree_room room;
	assert_int_equal(tree_reserve(f.tree, "b", 1, &room), -ENOMEM);
	counting_fail(0);
	assert_paths(f.tree, "a a.json");
	fixture_free(&f);
}

/* ---- against a model that is too simple to be wrong ---- */

#define MODEL_NAMES 40

struct model {
	uint32_t parent, entry;
	char name[8];
};

/* One random change of a tree with the directories root, 1 and 2, and of its model. */
static void change(struct tree *tree, struct model *model, size_t *count, uint64_t *seed)
{
	uint32_t parent = (uint32_t)random_below(seed, 3);
	char name[8];
	size_t i = 0;

	snprintf(name, sizeof(name), "n%u", (unsigned)random_below(seed, MODEL_NAMES));
	while (i < *count && (model[i].parent != parent || strcmp(model[i].name, name) != 0))
		i++;
	if (i < *count) { /* taken: remove */
		tree_remove(tree, model[i].entry);
		model[i] = model[--*count];
		return;
	}
	if (*count && random_below(seed, 2)) {
		i = random_below(seed, *count);
		move(tree, model[i].entry, parent, name, 0);
	} else {
		i = (*count)++;
		model[i].entry = add(tree, parent, name, 0);
	}
	model[i].parent = parent;
	strcpy(model[i].name, name);
}

static void random_changes_agree_with_a_model(void **state)
{
	struct model model[3 * MODEL_NAMES];
	uint64_t seed = random_seed();
	struct fixture f;
	size_t count = 0;

	build(&f, TREE_TREE, (const char *const[]){ NULL });
	add(f.tree, TREE_ROOT, "d1", TREE_IS_DIR);
	add(f.tree, TREE_ROOT, "d2", TREE_IS_DIR);
	for (int round = 0; round < 20000; round++) {
		change(f.tree, model, &count, &seed);
		if (round % 100)
			continue;
		size_t listed = 0;
		for (uint32_t dir = 0; dir < 3; dir++) {
			struct tree_list *list = tree_list(f.tree, tree_ino(dir, TREE_DIR));

			listed += list->count;
			tree_list_put(list);
		}
		assert_int_equal(listed, 2 * count + 2);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(
				look(f.tree, tree_ino(model[i].parent, TREE_DIR), model[i].name),
				tree_ino(model[i].entry, TREE_TENSOR));
		check_tree(f.tree);
	}
	fixture_free(&f);
}

/* ---- what must not be quadratic ---- */

#define MANY 100000

/* Of this process: others may keep the processors busy. */
static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The limit is for a sanitizer on a busy machine; the square of MANY takes minutes. */
static void many_changes_are_quick(void **state)
{
	struct fixture f;
	double start = seconds();
	char name[32];

	build(&f, TREE_FLAT, (const char *const[]){ NULL });
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "tensor.%u", i * 7919 % MANY);
		add(f.tree, TREE_ROOT, name, 0);
	}
	check_dir(f.tree, TREE_ROOT);
	for (uint32_t i = MANY; i > 0; i -= 2)
		tree_remove(f.tree, i);
	check_dir(f.tree, TREE_ROOT);
	for (uint32_t i = 1; i < MANY; i += 2)
		tree_remove(f.tree, i);
	assert_paths(f.tree, "");
	assert_true(seconds() - start < 20);
	fixture_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_and_go),
		cmocka_unit_test(moves_keep_the_number),
		cmocka_unit_test(directories_are_made_and_removed),
		cmocka_unit_test(another_entry_takes_the_place),
		cmocka_unit_test(what_is_reserved_cannot_fail),
		cmocka_unit_test(directories_have_prefixes),
		cmocka_unit_test(flags_hide_and_show),
		cmocka_unit_test(a_listing_in_use_stays_as_it_is),
		cmocka_unit_test(a_change_elsewhere_keeps_a_listing),
		cmocka_unit_test(a_change_without_memory_changes_nothing),
		cmocka_unit_test(random_changes_agree_with_a_model),
		cmocka_unit_test(many_changes_are_quick),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
