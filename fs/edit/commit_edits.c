/* commit_edits.c - committing a mount's edits */
#include "commit_edits.h"

#include "log.h"
#include "merged_file.h"
#include "shown.h"
#include "step.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MERGED ".safetensorfs/model.safetensors"

static void report(void *ctx, uint64_t done, uint64_t total)
{
	struct fs *fs = ctx;
	atomic_store(&fs->commit_done, done);
	atomic_store(&fs->commit_total, total);
}

void edit_log_problems(const struct sft_overlay *ov, const char *source)
{
	char reason[FS_REASON_MAX];
	struct sft_quoted q;
	for (uint32_t id = 0; sft_overlay_problems(ov) && id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		if (e->live && sft_overlay_problem(ov, id, reason, sizeof(reason)))
			log_error(source, "tensor %s: %s", sft_quote(&q, e->name, e->name_len),
				  reason);
	}
}

/* Under the exclusive lock: status reads it. */
static void keep_result(struct fs *fs, int r, const struct sft_error *err)
{
	fs->last_commit = r < 0 ? FS_COMMIT_FAILED : FS_COMMITTED;
	fs->last_commit_time = time(NULL);
	snprintf(fs->last_commit_error, sizeof(fs->last_commit_error), "%s", r < 0 ? err->msg : "");
}

/* A commit without bytes that a program believes it has written says so first, once. */
static int refuse_lost(struct fs *fs, struct sft_error *err)
{
	int lost = atomic_exchange(&fs->mapped_lost, 0);
	if (!lost)
		return 0;
	sft_fail(err, lost,
		 "what was written through mappings is not all staged: %s; write it again, or "
		 "commit "
		 "again to do without",
		 strerror(lost));
	sft_overlay_set_result(fs->overlay, err->msg);
	return -lost;
}

/* What can be done as long as it is mounted: we have the old file open. */
static void advise(int r, struct sft_error *err)
{
	if (r == -ESTALE)
		sft_hint(err, "unless bytes of it were overwritten, the mount's " MERGED
			      " still is the whole edited checkpoint: copy it");
	else if (r == -ENOSPC)
		sft_hint(
			err,
			"recover wants it unmounted, by fusermount3 -u; or copy the mount's " MERGED
			" elsewhere");
}

bool fs_commit_allows_empty(const char *text, size_t len)
{
	static const char space[] = " \t\r\n", word[] = "allow-empty";
	const char *const end = text + len;
	while (text < end) {
		const char *at = text;
		while (at < end && !memchr(space, *at, sizeof(space) - 1))
			at++;
		if ((size_t)(at - text) == sizeof(word) - 1 &&
		    memcmp(text, word, sizeof(word) - 1) == 0)
			return true;
		text = at + 1;
	}
	return false;
}

static bool any_tensor(const struct sft_overlay *ov)
{
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		if (e->live && !e->scratch)
			return true;
	}
	return false;
}

/* Where the edits of a commit that failed are; at the end of a mount also what to do about them. */
static void say_what_remains(const struct fs *fs, bool ending)
{
	const char *staging = fs->opt->staging;
	if (!ending) {
		log_info(fs->opt->source, "edits are kept in %s", sft_overlay_staging(fs->overlay));
		return;
	}
	log_info(fs->opt->source,
		 "edits are kept in %s; `safetensorfs recover %sSOURCE%s%s` commits them, "
		 "`safetensorfs discard SOURCE%s%s` drops them",
		 sft_overlay_staging(fs->overlay), any_tensor(fs->overlay) ? "" : "--allow-empty ",
		 staging ? " -o staging=" : "", staging ? staging : "",
		 staging ? " -o staging=" : "", staging ? staging : "");
}

/* After a commit sidecars that were hidden come back. Under the exclusive lock. */
static void show_sidecars(struct fs *fs)
{
	for (uint32_t i = 0; i < tree_count(fs->tree); i++) {
		const struct tree_entry *e = tree_entry(fs->tree, i);
		if (e->flags & TREE_SIDECAR_HIDDEN)
			tree_set_flags(fs->tree, i, (uint8_t)(e->flags & ~TREE_SIDECAR_HIDDEN));
	}
}

int fs_commit(struct fs *fs, bool allow_empty, struct sft_error *err)
{
	struct sft_error e = { 0 };
	struct sft_commit_options options = { { report, fs }, allow_empty };
	char note[160] = "";
	if (!fs->overlay)
		return sft_fail(err, EROFS, "mounted read-only: there is nothing to commit");
	pthread_mutex_lock(&fs->edit);
	int r = refuse_lost(fs, &e);
	if (r == 0 && !sft_overlay_dirty(fs->overlay)) {
		pthread_mutex_unlock(&fs->edit);
		return 0;
	}
	report(fs, 0, 0);
	if (r == 0) {
		r = sft_overlay_commit(fs->overlay, &options, note, &e);
		/* Without anybody who asked it is the end of the mount. */
		if (err)
			advise(r, &e);
	}
	pthread_rwlock_wrlock(&fs->lock);
	if (r == 0) {
		sft_overlay_adopt(fs->overlay);
		fs_merged_drop(fs);
		show_sidecars(fs);
	}
	keep_result(fs, r, &e);
	pthread_rwlock_unlock(&fs->lock);
	if (note[0])
		log_warning(fs->opt->source, "%s", note);
	if (r < 0) {
		edit_log_problems(fs->overlay, fs->opt->source);
		log_error(fs->opt->source, "not committed: %s", e.msg);
		say_what_remains(fs, !err);
	} else {
		log_info(fs->opt->source, "committed");
	}
	pthread_mutex_unlock(&fs->edit);
	return r < 0 ? sft_fail(err, -r, "%s", e.msg) : 0;
}

void edit_drop_scratch(struct fs *fs)
{
	struct edit_step s = { 0 };
	for (uint32_t id = 0; id < sft_overlay_count(fs->overlay); id++) {
		const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
		if (e->live && e->scratch)
			edit_step_add(&s, (struct sft_change){ .kind = SFT_REMOVE, .id = id });
	}
	int r = edit_step_make(fs, &s, NULL);
	if (r < 0)
		log_warning(fs->opt->source, "scratch files are not dropped: %s", strerror(-r));
	edit_step_free(&s);
}
