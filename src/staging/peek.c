/* peek.c - are edits staged, and where: without locking or changing anything */
#include "io.h"
#include "path.h"
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
	n = io_read(fd, text, sizeof(text));
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
		p->named = path_absolute(staging);
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

/* ---- a directory and one of its files ---- */

/* Whether edits of a directory are staged there that are based on its shard of that name. */
static bool has_shard(int dir, const char *path, const char *name)
{
	int fd = trust_openat(dir, path, "journal", O_RDONLY, NULL);
	struct journal_summary sum = { 0 };
	bool found = false;

	if (fd < 0)
		return false;
	if (journal_summarize(fd, &sum, NULL) == 0 && (sum.edits || sum.prepared) && !sum.base) {
		struct identity_names names = identity_names(&sum);
		const char *shard;
		uint32_t len;

		while (!found && (shard = identity_next_name(&names, &len)))
			found = len == strlen(name) && memcmp(shard, name, len) == 0;
	}
	journal_summary_free(&sum);
	close(fd);
	return found;
}

int staging_refuse_whole(const struct staging *s, const char *path, struct sft_error *err)
{
	char *directory = path_dirname(path);
	struct places p = { 0 };
	int r = 0;

	if (!directory)
		return sft_fail(err, ENOMEM, "no memory for the name of a directory");
	(void)find_places(directory, NULL, &p);
	const char *const paths[] = { p.home, p.marked };
	for (size_t i = 0; r == 0 && i < sizeof(paths) / sizeof(*paths); i++) {
		struct sft_error e = { 0 };
		int dir = paths[i] ? trust_open_dir(paths[i], i == 1, &e) : -ENOENT;

		if (dir == -EPERM && has_journal(paths[i]))
			r = sft_fail(err, EPERM, "%s", e.msg);
		else if (dir >= 0 && !claim_is(&s->claim, paths[i]) &&
			 has_shard(dir, paths[i], strrchr(path, '/') + 1))
			r = sft_fail(err, EEXIST,
				     "edits of %s, which it is a shard of, are staged in %s: "
				     "commit or drop them first",
				     directory, paths[i]);
		if (dir >= 0)
			close(dir);
	}
	places_free(&p);
	free(directory);
	return r;
}

int staging_refuse_parts(const char *directory, const struct sft_checkpoint *ck,
			 struct sft_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sft_checkpoint_shards(ck); i++) {
		const char *name = sft_checkpoint_shard(ck, i)->name;
		char *path = NULL;

		if (asprintf(&path, "%s/%s", directory, name) < 0)
			return sft_fail(err, ENOMEM, "no memory for the name of a shard");
		if (sft_staging_exists(path, NULL))
			r = sft_fail(
				err, EEXIST,
				"edits of its shard %s alone are staged: `safetensorfs recover "
				"%s` commits them, `safetensorfs discard` drops them",
				name, path);
		free(path);
	}
	return r;
}

/* ---- somebody else's default place ---- */

/* The file of which a directory that is called so would be the default place. Malloced, or NULL. */
static char *file_of(const char *directory, const char *name)
{
	static const char suffix[] = ".safetensorfs";
	size_t len = strlen(name);
	char *path = NULL, *real = NULL;

	if (name[0] != '.' || len < sizeof(suffix) + 1 ||
	    strcmp(name + len - sizeof(suffix) + 1, suffix) != 0)
		return NULL;
	if (asprintf(&path, "%s/%.*s", directory, (int)(len - sizeof(suffix)), name + 1) >= 0)
		real = realpath(path, NULL);
	else
		path = NULL;
	free(path);
	return real;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int staging_refuse_foreign(const struct staging *s, struct sft_error *err)
{
	char *place = s->home.path ? path_resolve_parent(s->claim.path) : NULL;
	char *directory = place ? path_dirname(place) : NULL, *own = path_dirname(s->source_path);
	const char *name = place ? strrchr(place, '/') + 1 : "";
	char *file = directory ? file_of(directory, name) : NULL;
	struct stat st;
	int r = 0;

	if (file && !same_file(file, s->source_path))
		r = sft_fail(err, EEXIST, "staging=%s: is where edits of %s are staged",
			     s->claim.path, strrchr(file, '/') + 1);
	else if (directory && own && strcmp(name, ".safetensorfs") == 0 &&
		 same_file(directory, own) && stat(s->source_path, &st) == 0 &&
		 !S_ISDIR(st.st_mode))
		r = sft_fail(err, EEXIST, "staging=%s: is where edits of the directory are staged",
			     s->claim.path);
	free(file);
	free(own);
	free(directory);
	free(place);
	return r;
}
