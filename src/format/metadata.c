/* metadata.c - free-form metadata, and the JSON files that people edit: metadata and sidecars */
#include "metadata.h"
#include "dtype.h"
#include "fields.h"
#include "name.h"
#include "sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Check the types, and add to *room what all strings take with their NULs, at most. */
static int measure_pairs(const struct sft_json *j, unsigned object, size_t *room,
			 struct sft_error *err)
{
	struct sft_quoted q;

	if (j->tokens[object].type != JSMN_OBJECT)
		return sft_field_fail(j, object, err, "expected an object of strings, found %s",
				      sft_json_kind(j, object));
	for (unsigned k = object + 1; k < sft_json_next(j, object); k = sft_json_next(j, k + 1)) {
		if (!sft_json_is_string(j, k + 1))
			return sft_field_fail(j, k + 1, err, "the value of %s is %s, not a string",
					      sft_json_quote(j, k, &q), sft_json_kind(j, k + 1));
		*room += (size_t)(j->tokens[k].end - j->tokens[k].start) + 1;
		*room += (size_t)(j->tokens[k + 1].end - j->tokens[k + 1].start) + 1;
	}
	return 0;
}

/* Give back what escapes took, and point the pairs at their strings. */
static void settle_strings(struct sft_metadata *m, size_t used)
{
	char *p = realloc(m->strings, used + 1);

	if (p)
		m->strings = p;
	p = m->strings;
	for (uint32_t i = 0; i < m->count; i++) {
		m->pairs[i].key = p;
		p += m->pairs[i].key_len + 1;
		m->pairs[i].value = p;
		p += m->pairs[i].value_len + 1;
	}
}

int sft_metadata_read(const struct sft_json *j, unsigned i, struct sft_metadata *out,
		      struct sft_error *err)
{
	struct sft_metadata m = { .present = true };
	size_t room = 0, used = 0;

	*out = (struct sft_metadata){ 0 };
	int r = measure_pairs(j, i, &room, err);
	if (r)
		return r;
	size_t count = (size_t)j->tokens[i].size;
	m.pairs = malloc((count + 1) * sizeof(*m.pairs));
	m.strings = malloc(room + 1);
	if (!m.pairs || !m.strings) {
		sft_metadata_free(&m);
		return sft_fail(err, ENOMEM, "out of memory for %zu pairs of metadata", count);
	}
	for (unsigned k = i + 1; k < sft_json_next(j, i); k = sft_json_next(j, k + 1)) {
		struct sft_pair *pair = &m.pairs[m.count++];

		pair->key_len = (uint32_t)sft_json_decode(j, k, m.strings + used);
		used += pair->key_len + 1;
		pair->value_len = (uint32_t)sft_json_decode(j, k + 1, m.strings + used);
		used += pair->value_len + 1;
	}
	settle_strings(&m, used);
	*out = m;
	return 0;
}

void sft_metadata_free(struct sft_metadata *metadata)
{
	if (!metadata)
		return;
	free(metadata->pairs);
	free(metadata->strings);
	*metadata = (struct sft_metadata){ 0 };
}

/* ---- files that people write ---- */

/* Bad content of what was written is the writer's EINVAL, not a broken checkpoint's EBADMSG. */
static int as_written(int r, struct sft_error *err)
{
	if (r == 0 || r == -ENOMEM)
		return r;
	if (err)
		err->errnum = EINVAL;
	return -EINVAL;
}

int sft_metadata_parse(const char *json, size_t len, struct sft_metadata *out,
		       struct sft_error *err)
{
	struct sft_json j;

	*out = (struct sft_metadata){ 0 };
	int r = sft_json_parse(&j, json, len, 0, err);
	if (r == 0)
		r = sft_metadata_read(&j, 0, out, err);
	sft_json_free(&j);
	return as_written(r, err);
}

/* The position of the shard that the string at token i names, or `count`. */
static size_t find_shard(const struct sft_json *j, unsigned i, const char *const *names,
			 size_t count)
{
	size_t at = 0;

	while (at < count && !sft_json_equal(j, i, names[at]))
		at++;
	return at;
}

int sft_metadata_parse_shards(const char *json, size_t len, const char *const *names, size_t count,
			      struct sft_metadata *out, struct sft_error *err)
{
	struct sft_quoted q;
	struct sft_json j;

	memset(out, 0, count * sizeof(*out));
	int r = sft_json_parse(&j, json, len, 0, err);
	if (r)
		goto out;
	for (unsigned k = 1; k < j.count && r == 0; k = sft_json_next(&j, k + 1)) {
		size_t shard = find_shard(&j, k, names, count);

		sft_json_quote(&j, k, &q);
		if (shard == count)
			r = sft_field_fail(&j, k, err, "%s is no shard of this checkpoint", q.text);
		else
			r = sft_metadata_read(&j, k + 1, &out[shard], err);
		if (r && shard < count)
			sft_wrap(err, "metadata of %s", q.text);
	}
out:
	sft_json_free(&j);
	for (size_t i = 0; r && i < count; i++)
		sft_metadata_free(&out[i]);
	return as_written(r, err);
}

/* ---- the order of keys ---- */

static int compare_keys(uint32_t a, uint32_t b, const void *ctx)
{
	const struct sft_pair *pairs = ctx;

	return sft_name_compare(pairs[a].key, pairs[a].key_len, pairs[b].key, pairs[b].key_len);
}

/* Where `key` stands in `old`, whose numbers `sorted` has in byte order of keys; or old->count. */
static uint32_t old_place(const struct sft_metadata *old, const uint32_t *sorted,
			  const struct sft_pair *key)
{
	uint32_t low = 0, high = old->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const struct sft_pair *p = &old->pairs[sorted[mid]];
		int c = sft_name_compare(p->key, p->key_len, key->key, key->key_len);

		if (c == 0)
			return sorted[mid];
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return old->count;
}

static int compare_places(uint32_t a, uint32_t b, const void *ctx)
{
	const uint32_t *places = ctx;

	return (places[a] > places[b]) - (places[a] < places[b]);
}

int sft_metadata_keep_order(struct sft_metadata *m, const struct sft_metadata *old,
			    struct sft_error *err)
{
	uint32_t *sorted = malloc(((size_t)old->count + 1) * sizeof(*sorted));
	uint32_t *places = malloc(((size_t)m->count + 1) * sizeof(*places));
	uint32_t *order = malloc(((size_t)m->count + 1) * sizeof(*order));
	struct sft_pair *pairs = malloc(((size_t)m->count + 1) * sizeof(*pairs));
	int r = sorted && places && order && pairs ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < old->count; i++)
		sorted[i] = i;
	if (r == 0)
		r = sft_sort(sorted, old->count, compare_keys, old->pairs);
	for (uint32_t i = 0; r == 0 && i < m->count; i++) {
		order[i] = i;
		places[i] = old_place(old, sorted, &m->pairs[i]);
	}
	if (r == 0)
		r = sft_sort(order, m->count, compare_places, places);
	for (uint32_t i = 0; r == 0 && i < m->count; i++)
		pairs[i] = m->pairs[order[i]];
	if (r == 0) {
		struct sft_pair *unordered = m->pairs;

		m->pairs = pairs;
		pairs = unordered;
	}
	free(pairs);
	free(order);
	free(places);
	free(sorted);
	return r == 0 ? 0
		      : sft_fail(err, ENOMEM, "out of memory for %u pairs of metadata", m->count);
}

/* ---- comparing and copying ---- */

bool sft_metadata_equal(const struct sft_metadata *a, const struct sft_metadata *b)
{
	if (a->present != b->present || a->count != b->count)
		return false;
	for (uint32_t i = 0; i < a->count; i++) {
		const struct sft_pair *x = &a->pairs[i], *y = &b->pairs[i];

		if (!sft_name_equal(x->key, x->key_len, y->key, y->key_len) ||
		    !sft_name_equal(x->value, x->value_len, y->value, y->value_len))
			return false;
	}
	return true;
}

/* Copy a string with a NUL behind it to *at, which moves on. */
static const char *copy_string(char **at, const char *s, uint32_t len)
{
	char *copy = *at;

	if (len)
		memcpy(copy, s, len);
	copy[len] = '\0';
	*at += (size_t)len + 1;
	return copy;
}

int sft_metadata_copy(struct sft_metadata *out, const struct sft_metadata *in)
{
	size_t bytes = 1;
	char *at;

	for (uint32_t i = 0; i < in->count; i++)
		bytes += (size_t)in->pairs[i].key_len + in->pairs[i].value_len + 2;
	*out = (struct sft_metadata){ .present = in->present, .count = in->count };
	out->pairs = calloc((size_t)in->count + 1, sizeof(*out->pairs));
	out->strings = malloc(bytes);
	if (!out->pairs || !out->strings) {
		sft_metadata_free(out);
		return -ENOMEM;
	}
	at = out->strings;
	for (uint32_t i = 0; i < in->count; i++) {
		const struct sft_pair *p = &in->pairs[i];

		out->pairs[i] = (struct sft_pair){
			.key = copy_string(&at, p->key, p->key_len),
			.value = copy_string(&at, p->value, p->value_len),
			.key_len = p->key_len,
			.value_len = p->value_len,
		};
	}
	return 0;
}

/* ---- sidecars ---- */

int sft_sidecar_parse(const char *json, size_t len, enum sft_dtype *dtype, uint64_t **shape,
		      uint32_t *rank, struct sft_error *err)
{
	uint64_t *dims = NULL, nbytes;
	struct sft_json j;
	unsigned array;

	*shape = NULL;
	*rank = 0;
	int r = sft_json_parse(&j, json, len, 0, err);
	if (r == 0)
		r = sft_dtype_read(&j, 0, dtype, err);
	if (r == 0)
		r = sft_field_array(&j, 0, "shape", &array, err);
	if (r)
		goto out;
	size_t count = (size_t)j.tokens[array].size;
	dims = malloc((count + 1) * sizeof(*dims));
	if (!dims) {
		r = sft_fail(err, ENOMEM, "out of memory for %zu dimensions", count);
		goto out;
	}
	r = sft_field_integers(&j, array, "shape", dims, err);
	if (r)
		goto out;
	r = sft_shape_nbytes(*dtype, dims, (uint32_t)count, &nbytes, err);
	if (r)
		goto out;
	*shape = dims;
	*rank = (uint32_t)count;
out:
	if (r)
		free(dims);
	sft_json_free(&j);
	return as_written(r, err);
}
