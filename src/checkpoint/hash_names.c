/*
 * hash_names.c - files in a model hub's cache
 *
 * huggingface_hub keeps each file as REPO/blobs/HASH, named after its content, and links to it from
 * REPO/snapshots/REVISION/NAME. Such a file must not change under its name.
 */
#include "hash_names.h"
#include "path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool begins_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool has_directory(const char *parent, const char *name)
{
	struct stat st;
	char *path;
	bool there;

	if (asprintf(&path, "%s/%s", parent, name) < 0)
		return false;
	there = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
	free(path);
	return there;
}

/* Whether a directory is a hub's repository, by its name or by what is in it besides blobs. */
static bool is_repository(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	return begins_with(name, "models--") || begins_with(name, "datasets--") ||
	       begins_with(name, "spaces--") || has_directory(path, "snapshots") ||
	       has_directory(path, "refs");
}

/* Whether a resolved path is .../REPO/blobs/HASH. */
static bool is_blob(const char *path)
{
	char *blobs = path_dirname(path), *repo = NULL;
	const char *slash = blobs ? strrchr(blobs, '/') : NULL;
	bool found = false;

	if (slash && strcmp(slash, "/blobs") == 0) {
		repo = path_dirname(blobs);
		found = repo && is_repository(repo);
	}
	free(repo);
	free(blobs);
	return found;
}

int hash_names_check(const struct sft_checkpoint *ck, struct sft_error *err)
{
	for (size_t i = 0; i < sft_checkpoint_shards(ck); i++) {
		const struct sft_shard *shard = sft_checkpoint_shard(ck, i);
		char *path = shard->file ? realpath(sft_file_path(shard->file), NULL) : NULL;
		bool blob = path && is_blob(path);

		free(path);
		if (blob)
			return sft_fail(
				err, EPERM,
				"lies in a hub cache, where a file's name is the hash of "
				"its content, so it must not change; output=PATH commits to "
				"another place");
	}
	return 0;
}
