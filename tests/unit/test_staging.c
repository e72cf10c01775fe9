/* test_staging.c - where edits are staged, who may, and how they are dropped */
#include "overlay_fixture.h"

#include "journal.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/wait.h>

#define ONE "a U8 3 aabbcc"
#define TWO "b U8 2 0102"

/* Open, and say what happened. */
static int try_open(const char *source, const struct sft_overlay_options *options,
		    struct sft_error *err)
{
	const struct sft_overlay_options none = { 0 };
	struct sft_overlay *ov;
	int r = sft_overlay_open(source, options ? options : &none, &ov, err);

	if (r == 0)
		sft_overlay_free(ov);
	return r;
}

static void expect_refused(const char *source, const struct sft_overlay_options *options, int error,
			   const char *message)
{
	struct sft_error err = { 0 };

	assert_int_equal(try_open(source, options, &err), -error);
	if (!strstr(err.msg, message))
		fail_msg("\"%s\" lacks \"%s\"", err.msg, message);
}

static bool is_there(const char *dir, const char *name)
{
	char *path = fixture_join(dir, name);
	bool there = access(path, F_OK) == 0;

	free(path);
	return there;
}

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
		{ "a read-only mount", EROFS, 0, 0 },
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
		expect_refused(p.source, NULL, ENOTDIR, "cannot stage edits in");
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

/* ---- resuming ---- */

static void test_edits_of_a_source_that_has_changed_are_refused(void **state)
{
	static const struct {
		const char *name, *differs;
	} changes[] = {
		{ "touched", "edits were staged: modification time " },
		{ "replaced", "edits were staged: inode " },
		{ "longer", "edits were staged: size 72 instead of 71" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *copy = fixture_join(p.dir, "copy");
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		struct sft_buf text = { 0 };
		struct stat st;
		bool found;

		print_message("%s\n", changes[i].name);
		assert_int_equal(fixture_edit(ov, "w a 0 11; m a x", NULL), 0);
		sft_overlay_free(ov);
		assert_int_equal(stat(p.source, &st), 0);
		struct timespec times[2] = { st.st_atim, st.st_mtim };
		fixture_checkpoint(i == 1 ? copy : p.source, i == 2 ? "a U8 4 aabbccdd" : ONE);
		if (i == 1)
			assert_int_equal(rename(copy, p.source), 0);
		times[1].tv_nsec = (times[1].tv_nsec + (i == 0)) % 1000000000;
		assert_int_equal(utimensat(AT_FDCWD, p.source, times, 0), 0);
		expect_refused(p.source, NULL, ESTALE, changes[i].differs);
		expect_refused(p.source, NULL, ESTALE, "; `safetensorfs discard` drops them");
		assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, NULL), 0);
		assert_true(found);
		assert_non_null(
			strstr(text.data, "tensor \"a\": renamed to \"x\", bytes changed\n"));
		assert_false(is_there(p.dir, ".m.safetensors.safetensorfs"));
		assert_int_equal(try_open(p.source, NULL, NULL), 0);
		sft_buf_free(&text);
		free(copy);
		overlay_place_free(&p);
	}
}

static void test_edits_move_with_their_source(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *moved = NULL, *shows;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	assert_true(asprintf(&moved, "%s-moved", p.dir) > 0);
	assert_int_equal(rename(p.dir, moved), 0);
	free(p.source);
	p.source = fixture_join(moved, "m.safetensors");
	ov = overlay_open(p.source, NULL);
	shows = overlay_describe(ov);
	assert_string_equal(shows, "a U8 3 11bbcc *");
	assert_non_null(strstr(sft_overlay_note(ov, 0), "resuming edits staged in"));
	assert_non_null(strstr(sft_overlay_note(ov, 0), ": 1 tensor, 65536 bytes"));
	assert_null(sft_overlay_note(ov, 1));
	free(shows);
	sft_overlay_free(ov);
	free(p.dir);
	p.dir = moved;
	overlay_place_free(&p);
}

static void change_nothing(const struct overlay_place *p)
{
	(void)p;
}

static void move_source(const struct overlay_place *p)
{
	char *to = fixture_join(p->dir, "moved");

	assert_int_equal(rename(p->source, to), 0);
	free(to);
}

static void link_source(const struct overlay_place *p)
{
	char *to = fixture_join(p->dir, "moved");

	move_source(p);
	assert_int_equal(symlink(to, p->source), 0);
	free(to);
}

static void replace_source(const struct overlay_place *p)
{
	char *copy = fixture_join(p->dir, "copy");

	fixture_checkpoint(copy, ONE);
	assert_int_equal(rename(copy, p->source), 0);
	free(copy);
}

static void copy_source(const struct overlay_place *p)
{
	char *to = fixture_join(p->dir, "moved");

	fixture_checkpoint(to, ONE);
	free(to);
}

/* What identifies a source is its path, or its inode. */
static void test_edits_of_another_source_are_refused_and_kept(void **state)
{
	static const struct {
		const char *name;
		void (*change)(const struct overlay_place *p);
		const char *source;
		int error;
		const char *message;
	} cases[] = {
		{ "another file", copy_source, "moved", EEXIST, "" },
		{ "the same", change_nothing, "m.safetensors", 0, "" },
		{ "moved", move_source, "moved", 0, "" },
		{ "moved, and linked to", link_source, "m.safetensors", 0, "" },
		{ "replaced", replace_source, "m.safetensors", ESTALE, "has changed" },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct overlay_place p = overlay_place(ONE, NULL);
		char *stage = fixture_join(p.dir, "stage"), *real = realpath(p.source, NULL);
		char *source = fixture_join(p.dir, cases[i].source), *others = NULL;
		const struct sft_overlay_options options = { .staging = stage };
		struct sft_overlay *ov = overlay_open(p.source, &options);
		struct sft_buf text = { 0 };
		struct sft_error err = { 0 };
		bool found, other = cases[i].error == EEXIST;

		print_message("%s\n", cases[i].name);
		assert_true(asprintf(&others, "%s holds the edits of %s, not of this source", stage,
				     real) > 0);
		assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
		sft_overlay_free(ov);
		cases[i].change(&p);
		assert_int_equal(sft_staging_exists(source, stage), !other);
		if (cases[i].error)
			expect_refused(source, &options, cases[i].error,
				       other ? others : cases[i].message);
		else
			assert_int_equal(try_open(source, &options, NULL), 0);
		assert_true(is_there(stage, "journal") && is_there(stage, "blocks"));
		assert_int_equal(sft_staging_discard(source, stage, true, &text, &found, &err),
				 other ? -EEXIST : 0);
		assert_int_equal(text.len > 0, !other);
		if (other)
			assert_string_equal(err.msg, others);
		assert_int_equal(is_there(stage, "journal") && is_there(stage, "blocks"), other);
		sft_buf_free(&text);
		free(stage);
		free(real);
		free(source);
		free(others);
		overlay_place_free(&p);
	}
}

struct own_file {
	const char *name, *bytes;
	size_t len;
};

static void check_own_files(const char *dir, const struct own_file *files)
{
	for (const struct own_file *f = files; f->name; f++) {
		char *path = fixture_join(dir, f->name);
		size_t len;
		char *bytes = fixture_get(path, &len);

		assert_int_equal(len, f->len);
		assert_memory_equal(bytes, f->bytes, len);
		free(bytes);
		free(path);
	}
}

#define FILE_OF(NAME, BYTES)                                                                       \
	{                                                                                          \
		NAME, BYTES, sizeof(BYTES) - 1                                                     \
	}
#define ZEROS "\0\0\0\0\0\0\0\0\0\0\0\0"
#define BEGINS "\100\0\0\0\1\0\0\0"

static void test_files_of_the_users_own_are_kept(void **state)
{
	static const struct {
		const char *name;
		struct own_file files[4];
		int opened, discarded;
		bool kept; /* by an opening too */
		const char *message;
	} cases[] = {
		{ "text",
		  { FILE_OF("journal", "Monday: rain\n"), FILE_OF("blocks", "b"),
		    FILE_OF("result", "r") },
		  EEXIST,
		  EEXIST,
		  true,
		  "holds a file journal and no journal of edits" },
		{ "alone",
		  { FILE_OF("journal", "Monday: rain\n") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "short", { FILE_OF("journal", "hi\n") }, EEXIST, EEXIST, true, "a file journal" },
		{ "another type",
		  { FILE_OF("journal", "\1\0\0\0\2\0\0\0") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "no version",
		  { FILE_OF("journal", BEGINS "\0\0\0\0") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "a version of text",
		  { FILE_OF("journal", BEGINS "abcd") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "zeros, then text",
		  { FILE_OF("journal", ZEROS "text") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file journal" },
		{ "empty, and blocks",
		  { FILE_OF("journal", ""), FILE_OF("blocks", "b") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file blocks" },
		{ "zeros, and a result",
		  { FILE_OF("journal", ZEROS), FILE_OF("result", "r") },
		  EEXIST,
		  EEXIST,
		  true,
		  "a file result" },
		{ "no journal",
		  { FILE_OF("blocks", "b"), FILE_OF("result", "r") },
		  EEXIST,
		  0,
		  true,
		  "a file blocks and no journal" },
		{ "another version",
		  { FILE_OF("journal", BEGINS "\1\0\0\0rest of it") },
		  EBADMSG,
		  0,
		  false,
		  "version 1, and this is for 2" },
		{ "a header that is cut",
		  { FILE_OF("journal", "\7\0\0\0"
				       "ftj2rest of it") },
		  0,
		  0,
		  false,
		  "" },
		{ "zeros", { FILE_OF("journal", ZEROS), FILE_OF("blocks", "") }, 0, 0, false, "" },
		{ "empty", { FILE_OF("journal", "") }, 0, 0, false, "" },
	};
	(void)state;

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
		const bool opens = i % 2;
		struct overlay_place p = overlay_place(ONE, NULL);
		char *own = fixture_join(p.dir, "own");
		const struct sft_overlay_options options = { .staging = own };
		const struct own_file *files = cases[i / 2].files;
		struct sft_buf text = { 0 };
		struct sft_error err = { 0 };
		bool found;
		int error = opens ? cases[i / 2].opened : cases[i / 2].discarded;

		print_message("%s, %s\n", cases[i / 2].name, opens ? "opened" : "discarded");
		assert_int_equal(mkdir(own, 0700), 0);
		for (const struct own_file *f = files; f->name; f++) {
			char *path = fixture_join(own, f->name);

			fixture_put(path, f->bytes, f->len);
			free(path);
		}
		if (cases[i / 2].kept)
			assert_false(sft_staging_exists(p.source, own));
		int r = opens ? try_open(p.source, &options, &err)
			      : sft_staging_discard(p.source, own, true, &text, &found, &err);
		assert_int_equal(r, -error);
		if (error && !strstr(err.msg, cases[i / 2].message))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i / 2].message);
		if (cases[i / 2].kept || error) {
			check_own_files(own, files);
			if (error == EEXIST && !files[1].name)
				assert_false(is_there(own, "blocks"));
		} else {
			assert_false(is_there(own, "journal"));
		}
		sft_buf_free(&text);
		free(own);
		overlay_place_free(&p);
	}
}

/* The header says whose they are, also where what follows cannot be read. */
static void test_damaged_edits_of_another_source_are_kept(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL), q = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *journal = fixture_join(stage, "journal");
	const struct sft_overlay_options options = { .staging = stage };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	struct sft_buf text = { 0 };
	size_t len = 0;
	bool found;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11; s; w a 1 22; s; w a 2 33; s", NULL), 0);
	sft_overlay_free(ov);
	char *bytes = fixture_get(journal, &len);
	size_t header = (size_t)(sft_le64((unsigned char *)bytes) & UINT32_MAX) + JOURNAL_FRAME;
	bytes[header + 8] ^= 1;
	fixture_put(journal, bytes, len);
	expect_refused(q.source, &options, EEXIST, "holds the edits of");
	assert_int_equal(sft_staging_discard(q.source, stage, true, &text, &found, NULL), -EEXIST);
	assert_false(sft_staging_exists(q.source, stage));
	expect_refused(p.source, &options, EBADMSG, "is damaged at byte");
	assert_true(sft_staging_exists(p.source, stage));
	assert_int_equal(sft_staging_discard(p.source, stage, true, &text, &found, NULL), 0);
	/* We made it. */
	assert_false(is_there(p.dir, "stage"));
	sft_buf_free(&text);
	free(bytes);
	free(journal);
	free(stage);
	overlay_place_free(&p);
	overlay_place_free(&q);
}

static void test_a_directory_in_use_for_another_source(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL), q = overlay_place(ONE, NULL);
	char *stage = fixture_join(p.dir, "stage"), *real = realpath(p.source, NULL), *want = NULL;
	const struct sft_overlay_options options = { .staging = stage };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	(void)state;

	assert_true(asprintf(&want, "%s is in use by process %d", stage, (int)getpid()) > 0);
	expect_refused(q.source, &options, EBUSY, want);
	free(want);
	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	assert_true(asprintf(&want, "%s is in use for %s by process %d", stage, real,
			     (int)getpid()) > 0);
	expect_refused(q.source, &options, EBUSY, want);
	expect_refused(p.source, &options, EBUSY, "is being edited by process");
	sft_overlay_free(ov);
	free(want);
	free(real);
	free(stage);
	overlay_place_free(&p);
	overlay_place_free(&q);
}

static void test_the_reason_of_a_failed_commit_is_told_again(void **state)
{
	struct overlay_place p = overlay_place(ONE, NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	staging_result(ov, "no\x1broom");
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	assert_string_equal(sft_overlay_note(ov, 1), "the last commit failed: no?room");
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void test_options_come_back_from_the_journal(void **state)
{
	struct overlay_place p = overlay_place(ONE, TWO);
	char *first = fixture_join(p.dir, "first"), *second = fixture_join(p.dir, "second");
	struct sft_overlay_options options = { .output = first,
					       .inplace = true,
					       .flags = SFT_SAME_NAMES };
	struct sft_overlay *ov = overlay_open(p.source, &options);
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11", NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	assert_string_equal(ov->options.output, first);
	assert_true(ov->options.inplace);
	assert_int_equal(ov->options.flags, SFT_SAME_NAMES);
	sft_overlay_free(ov);
	/* What is said later replaces it. */
	options = (struct sft_overlay_options){ .output = second };
	ov = overlay_open(p.source, &options);
	sft_overlay_free(ov);
	ov = overlay_open(p.source, NULL);
	assert_string_equal(ov->options.output, second);
	sft_overlay_free(ov);
	free(first);
	free(second);
	overlay_place_free(&p);
}

/* ---- discard ---- */

static void test_discard_says_what_it_drops(void **state)
{
	struct overlay_place p = overlay_place("a U8 3 aabbcc; b U8 1 01; c U8 1 02; d U8 1 03; "
					       "e U8 1 04; @k=v",
					       NULL);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	struct sft_buf text = { 0 };
	char *want = NULL, *real = realpath(p.source, NULL);
	bool found;
	(void)state;

	assert_int_equal(fixture_edit(ov,
				      "w a 0 11; r b; m c x; d d I8 1; c n; c gone; r gone; x .t; "
				      "mx e e~; @ 0 q=r",
				      NULL),
			 0);
	assert_true(asprintf(&want,
			     "edits of %s, staged in %s:\n"
			     "tensor \"a\": bytes changed\n"
			     "tensor \"b\": removed\n"
			     "tensor \"c\": renamed to \"x\"\n"
			     "tensor \"d\": dtype and shape declared\n"
			     "tensor \"n\": new\n"
			     "tensor \"e\": removed\n"
			     "metadata: changed\n",
			     real, sft_overlay_staging(ov)) > 0);
	sft_overlay_free(ov);
	assert_int_equal(sft_staging_discard(p.source, NULL, false, &text, &found, NULL), 0);
	assert_true(found);
	assert_string_equal(text.data, want);
	assert_true(sft_staging_exists(p.source, NULL));
	sft_buf_free(&text);
	assert_int_equal(unlink(p.source), 0);
	/* Also where the source is gone. */
	assert_true(sft_staging_exists(p.source, NULL));
	assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, NULL), 0);
	assert_true(found);
	assert_string_equal(text.data, want);
	sft_buf_free(&text);
	assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, NULL), 0);
	assert_false(found);
	assert_int_equal(text.len, 0);
	free(want);
	free(real);
	overlay_place_free(&p);
}

static void test_discard_refuses_while_a_commit_is_half_done(void **state)
{
	struct overlay_place p = overlay_place(ONE, TWO);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *a = fixture_join(p.dir, "a.safetensors"), *b = fixture_join(p.dir, "b.safetensors");
	char *ta = fixture_join(p.dir, "ta"), *tb = fixture_join(p.dir, "tb");
	struct commit_target targets[2] = { { ta, a, 0, 0 }, { tb, b, 0, 0 } };
	struct sft_buf text = { 0 };
	struct sft_error err = { 0 };
	struct stat st;
	bool found;
	char *shows;
	(void)state;

	assert_int_equal(fixture_edit(ov, "w a 0 11; w b 0 22", NULL), 0);
	fixture_checkpoint(ta, "a U8 3 11bbcc");
	fixture_checkpoint(tb, "b U8 2 2202");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(stat(targets[i].temporary, &st), 0);
		targets[i].ino = st.st_ino;
		targets[i].size = (uint64_t)st.st_size;
	}
	assert_int_equal(journal_prepared(ov, JOURNAL_PREPARED_REPLACE, targets, 2, NULL), 0);
	sft_overlay_free(ov);
	assert_int_equal(rename(ta, a), 0);
	assert_int_equal(sft_staging_discard(p.source, NULL, true, &text, &found, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "`safetensorfs recover` finishes it"));
	assert_true(sft_staging_exists(p.source, NULL));
	/* The next opening does. */
	ov = overlay_open(p.source, NULL);
	assert_string_equal(sft_overlay_note(ov, 0), "finished a commit that was interrupted");
	shows = overlay_describe(ov);
	assert_string_equal(shows, "0:a U8 3 11bbcc; 1:b U8 2 2202");
	free(shows);
	assert_false(sft_overlay_dirty(ov));
	sft_overlay_free(ov);
	assert_false(is_there(p.dir, ".safetensorfs"));
	assert_false(is_there(p.dir, "tb"));
	sft_buf_free(&text);
	free(a);
	free(b);
	free(ta);
	free(tb);
	overlay_place_free(&p);
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
		cmocka_unit_test(test_edits_of_a_source_that_has_changed_are_refused),
		cmocka_unit_test(test_edits_move_with_their_source),
		cmocka_unit_test(test_edits_of_another_source_are_refused_and_kept),
		cmocka_unit_test(test_files_of_the_users_own_are_kept),
		cmocka_unit_test(test_damaged_edits_of_another_source_are_kept),
		cmocka_unit_test(test_a_directory_in_use_for_another_source),
		cmocka_unit_test(test_the_reason_of_a_failed_commit_is_told_again),
		cmocka_unit_test(test_options_come_back_from_the_journal),
		cmocka_unit_test(test_discard_says_what_it_drops),
		cmocka_unit_test(test_discard_refuses_while_a_commit_is_half_done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
