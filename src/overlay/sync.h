/* sync.h - the journal of an overlay: writing it, making it durable */
#ifndef SFT_SYNC_H
#define SFT_SYNC_H

#include "journal.h"
#include "overlay.h"
#include "prepared.h"

/* ---- sync.c ---- */

/* Before an edit: EIO where the staging is broken; begins the journal. */
int sync_begin_edit(struct sft_overlay *ov, struct sft_error *err);
/* After one: sync or compact where it is due. What fails here does not undo the edit. */
void sync_end_edit(struct sft_overlay *ov);
/* The id that the journal has for an entry; where it has none, the batch binds one first. */
uint32_t sync_bind(struct sft_overlay *ov, struct journal_batch *b, uint32_t id);
/* Append the batch as one frame and free it. On failure nothing of it is in the journal, or the
 * staging is broken. ENOMEM, ENOSPC, EFBIG, EIO ... */
int sync_append(struct sft_overlay *ov, struct journal_batch *b, struct sft_error *err);
/*
 * Record a commit as prepared, durably; syncs what is staged first. *end is where the record
 * begins. From here on opening finishes the commit. On failure the record is not there, as far as
 * the file system can still be told so; otherwise the next opening decides.
 */
int sync_prepared(struct sft_overlay *ov, enum journal_kind kind,
		  const struct prepared_target *targets, size_t count, uint64_t *end,
		  struct sft_error *err);

/* ---- compact.c ---- */

/*
 * Write the whole state as a new journal in place of the old one, or as the first; when this
 * returns 0 it is durable, with all staged bytes and its name. On failure the old journal is as it
 * was, or the staging is broken.
 */
int compact_journal(struct sft_overlay *ov, struct sft_error *err);

#endif
