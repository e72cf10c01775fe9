/* staging_discard.c - staged edits without the checkpoint: are there any, what are they, away */
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool sft_staging_exists(const char *source, const char *staging)
{
	struct journal_summary sum = { 0 };
	char *source_path = NULL, *path = NULL;
	bool exists = false, blank;
	int dir, fd;

	if (staging_locate(source, staging, &source_path, &path, NULL) < 0)
		return false;
	dir = io_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	fd = dir < 0 ? -1 : io_openat(dir, "journal", O_RDONLY | O_NOFOLLOW, 0);
	if (fd >= 0 && (!staging || journal_may_be_ours(fd, &blank) > 0)) {
		/* One that cannot be read is there all the same. */
		int r = journal_summarize(fd, &sum, NULL);

		exists = r == 0 ? sum.edits || sum.prepared : r != -ENODATA;
		if (staging && sum.source && !identity_is_of(&sum, source_path))
			exists = false;
		journal_summary_free(&sum);
	}
	if (fd >= 0)
		close(fd);
	if (dir >= 0)
		close(dir);
	free(source_path);
	free(path);
	return exists;
}

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

static bool is_file(const char *path, const struct commit_target *t)
{
	struct stat st;

	return lstat(path, &st) == 0 && st.st_ino == t->ino && (uint64_t)st.st_size == t->size;
}

/* Whether `recover` could finish a commit into the source itself. */
static bool is_source(const char *source, const struct journal_summary *sum)
{
	struct sft_checkpoint *ck = NULL;
	bool same = sft_checkpoint_open(source, sum->flags, &ck, NULL) == 0 &&
		    identity_check(sum, ck, true, NULL) == 0;

	sft_checkpoint_free(ck);
	return same;
}

/*
 * A commit that was interrupted between its renames, or while it wrote into the source, has left a
 * mixture of old and new. Dropping what is needed to finish it would leave that for good, so it is
 * refused while finishing is possible. Before the first rename the temporaries just go.
 */
static int drop_prepared(const char *source, const struct journal_summary *sum,
			 struct sft_error *err)
{
	size_t done = 0, left = 0;

	for (size_t i = 0; i < sum->target_count; i++) {
		bool renamed = is_file(sum->targets[i].path, &sum->targets[i]);

		done += renamed;
		left += !renamed && is_file(sum->targets[i].temporary, &sum->targets[i]);
	}
	if (sum->kind == JOURNAL_PREPARED_INPLACE
		    ? is_source(source, sum)
		    : done && left && done + left == sum->target_count)
		return sft_fail(err, EINVAL,
				"a commit was interrupted while it was changing files; "
				"`safetensorfs recover` finishes it");
	for (size_t i = 0; left && i < sum->target_count; i++) {
		if (is_file(sum->targets[i].temporary, &sum->targets[i]))
			(void)io_unlinkat(AT_FDCWD, sum->targets[i].temporary, 0);
	}
	return 0;
}

static int discard(struct sft_overlay *ov, const char *source, bool drop, struct sft_buf *text,
		   bool *found, struct sft_error *err)
{
	struct journal_summary sum = { 0 };
	struct staging *s = &ov->staging;
	struct sft_error reason = { 0 };
	struct journal_line line;
	bool whole;
	int r;

	s->journal = io_openat(s->dir, "journal", O_RDONLY | O_NOFOLLOW, 0);
	if (s->journal == -ENOENT && ov->options.staging)
		return 0; /* nothing shows that the other files are ours */
	r = s->journal < 0 ? s->journal : staging_refuse_strangers(ov, err);
	if (s->journal >= 0 && r < 0)
		return r;
	if (r == 0)
		r = journal_summarize(s->journal, &sum, &reason);
	*found = r == 0 ? sum.edits || sum.prepared : r == -EBADMSG;
	whole = r == 0;
	int others = *found ? staging_refuse_others(ov, &sum, err) : 0;
	if (others < 0) {
		journal_summary_free(&sum);
		return others;
	}
	if (r == -EBADMSG) {
		sft_buf_printf(text, "%s: %s\n", s->path, reason.msg);
		r = 0;
	} else if (r == 0 && *found) {
		sft_buf_printf(text, "edits of %s, staged in %s:\n", sum.source, s->path);
		r = describe(s->journal, text);
	}
	if ((whole || r == -ENODATA) && journal_say_left_out(&sum, &line))
		sft_buf_printf(text, "%s: %s\n", s->path, line.text);
	if (r == -ENOENT || r == -ENODATA)
		r = 0;
	if (r < 0)
		sft_fail(err, -r, "cannot read the edits staged in %s: %s", s->path, strerror(-r));
	s->own_dir = s->own_dir || sum.own_dir;
	if (r == 0 && drop && whole && sum.prepared)
		r = drop_prepared(source, &sum, err);
	if (r == 0 && drop)
		staging_remove(ov);
	if (r == 0 && text->failed)
		r = sft_fail(err, ENOMEM, "no memory to say what is staged");
	journal_summary_free(&sum);
	return r;
}

int sft_staging_discard(const char *source, const char *staging, bool drop, struct sft_buf *text,
			bool *found, struct sft_error *err)
{
	struct sft_overlay ov = { .options = { .staging = staging },
				  .staging = { .dir = -1, .blocks = -1, .journal = -1 } };
	int r = staging_locate(source, staging, &ov.source_path, &ov.staging.path, err);

	*found = false;
	if (r == 0)
		r = staging_check_source(ov.source_path, err);
	if (r == 0)
		r = staging_open(&ov, err);
	if (r == 0 && ov.staging.dir >= 0)
		r = discard(&ov, source, drop, text, found, err);
	staging_close(&ov.staging);
	free(ov.staging.path);
	free(ov.source_path);
	return r;
}
