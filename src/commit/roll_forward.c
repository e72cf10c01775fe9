/*
 * roll_forward.c - putting the files of a prepared commit in their places
 *
 * It may be called again after any failure, by this process or another: what each target is by now
 * is looked at first (prepared.c).
 */
#include "commit.h"
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* Where one fails that is not the first, the others are tried: the more is done, the less is left.
 */
static int rename_all(const struct prepared_places *places, const struct prepared_target *targets,
		      size_t count, bool begun, struct sft_error *err)
{
	int first = 0;

	for (size_t i = 0; i < count && (begun || first == 0); i++) {
		char *path, *temporary;
		int r = prepared_find(places, &targets[i], &path, &temporary)
				? prepared_state(&targets[i], path, temporary)
				: -ESTALE;

		/* It was looked at a moment ago. */
		if (r == TARGET_OLD || r == TARGET_BAD || r == TARGET_LOST)
			r = -ESTALE;
		if (r == TARGET_PENDING) {
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

static int sync_places(const struct prepared_places *places, const struct prepared_target *targets,
		       size_t count, struct sft_error *err)
{
	char **paths = calloc(count + 1, sizeof(*paths)), *temporary;
	int r = 0;

	if (!paths)
		return sft_fail(err, ENOMEM, "no memory for the commit");
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (!prepared_find(places, &targets[i], &paths[i], &temporary))
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

int commit_roll_forward(const struct prepared_places *places, const struct prepared_target *targets,
			size_t count, struct sft_error *err)
{
	int r = prepared_look(places, targets, count, err);

	if (r < 0 || r == PREPARED_VOID)
		return r < 0 ? r : -ENOENT;
	r = rename_all(places, targets, count, r == PREPARED_BEGUN, err);
	return r < 0 ? r : sync_places(places, targets, count, err);
}
