/* ls_select.c - which tensors are listed, and in which order */
#include "glob.h"
#include "ls.h"

#include <stdlib.h>
#include <string.h>

/* A name stands for itself, whatever a `[` in it would mean in a pattern. */
static bool matches(const char *glob, const struct sft_tensor *t)
{
	return sft_name_compare(glob, strlen(glob), t->name, t->name_len) == 0 ||
	       glob_match(glob, t->name, t->name_len);
}

/* Tries each glob for which the answer can matter still: to the tensor or to matched[]. */
static bool is_wanted(const struct sft_tensor *t, char *const *globs, size_t count, bool *matched)
{
	bool wanted = false;
	for (size_t i = 0; i < count; i++) {
		if ((!wanted || !matched[i]) && matches(globs[i], t))
			wanted = matched[i] = true;
	}
	return wanted;
}

/* Up to a NUL in natural order, in which 2 comes before 10; what is the same there by its bytes. */
static int compare_natural(const void *a, const void *b)
{
	const struct sft_tensor *x = *(const struct sft_tensor *const *)a;
	const struct sft_tensor *y = *(const struct sft_tensor *const *)b;
	int r = strverscmp(x->name, y->name);
	return r ? r : sft_name_compare(x->name, x->name_len, y->name, y->name_len);
}

bool ls_select(struct ls_list *list, const struct sft_checkpoint *ck, char *const *globs,
	       size_t glob_count, bool *matched, bool natural)
{
	size_t n = sft_checkpoint_count(ck);
	*list = (struct ls_list){ ck, malloc((n + 1) * sizeof(*list->tensors)), 0 };
	if (!list->tensors)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct sft_tensor *t = sft_checkpoint_at(ck, i);
		if (!glob_count || is_wanted(t, globs, glob_count, matched))
			list->tensors[list->count++] = t;
	}
	if (natural)
		qsort(list->tensors, list->count, sizeof(*list->tensors), compare_natural);
	return true;
}
