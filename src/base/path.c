/* path.c - taking paths apart and finding where they lead */
#include "path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool path_ends_with(const char *path, const char *suffix)
{
	size_t n = strlen(path), m = strlen(suffix);

	return n >= m && strcmp(path + n - m, suffix) == 0;
}

const char *path_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

char *path_dirname(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return strdup(".");
	if (slash == path)
		return strdup("/");
	return strndup(path, (size_t)(slash - path));
}

char *path_join(const char *dir, const char *name)
{
	char *out = NULL;

	return asprintf(&out, "%s/%s", strcmp(dir, "/") ? dir : "", name) < 0 ? NULL : out;
}

char *path_absolute(const char *path)
{
	char cwd[PATH_MAX], *out = NULL;

	if (path[0] == '/')
		return strdup(path);
	if (!getcwd(cwd, sizeof(cwd)) || asprintf(&out, "%s/%s", cwd, path) < 0)
		return NULL;
	return out;
}

char *path_resolve_dirname(const char *path)
{
	char *parent = path_dirname(path), *real = parent ? realpath(parent, NULL) : NULL;

	free(parent);
	return real;
}

char *path_resolve_parent(const char *path)
{
	char *real = path_resolve_dirname(path);
	char *out = real ? path_join(real, path_base(path)) : NULL;

	free(real);
	return out;
}
