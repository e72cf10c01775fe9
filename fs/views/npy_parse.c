/*
 * npy_parse.c - the header of a .npy file that somebody wrote
 *
 * The dict in it is a Python literal. What is read here is what numpy writes, with any order of the
 * keys, any white space between tokens, either kind of quotes, and trailing commas.
 * Source: numpy's format specification, numpy/lib/format.py.
 */
#include "npy_parse.h"

#include "npy.h"
#include "num.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_LEN 6

/* The dict's text and where in it we are. */
struct scan {
	const char *text;
	size_t len, at;
	struct sft_error *err;
};

struct string {
	const char *text;
	size_t len;
};

/* ---- tokens ---- */

static void skip_space(struct scan *s)
{
	while (s->at < s->len && strchr(" \t\n\r\f", s->text[s->at]) && s->text[s->at])
		s->at++;
}

/* The next byte that is no white space, or NUL at the end. */
static char peek(struct scan *s)
{
	skip_space(s);
	return s->at < s->len ? s->text[s->at] : '\0';
}

static bool accept(struct scan *s, char c)
{
	if (peek(s) != c) /* c is no NUL, so this is not the end */
		return false;
	s->at++;
	return true;
}

static int unexpected(struct scan *s, const char *wanted)
{
	struct sft_quoted q;
	size_t n;

	skip_space(s);
	n = s->len - s->at;
	if (n == 0)
		return sft_fail(s->err, EINVAL, "the .npy header ends where %s is expected",
				wanted);
	return sft_fail(s->err, EINVAL, "the .npy header has %s at byte %zu of its dict, not %s",
			sft_quote(&q, s->text + s->at, n < 16 ? n : 16), s->at, wanted);
}

static int expect(struct scan *s, char c)
{
	char wanted[] = "'?'";

	wanted[1] = c;
	return accept(s, c) ? 0 : unexpected(s, wanted);
}

static int scan_string(struct scan *s, const char *what, struct string *out)
{
	char quote = peek(s);
	size_t start = s->at + 1, end = start;

	if (quote != '\'' && quote != '"')
		return unexpected(s, what);
	/* No type and no key that we know needs an escape. */
	while (end < s->len && s->text[end] != quote && s->text[end] != '\\' &&
	       s->text[end] != '\n')
		end++;
	if (end >= s->len || s->text[end] != quote)
		return sft_fail(s->err, EINVAL,
				"the .npy header has a string at byte %zu of its dict that is not "
				"closed or has an escape",
				s->at);
	*out = (struct string){ s->text + start, end - start };
	s->at = end + 1;
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int scan_u64(struct scan *s, uint64_t *value)
{
	size_t start;

	if (!is_digit(peek(s)))
		return unexpected(s, "a dimension");
	*value = 0;
	for (start = s->at; s->at < s->len && is_digit(s->text[s->at]); s->at++) {
		if (!sft_mul(*value, 10, value) ||
		    !sft_add(*value, (uint64_t)(s->text[s->at] - '0'), value))
			return sft_fail(s->err, EINVAL,
					"the .npy header has a dimension above 64 bits");
	}
	if (s->at - start > 1 && s->text[start] == '0')
		return sft_fail(s->err, EINVAL,
				"the .npy header has a dimension with a leading zero");
	return 0;
}

static int scan_bool(struct scan *s, bool *value)
{
	static const char *const words[] = { "False", "True" };

	peek(s);
	for (int i = 0; i < 2; i++) {
		size_t n = strlen(words[i]);

		if (s->len - s->at >= n && memcmp(s->text + s->at, words[i], n) == 0) {
			s->at += n;
			*value = i;
			return 0;
		}
	}
	return unexpected(s, "True or False");
}

/* ---- the three values ---- */

/* Why a type is refused, by the letter of its kind. */
static const char *kind_reason(char kind)
{
	switch (kind) {
	case 'O':
		return "an object array, which holds pickled Python objects";
	case 'S':
	case 'U':
	case 'a':
		return "an array of strings";
	case 'M':
	case 'm':
		return "an array of dates or times";
	case 'V':
		return "an array of raw or structured records";
	default:
		return "a type that safetensors lacks";
	}
}

static int scan_descr(struct scan *s, struct npy_array *array)
{
	struct string descr;
	struct sft_quoted q;
	enum sft_dtype dtype;
	char order = '|', c = peek(s);
	int ret;

	if (c == '[' || c == '(' || c == '{')
		return sft_fail(
			s->err, EINVAL,
			"the .npy header declares a structured array, which no tensor can be");
	ret = scan_string(s, "a type's name", &descr);
	if (ret)
		return ret;
	struct string code = descr;
	if (code.len && memchr("<>|=", code.text[0], 4)) {
		order = code.text[0];
		code.text++;
		code.len--;
	}
	if (!npy_type_find(code.text, code.len, &dtype))
		return sft_fail(s->err, EINVAL, "the .npy header declares the type %s: %s",
				sft_quote(&q, descr.text, descr.len),
				kind_reason(code.len ? code.text[0] : '\0'));
	array->dtype = (uint8_t)dtype;
	array->itemsize = sft_dtype_bits(dtype) / 8;
	array->swap = order == '>' && array->itemsize > 1;
	return 0;
}

static int push_dimension(struct scan *s, struct npy_array *array, uint64_t value)
{
	/* Grows at the powers of two, which a rank of 1 is too. */
	if ((array->rank & (array->rank - 1)) == 0) {
		size_t room = array->rank ? 2 * (size_t)array->rank : 1;
		uint64_t *shape = realloc(array->shape, room * sizeof(*shape));

		if (!shape)
			return sft_fail(s->err, ENOMEM, "out of memory");
		array->shape = shape;
	}
	array->shape[array->rank++] = value;
	return 0;
}

/* A tuple of integers; one in brackets without a comma would be no tuple. */
static int scan_shape(struct scan *s, struct npy_array *array)
{
	bool comma = true;
	uint64_t value = 0;
	int ret = expect(s, '(');

	while (!ret && peek(s) != ')') {
		if (!comma)
			return unexpected(s, "',' or ')'");
		ret = scan_u64(s, &value);
		if (!ret)
			ret = push_dimension(s, array, value);
		comma = !ret && accept(s, ',');
	}
	if (ret)
		return ret;
	if (array->rank == 1 && !comma)
		return sft_fail(s->err, EINVAL,
				"the .npy header's shape is a number in brackets, not a tuple");
	return expect(s, ')');
}

/* ---- the dict ---- */

static int scan_value(struct scan *s, int key, struct npy_array *array)
{
	switch (key) {
	case 0:
		return scan_descr(s, array);
	case 1:
		return scan_bool(s, &array->fortran);
	default:
		return scan_shape(s, array);
	}
}

static int scan_dict(struct scan *s, struct npy_array *array)
{
	static const char *const keys[] = { "descr", "fortran_order", "shape" };
	bool seen[3] = { false, false, false };
	struct sft_quoted q;
	int ret = expect(s, '{');

	while (!ret && peek(s) != '}') {
		struct string name = { 0 };
		int key = 0;

		ret = scan_string(s, "a key", &name);
		if (ret)
			break;
		while (key < 3 && (strlen(keys[key]) != name.len ||
				   memcmp(keys[key], name.text, name.len) != 0))
			key++;
		if (key == 3 || seen[key])
			return sft_fail(s->err, EINVAL, "the .npy header has %s key %s",
					key == 3 ? "the unknown" : "twice the",
					sft_quote(&q, name.text, name.len));
		seen[key] = true;
		ret = expect(s, ':');
		if (!ret)
			ret = scan_value(s, key, array);
		if (!ret && !accept(s, ',') && peek(s) != '}')
			ret = unexpected(s, "',' or '}'");
	}
	if (!ret)
		ret = expect(s, '}');
	for (int i = 0; i < 3 && !ret; i++) {
		if (!seen[i])
			ret = sft_fail(s->err, EINVAL, "the .npy header lacks the key '%s'",
				       keys[i]);
	}
	skip_space(s);
	if (!ret && s->at < s->len)
		ret = unexpected(s, "the end");
	return ret;
}

/* ---- what is before the dict ---- */

static int scan_prefix(const unsigned char *bytes, size_t len, size_t *start, size_t *dict_len,
		       struct sft_error *err)
{
	unsigned char length[8] = { 0 };
	size_t length_bytes;

	if (len && memcmp(bytes, MAGIC, len < MAGIC_LEN ? len : MAGIC_LEN) != 0)
		return sft_fail(err, EINVAL, "no .npy file: it does not begin with \\x93NUMPY");
	if (len < MAGIC_LEN + 2)
		return sft_fail(err, EAGAIN, "the .npy file ends inside its header");
	if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0)
		return sft_fail(err, EINVAL, ".npy version %u.%u is none of 1.0, 2.0 and 3.0",
				bytes[6], bytes[7]);
	length_bytes = bytes[6] == 1 ? 2 : 4;
	*start = MAGIC_LEN + 2 + length_bytes;
	if (len < *start)
		return sft_fail(err, EAGAIN, "the .npy file ends inside its header");
	memcpy(length, bytes + MAGIC_LEN + 2, length_bytes);
	*dict_len = sft_le64(length);
	if (*dict_len > NPY_HEADER_MAX)
		return sft_fail(err, EINVAL,
				"the .npy header of %zu bytes is above the limit of %u", *dict_len,
				NPY_HEADER_MAX);
	if (len - *start < *dict_len)
		return sft_fail(err, EAGAIN, "the .npy file ends inside its header");
	return 0;
}

static int array_nbytes(struct npy_array *array, struct sft_error *err)
{
	struct sft_error reason = { 0 };

	if (sft_shape_nbytes(array->dtype, array->shape, array->rank, &array->nbytes, &reason))
		return sft_fail(err, EINVAL, "the .npy header: %s", reason.msg);
	return 0;
}

int npy_parse(const void *bytes, size_t len, struct npy_array *array, struct sft_error *err)
{
	size_t start = 0, dict_len = 0;
	int ret;

	*array = (struct npy_array){ 0 };
	ret = scan_prefix(bytes, len, &start, &dict_len, err);
	if (ret)
		return ret;
	struct scan s = { .text = (const char *)bytes + start, .len = dict_len, .err = err };
	ret = scan_dict(&s, array);
	if (!ret)
		ret = array_nbytes(array, err);
	if (ret) {
		npy_array_free(array);
		return ret;
	}
	array->data_offset = start + dict_len;
	array->fortran = array->fortran && array->rank > 1;
	return 0;
}

void npy_array_free(struct npy_array *array)
{
	free(array->shape);
	*array = (struct npy_array){ 0 };
}
