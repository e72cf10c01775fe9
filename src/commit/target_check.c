/*
 * target_check.c - where a commit would write, looked at when an overlay is opened
 *
 * What can be known before anything is edited is said then, not hours later. A commit checks what
 * it needs by itself all the same: meanwhile everything may have changed.
 */
#include "commit.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int no_memory(struct sft_error *err)
{
	return sft_fail(err, ENOMEM, "no memory for the name of a target");
}

/* Whether files can be made in a directory: 0 or -errno. */
static int takes_files(const char *dir)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* ---- output= ---- */

int target_refuse_source(const struct sft_overlay *ov, struct sft_error *err)
{
	const char *output = ov->options.output;
	struct stat st;

	if (!output)
		return 0;
	char *place = lstat(output, &st) == 0 && S_ISDIR(st.st_mode) ? realpath(output, NULL)
								     : path_resolve_parent(output);
	bool same = place && strcmp(place, ov->staging.source_path) == 0;

	free(place);
	if (same)
		return sft_fail(err, EINVAL, "output %s: is the source itself", output);
	if (lstat(output, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) &&
	    !S_ISLNK(st.st_mode))
		return sft_fail(err, EINVAL, "output %s: is no regular file", output);
	return 0;
}

/* Files can be made in the directory that holds the output. */
static int check_parent(const char *output, struct sft_error *err)
{
	size_t len = strlen(output);

	while (len > 1 && output[len - 1] == '/')
		len--;
	char *path = strndup(output, len), *dir = path ? path_dirname(path) : NULL;
	int r = dir ? takes_files(dir) : -ENOMEM;

	if (r < 0)
		sft_fail(err, -r, "output %s: cannot be written in %s: %s", output,
			 dir ? dir : "its directory", strerror(-r));
	free(dir);
	free(path);
	return r;
}

/* A checkpoint may be replaced by a new one, and an empty file, as mktemp makes it; another file
 * was hardly meant. */
static int check_replaced(const char *path, struct sft_error *err)
{
	struct sft_file *file = NULL;
	struct sft_error e = { 0 };
	struct stat st;

	/* A link is replaced itself, not what it leads to. */
	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return 0;
	int r = sft_file_open(path, 0, &file, &e);

	sft_file_free(file);
	if (r == -EBADMSG)
		return sft_fail(err, EEXIST, "output %s: is there and is no checkpoint: %s", path,
				e.msg);
	return r < 0 ? sft_fail(err, -r, "output %s: is there and cannot be read: %s", path, e.msg)
		     : 0;
}

static int check_output_directory(const struct sft_overlay *ov, struct sft_error *err)
{
	const char *output = ov->options.output;
	int r = takes_files(output);

	if (r < 0)
		return sft_fail(err, -r, "output %s: cannot be written in: %s", output,
				strerror(-r));
	r = commit_refuse_strangers(ov, output, err);
	for (size_t i = 0; r == 0 && i < sft_checkpoint_shards(ov->base); i++) {
		const struct sft_shard *s = sft_checkpoint_shard(ov->base, i);
		char *path = NULL;

		if (!s->file)
			continue;
		if (asprintf(&path, "%s/%s", output, s->name) < 0)
			return no_memory(err);
		r = check_replaced(path, err);
		free(path);
	}
	return r;
}

static int check_output(const struct sft_overlay *ov, struct sft_error *err)
{
	const bool directory = sft_checkpoint_is_directory(ov->base);
	const char *output = ov->options.output;
	struct stat st;
	bool there = stat(output, &st) == 0;

	if (there && S_ISDIR(st.st_mode) != directory)
		return commit_wrong_kind(output, directory, err);
	if (there && directory)
		return check_output_directory(ov, err);
	int r = check_parent(output, err);

	return r == 0 && !directory ? check_replaced(output, err) : r;
}

/* ---- the source ---- */

/*
 * A commit makes new files beside each shard; in place it writes into them, and makes files only
 * where the layout changes. *last: the directory that was looked at last; malloced.
 */
static int check_shard(const struct sft_overlay *ov, const struct sft_shard *s, char **last,
		       struct sft_error *err)
{
	char *path = realpath(sft_file_path(s->file), NULL),
	     *dir = path ? path_dirname(path) : NULL;
	int r = 0;

	if (!dir) {
		/* It is gone: a commit says so. */
	} else if (ov->options.inplace) {
		if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
			r = sft_fail(err, errno,
				     "%s: cannot be opened for writing, which commit=inplace "
				     "needs: %s; output=PATH commits elsewhere",
				     s->name, strerror(errno));
	} else if (!*last || strcmp(*last, dir) != 0) {
		r = takes_files(dir);
		if (r < 0)
			sft_fail(err, -r, "cannot commit to %s: %s; output=PATH commits elsewhere",
				 dir, strerror(-r));
		free(*last);
		*last = dir;
		dir = NULL;
	}
	free(dir);
	free(path);
	return r;
}

int target_check(const struct sft_overlay *ov, struct sft_error *err)
{
	/* Without staging= the staging lies beside the source: where that cannot be, its own error
	 * says more. */
	char *last = NULL;
	int r = 0;

	if (ov->options.output)
		return check_output(ov, err);
	if (!ov->options.staging) {
		last = path_dirname(ov->staging.path);
		if (!last)
			return no_memory(err);
	}
	for (size_t i = 0; r == 0 && i < sft_checkpoint_shards(ov->base); i++) {
		const struct sft_shard *s = sft_checkpoint_shard(ov->base, i);

		if (s->file)
			r = check_shard(ov, s, &last, err);
	}
	free(last);
	return r;
}
