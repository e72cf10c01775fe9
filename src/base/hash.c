/* hash.c - four lanes of multiply and shift, 32 bytes a round */
#include "hash.h"

#include <endian.h>
#include <string.h>

/* Odd, with bits spread evenly: the fractions of the golden ratio and of the square root of 3. */
#define MULTIPLIER 0x9e3779b97f4a7c15u
#define INCREMENT 0xbb67ae8584caa73bu

static uint64_t word_at(const unsigned char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* A bijection of either argument while the other is fixed, so that a change of a single word always
 * changes the result. */
static uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * MULTIPLIER;
	return sum ^ sum >> 29;
}

uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed)
{
	const unsigned char *p = bytes;
	uint64_t lane[4], last = 0, sum = mix(seed, n);
	size_t left = n;

	for (uint64_t i = 0; i < 4; i++)
		lane[i] = seed + (i + 1) * INCREMENT;
	for (; left >= 32; left -= 32, p += 32) {
		lane[0] = mix(lane[0], word_at(p));
		lane[1] = mix(lane[1], word_at(p + 8));
		lane[2] = mix(lane[2], word_at(p + 16));
		lane[3] = mix(lane[3], word_at(p + 24));
	}
	for (int i = 0; i < 4; i++)
		sum = mix(sum, lane[i]);
	for (; left >= 8; left -= 8, p += 8)
		sum = mix(sum, word_at(p));
	memcpy(&last, p, left);
	sum = mix(sum, le64toh(last));
	return mix(sum, INCREMENT);
}
