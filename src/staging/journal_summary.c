/*
 * journal_summary.c - what is to be known of a journal before the base is opened: whose edits they
 * are, whether a commit was prepared, how far the journal is whole
 */
#include "journal_summary.h"
#include "io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TARGETS_MAX 1000000u
#define BEGINNING 512u			/* bytes of a file that have to be zeros; a sector */
#define SYNC_BYTES (JOURNAL_FRAME + 8u) /* of a frame that holds a SYNC alone */
#define SCAN (64u << 10)		/* bytes looked through at a time */

/* ---- the header, a prepared commit ---- */

/* A string without NULs, as a path has to be; NULL where there is no memory. */
static char *get_path(struct journal_record *rec)
{
	uint32_t len;
	const char *s = journal_get_string(rec, &len);

	if (memchr(s, '\0', len))
		rec->bad = true;
	return strndup(s, len);
}

/* The same; an empty one is left out. */
static int get_optional_path(struct journal_record *rec, char **out)
{
	char *path = get_path(rec);

	if (!path)
		return -ENOMEM;
	if (*path)
		*out = path;
	else
		free(path);
	return 0;
}

static int summarize_header(struct journal_record *rec, struct journal_summary *sum,
			    struct sft_error *err)
{
	uint32_t version, flags;

	if (rec->type != JOURNAL_HEADER)
		return sft_fail(err, EBADMSG, "the journal does not begin with a header");
	version = journal_get_u32(rec);
	if (!rec->bad && version != JOURNAL_VERSION)
		return sft_fail(err, EBADMSG, "the journal has version %u, and this is for %u",
				version, JOURNAL_VERSION);
	sum->flags = journal_get_u32(rec) & (SFT_PARTIAL | SFT_SAME_NAMES);
	flags = journal_get_u32(rec);
	sum->inplace = flags & JOURNAL_INPLACE;
	sum->id = journal_get_u64(rec);
	sum->source = get_path(rec);
	if (!sum->source || get_optional_path(rec, &sum->base) < 0 ||
	    get_optional_path(rec, &sum->output) < 0)
		return sft_fail(err, ENOMEM, "no memory for the journal");
	sum->identity = malloc(rec->left + 1);
	if (!sum->identity)
		return sft_fail(err, ENOMEM, "no memory for the journal");
	sum->identity_len = rec->left;
	memcpy(sum->identity, rec->p, rec->left);
	return rec->bad ? sft_fail(err, EBADMSG, "the journal's header is damaged") : 0;
}

static void free_targets(struct journal_summary *sum)
{
	prepared_free(sum->targets, sum->target_count);
	sum->targets = NULL;
	sum->target_count = 0;
}

/* The name of a file in a directory that is known from elsewhere: it leads out of it nowhere. */
static char *get_name(struct journal_record *rec)
{
	char *name = get_path(rec);

	if (name &&
	    (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
		rec->bad = true;
	return name;
}

static int summarize_target(struct journal_record *rec, struct journal_summary *sum,
			    struct sft_error *err)
{
	struct prepared_target *t = &sum->targets[sum->target_count++];
	uint32_t flags;

	flags = journal_get_u32(rec);
	t->in_output = flags & JOURNAL_IN_OUTPUT;
	t->text = flags & JOURNAL_IS_TEXT;
	t->name = get_name(rec);
	t->temporary = get_name(rec);
	t->old = identity_get_id(rec);
	t->new = identity_get_id(rec);
	if (!t->name || !t->temporary)
		return sft_fail(err, ENOMEM, "no memory for the journal");
	if (!prepared_is_temporary(t->temporary, sum->id) || !t->new.there ||
	    (t->in_output && !sum->output))
		rec->bad = true;
	return 0;
}

static int summarize_prepared(struct journal_record *rec, struct journal_summary *sum,
			      struct sft_error *err)
{
	uint32_t kind = journal_get_u32(rec), count = journal_get_u32(rec);
	int r = 0;

	free_targets(sum);
	/* Each takes 60 bytes at least. */
	if (rec->bad || kind > JOURNAL_PREPARED_ROOM || count > rec->left / 60 ||
	    count > TARGETS_MAX)
		return sft_fail(err, EBADMSG, "the journal's record of a commit is damaged");
	sum->targets = calloc((size_t)count + 1, sizeof(*sum->targets));
	if (!sum->targets)
		return sft_fail(err, ENOMEM, "no memory for the journal");
	for (uint32_t i = 0; r == 0 && i < count; i++)
		r = summarize_target(rec, sum, err);
	if (r < 0)
		return r;
	if (rec->bad)
		return sft_fail(err, EBADMSG, "the journal's record of a commit is damaged");
	sum->room = kind == JOURNAL_PREPARED_ROOM;
	sum->prepared = !sum->room;
	sum->kind = (enum journal_kind)kind;
	return 0;
}

/* ---- the beginning ---- */

enum beginning {
	STRANGE, /* no journal of ours */
	BLANK,	 /* empty, or zeros, as after a power cut */
	OLDER,	 /* of version 1 */
	OURS,
};

static int look_at_beginning(int fd, enum beginning *beginning)
{
	static const unsigned char magic[] = { JOURNAL_MAGIC_BYTES }, one[] = { 1, 0, 0, 0 };
	unsigned char bytes[BEGINNING] = { 0 };
	struct stat st;
	size_t n, i = 0;
	int e;

	*beginning = STRANGE;
	if (fstat(fd, &st) < 0)
		return -errno;
	n = st.st_size < (off_t)BEGINNING ? (size_t)st.st_size : BEGINNING;
	e = io_pread(fd, bytes, n, 0);
	if (e < 0)
		return e;
	while (i < n && bytes[i] == 0)
		i++;
	if (i == n)
		*beginning = BLANK;
	else if (memcmp(bytes + 4, magic, 4) == 0)
		*beginning = OURS;
	else if (memcmp(bytes + 4, one, 4) == 0 && memcmp(bytes + 8, one, 4) == 0)
		*beginning = OLDER;
	return 0;
}

/* ---- the end ---- */

/* Move the reader to the next byte at or after its place that is data and not a hole, as far as the
 * file system can tell; false if there is none. What is sparse costs no time. */
static bool skip_hole(struct journal_reader *r)
{
	off_t data = lseek(r->fd, (off_t)r->offset, SEEK_DATA);

	if (data < 0 && errno == ENXIO)
		return false;
	if (data > (off_t)r->offset)
		r->offset = (uint64_t)data;
	return r->offset < r->size;
}

/*
 * How many SYNC records there are at any place from the reader's offset on, at most two. Nothing
 * else is looked for: a SYNC is a short frame of its own, so the work is linear in the bytes that
 * are there, whatever they are.
 */
static int find_syncs(struct journal_reader *r)
{
	static const unsigned char begins[] = {
		8, 0, 0, 0, JOURNAL_MAGIC_BYTES, JOURNAL_SYNC, 0, 0, 0, 0, 0, 0, 0
	};
	struct journal_record rec;
	int found = 0, e = 0;

	while (e >= 0 && found < 2 && r->size - r->offset >= SYNC_BYTES && skip_hole(r)) {
		size_t n = r->size - r->offset < SCAN ? (size_t)(r->size - r->offset) : SCAN;

		e = journal_fill(r, n);
		if (e < 0)
			break;
		const unsigned char *p = r->buf + (r->offset - r->at);
		const unsigned char *at = memmem(p, n, begins, sizeof(begins));
		/* A frame may begin in the last bytes, with its end in the next piece. */
		r->offset += at ? (size_t)(at - p) : n < SYNC_BYTES ? n : n - sizeof(begins) + 1;
		if (!at || r->size - r->offset < SYNC_BYTES)
			continue;
		uint64_t begin = r->offset;
		e = journal_next(r, &rec);
		found += e > 0 && rec.type == JOURNAL_SYNC;
		r->left = 0;
		r->offset = begin + 1;
	}
	return e < 0 ? e : found;
}

/*
 * What to think of the bytes after the last whole frame. An fsync waits for the one before, so
 * when a second SYNC is there, all before the first was durable once: a bad record in front of both
 * is damage, and not the end that a crash has torn.
 */
static int summarize_rest(struct journal_reader *r, struct journal_summary *sum,
			  struct sft_error *err)
{
	uint64_t at = r->offset;
	int found = find_syncs(r);

	sum->left_out = r->size - at;
	if (found < 0)
		return sft_fail(err, -found, "cannot read the journal: %s", strerror(-found));
	/* Without a header nothing can be told of it, so one is enough. */
	if (found >= (at ? 2 : 1))
		return sft_fail(err, EBADMSG,
				"the journal is damaged at byte %llu, although later edits in it "
				"are whole",
				(unsigned long long)at);
	return 0;
}

/*
 * There is no whole first frame. It is durable before anything else is written: if it is torn, and
 * no SYNC follows, no edit was ever acknowledged.
 */
static int summarize_nothing(struct journal_reader *r, struct journal_summary *sum,
			     struct sft_error *err)
{
	enum beginning beginning;
	int e = look_at_beginning(r->fd, &beginning);

	if (e < 0)
		return sft_fail(err, -e, "cannot read the journal: %s", strerror(-e));
	if (beginning == OLDER)
		return sft_fail(err, EBADMSG, "the journal has version 1, and this is for %u",
				JOURNAL_VERSION);
	if (beginning == STRANGE)
		return sft_fail(err, EBADMSG, "the journal's header is damaged");
	e = summarize_rest(r, sum, err);
	return e < 0 ? e : -ENODATA;
}

static int summarize_records(struct journal_reader *r, struct journal_summary *sum,
			     struct sft_error *err)
{
	struct journal_record rec;
	int e = journal_next(r, &rec);

	if (e < 0)
		return sft_fail(err, -e, "cannot read the journal: %s", strerror(-e));
	if (e == 0)
		return summarize_nothing(r, sum, err);
	e = summarize_header(&rec, sum, err);
	if (e < 0)
		return e;
	sum->end = rec.end;
	while ((e = journal_next(r, &rec)) > 0) {
		sum->end = rec.end;
		if (rec.type == JOURNAL_SYNC && !rec.bad) {
			sum->synced = rec.end;
			continue;
		}
		sum->edits = true;
		if (rec.type == JOURNAL_PREPARED) {
			e = summarize_prepared(&rec, sum, err);
			if (e < 0)
				return e;
		}
	}
	return e < 0 ? sft_fail(err, -e, "cannot read the journal: %s", strerror(-e))
		     : summarize_rest(r, sum, err);
}

bool journal_say_left_out(const struct journal_summary *sum, struct journal_line *line)
{
	if (!sum->left_out)
		return false;
	snprintf(line->text, sizeof(line->text),
		 "the last %llu bytes of the journal are left out: what begins at byte %llu is no "
		 "whole record, as after a crash, or it is damaged",
		 (unsigned long long)sum->left_out, (unsigned long long)sum->end);
	return true;
}

int journal_summarize(int fd, struct journal_summary *sum, struct sft_error *err)
{
	struct journal_reader r;
	int e;

	*sum = (struct journal_summary){ 0 };
	e = journal_open(&r, fd);
	if (e < 0)
		return sft_fail(err, -e, "cannot read the journal: %s", strerror(-e));
	e = summarize_records(&r, sum, err);
	journal_close(&r);
	return e;
}

int journal_may_be_ours(int fd, bool *blank)
{
	enum beginning beginning;
	int e = look_at_beginning(fd, &beginning);

	*blank = beginning == BLANK;
	return e < 0 ? e : beginning != STRANGE;
}

void journal_summary_free(struct journal_summary *sum)
{
	free(sum->source);
	free(sum->base);
	free(sum->output);
	free(sum->identity);
	free_targets(sum);
	*sum = (struct journal_summary){ 0 };
}
