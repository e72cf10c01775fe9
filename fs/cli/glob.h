/* glob.h - patterns for names of tensors; no FUSE here */
#ifndef GLOB_H
#define GLOB_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Whether a pattern matches the whole of a name, which is valid UTF-8 and may hold NULs. `*` stands
 * for any characters, dots and slashes too, `?` for one, `[a-z]` for one of a set, `[!a-z]` for one
 * that is not in it, `\` takes the next character as it is. A `[` that is not closed is one.
 *
 * fnmatch(3) is not used: it ends at a NUL, needs a locale, and where the characters do not match,
 * glibc's tries the bytes (so that `??` matches "é"). Time is at most the product of both lengths.
 */
bool glob_match(const char *pattern, const char *name, size_t len);

#endif
