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
#include "prepared.h"
#include "io.h"
#include "path.h"

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

char *prepared_temporary_name(const char *name, uint64_t id)
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

bool prepared_is_temporary(const char *name, uint64_t id)
{
	char suffix[SUFFIX_LEN + 1];
	size_t len = strlen(name);

	make_suffix(suffix, id);
	return name[0] == '.' && len > SUFFIX_LEN && strcmp(name + len - SUFFIX_LEN, suffix) == 0;
}

void prepared_free(struct prepared_target *targets, size_t count)
{
	for (size_t i = 0; targets && i < count; i++) {
		free(targets[i].name);
		free(targets[i].temporary);
	}
	free(targets);
}

/* ---- where they are ---- */

/* A shard of the source may be a link; what is renamed into an output replaces one. */
static char *target_path(const struct prepared_places *places, const struct prepared_target *t)
{
	const char *place = t->in_output ? places->output : places->source;
	struct stat st = { 0 };
	char *path, *real;

	/* The source may be gone, if an output is what the edits are based on. */
	if (!place || (stat(place, &st) < 0 && !t->in_output))
		return NULL;
	if (!S_ISDIR(st.st_mode))
		return t->in_output ? path_resolve_parent(place) : realpath(place, NULL);
	path = path_join(place, t->name);
	if (!path)
		return NULL;
	real = t->in_output ? path_resolve_parent(path) : realpath(path, NULL);
	/* Not there yet, or not any more; its temporary may be. */
	if (!real && errno == ENOENT)
		real = path_resolve_parent(path);
	free(path);
	return real;
}

bool prepared_find(const struct prepared_places *places, const struct prepared_target *t,
		   char **path, char **temporary)
{
	char *dir;

	*path = target_path(places, t);
	dir = *path ? path_dirname(*path) : NULL;
	*temporary = dir ? path_join(dir, t->temporary) : NULL;
	free(dir);
	return *temporary;
}

/* ---- what they are ---- */

/* The file that was written, of which only the time was changed since. */
static bool is_touched(const struct file_id *is, const struct file_id *written)
{
	struct file_id id = *is;

	id.sec = written->sec;
	id.nsec = written->nsec;
	return is->ino && is->ino == written->ino && identity_same(&id, written);
}

int prepared_state(const struct prepared_target *t, const char *path, const char *temporary)
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
		return TARGET_PENDING;
	if (!old && !new)
		return identity_same(&prepared, &t->new)		  ? TARGET_BAD
		       : is.ino != t->old.ino && is_touched(&is, &t->new) ? TARGET_DONE
									  : TARGET_LOST;
	return old && new ? TARGET_EITHER : old ? TARGET_OLD : TARGET_DONE;
}

static int state_of(const struct prepared_places *places, const struct prepared_target *t)
{
	char *path, *temporary;
	int r = prepared_find(places, t, &path, &temporary) ? prepared_state(t, path, temporary)
							    : TARGET_BAD;

	free(path);
	free(temporary);
	return r;
}

/* How many targets are in each state; the first that are TARGET_BAD or TARGET_LOST, and TARGET_OLD,
 * or NULL. */
static int count_states(const struct prepared_places *places, const struct prepared_target *targets,
			size_t count, size_t of[TARGET_STATES],
			const struct prepared_target *first[2], struct sft_error *err)
{
	for (size_t i = 0; i < count; i++) {
		int state = state_of(places, &targets[i]);

		if (state < 0)
			return sft_fail(err, -state,
					"a commit was interrupted, and %s cannot be looked at: %s",
					targets[i].name, strerror(-state));
		of[state]++;
		if ((state == TARGET_BAD || state == TARGET_LOST) && !first[0])
			first[0] = &targets[i];
		if (state == TARGET_OLD && !first[1])
			first[1] = &targets[i];
	}
	return 0;
}

static int refuse_other(const struct prepared_places *places, const struct prepared_target *t,
			struct sft_error *err)
{
	char *path, *temporary;

	prepared_find(places, t, &path, &temporary);
	sft_fail(err, ESTALE,
		 "a commit was interrupted and cannot be finished: %s is neither the file that it "
		 "was to replace nor the one that it wrote",
		 t->in_output && path ? path : t->name);
	free(path);
	free(temporary);
	return -ESTALE;
}

int prepared_look(const struct prepared_places *places, const struct prepared_target *targets,
		  size_t count, struct sft_error *err)
{
	const struct prepared_target *first[2] = { NULL, NULL };
	size_t of[TARGET_STATES] = { 0 };
	int r = count_states(places, targets, count, of, first, err);

	if (r < 0)
		return r;
	if (first[0])
		return refuse_other(places, first[0], err);
	if (first[1] && of[TARGET_DONE])
		return sft_fail(err, ESTALE,
				"a commit was interrupted and cannot be finished: the new %s, "
				"%s, is gone",
				first[1]->name, first[1]->temporary);
	if (first[1] || of[TARGET_EITHER] == count)
		return PREPARED_VOID;
	/* A rename alone takes a temporary away. */
	return of[TARGET_DONE] || of[TARGET_EITHER] ? PREPARED_BEGUN : PREPARED_READY;
}

bool prepared_is_begun(const struct prepared_places *places, const struct prepared_target *targets,
		       size_t count)
{
	const struct prepared_target *first[2] = { NULL, NULL };
	size_t of[TARGET_STATES] = { 0 };

	/* What cannot be looked at may be anything. */
	return count_states(places, targets, count, of, first, NULL) < 0 || of[TARGET_DONE] ||
	       (of[TARGET_LOST] && of[TARGET_PENDING]);
}

/* ---- the record, and the temporaries ---- */

void prepared_put(struct journal_batch *b, enum journal_kind kind,
		  const struct prepared_target *targets, size_t count)
{
	journal_start(b, JOURNAL_PREPARED);
	journal_u32(b, kind);
	journal_u32(b, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		journal_u32(b, (targets[i].in_output ? JOURNAL_IN_OUTPUT : 0u) |
				       (targets[i].text ? JOURNAL_IS_TEXT : 0u));
		journal_string(b, targets[i].name, strlen(targets[i].name));
		journal_string(b, targets[i].temporary, strlen(targets[i].temporary));
		identity_put_id(b, &targets[i].old);
		identity_put_id(b, &targets[i].new);
	}
	journal_finish(b);
}

void prepared_remove_temporaries(const struct prepared_places *places,
				 const struct prepared_target *targets, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *path, *temporary;
		struct file_id is;

		if (prepared_find(places, &targets[i], &path, &temporary) &&
		    identity_of_path(temporary, targets[i].text, &is) == 0 &&
		    identity_same(&is, &targets[i].new))
			(void)io_unlinkat(AT_FDCWD, temporary, 0);
		free(path);
		free(temporary);
	}
}

void prepared_clean_directory(const char *path, uint64_t id)
{
	int fd = io_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (prepared_is_temporary(e->d_name, id))
			(void)io_unlinkat(fd, e->d_name, 0);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}
