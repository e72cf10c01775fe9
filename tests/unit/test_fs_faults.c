/*
 * test_fs_faults.c - whatever call or allocation fails in an operation of an edit mount, it is done
 * as a whole or not at all, and tree, overlay and staging agree
 *
 * In each scenario the k-th call fails, for each k until it has fewer than that; the operations
 * after it go on. The process may also die there, in a child. What a new mount finds is then what
 * there was after one of the operations.
 */
#include "fs_fixture.h"

#include "faults.h"

#include <sys/wait.h>

#define OPS_MAX 16
#define A "a.safetensors"
#define B "b.safetensors"
#define INDEX "model.safetensors.index.json"
#define ONE "a F32 2 0102030405060708; b U8 3 aabbcc; h F16 2 01020304; x.y U8 1 aa; x.z U8 1 bb"

static const struct scenario {
	const char *name;
	enum tree_layout layout;
	bool shards;
	const char *ops[OPS_MAX];
} scenarios[] = {
	{ .name = "bytes",
	  .ops = { "o a a w", "w a 1 xy", "f a", "x a", "t b 1", "a b 600", "c c new", "w c 0 abc",
		   "s c", "x c" } },
	{ .name = "a rename over a tensor, its file and views open",
	  .ops = { "o a a r", "o b a.npy r", "o c a.json r", "m b a", "x a", "x b", "x c",
		   "o a h.f32.npy r", "m a h", "x a" } },
	{ .name = "a removal while a view is open", .ops = { "o a h.f32.npy r", "u h", "x a" } },
	{ .name = "a sidecar",
	  .ops = { "o a a.json t", "w a 0 {\"dtype\":\"U8\",\"shape\":[8]}", "f a", "x a",
		   "u a.json", "c a a.json", "w a 0 {\"dtype\":\"I8\",\"shape\":[8]}", "f a",
		   "x a" } },
	{ .name = "a sidecar that makes a tensor",
	  .ops = { "c a new.json", "w a 0 {\"dtype\":\"F32\",\"shape\":[2]}", "f a",
		   "w a 0 {\"dtype\":\"U32\",\"shape\":[2]}", "f a", "x a", "c a v.json", "w a 0 {",
		   "!f a", "x a" } },
	{ .name = "a sidecar by rename",
	  .ops = { "c a .tmp", "w a 0 {\"dtype\":\"U8\",\"shape\":[8]}", "m .tmp a.json", "x a",
		   "m a.json b.json", "m b.json .b~", "m .b~ q.json" } },
	{ .name = "arrays over a tensor, from two files",
	  .ops = { "a a 600", "o a a.npy t", "o b a.npy t", "o c a r", "n a 5 17", "f a", "n b 4 9",
		   "f b", "x b", "n a 6 33", "f a", "x a", "x c" } },
	{ .name = "an array that makes a tensor, and one that is renamed to it",
	  .ops = { "c a new.npy", "n a 5 17", "f a", "n a 5 1", "f a", "x a", "c b .tmp", "n b 3 3",
		   "f b", "m .tmp a.npy", "x b", "c c plain", "n c 4 4", "x c",
		   "m plain plain.npy" } },
	{ .name = "an array that is broken",
	  .ops = { "c a new.npy", "w a 0 nothing", "!f a", "x a", "o a a.npy t", "w a 0 nothing",
		   "!f a", "x a" } },
	{ .name = "editors",
	  .ops = { "m a a~", "c a a", "w a 0 12345678", "f a", "x a", "m b .b.swp", "m .b.swp b",
		   "m h h~", "m x.y h" } },
	{ .name = "a directory",
	  .layout = TREE_TREE,
	  .ops = { "o a x/y r", "c b x/.s", "m x q", "x a", "d r", "m q r", "d e", "m r e/in",
		   "m e/in/y y", "d s", "D s", "u e/in/z", "x b" } },
	{ .name = "metadata of shards",
	  .shards = true,
	  .ops = { "c a __metadata__.json",
		   "w a 0 {\"a.safetensors\":{\"k\":\"v\"},\"b.safetensors\":{\"l\":\"w\"}}", "f a",
		   "x a", "m __metadata__.json .m~", "m .m~ __metadata__.json",
		   "u __metadata__.json" } },
	{ .name = "metadata of shards, each in its directory",
	  .shards = true,
	  .layout = TREE_FILES,
	  .ops = { "c a a.safetensors/__metadata__.json", "w a 0 {\"k\":\"v\"}", "f a", "x a",
		   "m a.safetensors/__metadata__.json b.safetensors/__metadata__.json",
		   "m a.safetensors/one b.safetensors/one", "c a a.safetensors/two.json",
		   "w a 0 {\"dtype\":\"U8\",\"shape\":[3]}", "f a", "x a" } },
};

/* ---- one run ---- */

static void world_new(struct world *w, const struct scenario *s)
{
	*w = (struct world){ .dir = fixture_make_dir(), .options.layout = s->layout };
	char *one = fixture_join(w->dir, A), *two = fixture_join(w->dir, B);

	if (s->shards) {
		fixture_checkpoint(one, "one U8 2 0102");
		fixture_checkpoint(two, "two U8 3 010203");
		w->source = strdup(w->dir);
	} else {
		fixture_checkpoint(one, ONE);
		w->source = strdup(one);
	}
	free(one);
	free(two);
	world_open(w);
}

static void world_end(struct world *w)
{
	world_close(w);
	free(w->source);
	fixture_remove_dir(w->dir);
}

static char *shown(struct world *w)
{
	struct sft_buf out = { 0 };

	world_shown(w, WORLD_ROOT, &out);
	return out.data ? out.data : strdup("");
}

/* One operation, with everything that holds whatever becomes of it. */
static int checked(struct world *w, const char *op, enum fault fault, unsigned k, bool *reached)
{
	char *before = shown(w);

	if (k)
		faults_arm(fault, k);
	int r = world_do(w, op);
	*reached = k && faults_reached();
	faults_disarm();
	world_check(w);
	char *after = shown(w);
	if (r < 0 && strcmp(before, after) != 0)
		fail_msg("%s: failed with %d, and changed\n%s\nto\n%s", op, -r, before, after);
	free(after);
	free(before);
	return r;
}

/* The k-th call of operation `at` fails. Returns whether it has so many. */
static bool run(const struct scenario *s, size_t at, enum fault fault, unsigned k)
{
	struct world w;
	bool reached = false, now;

	world_new(&w, s);
	for (size_t i = 0; i < OPS_MAX && s->ops[i]; i++) {
		checked(&w, s->ops[i], fault, i == at ? k : 0, &now);
		reached = reached || now;
	}
	char *kept = world_kept(&w);
	world_close(&w);
	world_open(&w);
	world_check(&w);
	char *again = world_kept(&w);
	if (strcmp(again, kept) != 0)
		fail_msg("was\n%s\nis\n%s", kept, again);
	free(again);
	free(kept);
	world_end(&w);
	return reached;
}

static void whatever_fails_nothing_is_half_done(void **state)
{
	static const enum fault faults[] = { FAULT_NOMEM, FAULT_ENOSPC, FAULT_EIO, FAULT_EIO_EVER,
					     FAULT_SHORT };
	const struct scenario *s = *state;
	unsigned runs = 0;

	for (size_t f = 0; f < sizeof(faults) / sizeof(*faults); f++) {
		for (size_t at = 0; at < OPS_MAX && s->ops[at]; at++) {
			for (unsigned k = 1; run(s, at, faults[f], k); k++)
				runs++;
		}
	}
	assert_true(runs > 50);
}

/* ---- death ---- */

/* What a new mount would find before each operation, and after the last. All succeed but those that
 * are marked. */
static size_t states_of(const struct scenario *s, char *states[OPS_MAX + 1])
{
	struct world w;
	bool reached;
	size_t n = 0;

	world_new(&w, s);
	for (; n < OPS_MAX && s->ops[n]; n++) {
		states[n] = world_kept(&w);
		int r = checked(&w, s->ops[n], FAULT_NOMEM, 0, &reached);
		if ((r < 0) != (s->ops[n][0] == '!'))
			fail_msg("%s: %d", s->ops[n], r);
	}
	states[n] = world_kept(&w);
	world_end(&w);
	return n;
}

/* Returns whether it died. */
static bool die_at(const struct world *before, const struct scenario *s, size_t at, unsigned k)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct world w = *before;

		world_open(&w);
		for (size_t i = 0; i < at; i++)
			(void)world_do(&w, s->ops[i]);
		faults_arm(FAULT_DIE, k);
		(void)world_do(&w, s->ops[at]);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == FAULT_DIED;
}

static void wherever_it_dies_nothing_is_half_done(void **state)
{
	const struct scenario *s = *state;
	char *states[OPS_MAX + 1];
	size_t n = states_of(s, states);

	for (size_t at = 0; at < n; at++) {
		bool died = true;

		for (unsigned k = 1; died; k++) {
			struct world w;

			world_new(&w, s);
			world_close(&w);
			died = die_at(&w, s, at, k);
			world_open(&w);
			char *found = world_kept(&w);
			if (strcmp(found, states[at]) != 0 && strcmp(found, states[at + 1]) != 0)
				fail_msg("%s, call %u:\n%s\nis neither\n%s\nnor\n%s", s->ops[at], k,
					 found, states[at], states[at + 1]);
			free(found);
			world_end(&w);
		}
	}
	for (size_t i = 0; i <= n; i++)
		free(states[i]);
}

/* ---- what the scenarios are about ---- */

static void do_all(struct world *w, const char *const *ops)
{
	for (; *ops; ops++)
		assert_int_equal(world_do(w, *ops), 0);
}

/* The tensor `a` as it was, by the numbers that its file and its view had. */
static void assert_kept(struct world *w, const uint64_t views[2], const struct sft_buf *head)
{
	struct sft_buf now = { 0 };
	char bytes[8];
	struct stat st;

	assert_int_equal(fs_node_attr(&w->fs, views[0], &st), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(fs_node_attr(&w->fs, views[1], &st), 0);
	assert_int_equal(st.st_size, head->len + 8);
	fs_npy_head(&w->fs, views[1], &now);
	assert_int_equal(now.len, head->len);
	assert_memory_equal(now.data, head->data, now.len);
	sft_buf_free(&now);
	assert_int_equal(fs_tensor_read(&w->fs, fs_tensor_id(&w->fs, views[0]), bytes, 8, 0), 0);
	assert_memory_equal(bytes, "12345678", 8);
}

static void who_has_it_open_keeps_it(void **state)
{
	static const char *const begins[][5] = {
		{ "o z a w", "w z 0 12345678", "x z" },
		/* Its dtype and shape are those of the committed one of its name. */
		{ "u a", "c z a", "w z 0 12345678", "x z" },
	};
	static const char *const ends[][4] = {
		{ "m b a" },
		{ "u a" },
		{ "o z a.npy t", "n z 3 7", "x z" },
	};

	for (size_t i = 0; i < 6; i++) {
		static const struct scenario s = { .name = "" };
		struct sft_buf head = { 0 };
		struct world w;

		world_new(&w, &s);
		do_all(&w, begins[i / 3]);
		uint64_t views[] = { world_look(&w, "a"), world_look(&w, "a.npy") };
		fs_npy_head(&w.fs, views[1], &head);
		assert_non_null(memmem(head.data, head.len, "<f4", 3));
		assert_int_equal(world_do(&w, "o a a.npy r"), 0);
		do_all(&w, ends[i % 3]);
		assert_int_not_equal(world_look(&w, "a"), views[0]);
		assert_int_not_equal(world_look(&w, "a.npy"), views[1]);
		assert_kept(&w, views, &head);
		/* The last release takes it away. */
		assert_int_equal(world_do(&w, "x a"), 0);
		assert_int_equal(fs_node_check(&w.fs, views[0]), -ESTALE);
		assert_int_equal(edit_open(&w.fs, views[1], O_RDONLY, &w.handles[0]), -ESTALE);
		sft_buf_free(&head);
		world_end(&w);
	}
}

#define SCENARIOS (sizeof(scenarios) / sizeof(*scenarios))

int main(void)
{
	struct CMUnitTest tests[2 * SCENARIOS + 1];
	size_t n = 0;

	/* Nothing here depends on what a sync does. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	log_to_syslog(); /* what is refused is logged, thousands of times */
	for (size_t i = 0; i < SCENARIOS; i++) {
		void *scenario = (void *)(uintptr_t)&scenarios[i];

		tests[n++] =
			(struct CMUnitTest){ scenarios[i].name, whatever_fails_nothing_is_half_done,
					     NULL, NULL, scenario };
		tests[n++] = (struct CMUnitTest){ scenarios[i].name,
						  wherever_it_dies_nothing_is_half_done, NULL, NULL,
						  scenario };
	}
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(who_has_it_open_keeps_it);
	return _cmocka_run_group_tests("fs_faults", tests, n, NULL, NULL);
}
