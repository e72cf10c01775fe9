/* refuse.c - what has to hold before a commit writes anything */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int commit_refuse_empty(const struct commit_job *job, struct sft_error *err)
{
	const size_t had = sft_checkpoint_count(job->ov->base);

	for (size_t i = 0; i < job->plan.count; i++) {
		if (job->plan.shards[i].count)
			return 0;
	}
	if (had == 0)
		return 0;
	return sft_fail(err, EINVAL,
			"%zu tensor%s would go and none be left; if that is what you want, commit "
			"with --allow-empty",
			had, had == 1 ? "" : "s");
}

/*
 * Also of what is written in place: a write beyond the limit fails wherever it ends, and after the
 * first byte it would be too late to find that out.
 */
static int refuse_file_size(const struct commit_job *job, struct sft_error *err)
{
	const struct sft_overlay *ov = job->ov;
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return 0;
	for (size_t i = 0; i < job->plan.count; i++) {
		const struct plan_shard *s = &job->plan.shards[i];

		if ((s->changed || ov->options.output) && s->file_size > limit.rlim_cur)
			return sft_fail(
				err, EFBIG,
				"%s: will have %" PRIu64
				" bytes, and this process may write files of at most %" PRIu64
				"; `ulimit -f` sets the limit",
				sft_checkpoint_shard(ov->base, i)->name, s->file_size,
				(uint64_t)limit.rlim_cur);
	}
	return 0;
}

/*
 * The result is opened while the old checkpoint still is, and after the renames it would be too
 * late to find that there are not enough descriptors for both. Before, as many new files are open
 * at a time, and the index.
 */
static int refuse_open_files(const struct sft_overlay *ov, struct sft_error *err)
{
	const size_t need = sft_checkpoint_shards(ov->base) + 9;
	int *fds = calloc(need, sizeof(*fds)), r = 0;
	size_t n = 0;

	if (!fds)
		return sft_fail(err, ENOMEM, "no memory for the commit");
	for (; n < need; n++) {
		fds[n] = fcntl(ov->staging.dir, F_DUPFD_CLOEXEC, 0);
		if (fds[n] < 0) {
			r = sft_fail(err, errno,
				     "opening the new checkpoint takes %zu more open files: %s; "
				     "`ulimit -n` sets the limit",
				     need, strerror(errno));
			break;
		}
	}
	while (n)
		close(fds[--n]);
	free(fds);
	return r;
}

int commit_refuse_limits(const struct commit_job *job, struct sft_error *err)
{
	int r = refuse_file_size(job, err);

	return r < 0 ? r : refuse_open_files(job->ov, err);
}
