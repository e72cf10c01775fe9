/* hash.h - a fast hash of bytes, to recognise torn writes; no defence against people */
#ifndef SFT_HASH_H
#define SFT_HASH_H

#include <stddef.h>
#include <stdint.h>

/* 64 bits over n bytes, the same on every machine: it is in files. About 8 bytes a nanosecond. */
uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed);

#endif
