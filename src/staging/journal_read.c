/* journal_read.c - taking a journal apart; trusts nothing in it */
#include "hash.h"
#include "io.h"
#include "journal.h"
#include "num.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WINDOW (1u << 20) /* bytes read at a time */

/* ---- frames ---- */

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

int journal_fill(struct journal_reader *r, size_t n)
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

/* Take the frame at r->offset into *frame, and move on: 1, 0 where there is none, -errno. */
static int next_frame(struct journal_reader *r)
{
	const unsigned char *p;
	size_t payload;
	int e;

	if (r->size - r->offset < JOURNAL_FRAME)
		return 0;
	e = journal_fill(r, 8);
	if (e < 0)
		return e;
	p = r->buf + (r->offset - r->at);
	payload = le32(p);
	if (le32(p + 4) != JOURNAL_MAGIC || payload > JOURNAL_FRAME_MAX ||
	    payload > r->size - r->offset - JOURNAL_FRAME)
		return 0;
	e = journal_fill(r, payload + JOURNAL_FRAME);
	if (e < 0)
		return e;
	p = r->buf + (r->offset - r->at);
	if (hash_bytes(p, payload + 8, r->offset) != sft_le64(p + 8 + payload))
		return 0;
	r->frame = r->offset;
	r->record = p + 8;
	r->left = payload;
	r->offset += payload + JOURNAL_FRAME;
	return 1;
}

/* ---- records ---- */

int journal_next(struct journal_reader *r, struct journal_record *rec)
{
	uint32_t payload = 0;

	while (r->left == 0) {
		int e = next_frame(r);

		if (e <= 0)
			return e;
	}
	/* A frame with a right hash and no room for its record was written by nobody. */
	*rec = (struct journal_record){ .begin = r->frame, .end = r->offset, .bad = true };
	if (r->left >= 8) {
		rec->type = (enum journal_type)le32(r->record);
		payload = le32(r->record + 4);
		rec->bad = payload > r->left - 8;
	}
	if (rec->bad) {
		r->left = 0;
		return 1;
	}
	rec->p = r->record + 8;
	rec->left = payload;
	r->record += 8 + payload;
	r->left -= 8 + payload;
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
