/* status.c - what .safetensorfs/status and progress show */
#include "status.h"

#include "handles.h"
#include "shown.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const layout_names[] = { "flat", "tree", "files" };

/* The readahead of our own mount, in KiB; false where it cannot be read. */
static bool read_ahead(const struct fs *fs, unsigned long *kb)
{
	char path[64];
	if (!atomic_load(&fs->device_known))
		return false;
	snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb", fs->device);
	FILE *f = fopen(path, "re");
	bool ok = f && fscanf(f, "%lu", kb) == 1;
	if (f)
		fclose(f);
	return ok;
}

static void text(struct sft_buf *json, const char *key, const char *value)
{
	sft_buf_printf(json, "  \"%s\": ", key);
	sft_buf_json(json, value, strlen(value));
	sft_buf_printf(json, ",\n");
}

static void problems(const struct fs *fs, struct sft_buf *json)
{
	char reason[FS_REASON_MAX];
	size_t listed = 0;
	sft_buf_printf(json, "  \"problems\": [");
	uint32_t n = fs->overlay && sft_overlay_problems(fs->overlay)
			     ? sft_overlay_count(fs->overlay)
			     : 0;
	for (uint32_t id = 0; id < n; id++) {
		const struct sft_entry *e = sft_overlay_entry(fs->overlay, id);
		if (!e->live || !sft_overlay_problem(fs->overlay, id, reason, sizeof(reason)))
			continue;
		sft_buf_printf(json, "%s\n    { \"tensor\": ", listed++ ? "," : "");
		sft_buf_json(json, e->name, e->name_len);
		sft_buf_printf(json, ", \"reason\": ");
		sft_buf_json(json, reason, strlen(reason));
		sft_buf_printf(json, " }");
	}
	sft_buf_printf(json, "%s],\n", listed ? "\n  " : "");
}

static void last_commit(const struct fs *fs, struct sft_buf *json)
{
	char when[32];
	struct tm tm;
	if (fs->last_commit == FS_COMMIT_NONE) {
		sft_buf_printf(json, "null");
		return;
	}
	gmtime_r(&fs->last_commit_time, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	sft_buf_printf(json, "{ \"result\": \"%s\", \"time\": \"%s\", \"error\": ",
		       fs->last_commit == FS_COMMITTED ? "committed" : "failed", when);
	if (fs->last_commit == FS_COMMITTED)
		sft_buf_printf(json, "null");
	else
		sft_buf_json(json, fs->last_commit_error, strlen(fs->last_commit_error));
	sft_buf_printf(json, " }");
}

void fs_status(struct fs *fs, struct sft_buf *json)
{
	const struct sft_checkpoint *ck = fs_checkpoint(fs);
	unsigned long kb;
	uint32_t tensors = 0;
	uint64_t bytes = 0;
	size_t shards = 0, count;
	uint64_t total;
	for (size_t i = 0; i < sft_checkpoint_shards(ck); i++)
		shards += sft_checkpoint_shard(ck, i)->file != NULL;
	fs_totals(fs, &count, &total);
	if (fs->overlay)
		sft_overlay_staged(fs->overlay, &tensors, &bytes);
	sft_buf_printf(json, "{\n");
	text(json, "source", fs->opt->source);
	text(json, "mountpoint", fs->mountpoint);
	text(json, "mode", fs->overlay ? "edit" : "ro");
	text(json, "layout", layout_names[fs->opt->layout]);
	sft_buf_printf(
		json,
		"  \"pid\": %ld,\n  \"tensors\": %zu,\n  \"shards\": %zu,\n  \"bytes\": %llu,\n",
		(long)getpid(), count, shards, (unsigned long long)total);
	if (read_ahead(fs, &kb))
		sft_buf_printf(json, "  \"read_ahead_kb\": %lu,\n", kb);
	else
		sft_buf_printf(json, "  \"read_ahead_kb\": null,\n");
	sft_buf_printf(json, "  \"staged\": { \"tensors\": %u, \"bytes\": %llu },\n", tensors,
		       (unsigned long long)bytes);
	problems(fs, json);
	sft_buf_printf(json, "  \"last_commit\": ");
	last_commit(fs, json);
	sft_buf_printf(json, "\n}\n");
}

void fs_progress(struct fs *fs, struct sft_buf *json)
{
	const char *staging = fs->overlay ? sft_overlay_staging(fs->overlay) : "";
	struct sft_buf paths = { 0 };
	struct stat namespace = { 0 };
	(void)stat("/proc/self/ns/pid", &namespace);
	sft_buf_printf(json,
		       "{ \"done\": %llu, \"total\": %llu, \"pid_namespace\": %llu, \"staging\": ",
		       atomic_load(&fs->commit_done), atomic_load(&fs->commit_total),
		       (unsigned long long)namespace.st_ino);
	sft_buf_json(json, staging, strlen(staging));
	sft_buf_printf(json, ", \"writers\": [");
	if (fs->overlay)
		fs_writers(fs, &paths);
	for (size_t at = 0; at < paths.len; at += strlen(paths.data + at) + 1) {
		sft_buf_printf(json, at ? ", " : " ");
		sft_buf_json(json, paths.data + at, strlen(paths.data + at));
	}
	sft_buf_printf(json, "] }\n");
	json->failed = json->failed || paths.failed;
	sft_buf_free(&paths);
}
