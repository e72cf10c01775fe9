/*
 * identity.c - what tells the files of a checkpoint from others: name, inode, size, modification
 * time
 *
 * The device is left out: its number may be another one after the next boot.
 */
#include "journal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

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

static bool same_stat(struct journal_record *rec, const struct stat *st, bool anyhow)
{
	bool same = journal_get_u64(rec) == st->st_ino;

	same = (journal_get_u64(rec) == (uint64_t)st->st_size) && same;
	/* Both are taken off the record in any case. */
	bool same_sec = journal_get_u64(rec) == (uint64_t)st->st_mtim.tv_sec;
	bool same_nsec = journal_get_u64(rec) == (uint64_t)st->st_mtim.tv_nsec;
	return same && (anyhow || (same_sec && same_nsec));
}

static int changed(struct sft_error *err, const char *what)
{
	return sft_fail(err, ESTALE,
			"%s has changed since the edits were staged; `safetensorfs discard` drops "
			"them",
			what);
}

static int check_shard(struct journal_record *rec, const struct sft_checkpoint *ck, size_t i,
		       bool anyhow, struct sft_error *err)
{
	const struct sft_shard *s = sft_checkpoint_shard(ck, i);
	const bool is_directory = sft_checkpoint_is_directory(ck);
	uint32_t len;
	const char *name = journal_get_string(rec, &len);
	bool there = journal_get_u32(rec), same;

	/* A file may be moved with its staging, and what was beside it then is not searched for. */
	same = !is_directory || (len == strlen(s->name) && memcmp(name, s->name, len) == 0);
	if (there != (s->file != NULL))
		same = false;
	if (same && there)
		same = same_stat(rec, sft_file_stat(s->file), anyhow);
	return same ? 0 : changed(err, is_directory ? s->name : "the source");
}

int identity_check(const struct journal_summary *sum, const struct sft_checkpoint *ck, bool anyhow,
		   struct sft_error *err)
{
	struct journal_record rec = { .p = sum->identity, .left = sum->identity_len };
	const size_t count = sft_checkpoint_shards(ck);
	struct stat st;
	int r = 0;

	if (journal_get_u32(&rec) != count)
		return changed(err, "the list of shards");
	for (size_t i = 0; r == 0 && i < count; i++)
		r = check_shard(&rec, ck, i, anyhow, err);
	if (r < 0)
		return r;
	bool had_index = journal_get_u32(&rec), has_index = stat_index(ck, &st);
	if (had_index != has_index || (has_index && !same_stat(&rec, &st, anyhow)))
		return changed(err, "the index");
	if (rec.bad || rec.left)
		return sft_fail(err, EBADMSG, "the journal's header is damaged");
	return 0;
}
