/*
 * names.h - tensor names to file names and back; knows no tree and no FUSE
 *
 * A file name is the tensor's name with single bytes percent-encoded where a path or one of the
 * suffixes would be misread (docs/names.md). In layout=tree the same is done to each component.
 */
#ifndef NAMES_H
#define NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_ENCODED_MAX 246 /* bytes; leaves room for "%" and ".f32.npy" below 255 */
#define NAME_CUT_MAX 228     /* bytes kept of an encoded name that is longer */

/*
 * Encode `len` bytes of valid UTF-8 into `out`, at most NAME_ENCODED_MAX bytes and a NUL. Returns
 * the length. *cut says whether the name had to be cut (then it cannot be decoded). cut may be
 * NULL.
 */
size_t name_encode(const char *name, size_t len, char out[NAME_ENCODED_MAX + 1], bool *cut);

/*
 * The name that a file name stands for, into `out` (at least `len` + 1 bytes; a NUL is added).
 * False where the file name is not what name_encode() makes of any name that is not cut: bad
 * UTF-8, an escape that is not needed or in lower case, a bare `%`, longer than the limit.
 */
bool name_decode(const char *file_name, size_t len, char *out, size_t *out_len);

/* FNV-1a, 64 bits. */
uint64_t name_hash(const char *name, size_t len);

/* Scratch names begin with `.` or end in `~`; they are never part of a checkpoint. */
bool name_is_scratch(const char *file_name, size_t len);

#endif
