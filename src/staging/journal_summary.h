/* journal_summary.h - what is to be known of a journal before it is replayed */
#ifndef SFT_JOURNAL_SUMMARY_H
#define SFT_JOURNAL_SUMMARY_H

#include "prepared.h"

#include <stdbool.h>
#include <stdint.h>

/* What is to be known before the journal is replayed. */
struct journal_summary {
	unsigned flags; /* SFT_PARTIAL, SFT_SAME_NAMES */
	bool inplace;
	uint64_t id;		 /* of the staging, random */
	char *source;		 /* where it was then: for messages, and to know it again */
	char *base, *output;	 /* NULL for the source */
	unsigned char *identity; /* for identity_check() */
	size_t identity_len;
	uint64_t end;	   /* bytes of whole frames */
	uint64_t synced;   /* bytes up to and with the last SYNC */
	uint64_t left_out; /* bytes behind the end */
	bool edits;	   /* there is more than a header and SYNCs */
	bool prepared;
	bool room; /* the process died while it took room in the sources */
	enum journal_kind kind;
	struct prepared_target *targets;
	size_t target_count;
};
/*
 * Read a journal through, without the base. -ENODATA, nothing recorded: nothing was ever made
 * durable in it (empty, or zeros). EBADMSG: it is no journal, of another version, or damaged. Free
 * the summary in any case; where it failed, `source` is set if the header was readable.
 */
int journal_summarize(int fd, struct journal_summary *sum, struct sft_error *err);
/* Say what is left out and why; false where nothing is. */
struct journal_line {
	char text[200];
};
bool journal_say_left_out(const struct journal_summary *sum, struct journal_line *line);
/*
 * Whether a file of that name may be a journal of ours, of any version: 1, 0, -errno. An empty one
 * may, and one that begins with zeros, as it may after a power cut; *blank, then.
 */
int journal_may_be_ours(int fd, bool *blank);
void journal_summary_free(struct journal_summary *sum);

#endif
