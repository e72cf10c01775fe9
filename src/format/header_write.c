/*
 * header_write.c - a header as the reference library writes it, so that the same tensors give the
 * same bytes whoever writes them
 *
 * Source: serialize() in safetensors/src/tensor.rs of the reference: tensors by dtype in descending
 * order of its enum, then by name; serde_json without spaces; spaces up to a multiple of 8, since
 * the data behind it shall be aligned.
 */
#include "header_write.h"
#include "num.h"
#include "sort.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Structs of `size` bytes that begin with a struct header_tensor. */
struct array {
	char *items;
	size_t count, size;
};

static struct header_tensor *at(const struct array *tensors, size_t i)
{
	return (struct header_tensor *)(void *)(tensors->items + i * tensors->size);
}

static int compare_tensors(uint32_t a, uint32_t b, const void *ctx)
{
	const struct header_tensor *x = at(ctx, a);
	const struct header_tensor *y = at(ctx, b);

	if (x->dtype != y->dtype)
		return x->dtype > y->dtype ? -1 : 1;
	return sft_name_compare(x->name, x->name_len, y->name, y->name_len);
}

static void add_metadata(struct sft_buf *b, const struct sft_metadata *metadata)
{
	sft_buf_text(b, "\"__metadata__\":{");
	for (uint32_t i = 0; i < metadata->count; i++) {
		const struct sft_pair *pair = &metadata->pairs[i];

		if (i)
			sft_buf_add(b, ",", 1);
		sft_buf_json(b, pair->key, pair->key_len);
		sft_buf_add(b, ":", 1);
		sft_buf_json(b, pair->value, pair->value_len);
	}
	sft_buf_add(b, "}", 1);
}

static void add_tensor(struct sft_buf *b, const struct header_tensor *t)
{
	sft_buf_json(b, t->name, t->name_len);
	sft_buf_text(b, ":{\"dtype\":\"");
	sft_buf_text(b, sft_dtype_name(t->dtype));
	sft_buf_text(b, "\",\"shape\":");
	sft_buf_shape(b, t->shape, t->rank);
	sft_buf_text(b, ",\"data_offsets\":[");
	sft_buf_u64(b, t->begin);
	sft_buf_add(b, ",", 1);
	sft_buf_u64(b, t->begin + t->nbytes);
	sft_buf_text(b, "]");
	sft_buf_text(b, t->keys);
	sft_buf_text(b, "}");
}

/* Lay the sorted tensors end to end. */
static int place(const struct array *tensors, struct sft_error *err)
{
	uint64_t end = 0;

	for (size_t i = 0; i < tensors->count; i++) {
		struct header_tensor *t = at(tensors, i);
		struct sft_quoted q;

		t->begin = end;
		/* What a file can hold, off_t, with the header. */
		if (!sft_add(end, t->nbytes, &end) || end > INT64_MAX - 2ull * SFT_HEADER_MAX)
			return sft_fail(
				err, EFBIG,
				"tensor %s: the data up to here would have more bytes than a "
				"file can",
				sft_quote(&q, t->name, t->name_len));
	}
	return 0;
}

int header_write(void *tensors, size_t count, size_t size, const struct sft_metadata *metadata,
		 struct sft_buf *out, struct sft_error *err)
{
	static const char spaces[] = "        ";
	const size_t start = out->len;
	const struct array array = { tensors, count, size };
	int r = sft_sort_array(tensors, count, size, compare_tensors, &array);

	if (r < 0)
		return sft_fail(err, -r, "no memory for the header");
	r = place(&array, err);
	if (r < 0)
		return r;
	sft_buf_add(out, spaces, 8); /* the length, known at the end */
	sft_buf_add(out, "{", 1);
	if (metadata->present)
		add_metadata(out, metadata);
	for (size_t i = 0; i < count; i++) {
		if (i || metadata->present)
			sft_buf_add(out, ",", 1);
		add_tensor(out, at(&array, i));
	}
	sft_buf_add(out, "}", 1);
	sft_buf_add(out, spaces, (8 - (out->len - start) % 8) % 8);
	if (out->failed)
		return sft_fail(err, ENOMEM, "no memory for the header");
	uint64_t length = out->len - start - 8;
	if (length > SFT_HEADER_MAX)
		return sft_fail(err, EFBIG,
				"the header of %zu tensors would have %" PRIu64
				" bytes, and a header has at most %u",
				count, length, SFT_HEADER_MAX);
	sft_put_le64((unsigned char *)out->data + start, length);
	return 0;
}
