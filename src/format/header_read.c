/* header_read.c - the JSON of one file's header to validated tensors */
#include "dtype.h"
#include "fields.h"
#include "metadata.h"
#include "sort.h"
#include "tensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct header {
	struct sft_json json;
	uint64_t data_len; /* bytes behind the header */
	uint32_t shard;
	struct sft_index *index;
	size_t names_used; /* bytes of index->names */
	size_t dims_used;  /* elements of index->shapes */
	struct sft_error *err;
};

/* ---- one tensor ---- */

/* [a,b,c], cut where it is long. */
struct shape_text {
	char text[128];
};

static const char *format_shape(struct shape_text *s, const uint64_t *shape, uint32_t rank)
{
	const size_t room = sizeof(s->text) - sizeof(",18446744073709551615...]");
	size_t used = 0;

	for (uint32_t i = 0; i < rank && used < room; i++) {
		used += (size_t)sprintf(s->text + used, "%c%" PRIu64, i ? ',' : '[', shape[i]);
		if (used >= room && i + 1 < rank)
			used += (size_t)sprintf(s->text + used, "...");
	}
	sprintf(s->text + used, "%s", rank ? "]" : "[]");
	return s->text;
}

/* Store begin and nbytes from data_offsets, which have to span what dtype and shape take. */
static int read_offsets(struct header *h, unsigned object, struct sft_tensor *t)
{
	const struct sft_json *j = &h->json;
	struct sft_error why = { 0 };
	struct shape_text shape;
	uint64_t offsets[2];
	unsigned array;

	int r = sft_field_array(j, object, "data_offsets", &array, h->err);
	if (r)
		return r;
	if (j->tokens[array].size != 2)
		return sft_field_fail(j, array, h->err, "data_offsets has %d elements, not 2",
				      j->tokens[array].size);
	r = sft_field_integers(j, array, "data_offsets", offsets, h->err);
	if (r)
		return r;
	if (offsets[1] < offsets[0])
		return sft_field_fail(j, array, h->err,
				      "data_offsets [%" PRIu64 ",%" PRIu64
				      "] end before they begin",
				      offsets[0], offsets[1]);
	if (sft_shape_nbytes(t->dtype, t->shape, t->rank, &t->nbytes, &why))
		return sft_field_fail(j, object, h->err, "shape %s: %s",
				      format_shape(&shape, t->shape, t->rank), why.msg);
	if (t->nbytes != offsets[1] - offsets[0])
		return sft_field_fail(
			j, array, h->err,
			"shape %s of %s takes %" PRIu64 " bytes, but data_offsets [%" PRIu64
			",%" PRIu64 "] span %" PRIu64,
			format_shape(&shape, t->shape, t->rank), sft_dtype_name(t->dtype),
			t->nbytes, offsets[0], offsets[1], offsets[1] - offsets[0]);
	t->begin = offsets[0];
	return 0;
}

/* Append the dimensions to index->shapes, which has room for all numbers of the header. */
static int read_shape(struct header *h, unsigned object, struct sft_tensor *t)
{
	uint64_t *dims = h->index->shapes + h->dims_used;
	unsigned array;

	int r = sft_field_array(&h->json, object, "shape", &array, h->err);
	if (r == 0)
		r = sft_field_integers(&h->json, array, "shape", dims, h->err);
	if (r)
		return r;
	t->shape = dims;
	t->rank = (uint32_t)h->json.tokens[array].size;
	h->dims_used += t->rank;
	return 0;
}

static int read_fields(struct header *h, unsigned value, struct sft_tensor *t)
{
	enum sft_dtype dtype;

	if (h->json.tokens[value].type != JSMN_OBJECT)
		return sft_field_fail(
			&h->json, value, h->err,
			"expected an object with dtype, shape and data_offsets, found %s",
			sft_json_kind(&h->json, value));
	int r = sft_dtype_read(&h->json, value, &dtype, h->err);
	if (r)
		return r;
	t->dtype = (uint8_t)dtype;
	r = read_shape(h, value, t);
	return r ? r : read_offsets(h, value, t);
}

/* Whether a tensor's object has more than the three keys that it must have. */
static bool has_other_keys(const struct sft_json *j, unsigned object)
{
	return j->tokens[object].type == JSMN_OBJECT && j->tokens[object].size > 3;
}

/* Whether a key is one that every tensor has, and that a writer makes anew. */
static bool is_own_key(const struct sft_json *j, unsigned key)
{
	return sft_json_equal(j, key, "dtype") || sft_json_equal(j, key, "shape") ||
	       sft_json_equal(j, key, "data_offsets");
}

/* The text of a token; of a string, with its quotes. Returns how much was copied. */
static size_t copy_raw(const struct sft_json *j, unsigned i, char *out)
{
	const jsmntok_t *t = &j->tokens[i];
	const int quote = t->type == JSMN_STRING;
	const size_t n = (size_t)(t->end - t->start + 2 * quote);

	memcpy(out, j->text + t->start - quote, n);
	return n;
}

/* Append what else the tensor's object has to index->names, right after the name. */
static void read_other_keys(struct header *h, unsigned object, struct sft_tensor *t)
{
	const struct sft_json *j = &h->json;
	const unsigned end = sft_json_next(j, object);
	char *const start = h->index->names + h->names_used;
	char *out = start;

	for (unsigned k = object + 1; k < end; k = sft_json_next(j, k + 1)) {
		if (is_own_key(j, k))
			continue;
		*out++ = ',';
		out += copy_raw(j, k, out);
		*out++ = ':';
		out += copy_raw(j, k + 1, out);
	}
	*out++ = '\0';
	h->names_used += (size_t)(out - start);
	t->has_keys = true;
}

/* Append the tensor whose name is the key at token `key`. */
static int read_tensor(struct header *h, unsigned key)
{
	struct sft_index *index = h->index;
	struct sft_tensor *t = &index->tensors[index->count++];
	char *name = index->names + h->names_used;
	struct sft_quoted q;

	*t = (struct sft_tensor){ .name = name, .shard = h->shard };
	t->name_len = (uint32_t)sft_json_decode(&h->json, key, name);
	h->names_used += t->name_len + 1;
	int r = read_fields(h, key + 1, t);
	if (r)
		sft_wrap(h->err, "tensor %s", sft_quote(&q, name, t->name_len));
	else if (has_other_keys(&h->json, key + 1))
		read_other_keys(h, key + 1, t);
	return r;
}

/* ---- all of them ---- */

/* Room for everything: each string takes no more than its escaped form, each number one dimension,
 * and other keys no more than the object that has them. */
static int allocate(struct header *h)
{
	const struct sft_json *j = &h->json;
	size_t tensors = (size_t)j->tokens[0].size, names = 0, dims = 0;

	for (unsigned k = 1; k < j->count; k = sft_json_next(j, k + 1)) {
		names += (size_t)(j->tokens[k].end - j->tokens[k].start) + 1;
		if (has_other_keys(j, k + 1))
			names += (size_t)(j->tokens[k + 1].end - j->tokens[k + 1].start);
	}
	for (unsigned i = 0; i < j->count; i++)
		dims += j->tokens[i].type == JSMN_PRIMITIVE;
	h->index->tensors = malloc((tensors + 1) * sizeof(*h->index->tensors));
	h->index->names = malloc(names + 1);
	h->index->shapes = malloc((dims + 1) * sizeof(*h->index->shapes));
	if (!h->index->tensors || !h->index->names || !h->index->shapes)
		return sft_fail(h->err, ENOMEM, "out of memory for %zu tensors", tensors);
	return 0;
}

static int read_all(struct header *h)
{
	const struct sft_json *j = &h->json;
	int r = allocate(h);

	for (unsigned k = 1; k < j->count && r == 0; k = sft_json_next(j, k + 1)) {
		if (!sft_json_equal(j, k, "__metadata__")) {
			r = read_tensor(h, k);
			continue;
		}
		r = sft_metadata_read(j, k + 1, &h->index->metadata, h->err);
		if (r)
			sft_wrap(h->err, "__metadata__");
	}
	return r;
}

/* Give back what was too much, and point the tensors, still in the file's order, at the rest. */
static void settle(struct header *h)
{
	struct sft_index *index = h->index;
	char *name = realloc(index->names, h->names_used + 1);
	uint64_t *dims = realloc(index->shapes, (h->dims_used + 1) * sizeof(*dims));

	index->names = name ? name : index->names;
	index->shapes = dims ? dims : index->shapes;
	name = index->names;
	dims = index->shapes;
	for (size_t i = 0; i < index->count; i++) {
		struct sft_tensor *t = &index->tensors[i];

		t->name = name;
		name += t->name_len + 1;
		if (t->has_keys)
			name += strlen(sft_tensor_keys(t)) + 1;
		t->shape = dims;
		dims += t->rank;
	}
}

/* ---- the layout of the data ---- */

/* Of tensors that begin at the same offset, those of size zero come first. */
static int compare_spans(uint32_t a, uint32_t b, const void *ctx)
{
	const struct sft_tensor *x = (const struct sft_tensor *)ctx + a;
	const struct sft_tensor *y = (const struct sft_tensor *)ctx + b;

	return (x->nbytes > y->nbytes) - (x->nbytes < y->nbytes);
}

/* `t` does not begin where `before` (NULL: the data section) says. */
static int fail_gap(const struct header *h, const struct sft_tensor *t,
		    const struct sft_tensor *before)
{
	uint64_t end = before ? before->begin + before->nbytes : 0;
	struct sft_quoted q, p;

	sft_quote(&q, t->name, t->name_len);
	if (!before)
		return sft_fail(h->err, EBADMSG,
				"tensor %s: begins at byte %" PRIu64
				" of the data: a hole of as many bytes before the first tensor",
				q.text, t->begin);
	sft_quote(&p, before->name, before->name_len);
	if (t->begin > end)
		return sft_fail(h->err, EBADMSG,
				"tensor %s: begins at byte %" PRIu64
				" of the data, but tensor %s before it ends at %" PRIu64
				": a hole of %" PRIu64 " bytes",
				q.text, t->begin, p.text, end, t->begin - end);
	return sft_fail(h->err, EBADMSG,
			"tensor %s: data_offsets [%" PRIu64 ",%" PRIu64
			"] overlap tensor %s at [%" PRIu64 ",%" PRIu64 "]",
			q.text, t->begin, t->begin + t->nbytes, p.text, before->begin, end);
}

/* `last` (NULL: nothing) does not end where the file does. */
static int fail_end(const struct header *h, const struct sft_tensor *last)
{
	uint64_t end = last ? last->begin + last->nbytes : 0;
	struct sft_quoted q;

	if (!last)
		return sft_fail(h->err, EBADMSG,
				"no tensors, but %" PRIu64 " bytes of data behind the header",
				h->data_len);
	sft_quote(&q, last->name, last->name_len);
	if (end > h->data_len) {
		int r = sft_fail(h->err, EBADMSG,
				 "tensor %s: ends at byte %" PRIu64
				 " of the data, past the end of the file, which has %" PRIu64,
				 q.text, end, h->data_len);
		sft_hint(h->err, "the file was cut short: an unfinished download?");
		return r;
	}
	return sft_fail(h->err, EBADMSG,
			"tensor %s: the last one, ends at byte %" PRIu64
			" of the data, but %" PRIu64 " bytes follow the header: %" PRIu64
			" trailing bytes",
			q.text, end, h->data_len, h->data_len - end);
}

/* In offset order, each tensor begins where the one before it ended, and the last ends the file. */
static int check_layout(const struct header *h)
{
	const struct sft_tensor *tensors = h->index->tensors, *last = NULL;
	size_t n = h->index->count;
	struct sft_sort_item *order = malloc((n + 1) * sizeof(*order));
	uint64_t end = 0;
	int r = order ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++)
		order[i] = (struct sft_sort_item){ tensors[i].begin, (uint32_t)i };
	if (r == 0)
		r = sft_sort_items(order, n, compare_spans, tensors);
	if (r) {
		sft_fail(h->err, ENOMEM, "out of memory for %zu tensors", n);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		const struct sft_tensor *t = &tensors[order[i].item];

		if (t->begin != end) {
			r = fail_gap(h, t, last);
			goto out;
		}
		end += t->nbytes;
		last = t;
	}
	if (end != h->data_len)
		r = fail_end(h, last);
out:
	free(order);
	return r;
}

int sft_header_parse(const char *json, size_t len, uint64_t data_len, uint32_t shard,
		     struct sft_index **out, struct sft_error *err)
{
	struct header h = { .data_len = data_len, .shard = shard, .err = err };

	*out = NULL;
	int r = sft_json_parse(&h.json, json, len, SFT_JSON_HEADER, err);
	if (r)
		goto out;
	h.index = calloc(1, sizeof(*h.index));
	if (!h.index) {
		r = sft_fail(err, ENOMEM, "out of memory for an index");
		goto out;
	}
	r = read_all(&h);
	if (r)
		goto out;
	sft_json_free(&h.json); /* the largest part: before the rest takes more */
	settle(&h);
	r = check_layout(&h);
	if (r == 0)
		r = sft_index_sort(h.index, err);
	if (r)
		goto out;
	*out = h.index;
	h.index = NULL;
out:
	sft_json_free(&h.json);
	sft_index_free(h.index);
	return r;
}
