/* counting.h - an allocator that counts, and fails when told to, for the code under test */
#ifndef COUNTING_H
#define COUNTING_H

#include <stddef.h>

/* Begin to count from zero. */
void counting_start(void);
/* Bytes now in use, and the most that ever were, of what was allocated since the start. */
size_t counting_current(void);
size_t counting_peak(void);
/* Calls that asked for memory since the start. */
size_t counting_calls(void);
/* Let the n-th call from now on fail, counting from 1; 0 for none. */
void counting_fail(size_t n);

#endif
