/*
 * index_json.c - the index.json after a commit: the old text with `weight_map` and, in
 * `metadata`, `total_size` and `total_parameters` brought up to date, and everything else byte for
 * byte
 *
 * Only what the edits moved is moved: an entry that was wrong before (it names a tensor that no
 * shard has, or a shard that is missing) stays as it is, and a tensor that was not listed stays
 * unlisted.
 */
#include "index_totals.h"
#include "io.h"
#include "sort.h"
#include "weight_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A piece of the old text; not the caller's to free. */
struct span {
	const char *text;
	size_t len;
};

struct entry {
	const char *name, *file;
	uint32_t name_len;
};

struct writer {
	const struct sft_overlay *ov;
	const struct plan *plan;
	struct sft_buf text; /* the old index */
	struct sft_json json;
	struct weight_map map; /* the old weight_map */
	/* Tokens of weight_map, and of the two sums (0: there is none). */
	unsigned object, total_size, total_parameters;
	struct entry *entries; /* the new weight_map */
	size_t count;
	bool moved; /* the new weight_map differs from the old one */
};

/* ---- the new entries ---- */

/* The shard that will have a tensor of that name, `preferred` if that does; SFT_NO_ID: none. */
static uint32_t new_holder(const struct sft_overlay *ov, uint32_t preferred,
			   const struct weight_map_entry *e)
{
	uint32_t id = sft_overlay_find(ov, preferred, e->name, e->name_len);

	for (uint32_t i = 0; id == SFT_NO_ID && (ov->options.flags & SFT_SAME_NAMES) &&
			     i < sft_checkpoint_shards(ov->base);
	     i++)
		id = sft_overlay_find(ov, i, e->name, e->name_len);
	return id == SFT_NO_ID ? SFT_NO_ID : sft_overlay_entry(ov, id)->shard;
}

static bool committed_in(const struct sft_overlay *ov, uint32_t shard, const char *name, size_t len)
{
	const struct sft_file *file = sft_checkpoint_shard(ov->base, shard)->file;

	return file && sft_index_find(sft_file_index(file), name, len);
}

/* The number of the shard with that file name. The index may have been rewritten by somebody since
 * it was read, so there need not be one: SFT_NO_ID. */
static uint32_t find_shard(const struct sft_checkpoint *ck, const char *name)
{
	size_t low = 0, high = sft_checkpoint_shards(ck);

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(sft_checkpoint_shard(ck, mid)->name, name);

		if (c == 0)
			return (uint32_t)mid;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return SFT_NO_ID;
}

/* Carry an old entry over, unless its tensor is gone; change its file if the tensor has moved. */
static void keep_entry(struct writer *w, const struct weight_map_entry *e)
{
	const struct sft_checkpoint *ck = w->ov->base;
	const char *file = w->map.files[e->file];
	const struct sft_tensor *shown = sft_checkpoint_find(ck, e->name, e->name_len);
	uint32_t listed = find_shard(ck, file), was = shown ? shown->shard : SFT_NO_ID, now;

	if (listed != SFT_NO_ID && (w->ov->options.flags & SFT_SAME_NAMES) &&
	    committed_in(w->ov, listed, e->name, e->name_len))
		was = listed;
	now = new_holder(w->ov, listed == SFT_NO_ID ? 0 : listed, e);
	if (now == SFT_NO_ID && was != SFT_NO_ID) {
		w->moved = true;
		return;
	}
	if (now != SFT_NO_ID && now != listed && now != was) {
		file = sft_checkpoint_shard(ck, now)->name;
		w->moved = true;
	}
	w->entries[w->count++] = (struct entry){ e->name, file, e->name_len };
}

/* Add the tensors that a shard gets and the old index does not list. */
static void add_new(struct writer *w, const struct plan_shard *s)
{
	const char *file = sft_checkpoint_shard(w->ov->base, s->shard)->name;

	for (size_t i = 0; i < s->count; i++) {
		const struct plan_tensor *t = &s->tensors[i];

		if (t->id == SFT_NO_ID || weight_map_find(&w->map, t->h.name, t->h.name_len) ||
		    committed_in(w->ov, s->shard, t->h.name, t->h.name_len))
			continue;
		w->entries[w->count++] = (struct entry){ t->h.name, file, t->h.name_len };
		w->moved = true;
	}
}

static int compare_entries(uint32_t a, uint32_t b, const void *ctx)
{
	const struct entry *e = ctx;

	return sft_name_compare(e[a].name, e[a].name_len, e[b].name, e[b].name_len);
}

/* Sort by name; of several of one name (two shards have it, with SFT_SAME_NAMES) keep the first. */
static int sort_entries(struct writer *w)
{
	int r = sft_sort_array(w->entries, w->count, sizeof(*w->entries), compare_entries,
			       w->entries);
	size_t kept = 0;

	for (size_t i = 0; r == 0 && i < w->count; i++) {
		if (kept == 0 || compare_entries((uint32_t)kept - 1, (uint32_t)i, w->entries) != 0)
			w->entries[kept++] = w->entries[i];
	}
	if (r == 0)
		w->count = kept;
	return r;
}

static int make_entries(struct writer *w, struct sft_error *err)
{
	size_t most = w->map.count;

	for (size_t i = 0; i < w->plan->count; i++)
		most += w->plan->shards[i].count;
	w->entries = calloc(most + 1, sizeof(*w->entries));
	if (!w->entries)
		return sft_fail(err, ENOMEM, "no memory for the index");
	for (size_t i = 0; i < w->map.count; i++)
		keep_entry(w, &w->map.entries[i]);
	for (size_t i = 0; i < w->plan->count; i++)
		add_new(w, &w->plan->shards[i]);
	if (sort_entries(w) < 0)
		return sft_fail(err, ENOMEM, "no memory for the index");
	return 0;
}

/* ---- how the old text looks ---- */

/* White space and punctuation between the parts of weight_map. */
struct layout {
	struct span first, colon, between, last;
	char *made; /* where there is nothing to take it from */
};

static struct span span(const struct writer *w, int from, int to)
{
	return (struct span){ w->text.data + from, (size_t)(to - from) };
}

static bool has_newline(struct span s)
{
	return memchr(s.text, '\n', s.len) != NULL;
}

/* The layout of a map of entries: what stands between the first two. */
static bool look_at_entries(const struct writer *w, struct layout *l)
{
	const jsmntok_t *map = &w->json.tokens[w->object], *key = map + 1;

	/* Strings' tokens are without their quotes. */
	l->first = span(w, map->start + 1, key[0].start - 1);
	l->colon = span(w, key[0].end + 1, key[1].start - 1);
	l->last = span(w, key[2 * map->size - 1].end + 1, map->end - 1);
	if (map->size > 1) {
		l->between = span(w, key[1].end + 1, key[2].start - 1);
		return true;
	}
	l->made = malloc(l->first.len + 3);
	if (!l->made)
		return false;
	/* A lone entry on the line of its brace: a space behind the comma if the colon has one. */
	bool spaced = l->first.len == 0 && l->colon.len > 1;
	l->made[0] = ',';
	l->made[1] = ' ';
	memcpy(l->made + 1 + spaced, l->first.text, l->first.len);
	l->between = (struct span){ l->made, 1 + spaced + l->first.len };
	return true;
}

/* The layout for a map that is empty: as deep again as its own key. */
static bool look_at_key(const struct writer *w, struct layout *l)
{
	const jsmntok_t *map = &w->json.tokens[w->object], *key = map - 1;
	int at = key->start - 1;
	size_t indent = 0;

	while (at > 0 && memchr(" \t\r\n", w->text.data[at - 1], 4))
		at--;
	l->last = span(w, at, key->start - 1);
	l->colon = span(w, key->end + 1, map->start);
	if (has_newline(l->last)) {
		const char *line = (const char *)memrchr(l->last.text, '\n', l->last.len) + 1;
		indent = (size_t)(l->last.text + l->last.len - line);
	} else {
		l->last.len = 0;
	}
	l->made = malloc(l->last.len + indent + 3);
	if (!l->made)
		return false;
	bool spaced = l->last.len == 0 && l->colon.len > 1;
	l->made[0] = ',';
	l->made[1] = ' ';
	memcpy(l->made + 1 + spaced, l->last.text, l->last.len);
	memcpy(l->made + 1 + spaced + l->last.len, l->last.text + l->last.len - indent, indent);
	l->between = (struct span){ l->made, 1 + spaced + l->last.len + indent };
	l->first = (struct span){ l->made + 1 + spaced, l->last.len + indent };
	return true;
}

/* ---- writing ---- */

static void add_span(struct sft_buf *out, struct span s)
{
	sft_buf_add(out, s.text, s.len);
}

static void write_map(const struct writer *w, struct sft_buf *out)
{
	const jsmntok_t *map = &w->json.tokens[w->object];
	struct layout l = { 0 };

	if (!w->moved) {
		add_span(out, span(w, map->start, map->end));
		return;
	}
	if (!(map->size ? look_at_entries(w, &l) : look_at_key(w, &l))) {
		out->failed = true;
		return;
	}
	sft_buf_add(out, "{", 1);
	for (size_t i = 0; i < w->count; i++) {
		add_span(out, i ? l.between : l.first);
		sft_buf_json(out, w->entries[i].name, w->entries[i].name_len);
		add_span(out, l.colon);
		sft_buf_json(out, w->entries[i].file, strlen(w->entries[i].file));
	}
	if (w->count)
		add_span(out, l.last);
	sft_buf_add(out, "}", 1);
	free(l.made);
}

static bool shards_missing(const struct sft_checkpoint *ck)
{
	for (size_t i = 0; i < sft_checkpoint_shards(ck); i++) {
		if (!sft_checkpoint_shard(ck, i)->file)
			return true;
	}
	return false;
}

/* Write what has come in the place of one of our tokens. */
static int write_token(const struct writer *w, unsigned token, const struct index_totals *before,
		       const struct index_totals *now, struct sft_buf *out, struct sft_error *err)
{
	if (token == w->total_size)
		return index_totals_write(&w->json, token, before->bytes, now->bytes,
					  !shards_missing(w->ov->base), out, err);
	if (token == w->total_parameters)
		return index_totals_write(&w->json, token, before->elements, now->elements, false,
					  out, err);
	write_map(w, out);
	return 0;
}

static int compare_tokens(const void *a, const void *b)
{
	const unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return (x > y) - (x < y);
}

static int write_text(const struct writer *w, struct sft_buf *out, struct sft_error *err)
{
	unsigned tokens[] = { w->object, w->total_size, w->total_parameters };
	struct index_totals before = { 0 }, now = { 0 };
	int at = 0, r = 0;

	if (!index_totals_before(w->ov->base, &before) || !index_totals_after(w->plan, &now))
		return sft_fail(err, EFBIG, "the tensors have more than 2^64 bytes together");
	qsort(tokens, 3, sizeof(*tokens), compare_tokens);
	for (size_t i = 0; r == 0 && i < 3; i++) {
		const jsmntok_t *t = &w->json.tokens[tokens[i]];

		if (tokens[i] == 0)
			continue;
		add_span(out, span(w, at, t->start));
		r = write_token(w, tokens[i], &before, &now, out, err);
		at = t->end;
	}
	add_span(out, span(w, at, (int)w->text.len));
	return r == 0 && out->failed ? sft_fail(err, ENOMEM, "no memory for the index") : r;
}

/* ---- reading the old one ---- */

static int read_text(const char *path, struct sft_buf *out, struct sft_error *err)
{
	char piece[65536];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return sft_fail(err, errno, "%s", strerror(errno));
	do {
		n = io_read(fd, piece, sizeof(piece));
		if (n > 0)
			sft_buf_add(out, piece, (size_t)n);
	} while (n == sizeof(piece) && out->len <= SFT_HEADER_MAX && !out->failed);
	close(fd);
	if (n < 0)
		return sft_fail(err, (int)-n, "%s", strerror((int)-n));
	if (out->failed)
		return sft_fail(err, ENOMEM, "no memory for the index");
	if (out->len > SFT_HEADER_MAX)
		return sft_fail(err, EFBIG, "has more than %u bytes", SFT_HEADER_MAX);
	return 0;
}

static int read_index(struct writer *w, const char *path, struct sft_error *err)
{
	int r = read_text(path, &w->text, err);

	if (r == 0)
		r = weight_map_parse(&w->map, w->text.data ? w->text.data : "", w->text.len, err);
	if (r == 0)
		r = sft_json_parse(&w->json, w->text.data, w->text.len, 0, err);
	if (r < 0)
		return r;
	w->object = sft_json_get(&w->json, 0, "weight_map");
	unsigned metadata = sft_json_get(&w->json, 0, "metadata");
	if (metadata && w->json.tokens[metadata].type == JSMN_OBJECT) {
		w->total_size = sft_json_get(&w->json, metadata, "total_size");
		w->total_parameters = sft_json_get(&w->json, metadata, "total_parameters");
	}
	return 0;
}

int index_json_write(const struct sft_overlay *ov, const struct plan *plan, struct sft_buf *out,
		     struct sft_error *err)
{
	const char *path = sft_checkpoint_index_path(ov->base);
	struct writer w = { .ov = ov, .plan = plan };
	struct sft_error e = { 0 };
	int r = read_index(&w, path, &e);

	if (r == 0)
		r = make_entries(&w, &e);
	if (r == 0)
		r = write_text(&w, out, &e);
	if (r < 0)
		r = sft_fail(err, e.errnum, "%s: %s", strrchr(path, '/') + 1, e.msg);
	free(w.entries);
	weight_map_free(&w.map);
	sft_json_free(&w.json);
	sft_buf_free(&w.text);
	return r;
}
