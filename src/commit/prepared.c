/*
 * prepared.c - what has become of the files of a prepared commit
 *
 * The record says which file takes which one's place, by names in the source or the output, and
 * what the old and the new file are known by. So whatever has happened since, each target is in one
 * of these states:
 *
 *   PENDING  the new file has its temporary name, and the target is still the old one, or absent
 *   DONE     the target is the new file
 *   OLD      the target is the old one, and the new file is gone
 *   EITHER   the same, or DONE: by size, time and header the two cannot be told apart
 *   BAD      anything else: the target is somebody else's
 *   LOST     the same, and the new file is gone: it may have been renamed before
 *
 * With one that is BAD or LOST nothing is done. If nothing was renamed and not all can be, the
 * commit came to nothing: its edits are still there. (An EITHER is then as good as the old file:
 * the edits are put on top of it once more.) A file that is not the old one is never replaced.
 */
#include "commit.h"
#include "journal.h"
#include "staging.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX_LEN (sizeof(".0123456789abcdef.safetensorfs-new") - 1)

/* ---- names ---- */

static void make_suffix(char out[SUFFIX_LEN + 1], uint64_t id)
{
	snprintf(out, SUFFIX_LEN + 1, ".%016" PRIx64 ".safetensorfs-new", id);
}

char *commit_temporary_name(const char *name, uint64_t id)
{
	char suffix[SUFFIX_LEN + 1], *out = NULL;
	uint64_t hash = 0xcbf29ce484222325u;
	int n;

	make_suffix(suffix, id);
	for (const char *p = name; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
	if (1 + strlen(name) + SUFFIX_LEN > NAME_MAX)
		n = asprintf(&out, ".%016" PRIx64 "%s", hash, suffix);
	else
		n = asprintf(&out, ".%s%s", name, suffix);
	return n < 0 ? NULL : out;
}

bool commit_is_temporary(const char *name, uint64_t id)
{
	char suffix[SUFFIX_LEN + 1];
	size_t len = strlen(name);

	make_suffix(suffix, id);
	return name[0] == '.' && len > SUFFIX_LEN && strcmp(name + len - SUFFIX_LEN, suffix) == 0;
}

void commit_targets_free(struct commit_target *targets, size_t count)
{
	for (size_t i = 0; targets && i < count; i++) {
		free(targets[i].name);
		free(targets[i].temporary);
	}
	free(targets);
}

/* ---- where they are ---- */

static char *join(const char *dir, const char *name)
{
	char *out = NULL;

	return asprintf(&out, "%s/%s", strcmp(dir, "/") ? dir : "", name) < 0 ? NULL : out;
}

/* A shard of the source may be a link; what is renamed into an output replaces one. */
static char *target_path(const struct commit_places *places, const struct commit_target *t)
{
	const char *place = t->in_output ? places->output : places->source;
	struct stat st = { 0 };
	char *path, *real;

	/* The source may be gone, if an output is what the edits are based on. */
	if (!place || (stat(place, &st) < 0 && !t->in_output))
		return NULL;
	if (!S_ISDIR(st.st_mode))
		return t->in_output ? staging_resolve_parent(place) : realpath(place, NULL);
	path = join(place, t->name);
	if (!path)
		return NULL;
	real = t->in_output ? staging_resolve_parent(path) : realpath(path, NULL);
	/* Not there yet, or not any more; its temporary may be. */
	if (!real && errno == ENOENT)
		real = staging_resolve_parent(path);
	free(path);
	return real;
}

/* Its path and that of its temporary, absolute; false where they cannot be told. */
static bool find(const struct commit_places *places, const struct commit_target *t, char **path,
		 char **temporary)
{
	char *dir;

	*path = target_path(places, t);
	dir = *path ? io_dirname(*path) : NULL;
	*temporary = dir ? join(dir, t->temporary) : NULL;
	free(dir);
	return *temporary;
}

/* ---- what they are ---- */

enum state { PENDING, DONE, OLD, EITHER, BAD, LOST, STATES };

/* The file that was written, of which only the time was changed since. */
static bool is_touched(const struct file_id *is, const struct file_id *written)
{
	struct file_id id = *is;

	id.sec = written->sec;
	id.nsec = written->nsec;
	return is->ino && is->ino == written->ino && identity_same(&id, written);
}

/* The state, or -errno where it cannot be told. */
static int state_at(const struct commit_target *t, const char *path, const char *temporary)
{
	struct file_id is, prepared;
	int r = identity_of_path(path, t->text, &is);
	bool old, new;

	if (r == 0)
		r = identity_of_path(temporary, t->text, &prepared);
	if (r < 0)
		return r;
	old = identity_same(&is, &t->old);
	new = identity_same(&is, &t->new);
	if (old && new &&is.ino) {
		new = is.ino != t->old.ino;
		old = is.ino != t->new.ino;
	}
	if (old && identity_same(&prepared, &t->new))
		return PENDING;
	if (!old && !new)
		return identity_same(&prepared, &t->new)		  ? BAD
		       : is.ino != t->old.ino && is_touched(&is, &t->new) ? DONE
									  : LOST;
	return old && new ? EITHER : old ? OLD : DONE;
}

static int state_of(const struct commit_places *places, const struct commit_target *t)
{
	char *path, *temporary;
	int r = find(places, t, &path, &temporary) ? state_at(t, path, temporary) : BAD;

	free(path);
	free(temporary);
	return r;
}

/* How many targets are in each state; the first that are BAD or LOST, and OLD, or NULL. */
static int count_states(const struct commit_places *places, const struct commit_target *targets,
			size_t count, size_t of[STATES], const struct commit_target *first[2],
			struct sft_error *err)
{
	for (size_t i = 0; i < count; i++) {
		int state = state_of(places, &targets[i]);

		if (state < 0)
			return sft_fail(err, -state,
					"a commit was interrupted, and %s cannot be looked at: %s",
					targets[i].name, strerror(-state));
		of[state]++;
		if ((state == BAD || state == LOST) && !first[0])
			first[0] = &targets[i];
		if (state == OLD && !first[1])
			first[1] = &targets[i];
	}
	return 0;
}

static int refuse_other(const struct commit_places *places, const struct commit_target *t,
			struct sft_error *err)
{
	char *path, *temporary;

	find(places, t, &path, &temporary);
	sft_fail(err, ESTALE,
		 "a commit was interrupted and cannot be finished: %s is neither the file that it "
		 "was to replace nor the one that it wrote",
		 t->in_output && path ? path : t->name);
	free(path);
	free(temporary);
	return -ESTALE;
}

int commit_look(const struct commit_places *places, const struct commit_target *targets,
		size_t count, struct sft_error *err)
{
	const struct commit_target *first[2] = { NULL, NULL };
	size_t of[STATES] = { 0 };
	int r = count_states(places, targets, count, of, first, err);

	if (r < 0)
		return r;
	if (first[0])
		return refuse_other(places, first[0], err);
	if (first[1] && of[DONE])
		return sft_fail(err, ESTALE,
				"a commit was interrupted and cannot be finished: the new %s, "
				"%s, is gone",
				first[1]->name, first[1]->temporary);
	if (first[1] || of[EITHER] == count)
		return COMMIT_VOID;
	/* A rename alone takes a temporary away. */
	return of[DONE] || of[EITHER] ? COMMIT_BEGUN : COMMIT_READY;
}

bool commit_is_begun(const struct commit_places *places, const struct commit_target *targets,
		     size_t count)
{
	const struct commit_target *first[2] = { NULL, NULL };
	size_t of[STATES] = { 0 };

	/* What cannot be looked at may be anything. */
	return count_states(places, targets, count, of, first, NULL) < 0 || of[DONE] ||
	       (of[LOST] && of[PENDING]);
}

/* ---- doing it ---- */

/* Where one fails that is not the first, the others are tried: the more is done, the less is left.
 */
static int rename_all(const struct commit_places *places, const struct commit_target *targets,
		      size_t count, bool begun, struct sft_error *err)
{
	int first = 0;

	for (size_t i = 0; i < count && (begun || first == 0); i++) {
		char *path, *temporary;
		int r = find(places, &targets[i], &path, &temporary)
				? state_at(&targets[i], path, temporary)
				: -ESTALE;

		/* It was looked at a moment ago. */
		if (r == OLD || r == BAD || r == LOST)
			r = -ESTALE;
		if (r == PENDING) {
			r = io_renameat(AT_FDCWD, temporary, path);
			begun = begun || r == 0;
		}
		if (r < 0)
			sft_fail(err, -r, "cannot rename %s to %s: %s", targets[i].temporary,
				 targets[i].name, strerror(-r));
		first = first || r > 0 ? first : r;
		free(path);
		free(temporary);
	}
	return first;
}

static int sync_places(const struct commit_places *places, const struct commit_target *targets,
		       size_t count, struct sft_error *err)
{
	char **paths = calloc(count + 1, sizeof(*paths)), *temporary;
	int r = 0;

	if (!paths)
		return sft_fail(err, ENOMEM, "no memory for the commit");
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (!find(places, &targets[i], &paths[i], &temporary))
			r = sft_fail(err, ESTALE, "%s has gone", targets[i].name);
		free(temporary);
	}
	if (r == 0)
		r = commit_sync_dirs(paths, count, err);
	for (size_t i = 0; i < count; i++)
		free(paths[i]);
	free(paths);
	return r;
}

int commit_roll_forward(const struct commit_places *places, const struct commit_target *targets,
			size_t count, struct sft_error *err)
{
	int r = commit_look(places, targets, count, err);

	if (r < 0 || r == COMMIT_VOID)
		return r < 0 ? r : -ENOENT;
	r = rename_all(places, targets, count, r == COMMIT_BEGUN, err);
	return r < 0 ? r : sync_places(places, targets, count, err);
}

void commit_remove_temporaries(const struct commit_places *places,
			       const struct commit_target *targets, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *path, *temporary;
		struct file_id is;

		if (find(places, &targets[i], &path, &temporary) &&
		    identity_of_path(temporary, targets[i].text, &is) == 0 &&
		    identity_same(&is, &targets[i].new))
			(void)io_unlinkat(AT_FDCWD, temporary, 0);
		free(path);
		free(temporary);
	}
}

void commit_clean_directory(const char *path, uint64_t id)
{
	int fd = io_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (commit_is_temporary(e->d_name, id))
			(void)io_unlinkat(fd, e->d_name, 0);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}
