/* test_npy.c - numpy headers that are written, and those that are read */
#include "python.h"
#include "npy.h"
#include "npy_parse.h"
#include "npy_widen.h"

#include <errno.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* ---- with numpy itself: tests/oracles/npy_oracle.py ---- */

static void ask_numpy(const char *what, const char *path, struct sft_buf *answer)
{
	char script[256];

	snprintf(script, sizeof(script), "npy_oracle.py %s %s", what, path);
	ask_python(script, NULL, answer);
}

static void make_directory(char path[], const char *template)
{
	strcpy(path, template);
	assert_non_null(mkdtemp(path));
}

static void remove_directory(const char *path)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", path);
	assert_int_equal(system(command), 0);
}

/* Write a header and as many bytes of data as it speaks of. */
static void write_view(const char *directory, const char *dims, enum sft_dtype dtype, bool f32,
		       const uint64_t *shape, uint32_t rank)
{
	struct sft_buf out = { 0 };
	uint64_t nbytes;
	char path[256];

	snprintf(path, sizeof(path), "%s/%s.%s.npy", directory, f32 ? "f32" : sft_dtype_name(dtype),
		 dims);
	assert_int_equal(sft_shape_nbytes(dtype, shape, rank, &nbytes, NULL), 0);
	if (f32)
		npy_header_f32(&out, shape, rank);
	else
		npy_header(&out, dtype, shape, rank, nbytes);
	assert_false(out.failed);
	assert_int_equal(out.len % 64, 0);
	for (uint64_t i = 0; i < nbytes; i++)
		sft_buf_add(&out, dtype == SFT_BOOL ? "\1" : &(char){ (char)i }, 1);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(out.data, 1, out.len, file), out.len);
	assert_int_equal(fclose(file), 0);
	sft_buf_free(&out);
}

static void numpy_reads_the_headers(void **state)
{
	static const struct {
		const char *dims;
		uint64_t shape[8];
		uint32_t rank;
	} shapes[] = {
		{ "scalar", { 0 }, 0 },
		{ "0", { 0 }, 1 },
		{ "8", { 8 }, 1 },
		{ "2x4", { 2, 4 }, 2 },
		{ "2x0x4", { 2, 0, 4 }, 3 },
		{ "12x1x1x2x1x1x1x2", { 12, 1, 1, 2, 1, 1, 1, 2 }, 8 },
		{ "0x1000000000000000", { 0, 1000000000000000 }, 2 },
	};
	enum { MANY = 30000, FULL = 41 };
	static uint64_t ones[MANY];
	struct sft_buf answer = { 0 };
	char directory[64];
	unsigned files = 0;

	make_directory(directory, "/tmp/test-npy-XXXXXX");
	for (int dtype = 0; dtype < SFT_DTYPE_COUNT; dtype++) {
		for (size_t i = 0; i < COUNT(shapes); i++) {
			if (sft_dtype_bits((enum sft_dtype)dtype) < 8)
				continue;
			write_view(directory, shapes[i].dims, (enum sft_dtype)dtype, false,
				   shapes[i].shape, shapes[i].rank);
			files++;
		}
	}
	for (size_t i = 0; i < COUNT(shapes); i++, files++)
		write_view(directory, shapes[i].dims, SFT_F32, true, shapes[i].shape,
			   shapes[i].rank);
	/* What needs version 2.0, and paddings of every length before it. */
	for (size_t i = 0; i < MANY; i++)
		ones[i] = 1;
	for (uint32_t rank = 2; rank < FULL; rank++, files++) {
		char dims[32];

		snprintf(dims, sizeof(dims), "ones%u", rank);
		write_view(directory, dims, SFT_U8, false, ones, rank);
	}
	/* Either side of 65535 bytes, where version 1.0 ends: with 21818 dimensions. */
	for (uint32_t rank = 21815; rank < 21821; rank++, files++) {
		char dims[32];

		snprintf(dims, sizeof(dims), "ones%u", rank);
		write_view(directory, dims, SFT_F32, false, ones, rank);
	}
	write_view(directory, "ones30000", SFT_F64, false, ones, MANY);
	files++;
	ask_numpy("check", directory, &answer);
	assert_int_equal(strtoul(answer.data, NULL, 10), files);
	sft_buf_free(&answer);
	remove_directory(directory);
}

/* Types of less than a byte: their bytes, in one dimension. */
static void packed_types_are_bytes(void **state)
{
	static const enum sft_dtype packed[] = { SFT_F4, SFT_F6_E2M3, SFT_F6_E3M2 };
	const uint64_t shape[] = { 2, 4 };

	for (size_t i = 0; i < COUNT(packed); i++) {
		const char *dict = "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }";
		struct sft_buf out = { 0 };

		npy_header(&out, packed[i], shape, 2, 4);
		assert_int_equal(out.len, 128);
		assert_memory_equal(out.data, "\x93NUMPY\x01\x00\x76\x00", 10);
		assert_memory_equal(out.data + 10, dict, strlen(dict));
		assert_int_equal(out.data[out.len - 1], '\n');
		sft_buf_free(&out);
	}
}

static void read_file(const char *directory, const char *name, struct sft_buf *out)
{
	char path[256], chunk[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *file = fopen(path, "r");
	assert_non_null(file);
	for (size_t n; (n = fread(chunk, 1, sizeof(chunk), file)) > 0;)
		sft_buf_add(out, chunk, n);
	fclose(file);
}

/* One line of the oracle's: the array that a file is. */
static void check_saved(const char *directory, char *line)
{
	char *rest = NULL, *name = strtok_r(line, " ", &rest), *dtype = strtok_r(NULL, " ", &rest);
	struct sft_buf file = { 0 };
	struct sft_error err = { 0 };
	struct npy_array array;
	enum sft_dtype expected;

	read_file(directory, name, &file);
	int ret = npy_parse(file.data, file.len, &array, &err);
	if (strcmp(dtype, "bad") == 0) {
		assert_int_equal(ret, -EINVAL);
		assert_non_null(strstr(err.msg, "the .npy header declares"));
		sft_buf_free(&file);
		return;
	}
	if (ret)
		fail_msg("%s: %s", name, err.msg);
	assert_true(sft_dtype_parse(dtype, strlen(dtype), &expected));
	assert_int_equal(array.dtype, expected);
	assert_int_equal(array.itemsize, sft_dtype_bits(expected) / 8);
	assert_int_equal(array.swap, strtoul(strtok_r(NULL, " ", &rest), NULL, 10));
	assert_int_equal(array.fortran, strtoul(strtok_r(NULL, " ", &rest), NULL, 10));
	assert_int_equal(array.data_offset, strtoul(strtok_r(NULL, " ", &rest), NULL, 10));
	assert_int_equal(array.nbytes, strtoul(strtok_r(NULL, " ", &rest), NULL, 10));
	for (uint32_t i = 0; i < array.rank; i++)
		assert_int_equal(array.shape[i], strtoul(strtok_r(NULL, " ", &rest), NULL, 10));
	assert_null(strtok_r(NULL, " ", &rest));
	npy_array_free(&array);
	/* Every shorter file is one that ends too early, not a broken one. */
	for (size_t len = 0; len < file.len && len < 100; len++) {
		char *part = malloc(len + 1); /* of its own, so that reading past it shows */

		assert_non_null(part);
		memcpy(part, file.data, len);
		assert_int_equal(npy_parse(part, len, &array, NULL), -EAGAIN);
		free(part);
	}
	sft_buf_free(&file);
}

static void what_numpy_saves_is_read(void **state)
{
	struct sft_buf answer = { 0 };
	char directory[64], *rest = NULL;
	unsigned files = 0;

	make_directory(directory, "/tmp/test-npy-XXXXXX");
	ask_numpy("make", directory, &answer);
	for (char *line = strtok_r(answer.data, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest), files++)
		check_saved(directory, line);
	assert_int_equal(files, 13 * 2 * 8 * 2 * 3 + 9);
	sft_buf_free(&answer);
	remove_directory(directory);
}

static void numpy_widens_float16_alike(void **state)
{
	static uint16_t in[65536];
	static float out[65536];
	struct sft_buf answer = { 0 };
	char path[] = "/tmp/test-npy-XXXXXX";

	for (uint32_t i = 0; i < 65536; i++)
		in[i] = (uint16_t)i;
	npy_widen(SFT_F16, in, out, 65536);
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	FILE *file = fdopen(fd, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(out, sizeof(*out), 65536, file), 65536);
	assert_int_equal(fclose(file), 0);
	ask_numpy("half", path, &answer);
	sft_buf_free(&answer);
	assert_int_equal(remove(path), 0);
}

/* ---- headers by hand ---- */

/* A version 1.0 file of this dict and nothing behind. */
static void make_file(struct sft_buf *file, const char *dict, size_t len)
{
	const char length[] = { (char)(len & 255), (char)(len >> 8) };

	sft_buf_add(file, "\x93NUMPY\x01\x00", 8);
	sft_buf_add(file, length, 2);
	sft_buf_add(file, dict, len);
}

static void reasonable_variants_are_read(void **state)
{
	static const struct {
		const char *dict;
		enum sft_dtype dtype;
		uint64_t shape[3];
		uint32_t rank;
		bool swap, fortran;
	} cases[] = {
		{ "{'descr':'<f4','fortran_order':False,'shape':(2,3)}", SFT_F32, { 2, 3 }, 2 },
		{ "{'shape': (2, 3,), 'fortran_order': True, 'descr': '>i8',}\n",
		  SFT_I64,
		  { 2, 3 },
		  2,
		  true,
		  true },
		{ "{\"descr\": \"|u1\", \"fortran_order\": False, \"shape\": ()}",
		  SFT_U8,
		  { 0 },
		  0 },
		{ " \t{ 'descr' : '=f8' ,\n 'fortran_order' : True , 'shape' : ( 7 , ) }  \n",
		  SFT_F64,
		  { 7 },
		  1 }, /* one dimension has one order */
		{ "{'descr': 'i4', 'fortran_order': False, 'shape': (0, 5)}",
		  SFT_I32,
		  { 0, 5 },
		  2 },
		{ "{'descr': '>u1', 'fortran_order': False, 'shape': (1,)}", SFT_U8, { 1 }, 1 },
		{ "{'descr': '>c8', 'fortran_order': False, 'shape': (1,)}",
		  SFT_C64,
		  { 1 },
		  1,
		  true },
		{ "{'descr': '|b1', 'fortran_order': False, 'shape': (1,)}", SFT_BOOL, { 1 }, 1 },
		{ "{'descr': '<u8', 'fortran_order': False, 'shape': (0, 18446744073709551615)}",
		  SFT_U64,
		  { 0, UINT64_MAX },
		  2 },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sft_buf file = { 0 };
		struct sft_error err = { 0 };
		struct npy_array array;

		make_file(&file, cases[i].dict, strlen(cases[i].dict));
		if (npy_parse(file.data, file.len, &array, &err))
			fail_msg("%s: %s", cases[i].dict, err.msg);
		assert_int_equal(array.dtype, cases[i].dtype);
		assert_int_equal(array.swap, cases[i].swap);
		assert_int_equal(array.fortran, cases[i].fortran);
		assert_int_equal(array.rank, cases[i].rank);
		assert_int_equal(array.data_offset, file.len);
		if (array.rank)
			assert_memory_equal(array.shape, cases[i].shape, 8 * array.rank);
		npy_array_free(&array);
		sft_buf_free(&file);
	}
}

#define DICT(descr, fortran, shape)                                                                \
	"{'descr': " descr ", 'fortran_order': " fortran ", 'shape': " shape "}"

static void broken_headers_are_refused(void **state)
{
	static const struct {
		const char *dict, *message;
	} cases[] = {
		{ "", "the .npy header ends where '{' is expected" },
		{ "[]", "the .npy header has \"[]\" at byte 0 of its dict, not '{'" },
		{ "{}", "the .npy header lacks the key 'descr'" },
		{ "{'descr': '<f4', 'shape': ()}", "lacks the key 'fortran_order'" },
		{ "{'descr': '<f4', 'fortran_order': False}", "lacks the key 'shape'" },
		{ "{'a': 1}", "has the unknown key \"a\"" },
		{ "{'shape': (), 'shape': ()}", "has twice the key \"shape\"" },
		{ "{'shape': () 'descr': '<f4'}", "not ',' or '}'" },
		{ "{,}", "not a key" },
		{ "{shape: ()}", "not a key" },
		{ "{'shape' ()}", "not ':'" },
		{ "{'shape", "not closed" },
		{ "{'shape\": ()}", "not closed" },
		{ "{'sh\\x61pe': ()}", "has an escape" },
		{ DICT("'<f4'", "False", "()") " x", "not the end" },
		{ DICT("'<f4'", "False", "()") "}", "not the end" },
		{ DICT("'<f4'", "False", "()") "\0", NULL },
		{ DICT("'<f4'", "0", "()"), "not True or False" },
		{ DICT("'<f4'", "false", "()"), "not True or False" },
		{ DICT("'<f4'", "None", "()"), "not True or False" },
		{ DICT("'<f4'", "False", "[2]"), "not '('" },
		{ DICT("'<f4'", "False", "2"), "not '('" },
		{ DICT("'<f4'", "False", "(2)"), "a number in brackets, not a tuple" },
		{ DICT("'<f4'", "False", "(,)"), "not a dimension" },
		{ DICT("'<f4'", "False", "(2,,3)"), "not a dimension" },
		{ DICT("'<f4'", "False", "(2 3)"), "not ',' or ')'" },
		{ DICT("'<f4'", "False", "(-1,)"), "not a dimension" },
		{ DICT("'<f4'", "False", "(+1,)"), "not a dimension" },
		{ DICT("'<f4'", "False", "(1.5,)"), "not ',' or ')'" },
		{ DICT("'<f4'", "False", "(2L,)"), "not ',' or ')'" },
		{ DICT("'<f4'", "False", "(0x10,)"), "not ',' or ')'" },
		{ DICT("'<f4'", "False", "(01,)"), "a leading zero" },
		{ DICT("'<f4'", "False", "(18446744073709551616,)"), "above 64 bits" },
		{ DICT("'<f4'", "False", "(99999999999999999999999,)"), "above 64 bits" },
		{ DICT("'<f4'", "False", "(4294967296, 4294967296)"), "overflow" },
		{ DICT("'<f4'", "False", "(4611686018427387904,)"), "overflow" },
		{ DICT("'<f4'", "False", "("), "not a dimension" },
		{ DICT("'<f4'", "False", "(1"), "not ',' or ')'" },
		{ DICT("'|O'", "False", "()"), "the type \"|O\": an object array" },
		{ DICT("'O'", "False", "()"), "an object array" },
		{ DICT("'|S5'", "False", "()"), "an array of strings" },
		{ DICT("'<U5'", "False", "()"), "an array of strings" },
		{ DICT("'<M8[ns]'", "False", "()"), "an array of dates or times" },
		{ DICT("'<m8[s]'", "False", "()"), "an array of dates or times" },
		{ DICT("'|V2'", "False", "()"), "an array of raw or structured records" },
		{ DICT("[('a', '<f4')]", "False", "()"), "a structured array" },
		{ DICT("('<f4', (2,))", "False", "()"), "a structured array" },
		{ DICT("'<c16'", "False", "()"),
		  "the type \"<c16\": a type that safetensors lacks" },
		{ DICT("'<f16'", "False", "()"), "a type that safetensors lacks" },
		{ DICT("'float32'", "False", "()"), "a type that safetensors lacks" },
		{ DICT("''", "False", "()"), "a type that safetensors lacks" },
		{ DICT("'<'", "False", "()"), "a type that safetensors lacks" },
		{ DICT("'<<f4'", "False", "()"), "a type that safetensors lacks" },
		{ DICT("'<f3'", "False", "()"), "a type that safetensors lacks" },
		{ DICT("'<i16'", "False", "()"), "a type that safetensors lacks" },
		{ DICT("f4", "False", "()"), "not a type's name" },
		{ DICT("None", "False", "()"), "not a type's name" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sft_buf file = { 0 };
		struct sft_error err = { 0 };
		struct npy_array array;
		/* The one case without a message ends in a NUL, which is no white space. */
		size_t nul = cases[i].message ? 0 : 1;

		make_file(&file, cases[i].dict, strlen(cases[i].dict) + nul);
		if (npy_parse(file.data, file.len, &array, &err) != -EINVAL)
			fail_msg("%s: no EINVAL", cases[i].dict);
		assert_int_equal(err.errnum, EINVAL);
		if (!strstr(err.msg, cases[i].message ? cases[i].message : "not the end"))
			fail_msg("%s: %s", cases[i].dict, err.msg);
		assert_null(array.shape);
		sft_buf_free(&file);
	}
}

#undef DICT

static void what_is_no_npy_file_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		int ret;
		const char *message;
	} cases[] = {
		{ "", 0, -EAGAIN, "ends inside its header" },
		{ "\x93NUM", 4, -EAGAIN, "ends inside its header" },
		{ "\x93NUMPY\x01", 7, -EAGAIN, "ends inside its header" },
		{ "\x93NUMPY\x01\x00\x10", 9, -EAGAIN, "ends inside its header" },
		{ "\x93NUMPY\x02\x00\x10\x00\x00", 11, -EAGAIN, "ends inside its header" },
		{ "\x93NUMPY\x01\x00\x10\x00{}", 12, -EAGAIN, "ends inside its header" },
		{ "PK\x03\x04", 4, -EINVAL, "does not begin with \\x93NUMPY" },
		{ "\x93NUMPX", 6, -EINVAL, "does not begin with \\x93NUMPY" },
		{ "\x93NUMPY\x04\x00\x02\x00{}", 12, -EINVAL, "version 4.0 is none of" },
		{ "\x93NUMPY\x00\x00\x02\x00{}", 12, -EINVAL, "version 0.0 is none of" },
		{ "\x93NUMPY\x01\x01\x02\x00{}", 12, -EINVAL, "version 1.1 is none of" },
		{ "\x93NUMPY\x02\x00\x01\x00\x01\x00", 12, -EINVAL, "above the limit of 65536" },
		{ "\x93NUMPY\x03\x00\xff\xff\xff\xff", 12, -EINVAL, "above the limit of 65536" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sft_error err = { 0 };
		struct npy_array array;

		assert_int_equal(npy_parse(cases[i].bytes, cases[i].len, &array, &err),
				 cases[i].ret);
		if (!strstr(err.msg, cases[i].message))
			fail_msg("%s", err.msg);
		npy_array_free(&array);
	}
}

static void our_own_headers_are_read(void **state)
{
	for (int i = 0; i < SFT_DTYPE_COUNT; i++) {
		enum sft_dtype dtype = (enum sft_dtype)i;
		const uint64_t shape[] = { 2, 8 };
		struct sft_buf file = { 0 };
		struct npy_array array;

		npy_header(&file, dtype, shape, 2, 2 * sft_dtype_bits(dtype));
		assert_int_equal(npy_parse(file.data, file.len, &array, NULL), 0);
		assert_int_equal(array.nbytes, 2 * sft_dtype_bits(dtype));
		assert_int_equal(array.data_offset, file.len);
		/* Written back over the tensor it came from, it changes no type. */
		assert_int_equal(npy_keep_dtype(array.dtype, dtype), dtype);
		npy_array_free(&array);
		sft_buf_free(&file);
	}
}

static void other_types_are_taken_over(void **state)
{
	static const struct {
		enum sft_dtype npy, old, expected;
	} cases[] = {
		{ SFT_U16, SFT_BF16, SFT_BF16 },      { SFT_I16, SFT_BF16, SFT_I16 },
		{ SFT_F32, SFT_BF16, SFT_F32 },	      { SFT_U8, SFT_BF16, SFT_U8 },
		{ SFT_U8, SFT_F8_E4M3, SFT_F8_E4M3 }, { SFT_I8, SFT_F8_E4M3, SFT_I8 },
		{ SFT_BOOL, SFT_F8_E4M3, SFT_BOOL },  { SFT_U8, SFT_F4, SFT_F4 },
		{ SFT_U16, SFT_F16, SFT_U16 },	      { SFT_U8, SFT_BOOL, SFT_U8 },
		{ SFT_U8, SFT_I8, SFT_U8 },	      { SFT_U16, SFT_F8_E5M2, SFT_U16 },
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(npy_keep_dtype(cases[i].npy, cases[i].old), cases[i].expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numpy_reads_the_headers),
		cmocka_unit_test(packed_types_are_bytes),
		cmocka_unit_test(what_numpy_saves_is_read),
		cmocka_unit_test(numpy_widens_float16_alike),
		cmocka_unit_test(reasonable_variants_are_read),
		cmocka_unit_test(broken_headers_are_refused),
		cmocka_unit_test(what_is_no_npy_file_is_refused),
		cmocka_unit_test(our_own_headers_are_read),
		cmocka_unit_test(other_types_are_taken_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
