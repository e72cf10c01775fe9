/* name.c - comparing names, which may hold NULs */
#include "name.h"
#include "sft.h"

#include <string.h>

int sft_name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t common = a_len < b_len ? a_len : b_len;
	int r = common ? memcmp(a, b, common) : 0;

	return r ? r : (a_len > b_len) - (a_len < b_len);
}

bool sft_name_equal(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}
