/* targets.c - which files a commit writes, where, and whether it may */
#include "commit.h"
#include "file.h"
#include "io.h"
#include "num.h"
#include "path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int no_memory(struct sft_error *err)
{
	return sft_fail(err, ENOMEM, "no memory for the commit");
}

/* ---- is the source what was opened ---- */

int commit_refuse_stale(const struct sft_overlay *ov, struct sft_error *err)
{
	for (size_t i = 0; i < sft_checkpoint_shards(ov->base); i++) {
		const struct sft_shard *shard = sft_checkpoint_shard(ov->base, i);
		char how[IDENTITY_TEXT];
		struct file_id id;
		struct stat st;

		if (!shard->file)
			continue;
		if (stat(sft_file_path(shard->file), &st) < 0)
			return sft_fail(err, ESTALE, "%s: cannot be found any more: %s",
					shard->name, strerror(errno));
		if (identity_differs(sft_file_stat(shard->file), &st, true, how))
			return sft_fail(err, ESTALE, "%s: is not the file that was opened: %s",
					shard->name, how);
		int r = identity_of_fd(sft_file_fd(shard->file), false, &id);
		if (r < 0)
			return sft_fail(err, -r, "%s: cannot be read: %s", shard->name,
					strerror(-r));
		if (id.hash != sft_file_header_hash(shard->file))
			return sft_fail(err, ESTALE,
					"%s: is not the file that was opened: another header",
					shard->name);
	}
	return 0;
}

/* ---- paths ---- */

/* Its temporary, beside it. Malloced. */
static char *temporary_path(const struct sft_overlay *ov, const char *path)
{
	char *name = prepared_temporary_name(path_base(path), ov->staging.id), *out = NULL;

	if (name && asprintf(&out, "%.*s%s", (int)(path_base(path) - path), path, name) < 0)
		out = NULL;
	free(name);
	return out;
}

/* The directory, or for a single file the file, that options.output names; made absolute. */
static char *output_path(const struct sft_overlay *ov)
{
	if (sft_checkpoint_is_directory(ov->base))
		return realpath(ov->options.output, NULL);
	return path_resolve_parent(ov->options.output);
}

/* Where the file called `name`, now at `old`, goes. Malloced; NULL with errno set. */
static char *target_path(const struct sft_overlay *ov, const char *output, const char *name,
			 const char *old)
{
	char *out = NULL;

	if (!output)
		return realpath(old, NULL);
	if (!sft_checkpoint_is_directory(ov->base))
		return strdup(output);
	return asprintf(&out, "%s/%s", output, name) < 0 ? NULL : out;
}

/* ---- the output ---- */

int commit_wrong_kind(const char *output, bool directory, struct sft_error *err)
{
	return sft_fail(err, directory ? ENOTDIR : EISDIR,
			"output %s: is %s directory, and the source is %s", output,
			directory ? "no" : "a", directory ? "one" : "a file");
}

int commit_refuse_strangers(const struct sft_overlay *ov, const char *output, struct sft_error *err)
{
	const char *index = sft_checkpoint_index_path(ov->base);
	DIR *dir = opendir(output);
	const struct dirent *e;
	int r = 0;

	if (!dir)
		return sft_fail(err, errno, "output %s: %s", output, strerror(errno));
	while (r == 0 && (e = readdir(dir))) {
		bool known = index && strcmp(e->d_name, path_base(index)) == 0;
		bool shard = !index && path_ends_with(e->d_name, ".safetensors");

		if (e->d_name[0] == '.' ||
		    (!shard && !path_ends_with(e->d_name, ".safetensors.index.json")))
			continue;
		for (size_t i = 0; shard && !known && i < sft_checkpoint_shards(ov->base); i++)
			known = strcmp(e->d_name, sft_checkpoint_shard(ov->base, i)->name) == 0;
		if (!known)
			r = sft_fail(err, EEXIST,
				     "output %s: holds %s, which would mix with the new checkpoint",
				     output, e->d_name);
	}
	closedir(dir);
	return r;
}

static int make_directory(struct commit_job *job, struct sft_error *err)
{
	const char *output = job->ov->options.output;
	char *parent = path_dirname(output);
	int r = parent ? io_mkdir(output, 0777) : -ENOMEM;

	if (r == 0) {
		job->made = realpath(output, NULL);
		r = io_fsync_dir(parent);
	}
	free(parent);
	return r < 0 && r != -EEXIST
		       ? sft_fail(err, -r, "output %s: cannot be made: %s", output, strerror(-r))
		       : 0;
}

/* Make the output ready; *path is its absolute path, malloced, or NULL without an output. */
static int prepare_output(struct commit_job *job, char **path, struct sft_error *err)
{
	const struct sft_overlay *ov = job->ov;
	const bool directory = sft_checkpoint_is_directory(ov->base);
	const char *output = ov->options.output;
	struct stat st;
	int r;

	*path = NULL;
	if (!output)
		return 0;
	r = directory ? make_directory(job, err) : 0;
	if (r < 0)
		return r;
	if (stat(output, &st) == 0 && S_ISDIR(st.st_mode) != directory)
		return commit_wrong_kind(output, directory, err);
	*path = output_path(ov);
	if (!*path)
		return sft_fail(err, errno, "output %s: %s", output, strerror(errno));
	r = staging_claim_output(&job->ov->staging, *path, directory, err);
	return r == 0 && directory ? commit_refuse_strangers(ov, *path, err) : r;
}

/* What to open to see the result. */
static char *open_path(const struct sft_overlay *ov, const char *output)
{
	const char *index = sft_checkpoint_index_path(ov->base);
	char *out = NULL;

	if (!output)
		return strdup(index ? index : sft_checkpoint_path(ov->base));
	if (!index)
		return strdup(output);
	return asprintf(&out, "%s/%s", output, path_base(index)) < 0 ? NULL : out;
}

/* ---- the files ---- */

static int add_file(struct commit_job *job, struct commit_file f, const char *name,
		    struct sft_error *err)
{
	const int errnum = errno;

	if (!f.path)
		return sft_fail(err, errnum, "%s: %s", name, strerror(errnum));
	for (size_t i = 0; i < job->count; i++) {
		if (strcmp(job->files[i].path, f.path) == 0) {
			free(f.path);
			return sft_fail(err, EINVAL,
					"%s: leads to the same file as another shard: %s", name,
					job->files[i].path);
		}
	}
	f.fd = -1;
	f.name = strdup(name);
	f.temporary = temporary_path(job->ov, f.path);
	job->files[job->count++] = f;
	return f.name && f.temporary ? 0 : no_memory(err);
}

static int add_shard(struct commit_job *job, const struct plan_shard *s, const char *output,
		     struct sft_error *err)
{
	const struct sft_shard *shard = sft_checkpoint_shard(job->ov->base, s->shard);
	struct commit_file f = { .shard = s, .source = shard->file };

	if (!shard->file || (!s->changed && !output))
		return 0;
	f.path = target_path(job->ov, output, shard->name, sft_file_path(shard->file));
	/* After a commit to it, the output is what we read from. */
	if (!s->changed && f.path && strcmp(f.path, sft_file_path(shard->file)) == 0) {
		free(f.path);
		return 0;
	}
	return add_file(job, f, shard->name, err);
}

/* Whether the index.json at `path` has that text already. */
static bool has_text(const char *path, const struct sft_buf *text)
{
	int fd = io_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
	char *old = malloc(text->len);
	struct stat st;
	bool same = fd >= 0 && old && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		    (uint64_t)st.st_size == text->len && io_pread(fd, old, text->len, 0) == 0 &&
		    memcmp(old, text->data, text->len) == 0;

	free(old);
	if (fd >= 0)
		close(fd);
	return same;
}

static int add_index(struct commit_job *job, const char *output, struct sft_error *err)
{
	const char *index = sft_checkpoint_index_path(job->ov->base);
	struct commit_file f = { 0 };
	int r;

	if (!index || (!job->plan.index_changed && !output))
		return 0;
	r = index_json_write(job->ov, &job->plan, &f.text, err);
	if (r < 0) {
		sft_buf_free(&f.text);
		return r;
	}
	f.path = target_path(job->ov, output, path_base(index), index);
	if (f.path && has_text(f.path, &f.text)) {
		free(f.path);
		sft_buf_free(&f.text);
		return 0;
	}
	r = add_file(job, f, path_base(index), err);
	/* Where it was added it is freed with the job. */
	if (r < 0 && (job->count == 0 || job->files[job->count - 1].text.data != f.text.data))
		sft_buf_free(&f.text);
	return r;
}

int commit_choose_files(struct commit_job *job, struct sft_error *err)
{
	char *output = NULL;
	int r = prepare_output(job, &output, err);

	if (r < 0)
		goto out;
	job->open = open_path(job->ov, output);
	job->files = calloc(job->plan.count + 1, sizeof(*job->files));
	if (!job->open || !job->files)
		r = no_memory(err);
	for (size_t i = 0; r == 0 && i < job->plan.count; i++)
		r = add_shard(job, &job->plan.shards[i], output, err);
	if (r == 0)
		r = add_index(job, output, err);
out:
	free(output);
	return r;
}

void commit_clean(const struct sft_overlay *ov)
{
	const char *index = sft_checkpoint_index_path(ov->base);
	char *output = ov->options.output ? output_path(ov) : NULL;
	const size_t shards = sft_checkpoint_shards(ov->base);

	for (size_t i = 0; (output || !ov->options.output) && i < shards + 1; i++) {
		const struct sft_shard *s = i < shards ? sft_checkpoint_shard(ov->base, i) : NULL;
		const char *old = s ? (s->file ? sft_file_path(s->file) : NULL) : index;
		char *path =
			old ? target_path(ov, output, s ? s->name : path_base(index), old) : NULL;
		char *temporary = path ? temporary_path(ov, path) : NULL;

		if (temporary)
			(void)io_unlinkat(AT_FDCWD, temporary, 0);
		free(temporary);
		free(path);
	}
	free(output);
}

/* ---- space ---- */

/* Bytes that we may still write to the file system of a directory. */
static int free_space(const char *dir, uint64_t *bytes)
{
	struct statvfs st;

	if (statvfs(dir, &st) < 0)
		return -errno;
	/* What is reserved is reserved for root. */
	if (!sft_mul(geteuid() == 0 ? st.f_bfree : st.f_bavail, st.f_frsize, bytes))
		*bytes = UINT64_MAX;
	return 0;
}

/* The file system of a path's directory. */
static int look_at_directory(const char *path, char **dir, dev_t *dev)
{
	struct stat st;

	*dir = path_dirname(path);
	if (!*dir || stat(*dir, &st) < 0)
		return *dir ? -errno : -ENOMEM;
	*dev = st.st_dev;
	return 0;
}

/* The space that the files from i on need on one file system. */
static uint64_t need_on(const struct commit_job *job, const dev_t *devs, size_t i)
{
	uint64_t need = 0;

	for (size_t k = i; k < job->count; k++) {
		if (devs[k] == devs[i] && !sft_add(need, job->files[k].need, &need))
			return UINT64_MAX;
	}
	return need;
}

int commit_refuse_space(const struct commit_job *job, struct sft_error *err)
{
	dev_t *devs = calloc(job->count + 1, sizeof(*devs));
	char **dirs = calloc(job->count + 1, sizeof(*dirs));
	int r = devs && dirs ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < job->count; i++)
		r = look_at_directory(job->files[i].path, &dirs[i], &devs[i]);
	/* The first file of a file system stands for all of them: it needs the most. */
	for (size_t i = 0; r == 0 && i < job->count; i++) {
		uint64_t need = need_on(job, devs, i), have = 0;

		r = free_space(dirs[i], &have);
		if (r == 0 && need > have)
			r = sft_fail(err, ENOSPC,
				     "the new files need %" PRIu64 " bytes in %s, and %" PRIu64
				     " are free; free some, or have it written elsewhere by "
				     "safetensorfs recover SOURCE -o output=PATH",
				     need, dirs[i], have);
	}
	for (size_t i = 0; dirs && i < job->count; i++)
		free(dirs[i]);
	free(dirs);
	free(devs);
	return r < 0 ? sft_fail(err, -r, "cannot find out how much space is free: %s", strerror(-r))
		     : 0;
}

/* ---- directories ---- */

int commit_sync_dirs(char *const *paths, size_t count, struct sft_error *err)
{
	char *last = NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		char *dir = path_dirname(paths[i]);

		if (!dir)
			r = no_memory(err);
		else if (!last || strcmp(last, dir) != 0)
			r = io_fsync_dir(dir);
		if (r < 0)
			sft_fail(err, -r, "cannot sync %s: %s", dir ? dir : "a directory",
				 strerror(-r));
		free(last);
		last = dir;
	}
	free(last);
	return r;
}
