/* sidecar.h - sidecars and metadata as text */
#ifndef SIDECAR_H
#define SIDECAR_H

#include "sft.h"

/* A tensor as the views need it, whether committed or staged. Borrows everything. */
struct view_tensor {
	const char *name;
	const uint64_t *shape;
	const char *file;    /* shard's file name */
	const char *problem; /* NULL, or why a commit would refuse it */
	uint64_t nbytes;
	uint64_t offset;	  /* absolute, in the file */
	uint64_t begin;		  /* data_offsets[0] */
	uint64_t declared_nbytes; /* data_offsets[1] - data_offsets[0] */
	uint32_t name_len, rank;
	uint8_t dtype;
	bool staged;
	bool placed; /* false: not in the file yet; offset and data_offsets are then null */
};

/* The sidecar of design: one pretty-printed object, newline at the end. */
void view_sidecar(struct sft_buf *out, const struct view_tensor *t);
/* The same object inside an array: each line behind `indent` spaces, no newline at the end. */
void view_sidecar_item(struct sft_buf *out, const struct view_tensor *t, unsigned indent);

/* __metadata__.json of one file: pretty-printed, newline at the end. */
void view_metadata(struct sft_buf *out, const struct sft_metadata *metadata);
/* Of a directory: shard file name to metadata, for those that are `present`. */
void view_metadata_shards(struct sft_buf *out, const char *const *names,
			  const struct sft_metadata *const *metadata, size_t count);

#endif
