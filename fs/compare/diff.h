/*
 * diff.h - what differs between two checkpoints, by tensor name; no FUSE here
 */
#ifndef DIFF_H
#define DIFF_H

#include "compare.h"
#include "sft.h"

enum diff_kind {
	DIFF_SAME,
	DIFF_ONLY_IN_A,
	DIFF_ONLY_IN_B,
	DIFF_DECLARED, /* dtype or shape; the bytes are not looked at */
	DIFF_BYTES,
	DIFF_KINDS
};

/* A name, and what has it. */
struct diff_item {
	const struct sft_tensor *a, *b; /* NULL: not there */
	struct compare *bytes;		/* where bytes differ; else NULL */
};

struct diff {
	const struct sft_checkpoint *a, *b; /* borrowed, and outlive this */
	struct diff_item *items;	    /* in byte order of names */
	size_t count;
};

/* Called now and then with the bytes of each side that have been compared; from several threads,
 * but never from two at a time. */
struct diff_progress {
	void (*report)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/*
 * Compare two checkpoints, each byte read once, in the order of a's files. Takes at most 60 bytes a
 * name and at most 64 a difference, and buffers. On failure *in_b says whose the error is. ENOMEM,
 * EIO, the errors of pread(2). diff_free() in either case.
 */
int diff_checkpoints(struct diff *d, const struct sft_checkpoint *a, const struct sft_checkpoint *b,
		     const struct diff_progress *progress, bool *in_b, struct sft_error *err);
void diff_free(struct diff *d);

enum diff_kind diff_kind(const struct diff_item *item);

#endif
