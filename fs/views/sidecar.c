/*
 * sidecar.c - sidecars and metadata as JSON
 *
 * One `ls -l` renders a sidecar for every tensor to know its size, so there is no printf here.
 */
#include "sidecar.h"

#include <string.h>

static void add_list(struct sft_buf *out, const uint64_t *values, uint32_t count)
{
	sft_buf_text(out, "[");
	for (uint32_t i = 0; i < count; i++) {
		if (i)
			sft_buf_text(out, ", ");
		sft_buf_u64(out, values[i]);
	}
	sft_buf_text(out, "]");
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
	sft_buf_text(out, ",\n");
	add_indent(out, indent);
	sft_buf_text(out, "\"");
	sft_buf_text(out, key);
	sft_buf_text(out, "\": ");
}

/* Where the bytes lie; a tensor that is not in the file yet lies nowhere. */
static void add_place(struct sft_buf *out, const struct view_tensor *t, unsigned indent)
{
	add_key(out, indent, "offset");
	if (t->placed)
		sft_buf_u64(out, t->offset);
	else
		sft_buf_text(out, "null");
	add_key(out, indent, "data_offsets");
	if (t->placed)
		add_list(out, (uint64_t[]){ t->begin, t->begin + t->declared_nbytes }, 2);
	else
		sft_buf_text(out, "null");
}

void view_sidecar_item(struct sft_buf *out, const struct view_tensor *t, unsigned indent)
{
	unsigned inner = indent + 2;

	add_indent(out, indent);
	sft_buf_text(out, "{\n");
	add_indent(out, inner);
	sft_buf_text(out, "\"name\": ");
	sft_buf_json(out, t->name, t->name_len);
	add_key(out, inner, "dtype");
	sft_buf_json(out, sft_dtype_name(t->dtype), strlen(sft_dtype_name(t->dtype)));
	add_key(out, inner, "shape");
	add_list(out, t->shape, t->rank);
	add_key(out, inner, "nbytes");
	sft_buf_u64(out, t->nbytes);
	add_key(out, inner, "file");
	sft_buf_json(out, t->file, strlen(t->file));
	add_place(out, t, inner);
	if (t->staged) {
		add_key(out, inner, "staged");
		sft_buf_text(out, "true");
	}
	if (t->problem) {
		add_key(out, inner, "problem");
		sft_buf_json(out, t->problem, strlen(t->problem));
	}
	sft_buf_text(out, "\n");
	add_indent(out, indent);
	sft_buf_text(out, "}");
}

void view_sidecar(struct sft_buf *out, const struct view_tensor *t)
{
	view_sidecar_item(out, t, 0);
	sft_buf_text(out, "\n");
}

/* An object of strings, whose first line is begun already. */
static void add_metadata(struct sft_buf *out, const struct sft_metadata *metadata, unsigned indent)
{
	sft_buf_text(out, "{");
	for (uint32_t i = 0; i < metadata->count; i++) {
		const struct sft_pair *pair = &metadata->pairs[i];

		sft_buf_text(out, i ? ",\n" : "\n");
		add_indent(out, indent + 2);
		sft_buf_json(out, pair->key, pair->key_len);
		sft_buf_text(out, ": ");
		sft_buf_json(out, pair->value, pair->value_len);
	}
	if (metadata->count) {
		sft_buf_text(out, "\n");
		add_indent(out, indent);
	}
	sft_buf_text(out, "}");
}

void view_metadata(struct sft_buf *out, const struct sft_metadata *metadata)
{
	add_metadata(out, metadata, 0);
	sft_buf_text(out, "\n");
}

void view_metadata_shards(struct sft_buf *out, const char *const *names,
			  const struct sft_metadata *const *metadata, size_t count)
{
	bool any = false;

	sft_buf_text(out, "{");
	for (size_t i = 0; i < count; i++) {
		if (!metadata[i] || !metadata[i]->present)
			continue;
		sft_buf_text(out, any ? ",\n  " : "\n  ");
		sft_buf_json(out, names[i], strlen(names[i]));
		sft_buf_text(out, ": ");
		add_metadata(out, metadata[i], 2);
		any = true;
	}
	sft_buf_text(out, any ? "\n}\n" : "}\n");
}
