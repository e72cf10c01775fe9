/*
 * identity.c - what tells the files of a checkpoint from others: name, inode, size, modification
 * time
 *
 * The device is left out: its number may be another one after the next boot.
 */
#include "journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

static void put_stat(struct journal_batch *b, const struct stat *st)
{
	journal_u64(b, st->st_ino);
	journal_u64(b, (uint64_t)st->st_size);
	journal_u64(b, (uint64_t)st->st_mtim.tv_sec);
	journal_u64(b, (uint64_t)st->st_mtim.tv_nsec);
}

/* Whether the index is there, into *st. */
static bool stat_index(const struct sft_checkpoint *ck, struct stat *st)
{
	const char *path = sft_checkpoint_index_path(ck);

	return path && stat(path, st) == 0;
}

void identity_put(struct journal_batch *b, const struct sft_checkpoint *ck)
{
	const size_t count = sft_checkpoint_shards(ck);
	struct stat st;

	journal_u32(b, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		const struct sft_shard *s = sft_checkpoint_shard(ck, i);

		journal_string(b, s->name, strlen(s->name));
		journal_u32(b, s->file != NULL);
		if (s->file)
			put_stat(b, sft_file_stat(s->file));
	}
	bool has_index = stat_index(ck, &st);
	journal_u32(b, has_index);
	if (has_index)
		put_stat(b, &st);
}

/* ---- differences ---- */

/* A time as touch(1) takes it. */
static const char *format_time(char out[48], const struct timespec *t)
{
	char date[32];
	struct tm tm;

	if (gmtime_r(&t->tv_sec, &tm) && strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) > 0)
		snprintf(out, 48, "%s.%09ldZ", date, t->tv_nsec);
	else
		snprintf(out, 48, "@%lld.%09ld", (long long)t->tv_sec, t->tv_nsec);
	return out;
}

bool identity_differs(const struct stat *was, const struct stat *is, bool device,
		      char text[IDENTITY_TEXT])
{
	char part[96], times[2][48];

	text[0] = '\0';
	if (device && was->st_dev != is->st_dev) {
		snprintf(part, sizeof(part), ", device %u:%u instead of %u:%u", major(is->st_dev),
			 minor(is->st_dev), major(was->st_dev), minor(was->st_dev));
		strcat(text, part);
	}
	if (was->st_ino != is->st_ino) {
		snprintf(part, sizeof(part), ", inode %" PRIu64 " instead of %" PRIu64,
			 (uint64_t)is->st_ino, (uint64_t)was->st_ino);
		strcat(text, part);
	}
	if (was->st_size != is->st_size) {
		snprintf(part, sizeof(part), ", size %" PRIu64 " instead of %" PRIu64,
			 (uint64_t)is->st_size, (uint64_t)was->st_size);
		strcat(text, part);
	}
	if (was->st_mtim.tv_sec != is->st_mtim.tv_sec ||
	    was->st_mtim.tv_nsec != is->st_mtim.tv_nsec) {
		snprintf(text + strlen(text), IDENTITY_TEXT - strlen(text),
			 ", modification time %s instead of %s",
			 format_time(times[0], &is->st_mtim), format_time(times[1], &was->st_mtim));
	}
	if (!text[0])
		return false;
	memmove(text, text + 2, strlen(text + 2) + 1);
	return true;
}

/* Take a file's identity off the record. With `anyhow` its time may differ. */
static bool stat_differs(struct journal_record *rec, const struct stat *is, bool anyhow,
			 char text[IDENTITY_TEXT])
{
	struct stat was = { 0 };

	was.st_ino = journal_get_u64(rec);
	was.st_size = (off_t)journal_get_u64(rec);
	was.st_mtim.tv_sec = (time_t)journal_get_u64(rec);
	was.st_mtim.tv_nsec = (long)journal_get_u64(rec);
	if (anyhow)
		was.st_mtim = is->st_mtim;
	return identity_differs(&was, is, false, text);
}

static int changed(struct sft_error *err, const char *what, const char *how)
{
	return sft_fail(err, ESTALE,
			"%s has changed since the edits were staged: %s; `safetensorfs discard` "
			"drops them",
			what, how);
}

static int check_shard(struct journal_record *rec, const struct sft_checkpoint *ck, size_t i,
		       bool anyhow, struct sft_error *err)
{
	const struct sft_shard *s = sft_checkpoint_shard(ck, i);
	const bool is_directory = sft_checkpoint_is_directory(ck);
	const char *what = is_directory ? s->name : "the source";
	char how[IDENTITY_TEXT];
	uint32_t len;
	const char *name = journal_get_string(rec, &len);
	bool there = journal_get_u32(rec);

	/* A file may be moved with its staging, and what was beside it then is not searched for. */
	if (is_directory && (len != strlen(s->name) || memcmp(name, s->name, len) != 0))
		return changed(err, "the list of shards", s->name);
	if (there != (s->file != NULL))
		return changed(err, what, there ? "it is missing" : "it was missing");
	if (there && stat_differs(rec, sft_file_stat(s->file), anyhow, how))
		return changed(err, what, how);
	return 0;
}

int identity_check(const struct journal_summary *sum, const struct sft_checkpoint *ck, bool anyhow,
		   struct sft_error *err)
{
	struct journal_record rec = { .p = sum->identity, .left = sum->identity_len };
	const size_t count = sft_checkpoint_shards(ck);
	const uint32_t had = journal_get_u32(&rec);
	char how[IDENTITY_TEXT];
	struct stat st;
	int r = 0;

	if (had != count) {
		snprintf(how, sizeof(how), "%zu instead of %" PRIu32, count, had);
		return changed(err, "the number of shards", how);
	}
	for (size_t i = 0; r == 0 && i < count; i++)
		r = check_shard(&rec, ck, i, anyhow, err);
	if (r < 0)
		return r;
	bool had_index = journal_get_u32(&rec), has_index = stat_index(ck, &st);
	if (had_index != has_index)
		return changed(err, "the index", had_index ? "it is missing" : "it was missing");
	if (has_index && stat_differs(&rec, &st, anyhow, how))
		return changed(err, "the index", how);
	if (rec.bad || rec.left)
		return sft_fail(err, EBADMSG, "the journal's header is damaged");
	return 0;
}

/* ---- whose ---- */

static bool has_path(const struct journal_summary *sum, const char *source_path)
{
	char *real = realpath(sum->source, NULL);
	bool same =
		strcmp(sum->source, source_path) == 0 || (real && strcmp(real, source_path) == 0);

	free(real);
	return same;
}

/* Whether a shard of that name, in the source where that is a directory, has this inode. */
static bool has_inode(const char *source_path, const char *name, uint32_t len, uint64_t ino)
{
	char *path = NULL;
	struct stat st;
	bool same = false;

	if (stat(source_path, &st) < 0)
		return false;
	if (!S_ISDIR(st.st_mode))
		return st.st_ino == ino;
	if (asprintf(&path, "%s/%.*s", source_path, (int)len, name) >= 0) {
		same = stat(path, &st) == 0 && st.st_ino == ino;
		free(path);
	}
	return same;
}

bool identity_is_of(const struct journal_summary *sum, const char *source_path)
{
	struct journal_record rec = { .p = sum->identity, .left = sum->identity_len };
	bool same = has_path(sum, source_path);
	/* After a commit with output= these are the inodes of that. */
	uint32_t count = sum->base ? 0 : journal_get_u32(&rec);

	for (uint32_t i = 0; !same && !rec.bad && i < count; i++) {
		uint32_t len;
		const char *name = journal_get_string(&rec, &len);

		if (!journal_get_u32(&rec))
			continue;
		uint64_t ino = journal_get_u64(&rec);
		for (int k = 0; k < 3; k++)
			(void)journal_get_u64(&rec); /* size, modification time */
		same = !rec.bad && has_inode(source_path, name, len, ino);
	}
	return same;
}
