/*
 * journal_format.h - a journal as a list of records, for tests that change some of them
 *
 * What src/staging/journal.h says of frames and records, once more and from outside: a frame is its
 * length and a magic number (32 bits each), records, and a hash over all of these whose seed is the
 * frame's offset; a record is its type, the length of its payload (32 bits each), and the payload.
 */
#ifndef JOURNAL_FORMAT_H
#define JOURNAL_FORMAT_H

#include "hash.h"
#include "num.h"
#include "sft.h"

#include <stdlib.h>
#include <string.h>

#define FORMAT_MAGIC 0x326a7466u
#define FORMAT_FRAME 16u	/* bytes of a frame besides its records */
#define FORMAT_RECORD 8u	/* bytes of a record besides its payload */
#define FORMAT_RECORDS_MAX 4096 /* of a whole journal */

struct format_record {
	uint32_t type;
	size_t length; /* of the payload */
	unsigned char *payload;
	bool ends_frame;
};

struct format_journal {
	struct format_record records[FORMAT_RECORDS_MAX];
	size_t count;
};

static inline uint32_t format_u32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Put a copy of a record at a place in the list; false where there is no more room. */
static inline bool format_insert(struct format_journal *j, size_t at, struct format_record rec)
{
	unsigned char *copy = j->count < FORMAT_RECORDS_MAX ? malloc(rec.length + 1) : NULL;

	if (!copy)
		return false;
	if (rec.length)
		memcpy(copy, rec.payload, rec.length);
	rec.payload = copy;
	memmove(&j->records[at + 1], &j->records[at], (j->count - at) * sizeof(rec));
	j->records[at] = rec;
	j->count++;
	return true;
}

static inline void format_remove(struct format_journal *j, size_t at)
{
	free(j->records[at].payload);
	j->count--;
	memmove(&j->records[at], &j->records[at + 1], (j->count - at) * sizeof(*j->records));
}

static inline void format_free(struct format_journal *j)
{
	while (j->count)
		format_remove(j, j->count - 1);
}

/* Take a whole journal apart; false where it is not one. */
static inline bool format_parse(struct format_journal *j, unsigned char *bytes, size_t n)
{
	j->count = 0;
	for (size_t at = 0, end; at < n; at = end + 8) {
		size_t length = n - at >= FORMAT_FRAME ? format_u32(bytes + at) : n;

		if (n - at < FORMAT_FRAME || length > n - at - FORMAT_FRAME ||
		    format_u32(bytes + at + 4) != FORMAT_MAGIC)
			return false;
		end = at + 8 + length;
		for (at += 8; at < end;) {
			size_t left = end - at;
			struct format_record rec = { 0 };

			if (left < FORMAT_RECORD ||
			    format_u32(bytes + at + 4) > left - FORMAT_RECORD)
				return false;
			rec.type = format_u32(bytes + at);
			rec.length = format_u32(bytes + at + 4);
			rec.payload = bytes + at + FORMAT_RECORD;
			at += FORMAT_RECORD + rec.length;
			rec.ends_frame = at == end;
			if (!format_insert(j, j->count, rec))
				return false;
		}
	}
	return true;
}

static inline void format_put_u32(struct sft_buf *b, uint32_t v)
{
	unsigned char bytes[8];

	sft_put_le64(bytes, v);
	sft_buf_add(b, bytes, 4);
}

/* The journal of these records, with lengths and hashes as they have to be. */
static inline void format_write(const struct format_journal *j, struct sft_buf *out)
{
	size_t start = 0;

	for (size_t i = 0; i < j->count; i++) {
		const struct format_record *rec = &j->records[i];
		unsigned char bytes[8];

		if (out->len == start) {
			format_put_u32(out, 0);
			format_put_u32(out, FORMAT_MAGIC);
		}
		format_put_u32(out, rec->type);
		format_put_u32(out, (uint32_t)rec->length);
		sft_buf_add(out, rec->payload, rec->length);
		if (!rec->ends_frame && i + 1 < j->count)
			continue;
		sft_put_le64(bytes, out->len - start - 8);
		memcpy(out->data + start, bytes, 4);
		sft_put_le64(bytes, hash_bytes(out->data + start, out->len - start, start));
		sft_buf_add(out, bytes, 8);
		start = out->len;
	}
}

#endif
