/* random_names.h - names that try the encoding, from a seed that a failure can be repeated with */
#ifndef RANDOM_NAMES_H
#define RANDOM_NAMES_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANDOM_NAME_MAX 400 /* bytes */

/* SEED from the environment, else a fixed one; printed, so that a failing run can be repeated. */
static inline uint64_t random_seed(void)
{
	const char *text = getenv("SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 20240607;

	printf("SEED=%" PRIu64 "\n", seed);
	return seed;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}

/* A name of pieces that the encoding treats specially, mostly short, sometimes past the cut. */
static inline size_t random_name(uint64_t *state, char out[RANDOM_NAME_MAX])
{
	static const struct {
		const char *text;
		size_t len;
	} pieces[] = {
		{ "\0", 1 },
		{ "\x1f", 1 },
		{ "\x7f", 1 },
		{ "\n", 1 },
		{ "%", 1 },
		{ "%4", 2 },
		{ "%41", 3 },
		{ "%2e", 3 },
		{ "%~", 2 },
		{ "~", 1 },
		{ "/", 1 },
		{ ".", 1 },
		{ ".json", 5 },
		{ ".npy", 4 },
		{ ".f32", 4 },
		{ "json", 4 },
		{ "\xc3\xa9", 2 },
		{ "\xe2\x82\xac", 3 },
		{ "\xf0\x9d\x84\x9e", 4 },
		{ "\xe2\x80\xa8", 3 },
		{ "weight", 6 },
		{ "a", 1 },
		{ "0123456789abcdef", 16 },
		{ "-", 1 },
		{ "\"", 1 },
		{ "\\", 1 },
	};
	size_t goal =
		random_below(state, 20) ? random_below(state, 24) : 200 + random_below(state, 150);
	size_t len = 0;

	while (len < goal) {
		size_t i = random_below(state, sizeof(pieces) / sizeof(*pieces));

		memcpy(out + len, pieces[i].text, pieces[i].len);
		len += pieces[i].len;
	}
	return len;
}

#endif
