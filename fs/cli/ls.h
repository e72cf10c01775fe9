/* ls.h - the parts of the verb ls: which tensors, and how they are printed */
#ifndef LS_H
#define LS_H

#include "sft.h"

struct ls_list {
	const struct sft_checkpoint *ck;
	const struct sft_tensor **tensors;
	size_t count;
};

/*
 * Take the tensors of `ck` that match one of the globs, all where there are none, in byte order of
 * names or in natural order. matched[i] is set where something matches globs[i]. list->tensors is
 * freed by the caller. False where memory runs out.
 */
bool ls_select(struct ls_list *list, const struct sft_checkpoint *ck, char *const *globs,
	       size_t glob_count, bool *matched, bool natural);

/* Print aligned columns and a line of totals to stdout, sizes for people where `human`. False where
 * that fails. */
bool ls_table(const struct ls_list *list, bool human);

/* Add a name as one word: as it is, or as a JSON string in which white space is escaped too. `json`
 * is scratch. */
void ls_add_word(struct sft_buf *out, const char *s, size_t len, struct sft_buf *json);

#endif
