/* test_staging.c - where edits are staged, and who may */
#include "staging_fixture.h"
#include "sync.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/wait.h>

#define ONE "a U8 3 aabbcc"
#define TWO "b U8 2 0102"

/* ---- locks as on NFS: an exclusive one needs a descriptor that can be written to ---- */

static bool like_nfs;
static int no_writing; /* an errno, for who opens a checkpoint for writing */

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
	struct stat st;

	if (like_nfs && operation & LOCK_EX && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY) {
		errno = EBADF;
		return -1;
	}
	return __real_flock(fd, operation);
}

static bool may_not_write(const char *path, int flags)
{
	return no_writing && (flags & O_ACCMODE) == O_RDWR && strstr(path, "m.safetensors") &&
	       !strstr(path, ".safetensorfs");
}

/* Which of the two it is depends on _FILE_OFFSET_BITS. */
#define WRAP_OPENAT(NAME)                                                                          \
	int __real_##NAME(int dir, const char *path, int flags, ...);                              \
	int __wrap_##NAME(int dir, const char *path, int flags, ...);                              \
	int __wrap_##NAME(int dir, const char *path, int flags, ...)                               \
	{                                                                                          \
		va_list ap;                                                                        \
		va_start(ap, flags);                                                               \
		mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;                            \
		va_end(ap);                                                                        \
		if (!may_not_write(path, flags))                                                   \
			return __real_##NAME(dir, path, flags, mode);                              \
		errno = no_writing;                                                                \
		return -1;                                                                         \
	}

WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)

static void test_locks_that_need_write_access(void **state)
{
	static const struct {
		const char *name;
		int no_writing;
		int second; /* what somebody hears who opens it for editing meanwhile, staged
			       elsewhere */
		int opened; /* what the first one hears */
	} cases[] = {
		{ "writable", 0, EBUSY, 0 },
		{ "a read-only mount", EROFS, EBUSY, 0 },
		/* Where others may write it, shared locks would not keep them apart. */
		{ "a file of somebody else's", EACCES, EACCES, EACCES },
		{ "another error is one", EIO, EIO, EIO },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *stage = fixture_join(p.dir, "stage");
		const struct sft_overlay_options first = { 0 }, second = { .staging = stage };
		struct sft_overlay *ov = NULL;
		struct sft_error err = { 0 };

		print_message("%s\n", cases[i].name);
		like_nfs = true;
		no_writing = cases[i].no_writing;
		assert_int_equal(sft_overlay_open(p.source, &first, &ov, &err), -cases[i].opened);
		assert_int_equal(try_open(p.source, &second, NULL), -cases[i].second);
		/* Who may write is kept away all the same. */
		no_writing = 0;
		if (ov)
			assert_int_equal(try_open(p.source, &second, NULL), -EBUSY);
		like_nfs = false;
		sft_overlay_free(ov);
		free(stage);
		overlay_place_free(&p);
	}
}

/* ---- places ---- */

static void test_the_default_place(void **state)
{
	static const struct {
		const char *name, *source, *place;
		bool directory;
	} cases[] = {
		{ "beside a file", "m.safetensors", ".m.safetensors.safetensorfs", false },
		{ "beside what a link leads to", "link", ".m.safetensors.safetensorfs", false },
		{ "in a directory", "", ".safetensorfs", true },
		{ "in the directory of an index", "m.safetensors.index.json", ".safetensorfs",
		  true },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *link = fixture_join(p.dir, "link");
		char *index = fixture_join(p.dir, "m.safetensors.index.json");
		char *source = fixture_join(p.dir, cases[i].source);
		char *real = realpath(p.dir, NULL), *place = fixture_join(real, cases[i].place);
		static const char text[] = "{\"weight_map\": {\"a\": \"m.safetensors\"}}";
		struct sft_overlay *ov;
		struct stat st;

		print_message("%s\n", cases[i].name);
		assert_int_equal(symlink("m.safetensors", link), 0);
		fixture_put(index, text, strlen(text));
		ov = overlay_open(source, NULL);
		assert_string_equal(sft_overlay_staging(ov), place);
		assert_int_equal(stat(place, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
		assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
		sft_overlay_free(ov);
		assert_true(sft_staging_exists(source, NULL));
		ov = overlay_open(source, NULL);
		assert_int_equal(fixture_edit(ov, "r a; c b", NULL), 0);
		sft_overlay_free(ov);
		free(link);
		free(index);
		free(source);
		free(real);
		free(place);
		overlay_place_free(&p);
	}
}

static void test_an_empty_staging_goes_and_a_users_directory_stays(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *own = fixture_join(p.dir, "own"), *made = fixture_join(p.dir, "made");
	struct sft_overlay_options options = { 0 };
	(void)state;

	assert_int_equal(mkdir(own, 0700), 0);
	for (int edit = 0; edit < 2; edit++) {
		for (int i = 0; i < 3; i++) {
			options.staging = i == 0 ? NULL : i == 1 ? own : made;
			struct sft_overlay *ov = overlay_open(p.source, &options);

			if (edit)
				assert_int_equal(fixture_edit(ov, "c n; s; w n 0 11; r n", NULL),
						 0);
			sft_overlay_free(ov);
		}
		assert_false(is_there(p.dir, ".m.safetensors.safetensorfs"));
		assert_false(is_there(p.dir, "made"));
		assert_true(is_there(p.dir, "own"));
		assert_int_equal(rmdir(own), 0);
		assert_int_equal(mkdir(own, 0700), 0);
	}
	/* One that we made goes when its edits go, also in a later process. */
	options.staging = made;
	struct sft_overlay *ov = overlay_open(p.source, &options);
	assert_int_equal(fixture_edit(ov, "c n", NULL), 0);
	sft_overlay_free(ov);
	assert_true(is_there(p.dir, "made"));
	ov = overlay_open(p.source, &options);
	assert_int_equal(fixture_edit(ov, "r n", NULL), 0);
	sft_overlay_free(ov);
	assert_false(is_there(p.dir, "made"));
	free(own);
	free(made);
	overlay_place_free(&p);
}

static void test_a_read_only_place_is_refused_at_once(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	char *elsewhere = fixture_make_dir(), *there = fixture_make_dir();
	char *output = fixture_join(there, "out.safetensors");
	struct sft_overlay_options options = { .staging = elsewhere };
	(void)state;

	if (geteuid() == 0) {
		/* Root may write anywhere; what it cannot do is make a directory in a file. */
		char *place = fixture_join(p.dir, ".m.safetensors.safetensorfs");

		fixture_put(place, "x", 1);
		expect_refused(p.source, NULL, EPERM, "is no directory");
		free(place);
	} else {
		assert_int_equal(chmod(p.dir, 0555), 0);
		expect_refused(p.source, NULL, EACCES,
			       "staging=DIR stages them elsewhere, output=PATH commits elsewhere");
		expect_refused(p.source, &options, EACCES, "cannot commit to ");
		options.output = output;
	}
	assert_int_equal(try_open(p.source, &options, NULL), 0);
	assert_int_equal(chmod(p.dir, 0755), 0);
	fixture_remove_dir(elsewhere);
	fixture_remove_dir(there);
	free(output);
	overlay_place_free(&p);
}

static void test_files_of_a_hub_cache_are_refused(void **state)
{
	static const struct {
		const char *repo, *beside;
		bool refused;
	} cases[] = {
		{ "models--org--name", "blobs", true }, { "datasets--org--name", "blobs", true },
		{ "mirror", "snapshots", true },	{ "mirror", "refs", true },
		{ "mirror", "other", false },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *repo = fixture_join(p.dir, cases[i].repo);
		char *blobs = fixture_join(repo, "blobs"), *blob = fixture_join(blobs, "0123abcd");
		char *beside = fixture_join(repo, cases[i].beside);
		char *dir = fixture_join(p.dir, "snapshot");
		char *link = fixture_join(dir, "x.safetensors");
		char *output = fixture_join(p.dir, "out");
		const struct sft_overlay_options options = { .output = output };

		assert_int_equal(mkdir(repo, 0700) + mkdir(blobs, 0700) + mkdir(dir, 0700), 0);
		(void)mkdir(beside, 0700);
		assert_int_equal(rename(p.source, blob), 0);
		assert_int_equal(symlink(blob, link), 0);
		for (int k = 0; k < 3; k++) {
			const char *source = k == 0 ? blob : k == 1 ? link : dir;

			if (cases[i].refused)
				expect_refused(source, NULL, EPERM, "output=PATH");
			else
				assert_int_equal(try_open(source, NULL, NULL), 0);
			assert_int_equal(try_open(source, &options, NULL), 0);
		}
		/* Nothing is left in the cache. */
		assert_false(is_there(blobs, ".0123abcd.safetensorfs"));
		free(repo);
		free(blobs);
		free(blob);
		free(beside);
		free(dir);
		free(link);
		free(output);
		overlay_place_free(&p);
	}
}

/* ---- locks ---- */

/* What a process finds while another one edits `held`. */
static void check_locked(const char *held, const char *wanted, const char *staging, bool locked)
{
	struct sft_overlay *ov = overlay_open(held, NULL);
	int status;
	pid_t parent = getpid(), child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		const struct sft_overlay_options options = { .staging = staging };
		struct sft_error err = { 0 };
		struct sft_buf text = { 0 };
		char by[64];
		bool found;
		int r = try_open(wanted, &options, &err);

		snprintf(by, sizeof(by), "is being edited by process %d", (int)parent);
		if (!locked)
			_exit(r == 0 ? 0 : 1);
		if (r != -EBUSY || !strstr(err.msg, by)) {
			fprintf(stderr, "%d: %s\n", r, err.msg);
			_exit(2);
		}
		r = sft_staging_discard(held, NULL, true, &text, &found, &err);
		_exit(r == -EBUSY ? 0 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	sft_overlay_free(ov);
	assert_int_equal(try_open(wanted, NULL, NULL), 0);
}

static void test_one_writer_at_a_time(void **state)
{
	struct overlay_place p = overlay_place(ONE, TWO), q = overlay_place(ONE, NULL);
	char *staging = fixture_make_dir();
	char *shard = fixture_join(p.dir, "b.safetensors");
	(void)state;

	check_locked(q.source, q.source, NULL, true);
	check_locked(q.source, q.source, staging, true);
	check_locked(p.source, p.source, staging, true);
	check_locked(p.source, shard, staging, true);
	check_locked(shard, p.source, staging, true);
	check_locked(p.source, q.source, NULL, false);
	free(shard);
	fixture_remove_dir(staging);
	overlay_place_free(&p);
	overlay_place_free(&q);
}

static void test_the_lock_holds_over_a_commit(void **state)
{
	static const char *const options[] = { "replace", "inplace" };
	(void)state;

	for (int i = 0; i < 2; i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		const struct sft_overlay_options o = { .inplace = i == 1 };
		struct sft_overlay *ov = overlay_open(p.source, &o);
		char *staging = fixture_make_dir();
		const struct sft_overlay_options other = { .staging = staging };

		print_message("%s\n", options[i]);
		for (int k = 0; k < 3; k++) {
			assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
			assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), 0);
			sft_overlay_adopt(ov);
			expect_refused(p.source, &other, EBUSY, "is being edited by process");
		}
		sft_overlay_free(ov);
		assert_int_equal(try_open(p.source, &other, NULL), 0);
		fixture_remove_dir(staging);
		overlay_place_free(&p);
	}
}

/* A copy has another inode number, so it may be another file, and nothing is written into it. */
static void test_discard_says_what_was_being_written_into_the_source(void **state)
{
	static const struct sft_overlay_options inplace = { .inplace = true };
	struct overlay_place p = overlay_place("a U8 3 aabbcc", NULL);
	struct sft_buf text = { 0 };
	char *command = NULL;
	bool found;
	int status;
	pid_t child = fork();
	(void)state;

	assert_true(child >= 0);
	if (child == 0) {
		struct sft_overlay *ov = overlay_open(p.source, &inplace);
		uint64_t end;
		bool done =
			fixture_edit(ov, "w a 0 11", NULL) == 0 &&
			sync_prepared(ov, JOURNAL_PREPARED_INPLACE, NULL, 0, &end, NULL) == 0;

		_exit(!done);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(asprintf(&command, "cd %s && cp -p m.safetensors t && mv t m.safetensors",
			     p.dir) > 0);
	assert_int_equal(system(command), 0);
	expect_refused(p.source, NULL, ESTALE, "inode");
	assert_int_equal(sft_staging_discard(p.source, NULL, false, &text, &found, NULL), 0);
	assert_true(found);
	sft_buf_add(&text, "", 1);
	assert_non_null(strstr(text.data, "it is a mixture of old and new, and so is any copy"));
	sft_buf_free(&text);
	free(command);
	overlay_place_free(&p);
}

/* After a commit with output= the edits are based on that, and the source may go. */
static void test_what_is_based_on_an_output_needs_no_source(void **state)
{
	(void)state;

	for (int directory = 0; directory < 2; directory++) {
		struct overlay_place p =
			overlay_place("a U8 3 aabbcc", directory ? "b U8 1 01" : NULL);
		struct overlay_place q = overlay_place("a U8 1 01", NULL);
		char *out = fixture_join(q.dir, directory ? "out" : "out.safetensors");
		const struct sft_overlay_options options = { .output = out, .staging = q.dir };
		struct sft_overlay *ov = overlay_open(p.source, &options);
		struct sft_error err = { 0 };
		char *command = NULL;

		assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), 0);
		sft_overlay_adopt(ov);
		assert_int_equal(fixture_edit(ov, "w a 1 22", NULL), 0);
		sft_overlay_free(ov);
		assert_true(asprintf(&command, directory ? "rm %s/*.safetensors" : "rm %s",
				     p.source) > 0);
		assert_int_equal(system(command), 0);
		ov = overlay_open(p.source, &options);
		if (sft_overlay_commit(ov, NULL, NULL, &err) < 0)
			fail_msg("%d: %s", directory, err.msg);
		sft_overlay_adopt(ov);
		char *shows = overlay_describe(ov);
		assert_non_null(strstr(shows, "a U8 3 1122cc"));
		free(shows);
		/* And says what it is, when that has changed. */
		assert_int_equal(fixture_edit(ov, "w a 2 33", NULL), 0);
		sft_overlay_free(ov);
		free(command);
		assert_true(asprintf(&command, "touch -d @1 %s%s", out,
				     directory ? "/a.safetensors" : "") > 0);
		assert_int_equal(system(command), 0);
		expect_refused(p.source, &options, ESTALE,
			       directory ? "a.safetensors has changed since"
					 : "/out.safetensors has changed since");
		free(command);
		free(out);
		overlay_place_free(&p);
		overlay_place_free(&q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_default_place),
		cmocka_unit_test(test_an_empty_staging_goes_and_a_users_directory_stays),
		cmocka_unit_test(test_a_read_only_place_is_refused_at_once),
		cmocka_unit_test(test_files_of_a_hub_cache_are_refused),
		cmocka_unit_test(test_one_writer_at_a_time),
		cmocka_unit_test(test_locks_that_need_write_access),
		cmocka_unit_test(test_the_lock_holds_over_a_commit),
		cmocka_unit_test(test_discard_says_what_was_being_written_into_the_source),
		cmocka_unit_test(test_what_is_based_on_an_output_needs_no_source),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
