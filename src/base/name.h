/* name.h - comparing names, which may hold NULs; sft_name_compare() is in sft.h */
#ifndef SFT_NAME_H
#define SFT_NAME_H

#include <stdbool.h>
#include <stddef.h>

bool sft_name_equal(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
