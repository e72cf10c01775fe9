/* index_totals.h - the sums that an index.json has in its `metadata`; private to the library */
#ifndef SFT_INDEX_TOTALS_H
#define SFT_INDEX_TOTALS_H

#include "json.h"
#include "plan.h"

/* What they count, over all tensors that are shown. */
struct index_totals {
	uint64_t bytes, elements;
};

/* As committed, and after the edits; *sum is zero before. False above 2^64. */
bool index_totals_before(const struct sft_checkpoint *ck, struct index_totals *sum);
bool index_totals_after(const struct plan *plan, struct index_totals *sum);

/*
 * Write the sum at a token of the old index, given what the edits have made of what it counts. With
 * `exact` it becomes `now`. Otherwise it gets what they add or take, since it may count what is not
 * seen here: tensors of missing shards, or a packed element as several. A float that is whole
 * (`5.0`) stays a float; what is no whole number stays as it is. EFBIG.
 */
int index_totals_write(const struct sft_json *j, unsigned token, uint64_t before, uint64_t now,
		       bool exact, struct sft_buf *out, struct sft_error *err);

#endif
