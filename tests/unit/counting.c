/*
 * counting.c - malloc and its family, wrapped by the linker (--wrap)
 *
 * Sizes are those asked for. They stand in a header of 16 bytes before each block, so only blocks
 * that this file handed out may come back to it: --wrap covers the library and the tests, which
 * must not free what libc allocated for them (strdup, getline) while these are linked.
 */
#include "counting.h"

#include <stdint.h>
#include <string.h>

#define HEADER 16

void *__real_malloc(size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static size_t current, peak, calls, fail_at;

void counting_start(void)
{
	current = peak = calls = fail_at = 0;
}

size_t counting_current(void)
{
	return current;
}

size_t counting_peak(void)
{
	return peak;
}

size_t counting_calls(void)
{
	return calls;
}

void counting_fail(size_t n)
{
	fail_at = n ? calls + n : 0;
}

static size_t block_size(const void *p)
{
	size_t n;

	memcpy(&n, (const char *)p - HEADER, sizeof(n));
	return n;
}

void *__wrap_malloc(size_t n)
{
	calls++;
	if (fail_at && calls == fail_at)
		return NULL;
	if (n > SIZE_MAX - HEADER)
		return NULL;
	char *p = __real_malloc(n + HEADER);
	if (!p)
		return NULL;
	memcpy(p, &n, sizeof(n));
	current += n;
	if (current > peak)
		peak = current;
	return p + HEADER;
}

void *__wrap_calloc(size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total))
		return NULL;
	void *p = __wrap_malloc(total);
	if (p)
		memset(p, 0, total);
	return p;
}

/* Always moves, so that what keeps a pointer into the old block is found by the sanitizers. */
void *__wrap_realloc(void *p, size_t n)
{
	void *moved = __wrap_malloc(n);

	if (!p || !moved)
		return moved;
	memcpy(moved, p, block_size(p) < n ? block_size(p) : n);
	__wrap_free(p);
	return moved;
}

void __wrap_free(void *p)
{
	if (!p)
		return;
	current -= block_size(p);
	__real_free((char *)p - HEADER);
}
