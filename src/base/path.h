/* path.h - taking paths apart and finding where they lead */
#ifndef SFT_PATH_H
#define SFT_PATH_H

#include <stdbool.h>

bool path_ends_with(const char *path, const char *suffix);
/* The file name in a path: what follows the last slash. Borrowed. */
const char *path_base(const char *path);
/* The directory part of a path, malloced; NULL if memory runs out. */
char *path_dirname(const char *path);
/* "DIR/NAME", malloced; NULL if memory runs out. */
char *path_join(const char *dir, const char *name);
/* A path made absolute by the working directory; malloced; NULL with errno set. */
char *path_absolute(const char *path);
/* The directory part of a path, resolved. Malloced; NULL with errno set. */
char *path_resolve_dirname(const char *path);
/* PATH with its directory resolved, but not itself. Malloced; NULL with errno set. */
char *path_resolve_parent(const char *path);

#endif
