/*
 * staging.c - the files in the staging directory
 *
 *   lock          locked by whoever edits (claim.c)
 *   journal       what was edited (journal.h); edits are staged as long as it is there
 *   journal.new   a journal that is being written anew
 *   blocks        the bytes
 *   result        why the last commit failed: one line
 *   elsewhere     in a source's default place: which directory its edits are staged in
 */
#include "staging.h"
#include "io.h"
#include "slots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESULT_MAX 1024u /* bytes of a result that are read back */

/* ---- the files ---- */

void staging_close_files(struct staging *s)
{
	if (s->journal >= 0)
		close(s->journal);
	if (s->blocks >= 0)
		close(s->blocks);
	s->journal = s->blocks = -1;
	s->journal_end = s->synced_end = s->allocated = 0;
	s->rewrite = s->stale_blocks = false;
}

void staging_clear(int dir)
{
	int r = io_unlinkat(dir, "journal", 0);

	/* A journal that a power cut brings back needs its blocks. */
	if (r == 0)
		r = io_fsync(dir);
	if (r < 0 && r != -ENOENT && r != -EINVAL)
		return;
	(void)io_unlinkat(dir, "journal.new", 0);
	(void)io_unlinkat(dir, "blocks", 0);
	(void)io_unlinkat(dir, "result", 0);
}

static int stranger(const struct staging *s, const char *name, const char *beside,
		    struct sft_error *err)
{
	return sft_fail(err, EEXIST,
			"the staging directory %s holds a file %s and no journal%s: it may be "
			"somebody else's; remove it, or stage elsewhere",
			s->path, name, beside);
}

/* Without a journal nothing shows that these are ours; in the default place nobody else has any. */
static int refuse_all(const struct staging *s, struct sft_error *err)
{
	static const char *const names[] = { "journal.new", "blocks", "result" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (faccessat(s->dir, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return stranger(s, names[i], "", err);
	}
	return 0;
}

int staging_refuse_strangers(const struct staging *s, struct sft_error *err)
{
	struct stat st;
	bool blank;
	int r;

	if (s->claim.own || s->claim.known)
		return 0;
	r = journal_may_be_ours(s->journal, &blank);
	if (r < 0)
		return sft_fail(err, -r, "cannot read the journal in %s: %s", s->path,
				strerror(-r));
	if (r == 0)
		return stranger(s, "journal", " of edits", err);
	if (!blank)
		return 0;
	/* After a power cut there are whole blocks at most: a result comes after a sync. */
	if (fstatat(s->dir, "blocks", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (!S_ISREG(st.st_mode) || st.st_size % SFT_BLOCK))
		return stranger(s, "blocks", "", err);
	if (fstatat(s->dir, "result", &st, AT_SYMLINK_NOFOLLOW) == 0)
		return stranger(s, "result", "", err);
	return 0;
}

/* Open the two files, -ENOENT where no journal is there. */
static int open_files(struct staging *s, struct sft_error *err)
{
	int r;

	s->journal = trust_openat(s->dir, s->path, "journal", O_RDWR, err);
	if (s->journal < 0)
		return s->journal;
	r = staging_refuse_strangers(s, err);
	if (r < 0)
		return r;
	s->blocks = trust_openat(s->dir, s->path, "blocks", O_RDWR | O_CREAT, err);
	return s->blocks < 0 ? s->blocks : 0;
}

int staging_refuse_others(const struct staging *s, const struct journal_summary *sum,
			  struct sft_error *err)
{
	if (s->home.path == NULL || !sum->source || identity_is_of(sum, s->source_path))
		return 0;
	return sft_fail(err, EEXIST, "%s holds the edits of %s, not of this source", s->path,
			sum->source);
}

int staging_load(struct staging *s, struct journal_summary *sum, bool *found, struct notes *notes,
		 struct sft_error *err)
{
	struct sft_error reason = { 0 };
	struct journal_line line;
	int r = open_files(s, err);

	*found = false;
	if (r < 0 && r != -ENOENT) {
		staging_close_files(s);
		return claim_refuse_place(s->path, r, err);
	}
	if (r == 0)
		r = journal_summarize(s->journal, sum, &reason);
	if ((r == 0 && (sum->edits || sum->prepared)) || r == -EBADMSG) {
		int others = staging_refuse_others(s, sum, err);

		if (others < 0) {
			staging_close_files(s);
			return others;
		}
	}
	if ((r == 0 || r == -ENODATA) && journal_say_left_out(sum, &line))
		(void)notes_add(notes, "%s", line.text);
	if (r == 0 && (sum->edits || sum->prepared)) {
		s->id = sum->id;
		*found = true;
		return 0;
	}
	staging_close_files(s);
	if (r < 0 && r != -ENOENT && r != -ENODATA)
		return sft_fail(err, -r, "staged edits in %s: %s", s->path, reason.msg);
	journal_summary_free(sum);
	if (r == -ENOENT && !s->claim.own && !s->claim.known) {
		r = refuse_all(s, err);
		if (r < 0)
			return r;
	}
	staging_clear(s->dir);
	return 0;
}

int staging_drop(struct staging *s, struct sft_error *err)
{
	int r = io_unlinkat(s->dir, "journal", 0);

	if (r == 0 || r == -ENOENT)
		r = io_fsync(s->dir);
	if (r < 0 && r != -EINVAL)
		return sft_fail(err, -r, "cannot drop the staged edits in %s: %s", s->path,
				strerror(-r));
	(void)io_unlinkat(s->dir, "result", 0);
	if (s->journal >= 0)
		close(s->journal);
	s->journal = -1;
	s->journal_end = s->synced_end = 0;
	s->rewrite = false;
	return 0;
}

/* ---- the result ---- */

void staging_result(struct staging *s, const char *text)
{
	int fd = trust_openat(s->dir, s->path, "result", O_WRONLY | O_CREAT, NULL);

	if (fd < 0)
		return;
	if (io_ftruncate(fd, 0) == 0 && io_pwrite(fd, text, strlen(text), 0) == 0)
		(void)io_pwrite(fd, "\n", 1, strlen(text));
	close(fd);
}

char *staging_read_result(const struct staging *s)
{
	char text[RESULT_MAX + 1];
	int fd = trust_openat(s->dir, s->path, "result", O_RDONLY, NULL);
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = io_read(fd, text, RESULT_MAX);
	close(fd);
	if (n <= 0)
		return NULL;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	/* It goes to a log. */
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
	return strdup(text);
}
