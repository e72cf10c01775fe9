/*
 * scenarios.h - runs of an overlay from beginning to end, for tests that break them off
 *
 * A scenario is files, options, and ops: those of edit_fixture.h, and "commit"; "f NAME OFFSET
 * LENGTH" fills a range with bytes that follow from the op; "Nx f NAME STEP LENGTH" stands for N of
 * these, STEP bytes apart. "& m OLD NEW; mx OLD KEY; r NAME; n NAME LENGTH; @ SHARD VALUE" is one
 * step of these: renamed, to scratch, removed, new with a declared shape, metadata k=VALUE.
 */
#ifndef SCENARIOS_H
#define SCENARIOS_H

#include "edit_fixture.h"
#include "hash.h"

#include <dirent.h>

#define M "model.safetensors"
#define A "a.safetensors"
#define B "b.safetensors"
#define C "c.safetensors"
#define INDEX "model.safetensors.index.json"
#define OPS_MAX 100

struct scenario {
	const char *name;
	struct {
		const char *file,
			*text; /* "zeros NAME LENGTH ...": U8 tensors of that many bytes */
	} before[4];
	const char *source, *output, *staging;
	bool inplace;
	const char *ops[24];
};

/* The ops one by one. */
struct script {
	char *ops[OPS_MAX];
	unsigned count;
};

static inline void script_make(struct script *s, const struct scenario *scenario)
{
	s->count = 0;
	for (size_t i = 0; i < 24 && scenario->ops[i]; i++) {
		const char *op = scenario->ops[i];
		char name[64];
		unsigned times;
		unsigned long long step, length;

		if (sscanf(op, "%ux f %63s %llu %llu", &times, name, &step, &length) != 4) {
			s->ops[s->count++] = strdup(op);
			continue;
		}
		for (unsigned k = 0; k < times; k++) {
			if (s->count == OPS_MAX || asprintf(&s->ops[s->count++], "f %s %llu %llu",
							    name, k * step, length) < 0)
				abort();
		}
	}
}

static inline void script_free(struct script *s)
{
	while (s->count)
		free(s->ops[--s->count]);
}

/* ---- a place for one run ---- */

struct place {
	char *dir, *source, *output, *staging;
	struct sft_overlay_options options;
};

/* In `dir`, which it takes over. */
static inline void place_in(struct place *p, const struct scenario *s, char *dir)
{
	p->dir = dir;
	p->source = fixture_join(dir, s->source);
	p->output = s->output ? fixture_join(dir, s->output) : NULL;
	p->staging = s->staging ? fixture_join(dir, s->staging) : NULL;
	p->options = (struct sft_overlay_options){
		.output = p->output,
		.staging = p->staging,
		.inplace = s->inplace,
	};
}

static inline void place_zeros(const char *path, const char *text)
{
	struct sft_buf b = { 0 };
	unsigned long long end = 0, length;
	const char *sep = "{";
	char name[64];
	int n;

	sft_buf_add(&b, "12345678", 8);
	for (text += strlen("zeros"); sscanf(text, "%63s %llu%n", name, &length, &n) == 2;
	     text += n) {
		sft_buf_printf(&b, "%s\"%s\": {\"dtype\": \"U8\", \"shape\": [%llu], ", sep, name,
			       length);
		sft_buf_printf(&b, "\"data_offsets\": [%llu, %llu]}", end, end + length);
		end += length;
		sep = ", ";
	}
	sft_buf_add(&b, "}", 1);
	sft_put_le64((unsigned char *)b.data, b.len - 8);
	/* Holes, for which a commit in place makes room first. */
	fixture_put(path, b.data, b.len);
	if (truncate(path, (off_t)(b.len + end)) < 0)
		abort();
	sft_buf_free(&b);
}

static inline void place_make(struct place *p, const struct scenario *s)
{
	place_in(p, s, fixture_make_dir());
	for (size_t i = 0; i < 4 && s->before[i].file; i++) {
		const char *text = s->before[i].text;
		char *path = fixture_join(p->dir, s->before[i].file);

		if (strstr(path, ".json"))
			fixture_put(path, text, strlen(text));
		else if (strncmp(text, "zeros", 5) == 0)
			place_zeros(path, text);
		else
			fixture_checkpoint(path, text);
		free(path);
	}
}

static inline void place_free(struct place *p)
{
	free(p->source);
	free(p->output);
	free(p->staging);
	fixture_remove_dir(p->dir);
}

/* ---- running ---- */

static inline int scenario_fill(struct sft_overlay *ov, const char *op, struct sft_error *err)
{
	unsigned long long offset, length;
	unsigned char *bytes;
	char name[64];
	int r;

	if (sscanf(op, "f %63s %llu %llu", name, &offset, &length) != 3)
		abort();
	bytes = malloc(length);
	uint64_t x = hash_bytes(op, strlen(op), 0);
	for (uint64_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)((x + i * 2654435761u) >> 13);
	r = sft_overlay_write(ov, fixture_find(ov, name), bytes, length, offset, err);
	free(bytes);
	return r;
}

#define STEP_MAX 8

/* One of several changes, and what it points to. */
struct step_change {
	char verb[4], a[32], b[32];
	uint64_t shape;
	struct sft_pair pair;
	struct sft_metadata metadata;
};

static inline struct sft_change step_parse(const struct sft_overlay *ov, const char *text,
					   struct step_change *t)
{
	struct sft_change c = { .kind = SFT_RENAME, .shard = SFT_SHARD_AUTO };

	if (sscanf(text, " %3s %31s %31[^; ]", t->verb, t->a, t->b) < 2)
		abort();
	t->a[strcspn(t->a, ";")] = '\0';
	c.id = fixture_find(ov, t->a);
	c.name = t->verb[0] == 'n' ? t->a : t->b;
	c.name_len = strlen(c.name);
	c.scratch = strcmp(t->verb, "mx") == 0;
	if (t->verb[0] == 'r')
		c.kind = SFT_REMOVE;
	if (t->verb[0] == 'n') {
		c.kind = SFT_CREATE;
		c.declared = true;
		c.dtype = SFT_U8;
		c.nbytes = t->shape = strtoull(t->b, NULL, 10);
		c.shape = &t->shape;
		c.rank = 1;
	}
	if (t->verb[0] == '@') {
		c.kind = SFT_SET_METADATA;
		c.shard = (uint32_t)atoi(t->a);
		t->pair = (struct sft_pair){ "k", t->b, 1, (uint32_t)strlen(t->b) };
		t->metadata = (struct sft_metadata){ true, 1, &t->pair, NULL };
		c.metadata = &t->metadata;
	}
	return c;
}

static inline int scenario_step(struct sft_overlay *ov, const char *op, struct sft_error *err)
{
	struct step_change texts[STEP_MAX];
	struct sft_change changes[STEP_MAX];
	size_t n = 0;

	for (const char *at = op + 1; at && n < STEP_MAX; n++) {
		changes[n] = step_parse(ov, at, &texts[n]);
		at = strchr(at, ';');
		at = at ? at + 1 : NULL;
	}
	return sft_overlay_change(ov, changes, n, err);
}

static inline int scenario_op(struct sft_overlay *ov, const char *op, struct sft_error *err)
{
	int r;

	if (op[0] == 'f' && op[1] == ' ')
		return scenario_fill(ov, op, err);
	if (op[0] == '&')
		return scenario_step(ov, op, err);
	if (strcmp(op, "commit") != 0)
		return fixture_edit(ov, op, err);
	r = sft_overlay_commit(ov, &fixture_any, NULL, err);
	if (r == 0)
		sft_overlay_adopt(ov);
	return r;
}

/* What has returned is durable then. */
static inline bool scenario_op_syncs(const char *op)
{
	return strcmp(op, "s") == 0 || strcmp(op, "commit") == 0;
}

/* Declare what is there for what a commit would refuse, so that each state has something to show.
 */
static inline int scenario_mend(struct sft_overlay *ov, struct sft_error *err)
{
	int r = 0;

	for (uint32_t id = 0; r == 0 && id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		const uint64_t shape = e->nbytes;
		char reason[160];

		if (e->live && !e->scratch && sft_overlay_problem(ov, id, reason, sizeof(reason)))
			r = sft_overlay_declare(ov, id, SFT_U8, &shape, 1, err);
	}
	return r;
}

/* Open what is left and commit it. */
static inline int scenario_recover(const struct place *p, struct sft_error *err)
{
	struct sft_overlay *ov;
	int r = sft_overlay_open(p->source, &p->options, &ov, err);

	if (r < 0)
		return r;
	r = scenario_mend(ov, err);
	if (r == 0)
		r = sft_overlay_commit(ov, &fixture_any, NULL, err);
	if (r == 0)
		sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	return r;
}

/* ---- everything in a place as lines of text ---- */

#define LINES_MAX 64

struct lines {
	char *line[LINES_MAX];
	unsigned count;
};

static inline void lines_free(struct lines *l)
{
	while (l->count)
		free(l->line[--l->count]);
}

static inline int lines_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline void lines_add_file(struct sft_buf *out, const char *path)
{
	const size_t length = strlen(path), suffix = strlen(".safetensors");
	const bool checkpoint =
		length > suffix && strcmp(path + length - suffix, ".safetensors") == 0;
	size_t n = 0;
	char *text = checkpoint ? fixture_describe(path) : fixture_get(path, &n);

	if (n > 2000)
		sft_buf_printf(out, "%zu bytes", n);
	else
		sft_buf_text(out, text ? text : "cannot be read");
	free(text);
}

static inline void lines_add_below(struct lines *l, const char *path, size_t root)
{
	struct dirent *e;
	DIR *d = opendir(path);

	while (d && (e = readdir(d))) {
		struct sft_buf out = { 0 };
		struct stat st;
		char *below;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		below = fixture_join(path, e->d_name);
		if (lstat(below, &st) < 0 || l->count == LINES_MAX)
			abort();
		sft_buf_printf(&out, "%s: ", below + root);
		if (S_ISDIR(st.st_mode)) {
			sft_buf_printf(&out, "directory");
			l->line[l->count++] = out.data;
			lines_add_below(l, below, root);
		} else {
			lines_add_file(&out, below);
			l->line[l->count++] = out.data;
		}
		free(below);
	}
	if (d)
		closedir(d);
}

/* All but a directory that was named for the staging: if it is empty it may stay. */
static inline struct lines lines_of(const struct scenario *s, const char *dir)
{
	struct lines l = { .count = 0 };

	lines_add_below(&l, dir, strlen(dir) + 1);
	for (unsigned i = 0; s->staging && i < l.count; i++) {
		if (strncmp(l.line[i], s->staging, strlen(s->staging)) == 0 &&
		    strcmp(l.line[i] + strlen(s->staging), ": directory") == 0) {
			free(l.line[i]);
			l.line[i] = l.line[--l.count];
			break;
		}
	}
	qsort(l.line, l.count, sizeof(*l.line), lines_compare);
	return l;
}

static inline bool lines_have(const struct lines *l, const char *line)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (strcmp(l->line[i], line) == 0)
			return true;
	}
	return false;
}

static inline bool lines_equal(const struct lines *a, const struct lines *b)
{
	for (unsigned i = 0; i < a->count && i < b->count; i++) {
		if (strcmp(a->line[i], b->line[i]) != 0)
			return false;
	}
	return a->count == b->count;
}

#endif
