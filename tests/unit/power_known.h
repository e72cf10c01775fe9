/*
 * power_known.h - a scenario run to its end and recorded, and what has to come out of each state
 */
#ifndef POWER_KNOWN_H
#define POWER_KNOWN_H

#include "power_cut.h"
#include "scenarios.h"

#define WORKERS 2

/* A scenario with all that is known about it. */
struct known {
	const struct scenario *s;
	struct script script;
	struct recording recordings[WORKERS]; /* of one run each, but for paths and times */
	char *paths[WORKERS];		      /* where these were */
	char *stashes[WORKERS];		      /* and their files */
	struct lines expected[OPS_MAX + 1];   /* after so many ops, once committed */
	struct lines shown[OPS_MAX + 1];      /* the files that are no staging's, not committed */
};

/* ---- before: what there is to know ---- */

static inline bool is_staging(const struct scenario *s, const char *line)
{
	return line[0] == '.' || strstr(line, "/.") ||
	       (s->staging && strncmp(line, s->staging, strlen(s->staging)) == 0);
}

static inline struct lines shown_in(const struct scenario *s, const char *dir)
{
	struct lines all = lines_of(s, dir), l = { .count = 0 };

	for (unsigned i = 0; i < all.count; i++) {
		if (is_staging(s, all.line[i]))
			free(all.line[i]);
		else
			l.line[l.count++] = all.line[i];
	}
	return l;
}

/* Do the first so many ops; `record` all along, if not NULL. */
static inline void run(const struct known *k, const struct place *p, unsigned ops,
		       struct recording *record, const char *stash)
{
	struct sft_error err = { 0 };
	struct sft_overlay *ov;
	int r;

	if (record)
		recorder_start(p->dir, stash);
	r = sft_overlay_open(p->source, &p->options, &ov, &err);
	for (unsigned i = 0; r == 0 && i < ops; i++) {
		r = scenario_op(ov, k->script.ops[i], &err);
		recorder_mark(i + 1);
	}
	if (r < 0)
		fail_msg("%s: %s", k->s->name, err.msg);
	sft_overlay_free(ov);
	if (record)
		*record = recorder_stop();
}

/* Nothing may have escaped the recorder. */
static inline void check_recording(const struct known *k, const struct recording *r,
				   const char *dir)
{
	struct lines real = lines_of(k->s, dir), made;
	struct power_state state;
	struct power_cut cut;
	char *place = fixture_make_dir();

	power_cut_begin(&cut, r);
	power_cut_advance(&cut, r->count);
	state = power_cut_state(&cut, POWER_ALL_KEPT, 0);
	power_state_write(&state, place, NULL);
	made = lines_of(k->s, place);
	assert_true(lines_equal(&real, &made));
	lines_free(&real);
	lines_free(&made);
	power_state_free(&state);
	power_cut_free(&cut);
	fixture_remove_dir(place);
}

static inline void know(struct known *k, const struct scenario *s)
{
	struct sft_error err = { 0 };
	struct place p;

	k->s = s;
	script_make(&k->script, s);
	for (unsigned n = 0; n <= k->script.count; n++) {
		place_make(&p, s);
		run(k, &p, n, NULL, NULL);
		k->shown[n] = shown_in(s, p.dir);
		if (scenario_recover(&p, &err) < 0)
			fail_msg("%s: after %u ops: %s", s->name, n, err.msg);
		k->expected[n] = lines_of(s, p.dir);
		place_free(&p);
	}
	for (unsigned w = 0; w < WORKERS; w++) {
		place_make(&p, s);
		k->stashes[w] = fixture_make_dir();
		run(k, &p, k->script.count, &k->recordings[w], k->stashes[w]);
		check_recording(k, &k->recordings[w], p.dir);
		k->paths[w] = strdup(p.dir);
		place_free(&p);
	}
}

static inline void forget(struct known *k)
{
	for (unsigned n = 0; n <= k->script.count; n++) {
		lines_free(&k->expected[n]);
		lines_free(&k->shown[n]);
	}
	script_free(&k->script);
	for (unsigned w = 0; w < WORKERS; w++) {
		recording_free(&k->recordings[w]);
		free(k->paths[w]);
		fixture_remove_dir(k->stashes[w]);
	}
}

/* ---- one state ---- */

struct moment {
	unsigned synced, acknowledged; /* ops */
	bool recovering;	       /* a recovery was on its way, too */
	bool moved;		       /* to another path, with other inodes */
};

static inline struct moment moment_at(const struct known *k, const struct recording *r, size_t at)
{
	struct moment m = { 0 };

	for (size_t i = 0; i < at; i++) {
		if (r->events[i].kind == RECORDED_MARK)
			m.acknowledged = (unsigned)r->events[i].length;
	}
	for (unsigned i = 0; i < m.acknowledged; i++) {
		if (scenario_op_syncs(k->script.ops[i]))
			m.synced = i + 1;
	}
	return m;
}

static inline unsigned last_op(const struct known *k, const struct moment *m)
{
	return m->acknowledged < k->script.count ? m->acknowledged + 1 : m->acknowledged;
}

/* What some op gives once it is committed, which a recovery on its way may have done. */
static inline bool some_expected_has(const struct known *k, const struct moment *m,
				     const char *line)
{
	for (unsigned n = m->synced; n <= last_op(k, m); n++) {
		if (lines_have(&k->expected[n], line))
			return true;
	}
	return false;
}

static inline bool is_allowed(const struct known *k, const struct moment *m, const char *line)
{
	if (k->s->inplace)
		return !strstr(line, "invalid");
	return lines_have(&k->shown[m->acknowledged], line) ||
	       lines_have(&k->shown[last_op(k, m)], line) ||
	       (m->recovering && some_expected_has(k, m, line));
}

/* Each file is as before or as after the op, or the recovery, that is on its way. */
static inline bool is_old_or_new(const struct known *k, const struct moment *m,
				 const struct lines *found)
{
	const struct lines *was = &k->shown[m->acknowledged], *is = &k->shown[last_op(k, m)];

	for (unsigned i = 0; i < found->count; i++) {
		if (!is_allowed(k, m, found->line[i]))
			return false;
	}
	for (unsigned i = 0; !k->s->inplace && !m->recovering && i < was->count; i++) {
		if (lines_have(is, was->line[i]) && !lines_have(found, was->line[i]))
			return false;
	}
	return true;
}

static inline bool is_expected(const struct known *k, const struct moment *m,
			       const struct lines *found)
{
	for (unsigned n = m->synced; n <= last_op(k, m); n++) {
		if (lines_equal(&k->expected[n], found))
			return true;
	}
	return false;
}

/* NULL where all is well. */
static inline const char *judge(const struct known *k, const struct moment *m,
				const struct place *p, struct sft_error *err, struct lines *found)
{
	struct lines before = shown_in(k->s, p->dir), again;
	const char *verdict = NULL;

	if (!is_old_or_new(k, m, &before))
		verdict = "before recovery a file is neither the old nor the new one";
	else if (scenario_recover(p, err) < 0)
		verdict = "it cannot be recovered";
	lines_free(&before);
	*found = lines_of(k->s, p->dir);
	if (verdict)
		return verdict;
	if (!is_expected(k, m, found))
		return "what was recovered is not what some of the ops give";
	if (scenario_recover(p, err) < 0)
		return "it cannot be recovered once more";
	again = lines_of(k->s, p->dir);
	if (!lines_equal(found, &again))
		verdict = "once more gives something else";
	lines_free(&again);
	return verdict;
}

#endif
