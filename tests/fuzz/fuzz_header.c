/*
 * fuzz_header.c - libFuzzer over the header: the input is a whole file, as in the corpus
 *
 * The first 8 bytes give the length of the JSON where that fits, else all of the rest is JSON and
 * they are taken for the length of the data, so that what the fuzzer makes of them is never wasted.
 * What is accepted has to keep the promises that the rest of the program relies on.
 */
#include "json.h"
#include "num.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

/* A message is one line that a terminal shows as it is. */
static void check_message(const struct sft_error *err, int r)
{
	size_t n = strnlen(err->msg, sizeof(err->msg));

	REQUIRE(n < sizeof(err->msg));
	REQUIRE(r == 0 ? n == 0 && err->errnum == 0 : n > 0 && err->errnum == -r);
	for (size_t i = 0; i < n; i++)
		REQUIRE((unsigned char)err->msg[i] >= 0x20 && err->msg[i] != 0x7f);
}

/* Sorted, found by name, whole, and all bytes of the data are some tensor's. */
static void check_index(const struct sft_index *index, uint64_t data_len)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < sft_index_count(index); i++) {
		const struct sft_tensor *t = sft_index_at(index, i);
		const struct sft_tensor *before = i ? sft_index_at(index, i - 1) : NULL;
		uint64_t nbytes;

		REQUIRE(t->name[t->name_len] == '\0');
		REQUIRE(t->dtype < SFT_DTYPE_COUNT);
		REQUIRE(sft_shape_nbytes(t->dtype, t->shape, t->rank, &nbytes, NULL) == 0);
		REQUIRE(nbytes == t->nbytes);
		REQUIRE(t->begin <= data_len && t->nbytes <= data_len - t->begin);
		REQUIRE(sft_index_find(index, t->name, t->name_len) == t);
		REQUIRE(!before ||
			sft_name_compare(before->name, before->name_len, t->name, t->name_len) < 0);
		REQUIRE(sft_add(sum, t->nbytes, &sum));
	}
	REQUIRE(sum == data_len);
	const struct sft_metadata *m = sft_index_metadata(index);
	REQUIRE(m->present || m->count == 0);
	for (uint32_t i = 0; i < m->count; i++) {
		REQUIRE(m->pairs[i].key[m->pairs[i].key_len] == '\0');
		REQUIRE(m->pairs[i].value[m->pairs[i].value_len] == '\0');
	}
}

/* What is a valid string stays the same when it is written and read again. */
static void check_round_trip(const struct sft_metadata *m)
{
	struct sft_buf b = { 0 };
	struct sft_metadata again;

	sft_buf_add(&b, "{", 1);
	for (uint32_t i = 0; i < m->count; i++) {
		sft_buf_add(&b, ",", i ? 1 : 0);
		sft_buf_json(&b, m->pairs[i].key, m->pairs[i].key_len);
		sft_buf_add(&b, ":", 1);
		sft_buf_json(&b, m->pairs[i].value, m->pairs[i].value_len);
	}
	sft_buf_add(&b, "}", 1);
	REQUIRE(!b.failed);
	REQUIRE(sft_metadata_parse(b.data, b.len, &again, NULL) == 0);
	REQUIRE(again.count == m->count);
	for (uint32_t i = 0; i < m->count; i++) {
		const struct sft_pair *p = &m->pairs[i], *q = &again.pairs[i];

		REQUIRE(sft_name_compare(p->key, p->key_len, q->key, q->key_len) == 0);
		REQUIRE(sft_name_compare(p->value, p->value_len, q->value, q->value_len) == 0);
	}
	sft_metadata_free(&again);
	sft_buf_free(&b);
}

/* The same bytes as what people edit: no promise but that of an answer. */
static void parse_as_edited(const char *json, size_t len)
{
	static const char *const names[] = { "a", "b.safetensors" };
	struct sft_error err = { 0 };
	struct sft_metadata m[2];
	enum sft_dtype dtype;
	uint64_t *shape;
	uint32_t rank;

	int r = sft_sidecar_parse(json, len, &dtype, &shape, &rank, &err);
	check_message(&err, r);
	REQUIRE(r == 0 || r == -EINVAL);
	free(shape);
	err = (struct sft_error){ 0 };
	r = sft_metadata_parse_shards(json, len, names, 2, m, &err);
	check_message(&err, r);
	REQUIRE(r == 0 || r == -EINVAL);
	sft_metadata_free(&m[0]);
	sft_metadata_free(&m[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct sft_error err = { 0 };
	struct sft_index *index;

	if (size < 8)
		return 0;
	uint64_t data_len = sft_le64(bytes);
	size_t len = size - 8;
	if (data_len <= len) {
		len = (size_t)data_len;
		data_len = size - 8 - len;
	}
	/* Of its very length, so that reading behind it is caught. */
	char *json = malloc(len + !len);
	REQUIRE(json);
	memcpy(json, bytes + 8, len);

	int r = sft_header_parse(json, len, data_len, 0, &index, &err);
	check_message(&err, r);
	REQUIRE(r == 0 || r == -EBADMSG);
	REQUIRE((r == 0) == (index != NULL));
	REQUIRE(err.offset <= 8 + len);
	if (index) {
		check_index(index, data_len);
		check_round_trip(sft_index_metadata(index));
	}
	parse_as_edited(json, len);
	sft_index_free(index);
	free(json);
	return 0;
}
