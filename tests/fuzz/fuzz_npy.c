/*
 * fuzz_npy.c - libFuzzer over .npy headers: the input is once a whole file, once the dict alone
 */
#include "npy.h"
#include "npy_parse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition))                                                                  \
			abort();                                                                   \
	} while (0)

/* What is accepted can be written by us, and is the same when read again. */
static void check_array(const struct npy_array *array, size_t size)
{
	struct sft_buf header = { 0 };
	struct npy_array again;
	uint64_t nbytes;

	REQUIRE(array->dtype < SFT_DTYPE_COUNT);
	REQUIRE(sft_shape_nbytes(array->dtype, array->shape, array->rank, &nbytes, NULL) == 0);
	REQUIRE(nbytes == array->nbytes);
	REQUIRE(array->itemsize == sft_dtype_bits(array->dtype) / 8);
	REQUIRE(array->data_offset <= size);
	REQUIRE(!array->swap || array->itemsize > 1);
	REQUIRE(!array->fortran || array->rank > 1);
	npy_header(&header, array->dtype, array->shape, array->rank, nbytes);
	REQUIRE(!header.failed && header.len % 64 == 0);
	if (header.len <= NPY_HEADER_MAX) {
		REQUIRE(npy_parse(header.data, header.len, &again, NULL) == 0);
		REQUIRE(again.dtype == array->dtype && again.rank == array->rank);
		REQUIRE(again.nbytes == nbytes && again.data_offset == header.len);
		REQUIRE(array->rank == 0 || memcmp(again.shape, array->shape,
						   array->rank * sizeof(*array->shape)) == 0);
		npy_array_free(&again);
	}
	sft_buf_free(&header);
}

/* Parse a copy of its very length, so that reading behind it is caught. */
static void parse(const void *bytes, size_t size)
{
	struct sft_error err = { 0 };
	struct npy_array array;
	char *copy = malloc(size + !size);

	REQUIRE(copy);
	if (size)
		memcpy(copy, bytes, size);
	int ret = npy_parse(copy, size, &array, &err);
	REQUIRE(ret == 0 || ret == -EINVAL || ret == -EAGAIN);
	REQUIRE(err.errnum == -ret && (ret == 0) == (err.msg[0] == '\0'));
	for (const char *c = err.msg; *c; c++)
		REQUIRE((unsigned char)*c >= 0x20 && *c != 0x7f);
	if (ret == 0)
		check_array(&array, size);
	npy_array_free(&array);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const char length[] = { (char)(size & 255), (char)(size >> 8) };
	struct sft_buf file = { 0 };

	parse(bytes, size);
	if (size > UINT16_MAX)
		return 0;
	sft_buf_add(&file, "\x93NUMPY\x01\x00", 8);
	sft_buf_add(&file, length, sizeof(length));
	sft_buf_add(&file, bytes, size);
	parse(file.data, file.len);
	sft_buf_free(&file);
	return 0;
}
