/* test_header.c - headers: every rule with its message, what is valid, lookup, memory */
#include "counting.h"
#include "sft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A literal that may hold NULs, and its length. */
#define T(s) (s), sizeof(s) - 1

static const char wants_object[] = "expected an object with dtype, shape and data_offsets, found ";

static void a_broken_rule_is_refused_with_its_message(void **state)
{
	static const struct {
		const char *json;
		uint64_t data;
		uint64_t offset; /* in the file, 0 where no byte of the header is at fault */
		const char *msg;
	} cases[] = {
		{ "[]", 0, 8, "invalid JSON at byte 8: expected '{' at the start, found '['" },
		{ "{\"a\":1}", 0, 13, "tensor \"a\": WANTS a number" },
		{ "{\"a\":null}", 0, 13, "tensor \"a\": WANTS null" },
		{ "{\"a\":[\"U8\",[1],[0,1]]}", 1, 13, "tensor \"a\": WANTS an array" },
		{ "{\"a\\u0000\\n\":\"\"}", 0, 22, "tensor \"a\\x00\\n\": WANTS a string" },
		{ "{\"\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1, 12, "tensor \"\": no dtype" },
		{ "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, 13,
		  "tensor \"a\": no shape" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, 13,
		  "tensor \"a\": no data_offsets" },
		{ "{\"a\":{\"Dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 13,
		  "tensor \"a\": no dtype" },
		{ "{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 22,
		  "tensor \"a\": dtype is a number, not a string" },
		{ "{\"a\":{\"dtype\":\"u8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 23,
		  "tensor \"a\": dtype \"u8\" is not one of the format's" },
		{ "{\"a\":{\"dtype\":\"U8\\u0000\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, 23,
		  "tensor \"a\": dtype \"U8\\x00\" is not one of the format's" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":{},\"data_offsets\":[0,1]}}", 1, 35,
		  "tensor \"a\": shape is an object, not an array" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1, 35,
		  "tensor \"a\": shape is a number, not an array" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,\"1\"],\"data_offsets\":[0,1]}}", 1, 39,
		  "tensor \"a\": shape[1] is a string, not an integer" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1, 36,
		  "tensor \"a\": shape[0] is an array, not an integer" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,-0],\"data_offsets\":[0,1]}}", 1, 40,
		  "tensor \"a\": shape[2] is -0, not a plain integer from 0 to 2^64-1" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, 36,
		  "tensor \"a\": shape[0] is 1.0, not a plain integer from 0 to 2^64-1" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1e0],\"data_offsets\":[0,1]}}", 1, 36,
		  "tensor \"a\": shape[0] is 1e0, not a plain integer from 0 to 2^64-1" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[18446744073709551616],"
		  "\"data_offsets\":[0,1]}}",
		  1, 36,
		  "tensor \"a\": shape[0] is 18446744073709551616, not a plain integer from 0 to "
		  "2^64-1" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":"
		  "[1234567890123456789012345678901234567890123],\"data_offsets\":[0,1]}}",
		  1, 36,
		  "tensor \"a\": shape[0] is 1234567890123456789012345678901234567890..., "
		  "not a plain integer from 0 to 2^64-1" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[]}}", 1, 54,
		  "tensor \"a\": data_offsets has 0 elements, not 2" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, 54,
		  "tensor \"a\": data_offsets has 3 elements, not 2" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,null]}}", 1, 57,
		  "tensor \"a\": data_offsets[1] is null, not a plain integer from 0 to 2^64-1" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}", 1, 55,
		  "tensor \"a\": data_offsets[0] is -1, not a plain integer from 0 to 2^64-1" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,1]}}", 1, 54,
		  "tensor \"a\": data_offsets [2,1] end before they begin" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,23]}}", 23, 57,
		  "tensor \"a\": shape [2,3] of F32 takes 24 bytes, but data_offsets [0,23] span "
		  "23" },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,0]}}", 0, 54,
		  "tensor \"a\": shape [] of F32 takes 4 bytes, but data_offsets [0,0] span 0" },
		{ "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, 13,
		  "tensor \"a\": shape [3]: 3 elements of F4, 4 bits each, are no whole number of "
		  "bytes" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[9223372036854775808,4,0],"
		  "\"data_offsets\":[0,0]}}",
		  0, 13,
		  "tensor \"a\": shape [9223372036854775808,4,0]: the product of the shape "
		  "overflows "
		  "64 bits at shape[1], which is 4" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[2305843009213693952],"
		  "\"data_offsets\":[0,0]}}",
		  0, 13,
		  "tensor \"a\": shape [2305843009213693952]: 2305843009213693952 elements of U8, "
		  "8 bits each, overflow 64 bits" },
		{ "{\"__metadata__\":null}", 0, 24,
		  "__metadata__: expected an object of strings, found null" },
		{ "{\"__metadata__\":[]}", 0, 24,
		  "__metadata__: expected an object of strings, found an array" },
		{ "{\"__metadata\\u005f_\":{\"k\":1}}", 0, 34,
		  "__metadata__: the value of \"k\" is a number, not a string" },
		{ "{\"__metadata__\":{\"k\":{}}}", 0, 29,
		  "__metadata__: the value of \"k\" is an object, not a string" },
		{ "{}", 1, 0, "no tensors, but 1 bytes of data behind the header" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}", 3, 0,
		  "tensor \"a\": begins at byte 2 of the data: a hole of as many bytes before the "
		  "first tensor" },
		{ "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]},"
		  "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
		  4, 0,
		  "tensor \"b\": begins at byte 3 of the data, but tensor \"a\" before it ends at "
		  "1: "
		  "a hole of 2 bytes" },
		{ "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]},"
		  "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
		  3, 0, "tensor \"b\": data_offsets [1,3] overlap tensor \"a\" at [0,2]" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
		  "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
		  2, 0, "tensor \"b\": data_offsets [0,2] overlap tensor \"a\" at [0,2]" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
		  "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}",
		  2, 0, "tensor \"z\": data_offsets [1,1] overlap tensor \"a\" at [0,2]" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
		  "\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[3,3]}}",
		  2, 0,
		  "tensor \"z\": begins at byte 3 of the data, but tensor \"a\" before it ends at "
		  "2: "
		  "a hole of 1 bytes" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, 0,
		  "tensor \"a\": ends at byte 2 of the data, past the end of the file, which has "
		  "1; the file was cut short: an unfinished download?" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 5, 0,
		  "tensor \"a\": the last one, ends at byte 2 of the data, but 5 bytes follow the "
		  "header: 3 trailing bytes" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":"
		  "[18446744073709551614,18446744073709551615]}}",
		  0, 0,
		  "tensor \"a\": begins at byte 18446744073709551614 of the data: a hole of as "
		  "many "
		  "bytes before the first tensor" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		struct sft_index *index;
		char msg[600];
		const char *mark = strstr(cases[i].msg, "WANTS ");
		size_t before = mark ? (size_t)(mark - cases[i].msg) : strlen(cases[i].msg);

		snprintf(msg, sizeof(msg), "%.*s%s%s", (int)before, cases[i].msg,
			 mark ? wants_object : "", mark ? mark + strlen("WANTS ") : "");
		assert_int_equal(sft_header_parse(cases[i].json, strlen(cases[i].json),
						  cases[i].data, 0, &index, &err),
				 -EBADMSG);
		assert_null(index);
		assert_string_equal(err.msg, msg);
		assert_int_equal(err.errnum, EBADMSG);
		assert_int_equal(err.offset, cases[i].offset);
		assert_int_equal(sft_header_parse(cases[i].json, strlen(cases[i].json),
						  cases[i].data, 0, &index, NULL),
				 -EBADMSG);
	}
}

static void long_shapes_and_names_are_cut_in_messages(void **state)
{
	struct sft_error err = { 0 };
	struct sft_index *index;
	char json[4000];
	size_t n = (size_t)sprintf(json, "{\"%0300d\":{\"dtype\":\"U8\",\"shape\":[1", 0);

	for (int i = 0; i < 500; i++)
		n += (size_t)sprintf(json + n, ",1");
	n += (size_t)sprintf(json + n, "],\"data_offsets\":[0,2]}}");
	assert_int_equal(sft_header_parse(json, n, 2, 0, &index, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "000\"...: shape [1,1,1"));
	assert_non_null(
		strstr(err.msg, ",1...] of U8 takes 1 bytes, but data_offsets [0,2] span 2"));
}

static void what_the_format_allows_is_accepted(void **state)
{
	static const struct {
		const char *json;
		uint64_t data;
		size_t count;
	} cases[] = {
		{ "{}", 0, 0 },
		{ "{}      ", 0, 0 },
		{ "{\"__metadata__\":{}}", 0, 0 },
		{ "{\"\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, 1 },
		{ "{\"a\":{\"data_offsets\":[0,1],\"shape\":[2],\"dtype\":\"F4\"}}", 1, 1 },
		{ "{\"a\":{\"d\\u0074ype\":\"\\u0055\\u0038\",\"shape\":[1],\"data_offsets\":[0,1]}"
		  "}",
		  1, 1 },
		{ "{\"a\":{\"dtype\":\"F8_E5M2FNUZ\",\"shape\":[1],\"data_offsets\":[0,1],"
		  "\"x\":[{\"y\":-1.5e300}],\"dtyp\":0}}",
		  1, 1 },
		{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,9223372036854775808,4],"
		  "\"data_offsets\":[0,0]}}",
		  0, 1 },
		{ "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]},"
		  "\"z2\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},"
		  "\"z3\":{\"dtype\":\"U8\",\"shape\":[1,0],\"data_offsets\":[3,3]},"
		  "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
		  "\"z1\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[2,2]},"
		  "\"z0\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[0,0]}}",
		  3, 6 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sft_error err = { 0 };
		struct sft_index *index;

		if (sft_header_parse(cases[i].json, strlen(cases[i].json), cases[i].data, 0, &index,
				     &err))
			fail_msg("%s: %s", cases[i].json, err.msg);
		assert_int_equal(sft_index_count(index), cases[i].count);
		sft_index_free(index);
	}
}

static void tensors_are_sorted_and_complete(void **state)
{
	static const char json[] =
		"{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]},"
		"\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
		"\"\xc3\xa9\":{\"dtype\":\"I16\",\"shape\":[1,2,1],\"data_offsets\":[0,4]},"
		"\"a\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[5,6]}}";
	static const struct {
		const char *name;
		uint32_t name_len, rank;
		enum sft_dtype dtype;
		uint64_t begin, nbytes, shape[3];
	} want[] = {
		{ "a", 1, 0, SFT_BOOL, 5, 1, { 0 } },
		{ "a\0", 2, 2, SFT_U8, 4, 0, { 0, 7 } },
		{ "b", 1, 1, SFT_U8, 4, 1, { 1 } },
		{ "\xc3\xa9", 2, 3, SFT_I16, 0, 4, { 1, 2, 1 } },
	};
	struct sft_index *index;

	assert_int_equal(sft_header_parse(json, sizeof(json) - 1, 6, 42, &index, NULL), 0);
	assert_int_equal(sft_index_count(index), 4);
	for (size_t i = 0; i < 4; i++) {
		const struct sft_tensor *t = sft_index_at(index, i);

		assert_int_equal(t->name_len, want[i].name_len);
		assert_memory_equal(t->name, want[i].name, t->name_len + 1);
		assert_int_equal(t->rank, want[i].rank);
		assert_memory_equal(t->shape, want[i].shape, t->rank * sizeof(*t->shape));
		assert_int_equal(t->dtype, want[i].dtype);
		assert_int_equal(t->begin, want[i].begin);
		assert_int_equal(t->nbytes, want[i].nbytes);
		assert_int_equal(t->shard, 42);
		assert_ptr_equal(sft_index_find(index, t->name, t->name_len), t);
	}
	assert_null(sft_index_find(index, "", 0));
	assert_null(sft_index_find(index, "aa", 2));
	assert_null(sft_index_find(index, "\xff", 1));
	assert_false(sft_index_metadata(index)->present);
	sft_index_free(index);
	sft_index_free(NULL);
}

static void names_compare_as_bytes(void **state)
{
	assert_true(sft_name_compare(T("a"), T("a")) == 0);
	assert_true(sft_name_compare(T(""), T("")) == 0);
	assert_true(sft_name_compare(T(""), T("\0")) < 0);
	assert_true(sft_name_compare(T("a"), T("a.b")) < 0);
	assert_true(sft_name_compare(T("b"), T("a.b")) > 0);
	assert_true(sft_name_compare(T("\xc3\xa9"), T("z")) > 0);
}

static void metadata_keeps_the_order_of_the_file(void **state)
{
	static const char json[] = "{\"__metadata__\":{\"z\":\"1\\u0000\",\"\":\"\",\"a\\n\":\"\xe2"
				   "\x82\xac\"}}";
	struct sft_index *index;

	assert_int_equal(sft_header_parse(json, sizeof(json) - 1, 0, 0, &index, NULL), 0);
	const struct sft_metadata *m = sft_index_metadata(index);
	assert_true(m->present);
	assert_int_equal(m->count, 3);
	assert_string_equal(m->pairs[0].key, "z");
	assert_int_equal(m->pairs[0].value_len, 2);
	assert_memory_equal(m->pairs[0].value, "1\0", 3);
	assert_int_equal(m->pairs[1].key_len, 0);
	assert_string_equal(m->pairs[1].value, "");
	assert_string_equal(m->pairs[2].key, "a\n");
	assert_string_equal(m->pairs[2].value, "\xe2\x82\xac");
	sft_index_free(index);
}

/* A header of `count` one-byte tensors, in an order given by `step`. */
static char *make_header(unsigned count, unsigned step, size_t *len)
{
	char *json = malloc(count * 100 + 10);
	size_t n = 1;

	if (!json)
		abort();
	*json = '{';

	for (unsigned i = 0; i < count; i++) {
		unsigned k = (unsigned)((uint64_t)i * step % count);

		n += (size_t)sprintf(json + n,
				     "%s\"layers.%u.w\":{\"dtype\":\"U8\",\"shape\":[1,1],"
				     "\"data_offsets\":[%u,%u]}",
				     i ? "," : "", k, k, k + 1);
	}
	*len = n + (size_t)sprintf(json + n, "}");
	return json;
}

static void many_tensors_in_any_order_are_found(void **state)
{
	static const unsigned steps[] = { 1, 9999, 7919 };

	for (size_t s = 0; s < sizeof(steps) / sizeof(*steps); s++) {
		struct sft_index *index;
		size_t len;
		char *json = make_header(10000, steps[s], &len);

		assert_int_equal(sft_header_parse(json, len, 10000, 0, &index, NULL), 0);
		free(json);
		for (unsigned i = 0; i < 10000; i++) {
			char name[40];
			int n = sprintf(name, "layers.%u.w", i);
			const struct sft_tensor *t = sft_index_find(index, name, (size_t)n);

			assert_non_null(t);
			assert_int_equal(t->begin, i);
			assert_int_equal(t->shape[1], 1);
		}
		for (size_t i = 1; i < 10000; i++) {
			const struct sft_tensor *a = sft_index_at(index, i - 1);
			const struct sft_tensor *b = sft_index_at(index, i);

			assert_true(sft_name_compare(a->name, a->name_len, b->name, b->name_len) <
				    0);
		}
		sft_index_free(index);
	}
}

/* What sft.h states: at most 96 bytes a tensor plus names, shapes and metadata. */
static void what_is_kept_is_bounded(void **state)
{
	static const unsigned steps[] = { 1, 7919 };

	for (size_t s = 0; s < sizeof(steps) / sizeof(*steps); s++) {
		struct sft_index *index;
		size_t len, names = 0, shapes = 0;
		char *json = make_header(10000, steps[s], &len);

		counting_start();
		assert_int_equal(sft_header_parse(json, len, 10000, 0, &index, NULL), 0);
		for (size_t i = 0; i < 10000; i++) {
			names += sft_index_at(index, i)->name_len;
			shapes += sft_index_at(index, i)->rank * sizeof(uint64_t);
		}
		assert_true(counting_current() <= 96 * 10000 + names + shapes + 1000);
		assert_true(counting_peak() <= 16 * len + 1000);
		sft_index_free(index);
		assert_int_equal(counting_current(), 0);
		counting_start();
		free(json);
	}
}

/* What sft.h states: at most 16 bytes for each byte of the header while it is parsed. */
static void memory_is_bounded_whatever_the_header(void **state)
{
	static const struct {
		const char *head, *middle, *tail;
	} cases[] = {
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[", "1,", "1],\"data_offsets\":[0,1]}}" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"x\":[", "1,",
		  "1]}}" },
		{ "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"x\":[", "[],",
		  "1]}}" },
		{ "{\"__metadata__\":{", "\"\":\"\",\"a\":\"\",", "\"\":\"\"}}" },
		{ "{\"__metadata__\":{\"", "\\u0001", "\":\"\"}}" },
		{ "{", "\"\":{},\"a\":{},", "\"b\":1}" },
	};
	const size_t len = 500000;
	char *json = malloc(len + 1);

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t n = (size_t)sprintf(json, "%s", cases[i].head);
		struct sft_index *index;

		while (n + strlen(cases[i].middle) + strlen(cases[i].tail) < len)
			n += (size_t)sprintf(json + n, "%s", cases[i].middle);
		n += (size_t)sprintf(json + n, "%s", cases[i].tail);
		counting_start();
		sft_header_parse(json, n, 1, 0, &index, NULL);
		if (counting_peak() > 16 * n + 1000)
			fail_msg("%s: %zu bytes for %zu", cases[i].middle, counting_peak(), n);
		sft_index_free(index);
		assert_int_equal(counting_current(), 0);
	}
	counting_start();
	free(json);
}

static void running_out_of_memory_is_an_error(void **state)
{
	size_t len;
	char *many = make_header(20, 7, &len);
	char json[3000];

	/* With metadata, so that every allocation there is comes to pass. */
	len = (size_t)sprintf(json, "{\"__metadata__\":{\"k\":\"v\"},%s", many + 1);
	free(many);
	for (size_t n = 1;; n++) {
		struct sft_error err = { 0 };
		struct sft_index *index;

		counting_start();
		counting_fail(n);
		int r = sft_header_parse(json, len, 20, 0, &index, &err);
		if (counting_calls() < n) {
			assert_int_equal(r, 0);
			assert_true(n > 10);
			sft_index_free(index);
			break;
		}
		if (r == 0) { /* where giving memory back failed, nothing is lost */
			assert_int_equal(sft_index_count(index), 20);
			sft_index_free(index);
		} else {
			assert_int_equal(r, -ENOMEM);
			assert_null(index);
			assert_non_null(strstr(err.msg, "out of memory"));
		}
		assert_int_equal(counting_current(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_broken_rule_is_refused_with_its_message),
		cmocka_unit_test(long_shapes_and_names_are_cut_in_messages),
		cmocka_unit_test(what_the_format_allows_is_accepted),
		cmocka_unit_test(tensors_are_sorted_and_complete),
		cmocka_unit_test(names_compare_as_bytes),
		cmocka_unit_test(metadata_keeps_the_order_of_the_file),
		cmocka_unit_test(many_tensors_in_any_order_are_found),
		cmocka_unit_test(what_is_kept_is_bounded),
		cmocka_unit_test(memory_is_bounded_whatever_the_header),
		cmocka_unit_test(running_out_of_memory_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
