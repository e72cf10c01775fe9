/* journal_read.c - taking a journal apart; trusts nothing in it */
#include "journal.h"
#include "hash.h"
#include "num.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WINDOW (1u << 20) /* bytes read at a time */
#define TARGETS_MAX 1000000u
#define BEGINNING 512u /* bytes of a file that have to be zeros; a sector */

/* ---- records ---- */

int journal_open(struct journal_reader *r, int fd)
{
	struct stat st;

	*r = (struct journal_reader){ .fd = fd };
	if (fstat(fd, &st) < 0)
		return -errno;
	r->size = (uint64_t)st.st_size;
	return 0;
}

void journal_close(struct journal_reader *r)
{
	free(r->buf);
	r->buf = NULL;
}

/* Have the n bytes at r->offset in the buffer; they are known to be in the file. */
static int fill(struct journal_reader *r, size_t n)
{
	size_t want = n > WINDOW ? n : WINDOW;
	int e;

	if (r->offset >= r->at && r->offset + n <= r->at + r->len)
		return 0;
	if (want > r->size - r->offset)
		want = (size_t)(r->size - r->offset);
	if (want > r->cap) {
		unsigned char *grown = realloc(r->buf, want);

		if (!grown)
			return -ENOMEM;
		r->buf = grown;
		r->cap = want;
	}
	r->len = 0;
	e = io_pread(r->fd, r->buf, want, r->offset);
	if (e < 0)
		return e;
	r->at = r->offset;
	r->len = want;
	return 0;
}

static uint32_t le32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int journal_next(struct journal_reader *r, struct journal_record *rec)
{
	const unsigned char *p;
	size_t payload;
	int e;

	if (r->size - r->offset < JOURNAL_FRAME)
		return 0;
	e = fill(r, JOURNAL_FRAME);
	if (e < 0)
		return e;
	payload = le32(r->buf + (r->offset - r->at));
	if (payload > JOURNAL_RECORD_MAX || payload > r->size - r->offset - JOURNAL_FRAME)
		return 0;
	e = fill(r, payload + JOURNAL_FRAME);
	if (e < 0)
		return e;
	p = r->buf + (r->offset - r->at);
	if (bytes_hash(p, payload + 8, 0) != sft_le64(p + 8 + payload))
		return 0;
	r->offset += payload + JOURNAL_FRAME;
	*rec = (struct journal_record){
		.type = (enum journal_type)le32(p + 4),
		.p = p + 8,
		.left = payload,
		.end = r->offset,
	};
	return 1;
}

/* The next n bytes, or NULL. */
static const unsigned char *take(struct journal_record *rec, size_t n)
{
	const unsigned char *p = rec->p;

	if (rec->bad || n > rec->left) {
		rec->bad = true;
		return NULL;
	}
	rec->p += n;
	rec->left -= n;
	return p;
}

uint32_t journal_get_u32(struct journal_record *rec)
{
	const unsigned char *p = take(rec, 4);

	return p ? le32(p) : 0;
}

uint64_t journal_get_u64(struct journal_record *rec)
{
	const unsigned char *p = take(rec, 8);

	return p ? sft_le64(p) : 0;
}

const char *journal_get_string(struct journal_record *rec, uint32_t *len)
{
	const unsigned char *p;

	*len = journal_get_u32(rec);
	p = take(rec, *len);
	if (!p)
		*len = 0;
	return p ? (const char *)p : "";
}

/* ---- the summary ---- */

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
	sum->own_dir = flags & JOURNAL_OWN_DIR;
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
	for (size_t i = 0; i < sum->target_count; i++) {
		free(sum->targets[i].temporary);
		free(sum->targets[i].path);
	}
	free(sum->targets);
	sum->targets = NULL;
	sum->target_count = 0;
}

static int summarize_prepared(struct journal_record *rec, struct journal_summary *sum,
			      struct sft_error *err)
{
	uint32_t kind = journal_get_u32(rec), count = journal_get_u32(rec);

	free_targets(sum);
	/* Each takes 24 bytes at least. */
	if (rec->bad || kind > JOURNAL_PREPARED_INPLACE || count > rec->left / 24 ||
	    count > TARGETS_MAX)
		return sft_fail(err, EBADMSG, "the journal's record of a commit is damaged");
	sum->targets = calloc((size_t)count + 1, sizeof(*sum->targets));
	if (!sum->targets)
		return sft_fail(err, ENOMEM, "no memory for the journal");
	for (uint32_t i = 0; i < count; i++) {
		struct commit_target *t = &sum->targets[sum->target_count++];

		t->temporary = get_path(rec);
		t->path = get_path(rec);
		t->ino = journal_get_u64(rec);
		t->size = journal_get_u64(rec);
		if (!t->temporary || !t->path)
			return sft_fail(err, ENOMEM, "no memory for the journal");
	}
	if (rec->bad)
		return sft_fail(err, EBADMSG, "the journal's record of a commit is damaged");
	sum->prepared = true;
	sum->kind = (enum journal_kind)kind;
	return 0;
}

/* Whether the file holds nothing but zeros, as one may after a power cut. Its beginning will do.
 * 1, 0, -errno. */
static int is_blank(struct journal_reader *r)
{
	size_t n = r->size < 4096 ? (size_t)r->size : 4096;
	int e = n ? fill(r, n) : 0;

	for (size_t i = 0; e == 0 && i < n; i++) {
		if (r->buf[r->offset - r->at + i])
			return 0;
	}
	return e < 0 ? e : 1;
}

/*
 * How many SYNC records there are at any place from the reader's offset on, at most two. Nothing
 * else is looked for: a SYNC is short, so the work is linear, whatever the bytes are.
 */
static int find_syncs(struct journal_reader *r)
{
	struct journal_record rec;
	int found = 0, e = 0;

	for (; e >= 0 && found < 2 && r->size - r->offset >= JOURNAL_FRAME; r->offset++) {
		e = fill(r, JOURNAL_FRAME);
		if (e < 0)
			break;
		const unsigned char *p = r->buf + (r->offset - r->at);
		if (le32(p) || le32(p + 4) != JOURNAL_SYNC)
			continue;
		e = journal_next(r, &rec);
		found += e > 0;
		r->offset -= e > 0; /* it is behind the record */
	}
	return e < 0 ? e : found;
}

/*
 * What to think of the bytes behind the last whole record. An fsync waits for the one before, so
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
	if (found >= 2)
		return sft_fail(err, EBADMSG,
				"the journal is damaged at byte %llu, although later edits in it "
				"are whole",
				(unsigned long long)at);
	return 0;
}

static int summarize_records(struct journal_reader *r, struct journal_summary *sum,
			     struct sft_error *err)
{
	struct journal_record rec;
	int e = journal_next(r, &rec);

	if (e < 0)
		return sft_fail(err, -e, "cannot read the journal: %s", strerror(-e));
	if (e == 0) {
		int blank = is_blank(r);

		if (blank == 0)
			return sft_fail(err, EBADMSG, "the journal's header is damaged");
		e = blank < 0
			    ? sft_fail(err, -blank, "cannot read the journal: %s", strerror(-blank))
			    : summarize_rest(r, sum, err);
		return e < 0 ? e : -ENODATA;
	}
	e = summarize_header(&rec, sum, err);
	if (e < 0)
		return e;
	sum->end = rec.end;
	while ((e = journal_next(r, &rec)) > 0) {
		sum->end = rec.end;
		if (rec.type == JOURNAL_SYNC) {
			sum->synced = rec.end;
			continue;
		}
		sum->edits = true;
		if (rec.type == JOURNAL_CANCELLED)
			sum->prepared = false;
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
	/* The type and the version; none will have more than 255. */
	static const unsigned char header[] = { JOURNAL_HEADER, 0, 0, 0, 0, 0, 0, 0 };
	unsigned char bytes[BEGINNING];
	struct stat st;
	size_t n;
	int e;

	if (fstat(fd, &st) < 0)
		return -errno;
	n = st.st_size < (off_t)BEGINNING ? (size_t)st.st_size : BEGINNING;
	e = io_pread(fd, bytes, n, 0);
	if (e < 0)
		return e;
	*blank = true;
	for (size_t i = 0; i < n; i++)
		*blank = *blank && bytes[i] == 0;
	if (*blank)
		return 1;
	if (n <= 4 || (n > 8 && bytes[8] == 0))
		return 0;
	for (size_t i = 4; i < n && i < 12; i++) {
		if (i != 8 && bytes[i] != header[i - 4])
			return 0;
	}
	return 1;
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
