/*
 * view.c - sidecars and metadata as JSON
 *
 * One `ls -l` renders a sidecar for every tensor to know its size, so there is no printf here.
 */
#include "view.h"

#include <string.h>

static void add_text(struct sft_buf *out, const char *text)
{
	sft_buf_add(out, text, strlen(text));
}

static void add_u64(struct sft_buf *out, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	sft_buf_add(out, digits + at, sizeof(digits) - at);
}

static void add_list(struct sft_buf *out, const uint64_t *values, uint32_t count)
{
	add_text(out, "[");
	for (uint32_t i = 0; i < count; i++) {
		if (i)
			add_text(out, ", ");
		add_u64(out, values[i]);
	}
	add_text(out, "]");
}

/* Begin a line, at `indent` spaces. */
static void add_indent(struct sft_buf *out, unsigned indent)
{
	static const char spaces[] = "                ";

	while (indent) {
		unsigned n = indent < sizeof(spaces) - 1 ? indent : (unsigned)sizeof(spaces) - 1;

		sft_buf_add(out, spaces, n);
		indent -= n;
	}
}

/* Begin a member of an object behind the one before it; key is plain text. */
static void add_key(struct sft_buf *out, unsigned indent, const char *key)
{
	add_text(out, ",\n");
	add_indent(out, indent);
	add_text(out, "\"");
	add_text(out, key);
	add_text(out, "\": ");
}

/* Where the bytes lie; a tensor that is not in the file yet lies nowhere. */
static void add_place(struct sft_buf *out, const struct view_tensor *t, unsigned indent)
{
	add_key(out, indent, "offset");
	if (t->placed)
		add_u64(out, t->offset);
	else
		add_text(out, "null");
	add_key(out, indent, "data_offsets");
	if (t->placed)
		add_list(out, (uint64_t[]){ t->begin, t->begin + t->declared_nbytes }, 2);
	else
		add_text(out, "null");
}

void view_sidecar_item(struct sft_buf *out, const struct view_tensor *t, unsigned indent)
{
	unsigned inner = indent + 2;

	add_indent(out, indent);
	add_text(out, "{\n");
	add_indent(out, inner);
	add_text(out, "\"name\": ");
	sft_buf_json(out, t->name, t->name_len);
	add_key(out, inner, "dtype");
	sft_buf_json(out, sft_dtype_name(t->dtype), strlen(sft_dtype_name(t->dtype)));
	add_key(out, inner, "shape");
	add_list(out, t->shape, t->rank);
	add_key(out, inner, "nbytes");
	add_u64(out, t->nbytes);
	add_key(out, inner, "file");
	sft_buf_json(out, t->file, strlen(t->file));
	add_place(out, t, inner);
	if (t->staged) {
		add_key(out, inner, "staged");
		add_text(out, "true");
	}
	if (t->problem) {
		add_key(out, inner, "problem");
		sft_buf_json(out, t->problem, strlen(t->problem));
	}
	add_text(out, "\n");
	add_indent(out, indent);
	add_text(out, "}");
}

void view_sidecar(struct sft_buf *out, const struct view_tensor *t)
{
	view_sidecar_item(out, t, 0);
	add_text(out, "\n");
}

/* An object of strings, whose first line is begun already. */
static void add_metadata(struct sft_buf *out, const struct sft_metadata *metadata, unsigned indent)
{
	add_text(out, "{");
	for (uint32_t i = 0; i < metadata->count; i++) {
		const struct sft_pair *pair = &metadata->pairs[i];

		add_text(out, i ? ",\n" : "\n");
		add_indent(out, indent + 2);
		sft_buf_json(out, pair->key, pair->key_len);
		add_text(out, ": ");
		sft_buf_json(out, pair->value, pair->value_len);
	}
	if (metadata->count) {
		add_text(out, "\n");
		add_indent(out, indent);
	}
	add_text(out, "}");
}

void view_metadata(struct sft_buf *out, const struct sft_metadata *metadata)
{
	add_metadata(out, metadata, 0);
	add_text(out, "\n");
}

void view_metadata_shards(struct sft_buf *out, const char *const *names,
			  const struct sft_metadata *const *metadata, size_t count)
{
	bool any = false;

	add_text(out, "{");
	for (size_t i = 0; i < count; i++) {
		if (!metadata[i] || !metadata[i]->present)
			continue;
		add_text(out, any ? ",\n  " : "\n  ");
		sft_buf_json(out, names[i], strlen(names[i]));
		add_text(out, ": ");
		add_metadata(out, metadata[i], 2);
		any = true;
	}
	add_text(out, any ? "\n}\n" : "}\n");
}
