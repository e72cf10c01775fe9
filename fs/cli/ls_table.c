/*
 * ls_table.c - tensors as lines of aligned columns
 *
 * However hostile a name is, a line splits at white space into five words: what would break one is
 * escaped. Widths are counted in characters, the code points of UTF-8.
 */
#include "cmd.h"
#include "ls.h"
#include "utf8.h"

#include <string.h>

/* What is wider does not count for the width of its column: one long name must not push the rest
 * out of sight on every line. */
#define WIDTH_MAX 100

enum { NAME, DTYPE, SHAPE, BYTES, IN_FILE, COLUMNS };

struct table {
	const struct sft_checkpoint *ck;
	bool human;
	size_t widths[COLUMNS];
	struct sft_buf cells[COLUMNS]; /* of the line at hand */
	struct sft_buf json;	       /* scratch */
	struct sft_buf out;
};

/* ---- words ---- */

/* White space ends a word for one program or another, control characters may steer a terminal. */
static bool breaks_word(const char *s, size_t n)
{
	uint32_t c = sft_utf8_value(s, n);
	return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

static bool is_plain(const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = sft_utf8_char(s + i, len - i);
		if (n == 0 || s[i] == '"' || breaks_word(s + i, n))
			return false;
	}
	return len > 0;
}

void ls_add_word(struct sft_buf *out, const char *s, size_t len, struct sft_buf *json)
{
	size_t copied = 0;
	if (is_plain(s, len)) {
		sft_buf_add(out, s, len);
		return;
	}
	json->len = 0;
	sft_buf_json(json, s, len);
	for (size_t i = 0, n; !json->failed && i < json->len; i += n) {
		n = sft_utf8_char(json->data + i, json->len - i);
		if (!breaks_word(json->data + i, n))
			continue;
		sft_buf_add(out, json->data + copied, i - copied);
		sft_buf_printf(out, "\\u%04x", (unsigned)sft_utf8_value(json->data + i, n));
		copied = i + n;
	}
	if (json->failed)
		out->failed = true;
	else
		sft_buf_add(out, json->data + copied, json->len - copied);
}

/* As ls -h has it: powers of 1024, rounded up, one decimal below 10. */
static void add_human(struct sft_buf *out, uint64_t bytes)
{
	const char *letter = "BKMGTPE";
	uint64_t unit = 1;
	for (; bytes / unit + (bytes % unit > 0) >= 1024; unit *= 1024)
		letter++;
	uint64_t whole = bytes / unit, tenths = (bytes % unit * 10 + unit - 1) / unit;
	if (tenths == 10) {
		whole++;
		tenths = 0;
	}
	sft_buf_u64(out, whole + (whole >= 10 && tenths));
	if (unit > 1 && whole < 10)
		sft_buf_printf(out, ".%u", (unsigned)tenths);
	if (unit > 1)
		sft_buf_add(out, letter, 1);
}

static void add_size(struct sft_buf *out, uint64_t bytes, bool human)
{
	if (human)
		add_human(out, bytes);
	else
		sft_buf_u64(out, bytes);
}

/* ---- columns ---- */

static void render(struct table *t, const struct sft_tensor *tensor)
{
	const char *file = sft_checkpoint_shard(t->ck, tensor->shard)->name;
	for (int i = 0; i < COLUMNS; i++)
		t->cells[i].len = 0;
	ls_add_word(&t->cells[NAME], tensor->name, tensor->name_len, &t->json);
	sft_buf_text(&t->cells[DTYPE], sft_dtype_name(tensor->dtype));
	sft_buf_shape(&t->cells[SHAPE], tensor->shape, tensor->rank);
	add_size(&t->cells[BYTES], tensor->nbytes, t->human);
	ls_add_word(&t->cells[IN_FILE], file, strlen(file), &t->json);
	for (int i = 0; i < COLUMNS; i++)
		t->out.failed |= t->cells[i].failed;
}

/* In characters; what is far too wide anyway is not counted to its end. */
static size_t width(const struct sft_buf *cell)
{
	size_t n = 0;
	for (size_t i = 0; i < cell->len && n <= WIDTH_MAX; i++)
		n += ((unsigned char)cell->data[i] & 0xc0) != 0x80;
	return n;
}

static void measure(struct table *t)
{
	for (int i = 0; i < COLUMNS; i++) {
		size_t n = width(&t->cells[i]);
		if (n > t->widths[i] && n <= WIDTH_MAX)
			t->widths[i] = n;
	}
}

static void add_spaces(struct sft_buf *out, size_t n)
{
	static const char spaces[] = "                    ";
	for (size_t piece; n; n -= piece) {
		piece = n < sizeof(spaces) - 1 ? n : sizeof(spaces) - 1;
		sft_buf_add(out, spaces, piece);
	}
}

static void add_line(struct table *t)
{
	for (int i = 0; i < COLUMNS; i++) {
		size_t n = width(&t->cells[i]);
		size_t pad = n < t->widths[i] ? t->widths[i] - n : 0;
		if (i == BYTES)
			add_spaces(&t->out, pad);
		sft_buf_add(&t->out, t->cells[i].data, t->cells[i].len);
		if (i == IN_FILE)
			break;
		if (i != BYTES)
			add_spaces(&t->out, pad);
		add_spaces(&t->out, 2);
	}
	sft_buf_add(&t->out, "\n", 1);
}

static void add_totals(struct table *t, size_t count, uint64_t bytes)
{
	sft_buf_printf(&t->out, "%zu tensor%s, ", count, count == 1 ? "" : "s");
	add_size(&t->out, bytes, t->human);
	if (!t->human || bytes < 1024)
		sft_buf_text(&t->out, bytes == 1 ? " byte" : " bytes");
	sft_buf_text(&t->out, "\n");
}

bool ls_table(const struct ls_list *list, bool human)
{
	struct table t = { .ck = list->ck, .human = human };
	uint64_t bytes = 0;
	bool ok = true;
	for (size_t i = 0; i < list->count; i++) {
		render(&t, list->tensors[i]);
		measure(&t);
	}
	for (size_t i = 0; ok && i < list->count; i++) {
		render(&t, list->tensors[i]);
		add_line(&t);
		bytes += list->tensors[i]->nbytes;
		ok = cmd_write(&t.out, 1 << 16);
	}
	add_totals(&t, list->count, bytes);
	ok = ok && cmd_write(&t.out, 0);
	for (int i = 0; i < COLUMNS; i++)
		sft_buf_free(&t.cells[i]);
	sft_buf_free(&t.json);
	sft_buf_free(&t.out);
	return ok;
}
