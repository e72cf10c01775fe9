/* npy_impl.h - what npy.c and npy_parse.c share */
#ifndef NPY_IMPL_H
#define NPY_IMPL_H

#include "sft.h"

/* The dtype for a type code of numpy, such as "f4". False where there is none of that type. */
bool npy_type_find(const char *code, size_t len, enum sft_dtype *dtype);

#endif
