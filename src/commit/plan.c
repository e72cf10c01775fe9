/*
 * plan.c - what the edited checkpoint will look like: for each shard its tensors in the order of
 * the new file, their places, the header, and whether anything differs from the committed file
 *
 * The overlay is only read. Where names, dtypes, shapes and metadata of a shard are all as
 * committed, its header is kept byte for byte and every tensor keeps its place (`same_layout`).
 */
#include "plan.h"
#include "metadata.h"
#include "sort.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what blocks a commit ---- */

int plan_refuse_problems(const struct sft_overlay *ov, struct sft_error *err)
{
	const uint32_t problems = sft_overlay_problems(ov);
	const struct sft_entry *first = NULL;
	char reason[200], more[64] = "";
	struct sft_quoted q;

	if (problems == 0)
		return 0;
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		char text[sizeof(reason)];

		if (!e->live || e->scratch || !sft_overlay_problem(ov, id, text, sizeof(text)))
			continue;
		if (first &&
		    sft_name_compare(e->name, e->name_len, first->name, first->name_len) > 0)
			continue;
		first = e;
		memcpy(reason, text, sizeof(reason));
	}
	if (!first)
		return sft_fail(err, EINVAL, "%u tensor%s a problem", problems,
				problems == 1 ? " has" : "s have");
	if (problems > 1)
		snprintf(more, sizeof(more), " (and %u more tensor%s a problem)", problems - 1,
			 problems == 2 ? " has" : "s have");
	return sft_fail(
		err, EINVAL,
		"tensor %s: %s%s; write the missing bytes, truncate it, or declare the dtype "
		"and shape it has in its .json",
		sft_quote(&q, first->name, first->name_len), reason, more);
}

/* ---- which tensors a shard holds ---- */

/*
 * A tensor that is not shown since the index gives its name to another shard stays where it is, as
 * long as that other tensor is there to hide it. Where that one was deleted or renamed it goes too:
 * otherwise it would appear in the place of what the user has just removed.
 */
static bool stays_hidden(const struct sft_overlay *ov, const struct sft_tensor *t)
{
	const struct sft_tensor *shown = sft_checkpoint_find(ov->base, t->name, t->name_len);
	uint32_t id;

	if (shown && shown->shard == t->shard)
		return false;
	id = sft_overlay_find(ov, t->shard, t->name, t->name_len);
	return id != SFT_NO_ID && sft_overlay_entry(ov, id)->shard != t->shard;
}

/* Whether the checkpoint has tensors that it does not show; hardly any has. */
static bool has_hidden(const struct sft_checkpoint *ck)
{
	size_t all = 0;

	for (size_t i = 0; i < sft_checkpoint_shards(ck); i++) {
		const struct sft_file *file = sft_checkpoint_shard(ck, i)->file;

		all += file ? sft_index_count(sft_file_index(file)) : 0;
	}
	return all != sft_checkpoint_count(ck);
}

/*
 * The other keys of an entry. They stay with a tensor, whatever it is called now, and whatever it
 * is declared as; a new one has those of the committed tensor whose place it takes, as it has its
 * dtype and shape, since programs replace a tensor in order to change its bytes.
 */
static const char *entry_keys(const struct sft_overlay *ov, const struct sft_entry *e)
{
	const struct sft_file *file = sft_checkpoint_shard(ov->base, e->shard)->file;
	const struct sft_tensor *t = e->committed;

	if (!t && file)
		t = sft_index_find(sft_file_index(file), e->name, e->name_len);
	return t ? sft_tensor_keys(t) : "";
}

struct plan_tensor plan_entry(const struct sft_overlay *ov, uint32_t id)
{
	const struct sft_entry *e = sft_overlay_entry(ov, id);

	return (struct plan_tensor){
		.id = id,
		.h.name = e->name,
		.h.keys = entry_keys(ov, e),
		.h.shape = e->shape,
		.h.nbytes = e->nbytes,
		.h.name_len = e->name_len,
		.h.rank = e->rank,
		.h.dtype = e->dtype,
	};
}

struct plan_tensor plan_committed(const struct sft_tensor *t)
{
	return (struct plan_tensor){
		.id = SFT_NO_ID,
		.committed = t,
		.h.name = t->name,
		.h.keys = sft_tensor_keys(t),
		.h.shape = t->shape,
		.h.nbytes = t->nbytes,
		.h.name_len = t->name_len,
		.h.rank = t->rank,
		.h.dtype = t->dtype,
	};
}

/* Count it, and put it into its shard where that has room already. */
static void add(struct plan_shard *s, struct plan_tensor t)
{
	if (s->tensors)
		s->tensors[s->count] = t;
	s->count++;
}

/* Go through what will be in the checkpoint, by shard. */
static void gather(const struct sft_overlay *ov, struct plan *plan)
{
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);

		if (e->live && !e->scratch)
			add(&plan->shards[e->shard], plan_entry(ov, id));
	}
	if (!has_hidden(ov->base) || (ov->options.flags & SFT_SAME_NAMES))
		return;
	for (size_t i = 0; i < plan->count; i++) {
		const struct sft_file *file = sft_checkpoint_shard(ov->base, i)->file;
		const struct sft_index *index = file ? sft_file_index(file) : NULL;

		for (size_t k = 0; index && k < sft_index_count(index); k++) {
			const struct sft_tensor *t = sft_index_at(index, k);

			if (stays_hidden(ov, t))
				add(&plan->shards[i], plan_committed(t));
		}
	}
}

static int collect(const struct sft_overlay *ov, struct plan *plan, struct sft_error *err)
{
	const size_t count = sft_checkpoint_shards(ov->base);

	plan->shards = calloc(count + 1, sizeof(*plan->shards));
	if (!plan->shards)
		return sft_fail(err, ENOMEM, "no memory for the commit");
	plan->count = count;
	gather(ov, plan);
	for (size_t i = 0; i < plan->count; i++) {
		struct plan_shard *s = &plan->shards[i];

		s->shard = (uint32_t)i;
		s->tensors = calloc(s->count + 1, sizeof(*s->tensors));
		if (!s->tensors)
			return sft_fail(err, ENOMEM, "no memory for the commit");
		s->count = 0;
	}
	gather(ov, plan);
	return 0;
}

/* ---- against the committed file ---- */

static bool same_declared(const struct plan_tensor *t, const struct sft_tensor *old)
{
	return t->h.dtype == old->dtype && t->h.rank == old->rank && t->h.nbytes == old->nbytes &&
	       strcmp(t->h.keys, sft_tensor_keys(old)) == 0 &&
	       (t->h.rank == 0 ||
		memcmp(t->h.shape, old->shape, t->h.rank * sizeof(*t->h.shape)) == 0);
}

void plan_compare(const struct sft_overlay *ov, struct plan_shard *s,
		  const struct sft_metadata *metadata, const struct sft_file *file)
{
	const struct sft_index *index = sft_file_index(file);

	s->same_layout = s->count == sft_index_count(index) &&
			 sft_metadata_equal(metadata, sft_index_metadata(index));
	s->changed = !s->same_layout;
	for (size_t i = 0; s->same_layout && i < s->count; i++) {
		struct plan_tensor *t = &s->tensors[i];
		const struct sft_tensor *old = sft_index_find(index, t->h.name, t->h.name_len);
		const struct sft_entry *e = t->committed ? NULL : sft_overlay_entry(ov, t->id);

		if (!old || !same_declared(t, old)) {
			s->same_layout = false;
			s->changed = true;
			return;
		}
		t->h.begin = old->begin;
		/* What has come to this name from elsewhere has other bytes, staged or not. */
		if (e && (e->staged || e->committed != old))
			s->changed = true;
	}
	if (s->same_layout) {
		s->header_length = sft_file_data_offset(file);
		s->file_size = (uint64_t)sft_file_stat(file)->st_size;
	}
}

static int compare_places(uint32_t a, uint32_t b, const void *ctx)
{
	const struct plan_tensor *x = (const struct plan_tensor *)ctx + a;
	const struct plan_tensor *y = (const struct plan_tensor *)ctx + b;

	if (x->h.begin != y->h.begin)
		return x->h.begin < y->h.begin ? -1 : 1;
	return (x->h.nbytes > y->h.nbytes) - (x->h.nbytes < y->h.nbytes);
}

int plan_sort_by_place(struct plan_tensor *tensors, size_t count)
{
	return sft_sort_array(tensors, count, sizeof(*tensors), compare_places, tensors);
}

int plan_lay_out(struct plan_shard *s, const struct sft_metadata *metadata, struct sft_error *err)
{
	struct sft_buf header = { 0 };
	int r = header_write(s->tensors, s->count, sizeof(*s->tensors), metadata, &header, err);

	if (r < 0) {
		sft_buf_free(&header);
		return r;
	}
	s->header = header.data;
	s->header_length = header.len;
	s->file_size = header.len;
	if (s->count)
		s->file_size +=
			s->tensors[s->count - 1].h.begin + s->tensors[s->count - 1].h.nbytes;
	return 0;
}

static int plan_shard(const struct sft_overlay *ov, struct plan_shard *s, struct sft_error *err)
{
	const struct sft_shard *shard = sft_checkpoint_shard(ov->base, s->shard);
	const struct sft_metadata *metadata;
	struct sft_error e = { 0 };
	struct sft_quoted q;
	int r = 0;

	if (!shard->file && s->count)
		return sft_fail(err, ENOENT, "tensor %s: its shard %s is missing",
				sft_quote(&q, s->tensors[0].h.name, s->tensors[0].h.name_len),
				shard->name);
	if (!shard->file)
		return 0;
	metadata = sft_overlay_metadata(ov, s->shard);
	plan_compare(ov, s, metadata, shard->file);
	/* Its places matter only where something will be written. */
	if (s->same_layout && s->changed && plan_sort_by_place(s->tensors, s->count) < 0)
		r = sft_fail(&e, ENOMEM, "no memory for the commit");
	else if (!s->same_layout)
		r = plan_lay_out(s, metadata, &e);
	return r < 0 ? sft_fail(err, e.errnum, "%s: %s", shard->name, e.msg) : 0;
}

int plan_make(const struct sft_overlay *ov, struct plan *plan, struct sft_error *err)
{
	int r;

	memset(plan, 0, sizeof(*plan));
	r = plan_refuse_problems(ov, err);
	if (r == 0)
		r = collect(ov, plan, err);
	for (size_t i = 0; r == 0 && i < plan->count; i++) {
		r = plan_shard(ov, &plan->shards[i], err);
		if (!plan->shards[i].same_layout && plan->shards[i].changed)
			plan->index_changed = true;
	}
	if (r < 0)
		plan_free(plan);
	return r;
}

size_t plan_regions(const struct sft_checkpoint *ck, const struct sft_overlay *ov, uint32_t id,
		    const struct sft_tensor *committed, uint64_t offset, uint64_t length,
		    struct sft_region *regions, size_t max)
{
	if (!committed)
		return sft_overlay_regions(ov, id, offset, length, regions, max);
	regions[0] = sft_checkpoint_region(ck, committed, offset, length);
	return 1;
}

void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		free(plan->shards[i].header);
		free(plan->shards[i].tensors);
	}
	free(plan->shards);
	memset(plan, 0, sizeof(*plan));
}
