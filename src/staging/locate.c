/* locate.c - where the edits of a source are staged by default */
#include "path.h"
#include "staging.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INDEX_SUFFIX ".index.json"

/* The source resolved; for an index.json the directory that it is in, not the one it links to. */
static char *resolve_source(const char *source, bool *is_directory)
{
	struct stat st;
	char *out;

	*is_directory = stat(source, &st) == 0 && S_ISDIR(st.st_mode);
	if (!*is_directory && path_ends_with(source, INDEX_SUFFIX)) {
		*is_directory = true;
		return path_resolve_dirname(source);
	}
	out = realpath(source, NULL);
	return out || errno != ENOENT ? out : path_resolve_parent(source);
}

char *staging_default_place(const char *path, bool is_directory)
{
	const char *name = strrchr(path, '/') + 1;
	char *out = NULL;
	int n;

	if (is_directory)
		n = asprintf(&out, "%s/.safetensorfs", strcmp(path, "/") ? path : "");
	else
		n = asprintf(&out, "%.*s.%s.safetensorfs", (int)(name - path), path, name);
	return n < 0 ? NULL : out;
}

int staging_locate(const char *source, char **source_path, char **home, struct sft_error *err)
{
	bool is_directory;

	*source_path = resolve_source(source, &is_directory);
	if (!*source_path)
		return sft_fail(err, errno ? errno : ENOMEM, "%s", strerror(errno));
	*home = staging_default_place(*source_path, is_directory);
	if (*home)
		return 0;
	free(*source_path);
	*source_path = NULL;
	return sft_fail(err, ENOMEM, "no memory for the name of the staging directory");
}

bool staging_same_place(const char *a, const char *b)
{
	char *x = path_resolve_parent(a), *y = path_resolve_parent(b);
	struct stat s, t;
	bool same = (x && y && strcmp(x, y) == 0) || (stat(a, &s) == 0 && stat(b, &t) == 0 &&
						      s.st_dev == t.st_dev && s.st_ino == t.st_ino);

	free(x);
	free(y);
	return same;
}
