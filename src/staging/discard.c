/* discard.c - staged edits without the checkpoint: what are they, away */
#include "blockmap.h"
#include "path.h"
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is staged ---- */

struct described {
	struct sft_quoted name, now;
	bool committed, removed, renamed, scratch, changed, declared;
};

struct description {
	struct described *items;
	uint32_t count, capacity;
	struct blockmap ids; /* journal id -> item */
	bool metadata;
};

static int add_item(struct description *d, uint32_t jid, const struct described *item)
{
	uint32_t old;

	if (jid == SFT_NO_ID || blockmap_find(&d->ids, jid, &old))
		return -EBADMSG;
	if (d->count == d->capacity) {
		uint32_t capacity = d->capacity * 2 + 16;
		struct described *grown = realloc(d->items, capacity * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		d->items = grown;
		d->capacity = capacity;
	}
	if (blockmap_reserve(&d->ids, 1) < 0)
		return -ENOMEM;
	blockmap_put(&d->ids, jid, d->count);
	d->items[d->count++] = *item;
	return 0;
}

static int describe_new(struct description *d, struct journal_record *rec)
{
	struct described item = { .committed = rec->type == JOURNAL_BIND };
	uint32_t jid = journal_get_u32(rec), len;
	const char *name;

	(void)journal_get_u32(rec); /* the shard */
	if (rec->type == JOURNAL_CREATE)
		item.scratch = journal_get_u32(rec);
	name = journal_get_string(rec, &len);
	sft_quote(&item.name, name, len);
	item.now = item.name;
	return add_item(d, jid, &item);
}

static void describe_rename(struct described *item, struct journal_record *rec)
{
	uint32_t len;

	(void)journal_get_u32(rec); /* the shard */
	item->scratch = journal_get_u32(rec);
	const char *name = journal_get_string(rec, &len);
	sft_quote(&item->now, name, len);
	item->renamed = strcmp(item->now.text, item->name.text) != 0;
}

static int describe_record(struct description *d, struct journal_record *rec)
{
	uint32_t i;

	switch (rec->type) {
	case JOURNAL_BIND:
	case JOURNAL_CREATE:
		return describe_new(d, rec);
	case JOURNAL_METADATA:
		d->metadata = true;
		return 0;
	case JOURNAL_DATA:
	case JOURNAL_BLOCKS:
	case JOURNAL_LENGTH:
	case JOURNAL_DECLARE:
	case JOURNAL_REMOVE:
	case JOURNAL_RENAME:
		break;
	default:
		return 0;
	}
	if (!blockmap_find(&d->ids, journal_get_u32(rec), &i))
		return -EBADMSG;
	struct described *item = &d->items[i];
	if (rec->type == JOURNAL_REMOVE)
		item->removed = true;
	else if (rec->type == JOURNAL_RENAME)
		describe_rename(item, rec);
	else if (rec->type == JOURNAL_DECLARE)
		item->declared = true;
	else
		item->changed = true;
	return 0;
}

static void print_item(const struct described *item, struct sft_buf *text)
{
	const bool gone = item->removed || item->scratch;

	if (gone && !item->committed)
		return;
	if (gone)
		sft_buf_printf(text, "tensor %s: removed\n", item->name.text);
	else if (!item->committed)
		sft_buf_printf(text, "tensor %s: new\n", item->now.text);
	else if (item->renamed)
		sft_buf_printf(text, "tensor %s: renamed to %s%s%s\n", item->name.text,
			       item->now.text, item->changed ? ", bytes changed" : "",
			       item->declared ? ", dtype and shape declared" : "");
	else if (item->changed || item->declared)
		sft_buf_printf(text, "tensor %s: %s%s%s\n", item->name.text,
			       item->changed ? "bytes changed" : "",
			       item->changed && item->declared ? ", " : "",
			       item->declared ? "dtype and shape declared" : "");
}

/* Say what the journal holds, as far as it can be read. */
static int describe(int fd, struct sft_buf *text)
{
	struct description d = { 0 };
	struct journal_reader reader;
	struct journal_record rec;
	int r = journal_open(&reader, fd);

	while (r >= 0 && (r = journal_next(&reader, &rec)) > 0)
		r = describe_record(&d, &rec);
	for (uint32_t i = 0; i < d.count; i++)
		print_item(&d.items[i], text);
	if (d.metadata)
		sft_buf_printf(text, "metadata: changed\n");
	if (r == -EBADMSG)
		sft_buf_printf(text, "the journal is damaged: there may be more\n");
	journal_close(&reader);
	blockmap_free(&d.ids);
	free(d.items);
	return r == -EBADMSG ? 0 : r;
}

/* ---- away ---- */

/* Whether what an application in place has left is still there, to be finished. */
static bool is_source(const char *source, const struct journal_summary *sum)
{
	struct sft_checkpoint *ck = NULL;
	bool other = access(source, F_OK) < 0 && errno == ENOENT;

	if (sft_checkpoint_open(source, sum->flags, &ck, NULL) == 0)
		other = identity_check(sum, ck, true, NULL) == -ESTALE;
	sft_checkpoint_free(ck);
	return !other;
}

/*
 * A commit that was interrupted between its renames, or while it wrote into the source, has left a
 * mixture of old and new. Dropping what is needed to finish it would leave that for good, so 1: it
 * is to be finished. Before the first rename the temporaries just go.
 */
static int drop_prepared(const struct staging *s, const char *source,
			 const struct journal_summary *sum, struct sft_error *err)
{
	const struct prepared_places places = { s->source_path, sum->output };
	struct sft_error e = { 0 };
	int r;

	if (sum->kind == JOURNAL_PREPARED_INPLACE)
		return is_source(source, sum);
	r = prepared_look(&places, sum->targets, sum->target_count, &e);
	if (r == PREPARED_BEGUN || prepared_is_begun(&places, sum->targets, sum->target_count))
		return 1;
	if (r < 0 && r != -ESTALE)
		return sft_fail(err, -r, "%s", e.msg);
	prepared_remove_temporaries(&places, sum->targets, sum->target_count);
	return 0;
}

/* The directory of a shard of the source, links resolved. Malloced, or NULL. */
static char *directory_of(const char *source_path, const char *name, uint32_t len)
{
	char *path = NULL, *real = NULL, *dir = NULL;

	if (asprintf(&path, "%s/%.*s", source_path, (int)len, name) >= 0)
		real = realpath(path, NULL);
	else
		path = NULL;
	dir = real ? path_dirname(real) : NULL;
	free(path);
	free(real);
	return dir;
}

/* What a commit left that died before its record: new files, beside those that they were to replace
 * or in the output. */
static void clean(const struct staging *s, const struct journal_summary *sum)
{
	struct identity_names names = identity_names(sum);
	struct stat st;
	const bool is_there =
		stat(s->source_path, &st) == 0 || (sum->output && stat(sum->output, &st) == 0);
	const bool is_directory = is_there && S_ISDIR(st.st_mode);
	char *done = is_directory ? strdup(s->source_path) : path_dirname(s->source_path);
	const char *name;
	uint32_t len;

	if (done)
		prepared_clean_directory(done, sum->id);
	while (is_directory && (name = identity_next_name(&names, &len))) {
		char *dir = directory_of(s->source_path, name, len);

		if (dir && !(done && strcmp(dir, done) == 0)) {
			prepared_clean_directory(dir, sum->id);
			free(done);
			done = dir;
		} else {
			free(dir);
		}
	}
	free(done);
	if (sum->output)
		staging_clear_output(sum->output, is_directory, sum->id);
}

/* ---- what there is ---- */

static void add_path(struct sft_buf *text, const char *path)
{
	char piece[8];
	size_t len = strlen(path);

	/* It goes to a terminal. */
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)path[i];

		snprintf(piece, sizeof(piece), c < 0x20 || c == 0x7f ? "\\x%02x" : "%c", c);
		sft_buf_text(text, piece);
	}
}

static void say_heading(struct sft_buf *text, const struct staging *s,
			const struct journal_summary *sum)
{
	sft_buf_text(text, "edits of ");
	add_path(text, sum->source);
	sft_buf_text(text, ", staged in ");
	add_path(text, s->path);
	sft_buf_text(text, ":\n");
}

static void say_of_place(struct sft_buf *text, const struct staging *s, const char *what)
{
	add_path(text, s->path);
	sft_buf_printf(text, ": %s\n", what);
}

/* Read the journal and describe it. *whole: all of it can be read. */
static int look(struct staging *s, struct journal_summary *sum, struct sft_buf *text, bool *found,
		bool *whole, struct sft_error *err)
{
	struct sft_error reason = { 0 };
	struct journal_line line;
	int r;

	s->journal = trust_openat(s->dir, s->path, "journal", O_RDONLY, err);
	if (s->journal == -ENOENT)
		return 0;
	r = s->journal < 0 ? s->journal : staging_refuse_strangers(s, err);
	/* The blocks are not read, but what nobody may rely on is not dropped either. */
	int blocks = r == 0 ? trust_openat(s->dir, s->path, "blocks", O_RDONLY, err) : -ENOENT;
	if (blocks >= 0)
		close(blocks);
	else if (blocks != -ENOENT)
		r = blocks;
	if (r < 0)
		return sft_fail(err, -r, "cannot read the edits staged in %s: %s", s->path,
				strerror(-r));
	r = journal_summarize(s->journal, sum, &reason);
	*found = r == 0 ? sum->edits || sum->prepared : r == -EBADMSG;
	*whole = r == 0;
	int others = *found ? staging_refuse_others(s, sum, err) : 0;
	if (others < 0)
		return others;
	if ((*whole || r == -ENODATA) && journal_say_left_out(sum, &line))
		say_of_place(text, s, line.text);
	if (r == -EBADMSG) {
		say_of_place(text, s, reason.msg);
		return 0;
	}
	if (r == 0 && *found) {
		say_heading(text, s, sum);
		r = describe(s->journal, text);
	}
	if (r == 0 && *found && sum->prepared && sum->kind == JOURNAL_PREPARED_INPLACE)
		sft_buf_text(text, "they were being written into the source: until that is "
				   "finished it is a mixture of old and new, and so is any copy "
				   "of it\n");
	return r == 0 || r == -ENODATA ? 0
				       : sft_fail(err, -r, "cannot read the edits staged in %s: %s",
						  s->path, strerror(-r));
}

/* ---- the whole ---- */

static int discard(struct staging *s, const char *source, bool drop, struct sft_buf *text,
		   bool *found, struct sft_error *err)
{
	struct journal_summary sum = { 0 };
	bool whole = false;
	int r = look(s, &sum, text, found, &whole, err);

	if (r == 0 && text->failed)
		r = sft_fail(err, ENOMEM, "no memory to say what is staged");
	if (r == 0 && drop && whole && sum.prepared)
		r = drop_prepared(s, source, &sum, err);
	if (r == 0 && *found && drop && whole)
		clean(s, &sum);
	/* Where nothing is found, nothing of it is kept, in a directory that is known to be ours.
	 */
	if (r == 0 && (*found ? drop : s->journal >= 0 || s->claim.own || s->claim.known))
		staging_clear(s->dir);
	journal_summary_free(&sum);
	return r;
}

int staging_discard(const char *source, const char *staging, bool drop, struct sft_buf *text,
		    bool *found, char **path, struct sft_error *err)
{
	struct staging s = STAGING_NONE;
	int r = staging_find(&s, source, staging, err);

	*found = false;
	*path = NULL;
	if (r == 0)
		r = staging_claim(&s, false, err);
	if (r == 0 && s.dir >= 0)
		r = discard(&s, source, drop, text, found, err);
	else if (r == 0 && drop)
		staging_forget_marker(&s);
	if (r == 1)
		*path = strdup(s.path);
	staging_let_go(&s);
	free(s.source_path);
	return r;
}
