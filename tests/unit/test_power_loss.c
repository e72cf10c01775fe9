/*
 * test_power_loss.c - the power goes at any call of any run: what was synced is there afterwards
 *
 * Each scenario is run once, and recorded. For each of its calls some of the states are made in
 * which a disk may be if the power goes just before it (power_cut.h); each is opened and committed,
 * twice. What comes out has to be what the ops up to some one of them give: that one not before the
 * last acknowledged sync, nor after the op that was on its way. Before that, the checkpoint's files
 * are old ones or new ones. Where only the process died, no acknowledged op may be missing. Of some
 * states the recovery is recorded in turn, and broken off.
 *
 * CRASH_ROUNDS: states for each call (many of them are the same, and count once). A state that is
 * bad is named SCENARIO:CALL:KIND; CRASH_ONLY takes that, and tries it alone.
 */
#include "power_known.h"
#include "power_scenarios.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ROUNDS 3
#define AGAIN_EVERY 8 /* of as many states one is recovered with an interruption, */
#define AGAIN 4	      /* in so many ways */
#define SEEN_MAX (1u << 20)
#define BAD_SHOWN 10
#define SECONDS_MAX 60 /* for one state, with sanitizers */

/* What the workers tell, in memory that they share. */
struct report {
	unsigned tried, bad;
	struct position {
		size_t at;
		unsigned kind;
	} now[WORKERS];
	uint64_t seen[SEEN_MAX]; /* hashes of states that were tried; 0: free */
};

static unsigned crash_rounds(void)
{
	const char *s = getenv("CRASH_ROUNDS");

	return s ? (unsigned)strtoul(s, NULL, 10) : ROUNDS;
}

static uint64_t state_seed(size_t at, unsigned kind)
{
	const char *s = getenv("SFT_SEED");

	return (s ? strtoull(s, NULL, 10) : 1) * 1000003u + at * 1009 + kind;
}

/* Few rounds take other kinds at each call. */
static unsigned kind_of(unsigned round, unsigned all, size_t at)
{
	const unsigned fixed = 2, others = POWER_FIXED - fixed;

	if (all >= POWER_FIXED || round < fixed)
		return round;
	return fixed + (unsigned)(at * (all - fixed) + round - fixed) % others;
}

/* ---- one state ---- */

static void show_lines(const char *what, const struct lines *l)
{
	print_message("  %s\n", what);
	for (unsigned i = 0; i < l->count; i++)
		print_message("    %.200s\n", l->line[i]);
}

/* A worker and the state that it is at. */
struct work {
	const struct known *k;
	struct report *report;
	unsigned worker;
	size_t at;
	unsigned kind;
};

static const char *last_call(const struct work *w, char *text, size_t size)
{
	const struct recording *r = &w->k->recordings[w->worker];
	const struct recorded *e = w->at > r->first ? &r->events[w->at - 1] : NULL;

	snprintf(text, size, "%s %s", e ? e->call : "nothing", e && e->name ? e->name : "");
	return text;
}

/* Where it was recorded, and with those inodes; or somewhere else, without `stash`. */
static void place_state(const struct work *w, struct place *p, const char *stash,
			const struct power_state *state)
{
	char *dir = stash ? strdup(w->k->paths[w->worker]) : fixture_make_dir();

	if (stash && mkdir(dir, 0700) < 0)
		abort();
	place_in(p, w->k->s, dir);
	power_state_write(state, dir, stash);
}

static void try_state(const struct work *w, const struct power_state *state, const char *stash,
		      const struct moment *m)
{
	const struct known *k = w->k;
	struct sft_error err = { 0 };
	struct lines found = { .count = 0 };
	struct place p;
	const char *verdict;
	char call[300];

	place_state(w, &p, stash, state);
	alarm(SECONDS_MAX);
	verdict = judge(k, m, &p, &err, &found);
	alarm(0);
	__atomic_add_fetch(&w->report->tried, 1, __ATOMIC_RELAXED);
	if (verdict && __atomic_add_fetch(&w->report->bad, 1, __ATOMIC_RELAXED) <= BAD_SHOWN) {
		print_message("%s: state %zu:%zu:%u, after %s (%s%s%s): %s: %s\n", k->s->name,
			      (size_t)(k->s - scenarios), w->at, w->kind,
			      last_call(w, call, sizeof(call)), state->what,
			      m->moved ? ", moved" : "",
			      m->recovering ? ", and in its recovery" : "", verdict, err.msg);
		print_message("  %u ops were synced, %u acknowledged\n", m->synced,
			      m->acknowledged);
		show_lines("found", &found);
		show_lines("expected", &k->expected[m->acknowledged]);
	}
	lines_free(&found);
	place_free(&p);
}

/* ---- all of them ---- */

/* Whether this state is a new one, with these demands on it. */
static bool is_new(struct report *report, uint64_t hash, const struct moment *m)
{
	uint64_t demands =
		(uint64_t)m->synced << 32 | m->acknowledged << 2 | m->recovering << 1 | m->moved;
	uint64_t key = (hash ^ demands) * 0x9e3779b97f4a7c15u;

	key |= 1;
	for (size_t i = key >> 40 & (SEEN_MAX - 1);; i = (i + 1) & (SEEN_MAX - 1)) {
		uint64_t was = 0;

		if (__atomic_compare_exchange_n(&report->seen[i], &was, key, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
		if (was == key)
			return false;
	}
}

/* The power goes once more, while that state is recovered. */
static void try_recovery(const struct work *w, const struct power_state *state, const char *stash,
			 struct moment m)
{
	const uint64_t seed = state_seed(w->at, w->kind);
	struct recording recording;
	struct power_cut cut;
	struct place p;
	int r;

	char *new_stash = stash ? fixture_make_dir() : NULL;

	place_state(w, &p, stash, state);
	recorder_start(p.dir, new_stash);
	r = scenario_recover(&p, NULL);
	recording = recorder_stop();
	place_free(&p);
	m.recovering = true;
	power_cut_begin(&cut, &recording);
	for (size_t i = 0; r == 0 && i < AGAIN; i++) {
		const uint64_t calls = recording.count - recording.first;

		power_cut_advance(&cut, recording.first + (i * calls + seed % (calls + 1)) / AGAIN);
		struct power_state again =
			power_cut_state(&cut, (unsigned)((seed + i) % (2 * POWER_FIXED)), seed + i);
		if (is_new(w->report, power_state_hash(&again), &m))
			try_state(w, &again, new_stash, &m);
		power_state_free(&again);
	}
	power_cut_free(&cut);
	recording_free(&recording);
	if (new_stash)
		fixture_remove_dir(new_stash);
}

/* Only the process dies: nothing acknowledged is lost. */
static struct moment demand(const struct work *w)
{
	const struct scenario *s = w->k->s;
	struct moment m = moment_at(w->k, &w->k->recordings[w->worker], w->at);

	if (w->kind == POWER_ALL_KEPT)
		m.synced = m.acknowledged;
	/* What was written in place is known again by its inode, where these last; and what is
	 * elsewhere by its path. */
	m.moved = !s->inplace && !s->output && !s->staging && (w->at / WORKERS + w->kind) % 2;
	return m;
}

static void work_at(const struct work *w, const struct power_cut *cut, unsigned round)
{
	struct moment m = demand(w);
	const char *stash = m.moved ? NULL : w->k->stashes[w->worker];
	struct power_state state = power_cut_state(cut, w->kind, state_seed(w->at, w->kind));

	w->report->now[w->worker] = (struct position){ w->at, round };
	if (is_new(w->report, power_state_hash(&state), &m)) {
		try_state(w, &state, stash, &m);
		if ((w->at + round) % AGAIN_EVERY == 0)
			try_recovery(w, &state, stash, m);
	}
	power_state_free(&state);
}

/* Every WORKERS-th call, from a position on. */
static void work(const struct known *k, struct report *report, unsigned worker,
		 struct position from)
{
	const unsigned all = crash_rounds();
	const struct recording *r = &k->recordings[worker];
	struct work w = { .k = k, .report = report, .worker = worker };
	const char *only = getenv("CRASH_ONLY");
	size_t only_scenario, only_at = 0;
	unsigned only_kind = 0;
	struct power_cut cut;

	if (only && sscanf(only, "%zu:%zu:%u", &only_scenario, &only_at, &only_kind) != 3)
		abort();
	power_cut_begin(&cut, r);
	for (w.at = from.at; w.at <= r->count; w.at += WORKERS) {
		power_cut_advance(&cut, w.at);
		for (unsigned i = w.at == from.at ? from.kind : 0; i < all; i++) {
			w.kind = only ? only_kind : kind_of(i, all, w.at);
			if (!only || (w.at == only_at && i == 0))
				work_at(&w, &cut, i);
		}
	}
	power_cut_free(&cut);
}

static pid_t start_worker(const struct known *k, struct report *report, unsigned worker,
			  struct position from)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		work(k, report, worker, from);
		_exit(0);
	}
	return pid;
}

/* Where one dies it has found something, and another goes on behind that. */
static void try_all(const struct known *k, struct report *report)
{
	pid_t pids[WORKERS];
	unsigned running = WORKERS;

	for (unsigned w = 0; w < WORKERS; w++)
		pids[w] = start_worker(k, report, w,
				       (struct position){ k->recordings[w].first + w, 0 });
	while (running) {
		int status;
		pid_t pid = wait(&status);
		unsigned w = 0;

		while (w < WORKERS && pids[w] != pid)
			w++;
		assert_true(w < WORKERS);
		running--;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			continue;
		struct position p = report->now[w];
		print_message("%s: state %zu:%zu:%u: the process died (%s %d)\n", k->s->name,
			      (size_t)(k->s - scenarios), p.at,
			      kind_of(p.kind, crash_rounds(), p.at),
			      WIFSIGNALED(status) ? "signal" : "exit status",
			      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		report->tried++;
		report->bad++;
		p.kind++;
		fixture_remove_dir(strdup(k->paths[w]));
		pids[w] = start_worker(k, report, w, p);
		running++;
	}
}

static void test_whatever_the_disk_kept(void **state)
{
	static struct known k;
	struct report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *only = getenv("CRASH_ONLY");
	unsigned tried = 0, bad = 0;
	(void)state;

	assert_true(report != MAP_FAILED);
	for (size_t i = only ? strtoul(only, NULL, 10) : 0; i < SCENARIOS; i++) {
		memset(report, 0, sizeof(*report));
		know(&k, &scenarios[i]);
		try_all(&k, report);
		print_message("%s: %zu calls, %u states, %u bad\n", k.s->name,
			      k.recordings[0].count - k.recordings[0].first, report->tried,
			      report->bad);
		tried += report->tried;
		bad += report->bad;
		forget(&k);
		if (only)
			break;
	}
	print_message("%u states tried, %u bad\n", tried, bad);
	munmap(report, sizeof(*report));
	assert_true(tried > 0);
	assert_int_equal(bad, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whatever_the_disk_kept),
	};
	/* Some thousand fsyncs, and nothing here depends on a disk. */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	/* So that what a worker has said is out before it dies, and said once. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
