/*
 * staging.c - the staging directory and the files in it
 *
 *   journal       what was edited (journal.h); edits are staged as long as it is there
 *   journal.new   a journal that is being written anew
 *   blocks        the bytes
 *   result        why the last commit failed: one line
 */
#include "overlay_state.h"
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDEX_SUFFIX ".index.json"
#define RESULT_MAX 1024u /* bytes of a result that are read back */

/* ---- where ---- */

char *staging_absolute(const char *path)
{
	char cwd[PATH_MAX], *out = NULL;

	if (path[0] == '/')
		return strdup(path);
	if (!getcwd(cwd, sizeof(cwd)) || asprintf(&out, "%s/%s", cwd, path) < 0)
		return NULL;
	return out;
}

static bool ends_with(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* The path with its directory resolved and its last part as it is; for a source that is gone. */
static char *resolve_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *parent = io_dirname(path), *real = parent ? realpath(parent, NULL) : NULL;
	char *out = NULL;

	if (real &&
	    asprintf(&out, "%s/%s", strcmp(real, "/") ? real : "", slash ? slash + 1 : path) < 0)
		out = NULL;
	free(real);
	free(parent);
	return out;
}

/* The source resolved; for an index.json the directory that it is in, not the one it links to. */
static char *resolve_source(const char *source, bool *is_directory)
{
	struct stat st;
	char *parent, *out;

	*is_directory = stat(source, &st) == 0 && S_ISDIR(st.st_mode);
	if (!*is_directory && ends_with(source, INDEX_SUFFIX)) {
		*is_directory = true;
		parent = io_dirname(source);
		out = parent ? realpath(parent, NULL) : NULL;
		free(parent);
		return out;
	}
	out = realpath(source, NULL);
	return out || errno != ENOENT ? out : resolve_parent(source);
}

int staging_locate(const char *source, const char *staging, char **source_path, char **path,
		   struct sft_error *err)
{
	bool is_directory;

	*path = NULL;
	*source_path = resolve_source(source, &is_directory);
	if (!*source_path)
		return sft_fail(err, errno ? errno : ENOMEM, "%s", strerror(errno));
	if (staging) {
		*path = staging_absolute(staging);
	} else if (is_directory) {
		if (asprintf(path, "%s/.safetensorfs", *source_path) < 0)
			*path = NULL;
	} else {
		const char *name = strrchr(*source_path, '/') + 1;

		if (asprintf(path, "%.*s.%s.safetensorfs", (int)(name - *source_path), *source_path,
			     name) < 0)
			*path = NULL;
	}
	if (*path)
		return 0;
	free(*source_path);
	*source_path = NULL;
	return sft_fail(err, ENOMEM, "no memory for the name of the staging directory");
}

/* ---- the directory ---- */

static int refuse_place(const struct sft_overlay *ov, int r, struct sft_error *err)
{
	if (r == -EACCES || r == -EROFS || r == -EPERM || r == -ENAMETOOLONG)
		return sft_fail(err, -r,
				"cannot stage edits in %s: %s; staging=DIR stages them elsewhere, "
				"output=PATH commits elsewhere",
				ov->staging.path, strerror(-r));
	return sft_fail(err, -r, "cannot stage edits in %s: %s", ov->staging.path, strerror(-r));
}

int staging_open(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	struct stat st;
	/* In the default place a link is none of ours; to where the user says, it may lead. */
	int follow = ov->options.staging ? 0 : O_NOFOLLOW;
	int fd = io_openat(AT_FDCWD, s->path, O_RDONLY | O_DIRECTORY | follow, 0), r;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return refuse_place(ov, fd, err);
	r = staging_lock_dir(ov, fd, err);
	if (r == 0 && fstat(fd, &st) < 0)
		r = refuse_place(ov, -errno, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	/* Whoever had the lock until now may have removed it. */
	if (st.st_nlink == 0) {
		close(fd);
		return 0;
	}
	s->dir = fd;
	s->own_dir = !ov->options.staging;
	if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return refuse_place(ov, -errno, err);
	return 0;
}

int staging_make(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	int r;

	if (s->dir >= 0)
		return 0;
	r = io_mkdir(s->path, 0700);
	if (r < 0 && r != -EEXIST)
		return refuse_place(ov, r, err);
	bool made = r == 0;
	r = staging_open(ov, err);
	if (r < 0)
		return r;
	if (s->dir < 0)
		return sft_fail(err, EBUSY, "the staging directory %s was just removed; try again",
				s->path);
	s->own_dir = s->own_dir || made;
	return 0;
}

void staging_close_files(struct staging *s)
{
	if (s->journal >= 0)
		close(s->journal);
	if (s->blocks >= 0)
		close(s->blocks);
	s->journal = s->blocks = -1;
	s->journal_end = s->synced_end = s->allocated = 0;
	s->rewrite = s->stale_blocks = false;
}

void staging_close(struct staging *s)
{
	staging_close_files(s);
	if (s->dir >= 0)
		close(s->dir);
	s->dir = -1;
}

/* ---- the files ---- */

void staging_clear(int dir)
{
	(void)io_unlinkat(dir, "journal", 0);
	(void)io_unlinkat(dir, "journal.new", 0);
	(void)io_unlinkat(dir, "blocks", 0);
	(void)io_unlinkat(dir, "result", 0);
}

void staging_remove(struct sft_overlay *ov)
{
	struct staging *s = &ov->staging;

	if (s->dir < 0)
		return;
	staging_clear(s->dir);
	if (s->own_dir)
		(void)io_unlinkat(AT_FDCWD, s->path, AT_REMOVEDIR);
	staging_close(s);
}

static int stranger(const struct staging *s, const char *name, const char *beside,
		    struct sft_error *err)
{
	return sft_fail(err, EEXIST,
			"the staging directory %s holds a file %s and no journal%s: it may be "
			"somebody else's; remove it, or stage elsewhere",
			s->path, name, beside);
}

/* Without a journal nothing shows that these are ours; in the default place nobody else has any. */
static int refuse_all(const struct staging *s, struct sft_error *err)
{
	static const char *const names[] = { "journal.new", "blocks", "result" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (faccessat(s->dir, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return stranger(s, names[i], "", err);
	}
	return 0;
}

int staging_refuse_strangers(const struct sft_overlay *ov, struct sft_error *err)
{
	const struct staging *s = &ov->staging;
	struct stat st;
	bool blank;
	int r;

	if (!ov->options.staging)
		return 0;
	r = journal_may_be_ours(s->journal, &blank);
	if (r < 0)
		return sft_fail(err, -r, "cannot read the journal in %s: %s", s->path,
				strerror(-r));
	if (r == 0)
		return stranger(s, "journal", " of edits", err);
	if (!blank)
		return 0;
	/* After a power cut there are whole blocks at most: a result comes after a sync. */
	if (fstatat(s->dir, "blocks", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (!S_ISREG(st.st_mode) || st.st_size % SFT_BLOCK))
		return stranger(s, "blocks", "", err);
	if (fstatat(s->dir, "result", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return stranger(s, "result", "", err);
	return 0;
}

/* Open the two files, -ENOENT where no journal is there. */
static int open_files(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	int r;

	s->journal = io_openat(s->dir, "journal", O_RDWR | O_NOFOLLOW, 0);
	if (s->journal < 0)
		return s->journal;
	r = staging_refuse_strangers(ov, err);
	if (r < 0)
		return r;
	s->blocks = io_openat(s->dir, "blocks", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	return s->blocks < 0 ? s->blocks : 0;
}

int staging_refuse_others(const struct sft_overlay *ov, const struct journal_summary *sum,
			  struct sft_error *err)
{
	if (!ov->options.staging || !sum->source || identity_is_of(sum, ov->source_path))
		return 0;
	return sft_fail(err, EEXIST, "%s holds the edits of %s, not of this source",
			ov->staging.path, sum->source);
}

int staging_load(struct sft_overlay *ov, struct journal_summary *sum, bool *found,
		 struct sft_error *err)
{
	struct staging *s = &ov->staging;
	struct sft_error reason = { 0 };
	struct journal_line line;
	int r = open_files(ov, err);

	*found = false;
	if (r < 0 && r != -ENOENT) {
		staging_close_files(s);
		return refuse_place(ov, r, err);
	}
	if (r == 0)
		r = journal_summarize(s->journal, sum, &reason);
	if ((r == 0 && (sum->edits || sum->prepared)) || r == -EBADMSG) {
		int others = staging_refuse_others(ov, sum, err);

		if (others < 0) {
			staging_close_files(s);
			return others;
		}
	}
	if ((r == 0 || r == -ENODATA) && journal_say_left_out(sum, &line))
		overlay_note(ov, "%s", line.text);
	if (r == 0 && (sum->edits || sum->prepared)) {
		s->own_dir = s->own_dir || sum->own_dir;
		*found = true;
		return 0;
	}
	staging_close_files(s);
	if (r < 0 && r != -ENOENT && r != -ENODATA)
		return sft_fail(err, -r, "staged edits in %s: %s", s->path, reason.msg);
	s->own_dir = s->own_dir || (r == 0 && sum->own_dir);
	journal_summary_free(sum);
	if (r == -ENOENT && !s->own_dir) {
		r = refuse_all(s, err);
		if (r < 0)
			return r;
	}
	staging_clear(s->dir);
	return 0;
}

int staging_drop(struct sft_overlay *ov, struct sft_error *err)
{
	struct staging *s = &ov->staging;
	int r = io_unlinkat(s->dir, "journal", 0);

	if (r == 0 || r == -ENOENT)
		r = io_fsync(s->dir);
	if (r < 0 && r != -EINVAL)
		return sft_fail(err, -r, "cannot drop the staged edits in %s: %s", s->path,
				strerror(-r));
	(void)io_unlinkat(s->dir, "result", 0);
	if (s->journal >= 0)
		close(s->journal);
	s->journal = -1;
	s->journal_end = s->synced_end = 0;
	s->rewrite = false;
	return 0;
}

/* ---- the result ---- */

void sft_overlay_set_result(struct sft_overlay *ov, const char *text)
{
	staging_result(ov, text);
}

void staging_result(struct sft_overlay *ov, const char *text)
{
	int fd = io_openat(ov->staging.dir, "result", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
			   0600);

	if (fd < 0)
		return;
	if (io_pwrite(fd, text, strlen(text), 0) == 0)
		(void)io_pwrite(fd, "\n", 1, strlen(text));
	close(fd);
}

char *staging_read_result(int dir)
{
	char text[RESULT_MAX + 1];
	int fd = io_openat(dir, "result", O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = read(fd, text, RESULT_MAX);
	close(fd);
	if (n <= 0)
		return NULL;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	/* It goes to a log. */
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
	return strdup(text);
}
