/*
 * place.c - which directories an editor has to have
 *
 *   the staging            the source's default place, or staging=DIR
 *   the default place      with staging=DIR as well, if it can be made: somebody who edits without
 *                          staging= finds it locked, or the file `elsewhere` in it, which names DIR
 *   the output's place     where somebody would stage edits of what output= names
 *
 * So one writer at a time holds for source and output, whatever the staging is, and edits that are
 * staged in one place are not overtaken by others in another.
 */
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

/* ---- the marker ---- */

/* Durably, since without it nobody who looks in the default place knows of the edits. */
static int write_marker(const struct claim *home, const char *path, struct sft_error *err)
{
	char *old = NULL;
	int same = staging_read_marker(home->dir, home->path, &old, err) == 0 && old &&
		   strcmp(old, path) == 0;

	free(old);
	if (same)
		return 0;
	int fd = trust_openat(home->dir, home->path, STAGING_MARKER, O_RDWR | O_CREAT, err), r;
	char *parent = path_dirname(home->path);

	r = fd < 0 ? fd : io_ftruncate(fd, 0);
	if (r == 0)
		r = io_pwrite(fd, path, strlen(path), 0);
	if (r == 0)
		r = io_pwrite(fd, "\n", 1, strlen(path));
	if (r == 0)
		r = io_fsync(fd);
	if (r == 0)
		r = io_fsync(home->dir);
	if (r == -EINVAL) /* some file systems have no fsync for directories */
		r = 0;
	if (r == 0)
		r = parent ? io_fsync_dir(parent) : -ENOMEM;
	if (fd >= 0)
		close(fd);
	free(parent);
	return r < 0 && r != -EACCES
		       ? sft_fail(err, -r, "cannot note in %s where edits are staged: %s",
				  home->path, strerror(-r))
		       : 0;
}

/*
 * EEXIST where the marker in a default place says that edits are staged in a directory that is not
 * `here` (NULL: in none that was named). One that leads to no edits is removed.
 */
static int refuse_marker(const struct claim *home, const char *here, const char *source_path,
			 struct sft_error *err)
{
	struct sft_error e = { 0 };
	struct stat a, b;
	char *path;
	int r = staging_read_marker(home->dir, home->path, &path, err);

	if (r < 0)
		return r;
	if (path && here &&
	    (strcmp(path, here) == 0 || (stat(path, &a) == 0 && stat(here, &b) == 0 &&
					 a.st_dev == b.st_dev && a.st_ino == b.st_ino))) {
		free(path);
		return 0;
	}
	r = path ? staging_look(path, true, source_path, &e) : 0;
	if (r > 0)
		r = sft_fail(err, EEXIST,
			     "edits of it are staged in %s: staging=%s resumes, commits or drops "
			     "them",
			     path, path);
	else if (r < 0)
		r = sft_fail(err, EEXIST,
			     "edits of it may be staged in %s, which cannot be looked at: %s; "
			     "`safetensorfs discard` with staging=%s forgets them",
			     path, e.msg, path);
	else
		(void)io_unlinkat(home->dir, STAGING_MARKER, 0);
	free(path);
	return r;
}

/* ---- claims ---- */

/* Whether a default place can be done without: it cannot be made there by us, or by anybody. */
static bool is_optional(const struct claim *c, int r)
{
	return !c->distrusted && (r == -EACCES || r == -EROFS || r == -EPERM || r == -ENOSPC ||
				  r == -EDQUOT || r == -ENAMETOOLONG || r == -ENOENT);
}

/* The source's default place, for one whose edits are staged in another. */
static int claim_home(struct staging *s, unsigned make, struct sft_error *err)
{
	struct sft_error e = { 0 };
	int r = claim_take(&s->home, CLAIM_DEFAULT | make, &e);

	if (r < 0)
		return is_optional(&s->home, r) ? 0 : sft_fail(err, -r, "%s", e.msg);
	if (s->home.dir < 0)
		return 0;
	r = staging_look_in(s->home.dir, s->home.path, true, s->source_path, err);
	if (r > 0)
		return sft_fail(err, EEXIST,
				"edits of it are staged in %s: without staging= they are resumed, "
				"committed or dropped",
				s->home.path);
	return r < 0 ? r : refuse_marker(&s->home, s->claim.path, s->source_path, err);
}

/* A directory that the user has named may be in use for another source. */
static int in_use(const struct staging *s, struct sft_error *err)
{
	const char *path = s->claim.path;
	struct journal_summary sum = { 0 };
	int dir = trust_open_dir(path, true, NULL), journal = -1, lock = -1;
	struct holder h;

	if (dir >= 0) {
		lock = trust_openat(dir, path, "lock", O_RDONLY, NULL);
		journal = trust_openat(dir, path, "journal", O_RDONLY, NULL);
	}
	lock_say_holder(lock, &h);
	if (journal >= 0 && journal_summarize(journal, &sum, NULL) == 0)
		sft_fail(err, EBUSY, "%s is in use for %s by %s", path, sum.source, h.text);
	else
		sft_fail(err, EBUSY, "%s is in use by %s", path, h.text);
	journal_summary_free(&sum);
	if (journal >= 0)
		close(journal);
	if (lock >= 0)
		close(lock);
	if (dir >= 0)
		close(dir);
	return -EBUSY;
}

/* The named directory. Once the source is locked, nobody else can have it. */
static int claim_elsewhere(struct staging *s, unsigned make, struct sft_error *err)
{
	struct sft_error e = { 0 };
	int r = s->home.dir < 0 ? claim_home(s, make, err) : 0;

	if (r == 0 && s->lock_count == 0)
		r = staging_check_source(s->source_path, err);
	if (r == 0 && s->claim.dir < 0) {
		r = claim_take(&s->claim, make, &e);
		if (r < 0)
			r = r == -EBUSY ? in_use(s, err) : sft_fail(err, -r, "%s", e.msg);
	}
	if (r == 0 && make && s->home.dir >= 0)
		r = write_marker(&s->home, s->claim.path, err);
	return r;
}

static int claim_default(struct staging *s, unsigned make, struct sft_error *err)
{
	int r = s->lock_count == 0 ? staging_check_source(s->source_path, err) : 0;

	if (r < 0 || s->claim.dir >= 0)
		return r;
	r = claim_take(&s->claim, CLAIM_DEFAULT | make, err);
	if (r == 0 && s->claim.dir >= 0)
		r = refuse_marker(&s->claim, NULL, s->source_path, err);
	return r;
}

int staging_find(struct staging *s, const char *source, const char *staging, struct sft_error *err)
{
	char *home = NULL;
	int r = staging_locate(source, &s->source_path, &home, err);

	if (r < 0)
		return r;
	if (staging && !staging_same_place(staging, home)) {
		s->home.path = home;
		s->claim.path = path_absolute(staging);
	} else {
		s->claim.path = home;
	}
	s->path = s->claim.path;
	return s->claim.path
		       ? 0
		       : sft_fail(err, ENOMEM, "no memory for the name of the staging directory");
}

int staging_claim(struct staging *s, bool make, struct sft_error *err)
{
	const unsigned how = make ? CLAIM_MAKE : 0;
	const bool again = s->claim.dir < 0;
	int r = s->home.path ? claim_elsewhere(s, how, err) : claim_default(s, how, err);

	s->dir = s->claim.dir;
	/* Somebody else has come and gone since it was looked for. */
	if (r == 0 && make && again && staging_has_journal(s))
		r = sft_fail(err, EBUSY, "was just edited by another process; try again");
	return r;
}

/* ---- the output ---- */

int staging_claim_output(struct staging *s, const char *output, bool directory,
			 struct sft_error *err)
{
	struct claim *c = &s->target;
	struct sft_error e = { 0 };
	char *path = directory ? realpath(output, NULL) : path_resolve_parent(output);
	char *place = path ? staging_default_place(path, directory) : NULL;
	const bool missing = !path && errno == ENOENT;
	int r = 0;

	if (!place) {
		r = missing ? 0 : sft_fail(err, ENOMEM, "output %s: %s", output, strerror(errno));
	} else if (!claim_is(c, place) && !claim_is(&s->claim, place) &&
		   !claim_is(&s->home, place)) {
		staging_drop_output(s);
		c->path = place;
		place = NULL;
		r = claim_take(c, CLAIM_MAKE | CLAIM_DEFAULT, &e);
		if (r < 0 && is_optional(c, r)) {
			claim_free(c);
			free(path);
			return 0;
		}
		if (r == 0)
			r = staging_look_in(c->dir, c->path, true, path, &e);
		if (r > 0)
			r = sft_fail(&e, EEXIST,
				     "edits of it are staged in %s: commit or drop them", c->path);
		if (r == 0)
			r = refuse_marker(c, NULL, path, &e);
		if (r < 0)
			r = sft_fail(err, -r, "output %s: %s", output, e.msg);
	}
	free(place);
	free(path);
	return r;
}

void staging_clear_output(const char *output, bool directory, uint64_t id)
{
	struct claim c = CLAIM_NONE;
	char *path = directory ? realpath(output, NULL) : path_resolve_parent(output);
	char *dir = path && !directory ? path_dirname(path) : NULL;

	if (path)
		prepared_clean_directory(directory ? path : dir ? dir : path, id);
	c.path = path ? staging_default_place(path, directory) : NULL;
	if (c.path && claim_take(&c, CLAIM_DEFAULT, NULL) == 0)
		claim_remove(&c);
	claim_free(&c);
	free(dir);
	free(path);
}

/* What it holds may be edits of the output: then only the lock goes. */
void staging_drop_output(struct staging *s)
{
	claim_remove(&s->target);
	claim_free(&s->target);
}

/* ---- giving them up ---- */

bool staging_has_journal(const struct staging *s)
{
	return s->claim.dir >= 0 &&
	       faccessat(s->claim.dir, "journal", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void staging_forget_marker(const struct staging *s)
{
	if (s->home.dir >= 0)
		(void)io_unlinkat(s->home.dir, STAGING_MARKER, 0);
}

void staging_let_go(struct staging *s)
{
	const bool keep = staging_has_journal(s);

	staging_close_files(s);
	staging_drop_output(s);
	/* Where we were refused, the marker is another's. */
	if (!keep && s->claim.dir >= 0)
		staging_forget_marker(s);
	if (!keep) {
		claim_remove(&s->home);
		claim_remove(&s->claim);
	}
	claim_free(&s->claim);
	claim_free(&s->home);
	s->path = NULL;
	s->dir = -1;
}
