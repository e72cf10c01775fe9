/*
 * merged.c - everything that is shown, as the bytes of one file
 *
 * The header and the order of the tensors come from the code that plans a commit, the bytes from
 * the same regions; nothing is written anywhere.
 */
#include "plan.h"
#include "sort.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A tensor in the body, of which its end is kept: it begins where the one before it ends. */
struct merged_tensor {
	uint64_t end;
	const struct sft_tensor *committed; /* as in struct plan_tensor */
	uint32_t id;
};

struct sft_merged {
	const struct sft_checkpoint *ck;
	const struct sft_overlay *ov;
	struct sft_buf head;
	const struct sft_file *header_of; /* whose header begins the body; NULL: the head has it */
	uint64_t data;			  /* where in the body the first tensor begins */
	struct merged_tensor *tensors;
	size_t count;
};

/* ---- what is in it ---- */

static int gather(const struct sft_checkpoint *ck, const struct sft_overlay *ov,
		  struct plan_shard *s, struct sft_error *err)
{
	const size_t most = ov ? sft_overlay_count(ov) : sft_checkpoint_count(ck);

	s->tensors = calloc(most + 1, sizeof(*s->tensors));
	if (!s->tensors)
		return sft_fail(err, ENOMEM, "no memory for the header");
	for (size_t i = 0; i < most; i++) {
		const struct sft_entry *e = ov ? sft_overlay_entry(ov, (uint32_t)i) : NULL;

		if (!ov)
			s->tensors[s->count++] = plan_committed(sft_checkpoint_at(ck, i));
		else if (e->live && !e->scratch)
			s->tensors[s->count++] = plan_entry(ov, (uint32_t)i);
	}
	return 0;
}

static int compare_names(uint32_t a, uint32_t b, const void *ctx)
{
	const struct plan_tensor *x = (const struct plan_tensor *)ctx + a;
	const struct plan_tensor *y = (const struct plan_tensor *)ctx + b;

	return sft_name_compare(x->h.name, x->h.name_len, y->h.name, y->h.name_len);
}

static int refuse_same_names(struct plan_shard *s, struct sft_error *err)
{
	struct sft_quoted q;

	if (sft_sort_array(s->tensors, s->count, sizeof(*s->tensors), compare_names, s->tensors) <
	    0)
		return sft_fail(err, ENOMEM, "no memory for the header");
	for (size_t i = 1; i < s->count; i++) {
		const struct plan_tensor *t = &s->tensors[i];

		if (compare_names((uint32_t)i - 1, (uint32_t)i, s->tensors) == 0)
			return sft_fail(err, EEXIST,
					"tensor %s: in two files, and one file can have it once",
					sft_quote(&q, t->h.name, t->h.name_len));
	}
	return 0;
}

/* ---- metadata of several shards ---- */

static const struct sft_metadata *shard_metadata(const struct sft_checkpoint *ck,
						 const struct sft_overlay *ov, size_t i)
{
	return ov ? sft_overlay_metadata(ov, (uint32_t)i) : sft_checkpoint_metadata(ck, i);
}

static int compare_keys(uint32_t a, uint32_t b, const void *ctx)
{
	const struct sft_pair *x = (const struct sft_pair *)ctx + a;
	const struct sft_pair *y = (const struct sft_pair *)ctx + b;

	return sft_name_compare(x->key, x->key_len, y->key, y->key_len);
}

/* Drop each pair whose key stands further up already. */
static int drop_repeated(struct sft_metadata *m)
{
	uint32_t *order = calloc((size_t)m->count + 1, sizeof(*order)), kept = 0;
	bool *drop = calloc((size_t)m->count + 1, sizeof(*drop));
	int r = order && drop ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < m->count; i++)
		order[i] = i;
	if (r == 0)
		r = sft_sort(order, m->count, compare_keys, m->pairs);
	for (uint32_t i = 1; r == 0 && i < m->count; i++)
		drop[order[i]] = compare_keys(order[i - 1], order[i], m->pairs) == 0;
	for (uint32_t i = 0; r == 0 && i < m->count; i++) {
		if (!drop[i])
			m->pairs[kept++] = m->pairs[i];
	}
	if (r == 0)
		m->count = kept;
	free(drop);
	free(order);
	return r;
}

/* Those of all shards; strings are borrowed, the pairs are the caller's to free. */
static int gather_metadata(const struct sft_checkpoint *ck, const struct sft_overlay *ov,
			   struct sft_metadata *out)
{
	const size_t shards = sft_checkpoint_shards(ck);
	size_t most = 0;

	*out = (struct sft_metadata){ 0 };
	for (size_t i = 0; i < shards; i++)
		most += shard_metadata(ck, ov, i)->count;
	if (most > UINT32_MAX)
		return -EFBIG;
	out->pairs = calloc(most + 1, sizeof(*out->pairs));
	if (!out->pairs)
		return -ENOMEM;
	for (size_t i = 0; i < shards; i++) {
		const struct sft_metadata *m = shard_metadata(ck, ov, i);

		out->present = out->present || m->present;
		if (m->count)
			memcpy(out->pairs + out->count, m->pairs, m->count * sizeof(*m->pairs));
		out->count += m->count;
	}
	return drop_repeated(out);
}

/* ---- making it ---- */

/* One shard is what its commit would be. */
static int plan_one(const struct sft_merged *m, struct plan_shard *s, struct sft_error *err)
{
	const struct sft_metadata *metadata = shard_metadata(m->ck, m->ov, 0);

	plan_compare(m->ov, s, metadata, sft_checkpoint_shard(m->ck, 0)->file);
	if (!s->same_layout)
		return plan_lay_out(s, metadata, err);
	return plan_sort_by_place(s->tensors, s->count) < 0
		       ? sft_fail(err, ENOMEM, "no memory for the header")
		       : 0;
}

static int plan_many(const struct sft_merged *m, struct plan_shard *s, struct sft_error *err)
{
	struct sft_metadata metadata;
	int r = refuse_same_names(s, err);

	if (r < 0)
		return r;
	r = gather_metadata(m->ck, m->ov, &metadata);
	if (r < 0)
		sft_fail(err, -r, "the metadata of all shards: %s", strerror(-r));
	else
		r = plan_lay_out(s, &metadata, err);
	free(metadata.pairs);
	return r;
}

/* Keep of the plan what reading needs. */
static int keep(struct sft_merged *m, struct plan_shard *s, struct sft_error *err)
{
	m->tensors = calloc(s->count + 1, sizeof(*m->tensors));
	if (!m->tensors)
		return sft_fail(err, ENOMEM, "no memory for the header");
	m->count = s->count;
	if (s->same_layout) {
		m->header_of = sft_checkpoint_shard(m->ck, 0)->file;
		m->data = s->header_length;
	} else {
		m->head = (struct sft_buf){ .data = s->header, .len = s->header_length };
		s->header = NULL;
	}
	for (size_t i = 0; i < s->count; i++) {
		const struct plan_tensor *t = &s->tensors[i];

		m->tensors[i] = (struct merged_tensor){ m->data + t->h.begin + t->h.nbytes,
							t->committed, t->id };
	}
	return 0;
}

int sft_merged_make(const struct sft_checkpoint *ck, const struct sft_overlay *ov,
		    struct sft_merged **out, struct sft_error *err)
{
	struct sft_merged *m = calloc(1, sizeof(*m));
	struct plan_shard s = { 0 };
	int r = m ? 0 : sft_fail(err, ENOMEM, "no memory for the header");

	if (r == 0) {
		*m = (struct sft_merged){ .ck = ck, .ov = ov };
		r = ov ? plan_refuse_problems(ov, err) : 0;
	}
	if (r == 0)
		r = gather(ck, ov, &s, err);
	if (r == 0)
		r = sft_checkpoint_shards(ck) == 1 && sft_checkpoint_shard(ck, 0)->file
			    ? plan_one(m, &s, err)
			    : plan_many(m, &s, err);
	if (r == 0)
		r = keep(m, &s, err);
	free(s.header);
	free(s.tensors);
	if (r < 0)
		sft_merged_free(m);
	else
		*out = m;
	return r;
}

void sft_merged_free(struct sft_merged *m)
{
	if (!m)
		return;
	sft_buf_free(&m->head);
	free(m->tensors);
	free(m);
}

/* ---- reading it ---- */

const struct sft_buf *sft_merged_head(const struct sft_merged *m)
{
	return &m->head;
}

uint64_t sft_merged_body(const struct sft_merged *m)
{
	return m->count ? m->tensors[m->count - 1].end : m->data;
}

/* The first tensor that ends behind `offset`. */
static size_t tensor_at(const struct sft_merged *m, uint64_t offset)
{
	size_t low = 0, high = m->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (m->tensors[mid].end <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The region at `offset` of the body, which ends at `end` at the latest. False where there is
 * nothing. */
static bool region_at(const struct sft_merged *m, size_t i, uint64_t offset, uint64_t end,
		      struct sft_region *region)
{
	if (offset < m->data) {
		*region = (struct sft_region){ .kind = SFT_REGION_SOURCE,
					       .file = m->header_of,
					       .offset = offset,
					       .length = (end < m->data ? end : m->data) - offset };
		return true;
	}
	if (i == m->count)
		return false;
	const struct merged_tensor *t = &m->tensors[i];
	uint64_t begin = i ? m->tensors[i - 1].end : m->data;
	return plan_regions(m->ck, m->ov, t->id, t->committed, offset - begin,
			    (end < t->end ? end : t->end) - offset, region, 1) == 1;
}

size_t sft_merged_regions(const struct sft_merged *m, uint64_t offset, uint64_t length,
			  struct sft_region *regions, size_t max)
{
	const uint64_t end = offset + length;
	size_t n = 0, i = tensor_at(m, offset);
	struct sft_region next;

	while (offset < end && region_at(m, i, offset, end, &next)) {
		if (n && plan_region_goes_on(&regions[n - 1], &next))
			regions[n - 1].length += next.length;
		else if (n == max)
			break;
		else
			regions[n++] = next;
		offset += next.length;
		while (i < m->count && m->tensors[i].end <= offset)
			i++;
	}
	return n;
}
