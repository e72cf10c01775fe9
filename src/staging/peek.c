/* peek.c - are edits staged, and where: without locking or changing anything */
#include "staging.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is staged there ---- */

/* The journal's edits, if they are of this source: 1, 0, -errno. */
static int look_at_journal(int fd, bool known, const char *source_path, struct sft_error *err)
{
	struct journal_summary sum;
	bool blank;
	int r;

	if (!known && journal_may_be_ours(fd, &blank) <= 0)
		return 0;
	r = journal_summarize(fd, &sum, err);
	/* One that cannot be read is there all the same. */
	if (r == 0)
		r = sum.edits || sum.prepared;
	else
		r = r == -EBADMSG ? 1 : r == -ENODATA ? 0 : r;
	if (r == 1 && !known && sum.source && !identity_is_of(&sum, source_path))
		r = 0;
	journal_summary_free(&sum);
	return r;
}

int staging_look_in(int dir, const char *path, bool known, const char *source_path,
		    struct sft_error *err)
{
	struct sft_error e = { 0 };
	int fd = trust_openat(dir, path, "journal", O_RDONLY, &e), r;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return sft_fail(err, -fd, "%s", e.errnum ? e.msg : strerror(-fd));
	r = look_at_journal(fd, known, source_path, NULL);
	close(fd);
	return r < 0 ? sft_fail(err, -r, "%s", strerror(-r)) : r;
}

int staging_look(const char *path, bool follow, const char *source_path, struct sft_error *err)
{
	struct sft_error e = { 0 };
	int dir = trust_open_dir(path, follow, &e), r;

	if (dir < 0)
		return sft_fail(err, -dir, "%s", e.errnum ? e.msg : strerror(-dir));
	r = staging_look_in(dir, path, !follow, source_path, err);
	close(dir);
	return r;
}

/* ---- the marker ---- */

int staging_read_marker(int dir, const char *place, char **out, struct sft_error *err)
{
	char text[PATH_MAX + 1];
	int fd = trust_openat(dir, place, STAGING_MARKER, O_RDONLY, err);
	ssize_t n;

	*out = NULL;
	if (fd < 0)
		return fd == -ENOENT ? 0
				     : sft_fail(err, -fd, "%s/" STAGING_MARKER ": %s", place,
						strerror(-fd));
	n = TEMP_FAILURE_RETRY(read(fd, text, sizeof(text)));
	close(fd);
	if (n < 2 || text[0] != '/' || text[n - 1] != '\n' || memchr(text, '\0', (size_t)n))
		return 0;
	*out = strndup(text, (size_t)n - 1);
	return *out ? 0 : sft_fail(err, ENOMEM, "no memory for the name of the staging directory");
}

/* Where a source's edits can be. */
struct places {
	char *source_path, *home;
	char *named;  /* staging=, or NULL where that is the default place */
	char *marked; /* what the default place says, or NULL */
};

static void places_free(struct places *p)
{
	free(p->source_path);
	free(p->home);
	free(p->named);
	free(p->marked);
}

static int find_places(const char *source, const char *staging, struct places *p)
{
	int r = staging_locate(source, &p->source_path, &p->home, NULL), dir;

	if (r < 0)
		return r;
	if (staging && !staging_same_place(staging, p->home)) {
		p->named = staging_absolute(staging);
		if (!p->named)
			return -ENOMEM;
	}
	dir = trust_open_dir(p->home, false, NULL);
	if (dir >= 0) {
		(void)staging_read_marker(dir, p->home, &p->marked, NULL);
		close(dir);
	}
	return 0;
}

static bool has_journal(const char *path)
{
	char *journal = NULL;
	struct stat st;
	bool there;

	if (asprintf(&journal, "%s/journal", path) < 0)
		return false;
	there = lstat(journal, &st) == 0;
	free(journal);
	return there;
}

/* One that is not the caller's to look at counts as one with edits, if it looks like it. */
static bool has_edits(const char *path, bool follow, const char *source_path)
{
	int r = path ? staging_look(path, follow, source_path, NULL) : 0;

	return r > 0 || (r == -EPERM && has_journal(path));
}

/* Whether somebody else has a directory there in which nothing is staged, as while he edits. */
static bool is_idle(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && !has_journal(path);
}

bool sft_staging_exists(const char *source, const char *staging)
{
	struct places p = { 0 };
	bool exists =
		find_places(source, staging, &p) == 0 && (has_edits(p.named, true, p.source_path) ||
							  has_edits(p.home, false, p.source_path) ||
							  has_edits(p.marked, true, p.source_path));

	places_free(&p);
	return exists;
}

static int check(const struct places *p, struct sft_error *err)
{
	const char *const paths[] = { p->named, p->home, p->marked };

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		struct sft_error e = { 0 };
		int r = paths[i] ? staging_look(paths[i], i != 1, p->source_path, &e) : 0;

		if (r == -EPERM && !is_idle(paths[i]))
			return sft_fail(err, EPERM, "%s", e.msg);
		if (r > 0 && i == 1 && p->named)
			return sft_fail(err, EEXIST, "they are in %s, the default place", p->home);
		if (r > 0 && i == 2 && (!p->named || !staging_same_place(p->named, p->marked)))
			return sft_fail(err, EEXIST, "they are in %s: staging=%s has them",
					p->marked, p->marked);
	}
	return 0;
}

int sft_staging_check(const char *source, const char *staging, struct sft_error *err)
{
	struct places p = { 0 };
	int r = find_places(source, staging, &p) == 0 ? check(&p, err) : 0;

	places_free(&p);
	return r;
}
