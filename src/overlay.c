/* overlay.c - changes of names and declarations, and what the overlay says of itself */
#include "journal.h"
#include "overlay_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading ---- */

uint32_t sft_overlay_count(const struct sft_overlay *ov)
{
	return ov->count;
}

const struct sft_entry *sft_overlay_entry(const struct sft_overlay *ov, uint32_t id)
{
	static const struct sft_entry nothing = { .name = "" };

	return id < ov->count ? &ov->entries[id]->pub : &nothing;
}

const struct sft_metadata *sft_overlay_metadata(const struct sft_overlay *ov, uint32_t shard)
{
	static const struct sft_metadata none;

	return shard < ov->shard_count ? &ov->metadata[shard] : &none;
}

uint32_t sft_overlay_problems(const struct sft_overlay *ov)
{
	return ov->problem_count;
}

const struct sft_checkpoint *sft_overlay_checkpoint(const struct sft_overlay *ov)
{
	return ov->base;
}

const char *sft_overlay_staging(const struct sft_overlay *ov)
{
	return ov->staging.path;
}

const char *sft_overlay_note(const struct sft_overlay *ov, size_t i)
{
	return i < ov->note_count ? ov->notes[i] : NULL;
}

/* ---- names ---- */

static int no_memory(struct sft_error *err)
{
	return sft_fail(err, ENOMEM, "no memory for the edit");
}

static int reserve(struct sft_overlay *ov, struct sft_error *err)
{
	int r = state_reserve(ov);

	if (r == -ENOSPC)
		return sft_fail(err, ENOSPC, "too many tensors were made and removed");
	return r < 0 ? no_memory(err) : 0;
}

/* A scratch key is the caller's own; those with a NUL in front are ours (journal_rewrite.c). */
static int check_name(const char *name, size_t len, bool scratch, struct sft_error *err)
{
	if (!scratch)
		return overlay_check_name(name, len, err);
	if (len > 0 && name[0] == '\0')
		return sft_fail(err, EINVAL, "a scratch file's key must not begin with a NUL");
	return 0;
}

/* EEXIST unless the name is free, or held by `self` or `replaced`. */
static int check_free(const struct sft_overlay *ov, uint32_t shard, bool scratch, const char *name,
		      size_t len, uint32_t self, uint32_t replaced, struct sft_error *err)
{
	uint32_t holder = names_find(ov, shard, scratch, name, len);
	struct sft_quoted q;

	if (holder != SFT_NO_ID && holder != self && holder != replaced)
		return sft_fail(err, EEXIST, "tensor %s: there is one of that name",
				sft_quote(&q, name, len));
	if (replaced != SFT_NO_ID && holder != replaced)
		return sft_fail(err, EINVAL, "tensor %s: is not what was to be replaced",
				sft_quote(&q, name, len));
	return 0;
}

int sft_overlay_create(struct sft_overlay *ov, const char *name, size_t len, bool scratch,
		       uint32_t shard, uint32_t *id, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	struct overlay_entry *e;
	int r = check_name(name, len, scratch, err);

	if (r == 0 && !scratch)
		r = order_choose_shard(ov, name, len, shard, SFT_NO_ID, &shard, err);
	if (r == 0)
		r = check_free(ov, shard, scratch, name, len, SFT_NO_ID, SFT_NO_ID, err);
	if (r == 0)
		r = edit_begin(ov, err);
	if (r == 0)
		r = reserve(ov, err);
	if (r < 0)
		return r;
	e = entry_new(name, len, scratch, shard);
	if (!e)
		return no_memory(err);
	uint32_t jid = ov->next_journal_id++;
	journal_put_create(&b, jid, e);
	r = journal_append(ov, &b, err);
	if (r < 0) {
		entry_free(e);
		return r;
	}
	*id = apply_create(ov, e, jid);
	edit_end(ov);
	return 0;
}

int sft_overlay_remove(struct sft_overlay *ov, uint32_t id, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	int r = state_live(ov, id, err) ? edit_begin(ov, err) : -EINVAL;

	if (r < 0)
		return r;
	uint32_t jid = journal_id(ov, &b, id);
	journal_start(&b, JOURNAL_REMOVE);
	journal_u32(&b, jid);
	journal_finish(&b);
	r = journal_append(ov, &b, err);
	if (r < 0)
		return r;
	apply_remove(ov, id);
	edit_end(ov);
	return 0;
}

/* The shard that a tensor has under its new name. */
static int choose_shard(struct sft_overlay *ov, const struct overlay_entry *e, const char *name,
			size_t len, bool scratch, uint32_t wanted, uint32_t replaced,
			uint32_t *shard, struct sft_error *err)
{
	*shard = wanted == SFT_SHARD_AUTO ? e->pub.shard : wanted;
	if (scratch)
		return 0;
	return order_choose_shard(ov, name, len, *shard, replaced, shard, err);
}

/*
 * Before an entry that outlived a commit as scratch becomes a tensor: what it has from the retired
 * checkpoint is staged, as the journal cannot tell where it came from.
 */
static int leave_retired(struct sft_overlay *ov, uint32_t id, struct sft_error *err)
{
	struct overlay_entry *e = ov->entries[id];
	const struct sft_tensor *like = e->like;
	int r = 0;

	/* First, since `like` is known to be there only as long as `base` is. */
	if (!e->has_declared && like)
		r = sft_overlay_declare(ov, id, (enum sft_dtype)like->dtype, like->shape,
					like->rank, err);
	if (r == 0)
		r = edit_detach(ov, id, err);
	if (r < 0)
		return r;
	e->retired = false;
	state_resolve(ov, e);
	return 0;
}

/* What has to be there before the record is written. */
static int prepare_rename(struct sft_overlay *ov, uint32_t id, bool scratch, struct sft_error *err)
{
	struct overlay_entry *e = ov->entries[id];
	int r = edit_begin(ov, err);

	if (r == 0)
		r = reserve(ov, err);
	if (r == 0 && scratch && e->base && state_reserve_retired(ov) < 0)
		r = no_memory(err);
	if (r == 0 && !scratch && e->retired)
		r = leave_retired(ov, id, err);
	return r;
}

static int rename_entry(struct sft_overlay *ov, uint32_t id, const char *name, size_t len,
			bool scratch, uint32_t shard, uint32_t replaced, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	int r = prepare_rename(ov, id, scratch, err);
	char *copy = r == 0 ? malloc(len + 1) : NULL;

	if (r < 0)
		return r;
	if (!copy)
		return no_memory(err);
	if (len)
		memcpy(copy, name, len);
	copy[len] = '\0';
	uint32_t jid = journal_id(ov, &b, id);
	uint32_t replaced_jid = replaced == SFT_NO_ID ? SFT_NO_ID : journal_id(ov, &b, replaced);
	journal_put_rename(&b, jid, shard, scratch, replaced_jid, name, len);
	r = journal_append(ov, &b, err);
	if (r < 0) {
		free(copy);
		return r;
	}
	apply_rename(ov, id, copy, len, scratch, shard, replaced);
	edit_end(ov);
	return 0;
}

int sft_overlay_rename(struct sft_overlay *ov, uint32_t id, const char *name, size_t len,
		       bool scratch, uint32_t shard, uint32_t replaced, struct sft_error *err)
{
	struct overlay_entry *e = state_live(ov, id, err);
	int r = e ? check_name(name, len, scratch, err) : -EINVAL;

	if (r == 0 && replaced != SFT_NO_ID && (replaced == id || !state_live(ov, replaced, err)))
		r = sft_fail(err, EINVAL, "a tensor cannot replace itself");
	if (r == 0)
		r = choose_shard(ov, e, name, len, scratch, shard, replaced, &shard, err);
	if (r == 0)
		r = check_free(ov, shard, scratch, name, len, id, replaced, err);
	if (r < 0)
		return r;
	if (replaced == SFT_NO_ID && e->pub.scratch == scratch && e->pub.shard == shard &&
	    entry_name_is(e, name, len))
		return 0;
	return rename_entry(ov, id, name, len, scratch, shard, replaced, err);
}

/* ---- declarations ---- */

static bool same_shape(const uint64_t *a, uint32_t a_rank, const uint64_t *b, uint32_t b_rank)
{
	return a_rank == b_rank && (a_rank == 0 || memcmp(a, b, a_rank * sizeof(*a)) == 0);
}

/* Whether declaring this would change nothing, now or after a rename. */
static bool is_declared(const struct overlay_entry *e, enum sft_dtype dtype, const uint64_t *shape,
			uint32_t rank)
{
	return (e->has_declared || e->pub.committed) && e->pub.dtype == dtype &&
	       same_shape(e->pub.shape, e->pub.rank, shape, rank);
}

int sft_overlay_declare(struct sft_overlay *ov, uint32_t id, enum sft_dtype dtype,
			const uint64_t *shape, uint32_t rank, struct sft_error *err)
{
	struct overlay_entry *e = state_live(ov, id, err);
	struct journal_batch b = { 0 };
	struct sft_quoted q;
	uint64_t *copy = NULL;
	int r = 0;

	if (!e)
		return -EINVAL;
	if ((unsigned)dtype >= SFT_DTYPE_COUNT || rank > SFT_HEADER_MAX / 2)
		return sft_fail(err, EINVAL, "tensor %s: no dtype and shape that a header can hold",
				sft_quote(&q, e->pub.name, e->pub.name_len));
	if (is_declared(e, dtype, shape, rank))
		return 0;
	r = edit_begin(ov, err);
	if (r < 0)
		return r;
	if (rank) {
		copy = malloc(rank * sizeof(*copy));
		if (!copy)
			return no_memory(err);
		memcpy(copy, shape, rank * sizeof(*copy));
	}
	uint32_t jid = journal_id(ov, &b, id);
	journal_put_declare(&b, jid, (uint8_t)dtype, shape, rank);
	r = journal_append(ov, &b, err);
	if (r < 0) {
		free(copy);
		return r;
	}
	apply_declare(ov, e, (uint8_t)dtype, copy, rank);
	edit_end(ov);
	return 0;
}

/* Pairs as they may stand in a header. */
static int check_metadata(const struct sft_metadata *m, struct sft_error *err)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < m->count; i++)
		bytes += (uint64_t)m->pairs[i].key_len + m->pairs[i].value_len;
	if (bytes > SFT_HEADER_MAX)
		return sft_fail(err, EFBIG, "metadata of %llu bytes: a header holds %u",
				(unsigned long long)bytes, SFT_HEADER_MAX);
	return 0;
}

int sft_overlay_set_metadata(struct sft_overlay *ov, uint32_t shard,
			     const struct sft_metadata *metadata, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	struct sft_metadata copy;
	int r;

	if (shard >= ov->shard_count || !sft_checkpoint_shard(ov->base, shard)->file)
		return sft_fail(err, EINVAL, "metadata: shard %u is missing", shard);
	if (metadata_equal(metadata, &ov->metadata[shard]))
		return 0;
	r = check_metadata(metadata, err);
	if (r == 0)
		r = edit_begin(ov, err);
	if (r < 0)
		return r;
	if (metadata_copy(&copy, metadata) < 0)
		return no_memory(err);
	journal_put_metadata(&b, shard, &copy);
	r = journal_append(ov, &b, err);
	if (r < 0) {
		sft_metadata_free(&copy);
		return r;
	}
	apply_metadata(ov, shard, &copy);
	edit_end(ov);
	return 0;
}
