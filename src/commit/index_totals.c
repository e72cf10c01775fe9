/* index_totals.c - the sums that an index.json has in its `metadata` */
#include "index_totals.h"
#include "num.h"

#include <errno.h>
#include <string.h>

static bool add_to_totals(struct index_totals *sum, uint64_t nbytes, const uint64_t *shape,
			  uint32_t rank)
{
	uint64_t elements = 1;

	for (uint32_t i = 0; i < rank; i++) {
		if (!sft_mul(elements, shape[i], &elements))
			return false;
	}
	return sft_add(sum->bytes, nbytes, &sum->bytes) &&
	       sft_add(sum->elements, elements, &sum->elements);
}

bool index_totals_before(const struct sft_checkpoint *ck, struct index_totals *sum)
{
	for (size_t i = 0; i < sft_checkpoint_count(ck); i++) {
		const struct sft_tensor *t = sft_checkpoint_at(ck, i);

		if (!add_to_totals(sum, t->nbytes, t->shape, t->rank))
			return false;
	}
	return true;
}

bool index_totals_after(const struct plan *plan, struct index_totals *sum)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_shard *s = &plan->shards[i];

		for (size_t k = 0; k < s->count; k++) {
			const struct plan_tensor *t = &s->tensors[k];

			if (t->id != SFT_NO_ID &&
			    !add_to_totals(sum, t->h.nbytes, t->h.shape, t->h.rank))
				return false;
		}
	}
	return true;
}

/* A number that is whole, also where it is written as a float: `5.0`. *fraction is its `.0`. */
static bool read_whole(const struct sft_json *j, unsigned token, uint64_t *value,
		       const char **fraction)
{
	const jsmntok_t *t = &j->tokens[token];
	const char *const text = j->text + t->start, *const end = j->text + t->end;
	const char *dot = memchr(text, '.', (size_t)(end - text));
	uint64_t sum = 0;

	*fraction = dot ? dot : end;
	if (t->type != JSMN_PRIMITIVE || !dot)
		return sft_json_u64(j, token, value);
	for (const char *p = text; p < dot; p++) {
		if (*p < '0' || *p > '9' || !sft_mul(sum, 10, &sum) ||
		    !sft_add(sum, (uint64_t)(*p - '0'), &sum))
			return false;
	}
	for (const char *p = dot + 1; p < end; p++) {
		if (*p != '0')
			return false;
	}
	*value = sum;
	return true;
}

int index_totals_write(const struct sft_json *j, unsigned token, uint64_t before, uint64_t now,
		       bool exact, struct sft_buf *out, struct sft_error *err)
{
	const jsmntok_t *t = &j->tokens[token];
	const char *fraction;
	uint64_t value;

	if (now == before || !read_whole(j, token, &value, &fraction)) {
		sft_buf_add(out, j->text + t->start, (size_t)(t->end - t->start));
		return 0;
	}
	if (exact)
		value = now;
	else if (now < before)
		value -= value < before - now ? value : before - now;
	else if (!sft_add(value, now - before, &value))
		return sft_fail(err, EFBIG, "a sum in its metadata would be above 2^64");
	sft_buf_u64(out, value);
	sft_buf_add(out, fraction, (size_t)(j->text + t->end - fraction));
	return 0;
}
