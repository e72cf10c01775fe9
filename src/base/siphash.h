/* siphash.h - SipHash-1-3, a keyed hash: who does not know the key cannot make names collide */
#ifndef SIPHASH_H
#define SIPHASH_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t siphash_rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static inline void siphash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = siphash_rotl(v[1], 13) ^ v[0];
	v[3] = siphash_rotl(v[3], 16) ^ v[2];
	v[0] = siphash_rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = siphash_rotl(v[1], 17) ^ v[2];
	v[3] = siphash_rotl(v[3], 21) ^ v[0];
	v[2] = siphash_rotl(v[2], 32);
}

/* Aumasson and Bernstein, "SipHash: a fast short-input PRF", with 1 and 3 rounds. */
static inline uint64_t siphash13(const uint64_t key[2], const char *data, size_t len)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
			  key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573 };
	uint64_t word;

	for (size_t left = len; left >= 8; left -= 8, data += 8) {
		memcpy(&word, data, 8);
		word = le64toh(word);
		v[3] ^= word;
		siphash_round(v);
		v[0] ^= word;
	}
	word = 0;
	memcpy(&word, data, len % 8);
	word = le64toh(word) | (uint64_t)len << 56;
	v[3] ^= word;
	siphash_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		siphash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
