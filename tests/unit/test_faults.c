/*
 * test_faults.c - whatever call fails, and wherever the process dies: no edit and no checkpoint is
 * lost
 *
 * A scenario (edits, sync, more edits, commit) runs in a child, in which the k-th system call that
 * changes something fails, for each k until the scenario has fewer calls than that. The parent then
 * opens what is left, commits it, and demands exactly the state after the edits that had been
 * acknowledged, or after the one that was on its way.
 */
#include "edit_fixture.h"
#include "faults.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define M "model.safetensors"
#define A "a.safetensors"
#define B "b.safetensors"
#define INDEX "model.safetensors.index.json"
#define OPS_MAX 24

static const struct scenario {
	const char *name;
	struct {
		const char *file, *text;
	} before[3];
	const char *source;
	const char *files[6]; /* that may change */
	const char *output;
	bool inplace;
	const char *ops[OPS_MAX]; /* as in edit_fixture.h, and "commit" */
} scenarios[] = {
	{ .name = "one file, bytes",
	  .before = { { M, "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v" } },
	  .source = M,
	  .files = { M },
	  .ops = { "w a 0 00", "s", "w b 4 ffff", "w a 0 11", "commit" } },
	{ .name = "one file, another layout, and again",
	  .before = { { M, "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v" } },
	  .source = M,
	  .files = { M },
	  .ops = { "w a 0 00", "c n", "w n 0 0a0b", "s", "m a z", "r b", "@ 0 k=w", "commit",
		   "w z 1 77", "m n q", "commit" } },
	{ .name = "two shards and an index",
	  .before = { { A, "one U8 2 0102" },
		      { B, "two U8 3 010203" },
		      { INDEX, "{\"metadata\": {\"total_size\": 5}, \"weight_map\": {\"one\": \"" A
			       "\", \"two\": \"" B "\"}}" } },
	  .source = "",
	  .files = { A, B, INDEX },
	  .ops = { "w one 0 ff", "m two too", "s", "C 1 x", "w x 0 01", "commit" } },
	{ .name = "in place",
	  .before = { { M, "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v" } },
	  .source = M,
	  .files = { M },
	  .inplace = true,
	  .ops = { "w a 0 00", "s", "w b 4 ffff", "commit", "w b 0 ee", "commit" } },
	{ .name = "in place, two shards",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" } },
	  .source = "",
	  .files = { A, B },
	  .inplace = true,
	  .ops = { "w one 0 ff", "s", "w two 0 ee", "commit" } },
	{ .name = "output, a file",
	  .before = { { M, "b F32 2 0102030405060708; a U8 3 aabbcc; @k=v" } },
	  .source = M,
	  .files = { M, "out.safetensors" },
	  .output = "out.safetensors",
	  .ops = { "w a 0 00", "s", "m b c", "commit", "w c 0 00", "commit" } },
	{ .name = "output, a directory",
	  .before = { { A, "one U8 2 0102" }, { B, "two U8 3 010203" } },
	  .source = "",
	  .files = { A, B, "out/" A, "out/" B },
	  .output = "out",
	  .ops = { "w one 0 ff", "s", "m two too", "commit" } },
};

static const char *const fault_names[] = {
	[FAULT_DIE] = "death",
	[FAULT_ENOSPC] = "ENOSPC",
	[FAULT_EIO] = "EIO",
	[FAULT_EIO_EVER] = "EIO from then on",
	[FAULT_NOMEM] = "no memory",
	[FAULT_EINTR] = "EINTR",
	[FAULT_SHORT] = "short transfer",
};

/* What the child tells. */
struct report {
	unsigned acknowledged; /* ops that returned 0 */
	bool failed;	       /* one returned an error */
	bool reached;	       /* the fault struck */
	char message[512];
};

static unsigned count_ops(const struct scenario *s)
{
	unsigned n = 0;

	while (n < OPS_MAX && s->ops[n])
		n++;
	return n;
}

static bool is_text(const char *file)
{
	return strstr(file, ".json") != NULL;
}

/* ---- a place for one run ---- */

struct place {
	char *dir, *source, *output;
	struct sft_overlay_options options;
};

static void make_place(struct place *p, const struct scenario *s)
{
	p->dir = fixture_make_dir();
	p->source = fixture_join(p->dir, s->source);
	p->output = s->output ? fixture_join(p->dir, s->output) : NULL;
	p->options = (struct sft_overlay_options){ .output = p->output, .inplace = s->inplace };
	for (size_t i = 0; i < 3 && s->before[i].file; i++) {
		char *path = fixture_join(p->dir, s->before[i].file);

		if (is_text(path))
			fixture_put(path, s->before[i].text, strlen(s->before[i].text));
		else
			fixture_checkpoint(path, s->before[i].text);
		free(path);
	}
}

static void remove_place(struct place *p)
{
	free(p->source);
	free(p->output);
	fixture_remove_dir(p->dir);
}

/* All files of a scenario as one text. */
static char *describe_place(const struct place *p, const struct scenario *s)
{
	struct sft_buf out = { 0 };

	for (size_t i = 0; i < 6 && s->files[i]; i++) {
		char *path = fixture_join(p->dir, s->files[i]);
		char *text = is_text(path) ? fixture_get(path, NULL) : fixture_describe(path);

		sft_buf_printf(&out, "%s: %s\n", s->files[i], text ? text : "-");
		free(text);
		free(path);
	}
	return out.data;
}

/* Names that begin with a dot: temporaries and staging directories that should have gone. */
static unsigned count_leftovers(const char *dir)
{
	unsigned n = 0;
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d)))
		n += e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 &&
		     strcmp(e->d_name, "..") != 0;
	if (d)
		closedir(d);
	return n;
}

/* ---- running ---- */

static int run_op(struct sft_overlay *ov, const char *op, struct sft_error *err)
{
	int r;

	if (strcmp(op, "commit") != 0)
		return fixture_edit(ov, op, err);
	r = sft_overlay_commit(ov, NULL, NULL, err);
	if (r == 0)
		sft_overlay_adopt(ov);
	return r;
}

/*
 * One op. With `again` a failure must not stand in the way of what comes after it: an edit is tried
 * twice; a commit is left for later (*owed), so that the next edit meets what it left behind, and
 * is tried again where that edit fails.
 */
static int run_patiently(struct sft_overlay *ov, const char *op, bool again, bool *owed,
			 struct sft_error *err)
{
	int r = run_op(ov, op, err);

	if (r == 0 && strcmp(op, "commit") == 0)
		*owed = false;
	if (r == 0 || !again)
		return r;
	if (strcmp(op, "commit") == 0 && !*owed) {
		*owed = true;
		return 0;
	}
	if (*owed) {
		r = run_op(ov, "commit", NULL);
		if (r < 0)
			return r;
		*owed = false;
	}
	return run_op(ov, op, NULL);
}

static bool run_scenario(const struct scenario *s, const struct place *p, unsigned ops, bool again,
			 struct report *report)
{
	struct sft_error err = { 0 };
	struct sft_overlay *ov;
	bool owed = false;
	int r = sft_overlay_open(p->source, &p->options, &ov, &err);

	if (r < 0 && again)
		r = sft_overlay_open(p->source, &p->options, &ov, NULL);
	if (r < 0)
		goto failed;
	for (unsigned i = 0; r == 0 && i < ops; i++) {
		err = (struct sft_error){ 0 };
		r = run_patiently(ov, s->ops[i], again, &owed, &err);
		if (r == 0)
			report->acknowledged = i + 1;
	}
	if (r == 0 && owed)
		r = run_op(ov, "commit", &err);
	sft_overlay_free(ov);
	if (r == 0)
		return true;
failed:
	report->failed = true;
	snprintf(report->message, sizeof(report->message), "%s", err.msg);
	return false;
}

static int run_child(const struct scenario *s, const struct place *p, enum fault fault, unsigned k,
		     struct report *report)
{
	int status;
	pid_t pid;

	memset(report, 0, sizeof(*report));
	/* True unless the child comes to its end and knows better. */
	report->reached = true;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		faults_arm(fault, k);
		run_scenario(s, p, count_ops(s), fault != FAULT_ENOSPC, report);
		report->reached = faults_reached();
		faults_disarm();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Open what was left, commit it, and describe the result. */
static char *recover(const struct scenario *s, const struct place *p)
{
	struct sft_error err = { 0 };
	struct sft_overlay *ov;
	int r = sft_overlay_open(p->source, &p->options, &ov, &err);

	if (r == 0) {
		r = sft_overlay_commit(ov, NULL, NULL, &err);
		if (r == 0)
			sft_overlay_adopt(ov);
		sft_overlay_free(ov);
	}
	if (r < 0) {
		struct sft_buf out = { 0 };
		sft_buf_printf(&out, "cannot be recovered: %s", err.msg);
		return out.data;
	}
	return describe_place(p, s);
}

/* expected[n]: what the files hold after the first n ops and a commit. */
static void make_expected(const struct scenario *s, char **expected)
{
	for (unsigned n = 0; n <= count_ops(s); n++) {
		struct report report = { 0 };
		struct place p;

		make_place(&p, s);
		assert_true(run_scenario(s, &p, n, false, &report));
		expected[n] = recover(s, &p);
		remove_place(&p);
	}
}

/* ---- what must hold ---- */

/* "" where all is well. */
static const char *judge(const struct scenario *s, const struct place *p, enum fault fault,
			 int status, const struct report *report, char **expected)
{
	const unsigned n = count_ops(s);
	const bool whole = status == 0 && !report->failed;
	/* What is only tidied up may fail without harm: the next opening does it. */
	const bool transient = fault == FAULT_EINTR || fault == FAULT_SHORT || !report->reached;
	char *found = describe_place(p, s), *recovered = NULL;
	const char *verdict = "";

	if (status != 0 && (status != FAULT_DIED || fault != FAULT_DIE))
		verdict = "the child ended in another way";
	else if (transient && !whole)
		verdict = "an error was reported where there should be none";
	else if (!s->inplace && strstr(found, "invalid"))
		verdict = "a file is invalid before recovery";
	else if (whole && strcmp(found, expected[n]) != 0)
		verdict = "success was reported and the files are not the new ones";
	else if (whole && transient && count_leftovers(p->dir))
		verdict = "success was reported and temporaries or staging are left";
	if (*verdict == '\0') {
		recovered = recover(s, p);
		if (strcmp(recovered, expected[report->acknowledged]) != 0 &&
		    (report->acknowledged == n ||
		     strcmp(recovered, expected[report->acknowledged + 1]) != 0))
			verdict = "the recovered state is not that of the acknowledged edits";
		else if (count_leftovers(p->dir))
			verdict = "temporaries or staging are left after recovery";
	}
	if (*verdict)
		print_message("found:\n%srecovered:\n%s\nexpected:\n%s", found,
			      recovered ? recovered : "-\n", expected[report->acknowledged]);
	free(recovered);
	free(found);
	return verdict;
}

/* The number of failures. */
static unsigned run_faults(const struct scenario *s, enum fault fault, struct report *report,
			   char **expected)
{
	unsigned k = 1, failures = 0;

	for (;; k++) {
		struct place p;
		make_place(&p, s);
		int status = run_child(s, &p, fault, k, report);
		const bool reached = report->reached;
		const char *verdict = judge(s, &p, fault, status, report, expected);

		if (*verdict) {
			print_message("%s: %s at call %u: %s (%u ops acknowledged; %s)\n", s->name,
				      fault_names[fault], k, verdict, report->acknowledged,
				      report->message);
			failures++;
		}
		remove_place(&p);
		if (!reached)
			break;
		assert_true(k < 10000);
	}
	print_message("%s: %s: %u calls covered\n", s->name, fault_names[fault], k - 1);
	assert_true(k > 1);
	return failures;
}

static void test_no_fault_loses_anything(void **state)
{
	struct report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned failures = 0;
	(void)state;

	assert_true(report != MAP_FAILED);
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++) {
		char *expected[OPS_MAX + 1] = { 0 };

		make_expected(&scenarios[i], expected);
		for (unsigned fault = 0; fault < FAULT_COUNT; fault++)
			failures += run_faults(&scenarios[i], fault, report, expected);
		for (size_t k = 0; k <= OPS_MAX; k++)
			free(expected[k]);
	}
	munmap(report, sizeof(*report));
	assert_int_equal(failures, 0);
}

/* Asked for by the address sanitizer, and by nobody else: without what it keeps of freed memory,
 * each of some thousand forks copies less. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=1";
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_fault_loses_anything),
	};
	/* Thousands of runs with several fsyncs each: in memory, where that can be had. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
