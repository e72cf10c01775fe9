/*
 * change.c - changes of names, declarations and metadata: several of them as one step
 *
 *   prepare   check each change against what the ones before it leave, and get its memory
 *   write     one frame of the journal with the records of all of them
 *   apply     which cannot fail
 *
 * An entry is renamed or removed once in a step at most. So what has to be known of the changes
 * before is which entries have left their names (overlay_entry.leaves) and which names are given
 * (struct step.given).
 */
#include "metadata.h"
#include "overlay_state.h"
#include "sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What one change needs, beside what the caller says of it. */
struct prepared {
	uint32_t id, shard;
	bool nothing;		     /* it is so already */
	struct overlay_entry *entry; /* CREATE */
	char *name;		     /* RENAME */
	uint64_t *shape;	     /* DECLARE, CREATE */
	struct sft_metadata metadata;
};

struct step {
	struct sft_overlay *ov;
	struct sft_change *changes;
	struct prepared *prepared;
	size_t count;
	uint32_t created;
	uint32_t *given; /* hash table of positions in `changes`: names that are given */
	size_t given_capacity;
};

static int no_memory(struct sft_error *err)
{
	return sft_fail(err, ENOMEM, "no memory for the edit");
}

/* ---- names ---- */

/* A scratch key is the caller's own; those with a NUL in front are ours (compact.c). */
static int check_name(const struct sft_change *c, struct sft_error *err)
{
	if (!c->scratch)
		return overlay_check_name(c->name, c->name_len, err);
	if (c->name_len > 0 && c->name[0] == '\0')
		return sft_fail(err, EINVAL, "a scratch file's key must not begin with a NUL");
	return 0;
}

/* The place in `given` of a name, or the empty one where it would go. */
static uint32_t *given_place(const struct step *s, const struct sft_change *c, uint32_t shard)
{
	const bool by_shard = s->ov->options.flags & SFT_SAME_NAMES && !c->scratch;
	size_t i = by_name_hash(s->ov, shard, c->scratch, c->name, c->name_len) % s->given_capacity;

	for (; s->given[i] != SFT_NO_ID; i = (i + 1) % s->given_capacity) {
		const struct sft_change *o = &s->changes[s->given[i]];

		if (o->scratch == c->scratch && o->name_len == c->name_len &&
		    (!by_shard || s->prepared[s->given[i]].shard == shard) &&
		    (c->name_len == 0 || memcmp(o->name, c->name, c->name_len) == 0))
			break;
	}
	return &s->given[i];
}

/* EEXIST unless the name is free for change i, whose shard is known; then it is given. */
static int give_name(struct step *s, size_t i, struct sft_error *err)
{
	const struct sft_change *c = &s->changes[i];
	const struct prepared *p = &s->prepared[i];
	uint32_t holder = by_name_find(s->ov, p->shard, c->scratch, c->name, c->name_len);
	uint32_t *place = s->given ? given_place(s, c, p->shard) : NULL;
	struct sft_quoted q;

	if ((place && *place != SFT_NO_ID) ||
	    (holder != SFT_NO_ID && holder != p->id && !s->ov->entries[holder]->leaves))
		return sft_fail(err, EEXIST, "tensor %s: there is one of that name",
				sft_quote(&q, c->name, c->name_len));
	if (place)
		*place = (uint32_t)i;
	return 0;
}

/* The shard that a tensor has under the name that the change gives. */
static int shard_for(const struct step *s, const struct sft_change *c, uint32_t *shard,
		     struct sft_error *err)
{
	uint32_t replaced = by_name_find(s->ov, *shard, false, c->name, c->name_len);

	if (c->scratch)
		return 0;
	if (replaced != SFT_NO_ID && !s->ov->entries[replaced]->leaves)
		replaced = SFT_NO_ID;
	return choose_shard(s->ov, c->name, c->name_len, *shard, replaced, shard, err);
}

/* The entry that a change is about, for one that gives it another name or none. */
static struct overlay_entry *leave(const struct step *s, uint32_t id, struct sft_error *err)
{
	struct overlay_entry *e = overlay_live(s->ov, id, err);

	if (e && e->leaves) {
		sft_fail(err, EINVAL, "tensor number %u: is changed twice in one step", id);
		return NULL;
	}
	return e;
}

/* ---- declarations ---- */

static bool same_shape(const uint64_t *a, uint32_t a_rank, const uint64_t *b, uint32_t b_rank)
{
	return a_rank == b_rank && (a_rank == 0 || memcmp(a, b, a_rank * sizeof(*a)) == 0);
}

/* Whether declaring this would change nothing, now or after a rename. */
static bool is_declared(const struct overlay_entry *e, const struct sft_change *c)
{
	return (e->has_declared || e->pub.committed) && e->pub.dtype == c->dtype &&
	       same_shape(e->pub.shape, e->pub.rank, c->shape, c->rank);
}

static int copy_shape(const struct sft_change *c, uint64_t **copy, struct sft_error *err)
{
	struct sft_quoted q;

	if ((unsigned)c->dtype >= SFT_DTYPE_COUNT || c->rank > SFT_HEADER_MAX / 2)
		return sft_fail(err, EINVAL, "tensor %s: no dtype and shape that a header can hold",
				sft_quote(&q, c->name, c->name_len));
	if (c->rank == 0)
		return 0;
	*copy = malloc(c->rank * sizeof(**copy));
	if (!*copy)
		return no_memory(err);
	memcpy(*copy, c->shape, c->rank * sizeof(**copy));
	return 0;
}

/* ---- preparing each kind ---- */

static int prepare_create(struct step *s, size_t i, struct sft_error *err)
{
	const struct sft_change *c = &s->changes[i];
	struct prepared *p = &s->prepared[i];
	struct sft_quoted q;
	int r = check_name(c, err);

	p->shard = c->shard;
	if (r == 0)
		r = shard_for(s, c, &p->shard, err);
	p->id = s->ov->count + s->created++;
	if (r == 0)
		r = give_name(s, i, err);
	if (r == 0 && c->nbytes > OVERLAY_SIZE_MAX)
		r = sft_fail(err, EFBIG, "tensor %s: %llu bytes: the limit is %llu",
			     sft_quote(&q, c->name, c->name_len), (unsigned long long)c->nbytes,
			     OVERLAY_SIZE_MAX);
	if (r == 0 && c->declared)
		r = copy_shape(c, &p->shape, err);
	if (r < 0)
		return r;
	p->entry = overlay_entry_new(c->name, c->name_len, c->scratch, p->shard);
	return p->entry ? 0 : no_memory(err);
}

static int prepare_rename(struct step *s, size_t i, struct sft_error *err)
{
	const struct sft_change *c = &s->changes[i];
	struct prepared *p = &s->prepared[i];
	struct overlay_entry *e = leave(s, c->id, err);
	int r = e ? check_name(c, err) : -EINVAL;

	if (r < 0)
		return r;
	p->id = c->id;
	p->shard = c->shard == SFT_SHARD_AUTO ? e->pub.shard : c->shard;
	r = shard_for(s, c, &p->shard, err);
	if (r == 0)
		r = give_name(s, i, err);
	if (r < 0)
		return r;
	p->nothing = e->pub.scratch == c->scratch && e->pub.shard == p->shard &&
		     overlay_entry_is(e, c->name, c->name_len);
	e->leaves = true;
	p->name = malloc(c->name_len + 1);
	if (!p->name)
		return no_memory(err);
	if (c->name_len)
		memcpy(p->name, c->name, c->name_len);
	p->name[c->name_len] = '\0';
	return 0;
}

static int prepare_remove(struct step *s, size_t i, struct sft_error *err)
{
	struct overlay_entry *e = leave(s, s->changes[i].id, err);

	if (!e)
		return -EINVAL;
	s->prepared[i].id = s->changes[i].id;
	e->leaves = true;
	return 0;
}

static int prepare_declare(struct step *s, size_t i, struct sft_error *err)
{
	const struct sft_change *c = &s->changes[i];
	const struct overlay_entry *e = overlay_live(s->ov, c->id, err);

	if (!e)
		return -EINVAL;
	s->prepared[i].id = c->id;
	s->prepared[i].nothing = is_declared(e, c);
	return s->prepared[i].nothing ? 0 : copy_shape(c, &s->prepared[i].shape, err);
}

static int prepare_metadata(struct step *s, size_t i, struct sft_error *err)
{
	const struct sft_metadata *m = s->changes[i].metadata;
	struct sft_overlay *ov = s->ov;
	uint32_t shard = s->changes[i].shard;
	uint64_t bytes = 0;

	if (shard >= ov->shard_count || !sft_checkpoint_shard(ov->base, shard)->file)
		return sft_fail(err, EINVAL, "metadata: shard %u is missing", shard);
	s->prepared[i].shard = shard;
	s->prepared[i].nothing = sft_metadata_equal(m, &ov->metadata[shard]);
	for (uint32_t k = 0; k < m->count; k++)
		bytes += (uint64_t)m->pairs[k].key_len + m->pairs[k].value_len;
	if (bytes > SFT_HEADER_MAX)
		return sft_fail(err, EFBIG, "metadata of %llu bytes: a header holds %u",
				(unsigned long long)bytes, SFT_HEADER_MAX);
	return sft_metadata_copy(&s->prepared[i].metadata, m) < 0 ? no_memory(err) : 0;
}

/* ---- the step ---- */

typedef int prepare_one(struct step *s, size_t i, struct sft_error *err);

static prepare_one *const prepares[] = {
	[SFT_CREATE] = prepare_create,	       [SFT_RENAME] = prepare_rename,
	[SFT_REMOVE] = prepare_remove,	       [SFT_DECLARE] = prepare_declare,
	[SFT_SET_METADATA] = prepare_metadata,
};

static int step_begin(struct step *s, struct sft_error *err)
{
	s->prepared = calloc(s->count + 1, sizeof(*s->prepared));
	if (!s->prepared)
		return no_memory(err);
	if (s->count < 2)
		return 0;
	s->given_capacity = s->count * 2;
	s->given = malloc(s->given_capacity * sizeof(*s->given));
	if (!s->given)
		return no_memory(err);
	for (size_t i = 0; i < s->given_capacity; i++)
		s->given[i] = SFT_NO_ID;
	return 0;
}

/* Whatever was not applied is freed. */
static void step_end(struct step *s)
{
	for (size_t i = 0; s->prepared && i < s->count; i++) {
		struct prepared *p = &s->prepared[i];
		enum sft_change_kind kind = s->changes[i].kind;

		overlay_entry_free(p->entry);
		free(p->name);
		free(p->shape);
		sft_metadata_free(&p->metadata);
		if ((kind == SFT_RENAME || kind == SFT_REMOVE) && s->changes[i].id < s->ov->count)
			s->ov->entries[s->changes[i].id]->leaves = false;
	}
	free(s->prepared);
	free(s->given);
}

/*
 * Before an entry that outlived a commit as scratch becomes a tensor: what it has from the retired
 * checkpoint is staged, as the journal cannot tell where it came from. It is scratch all the while,
 * so nobody minds if the step itself then fails.
 */
static int leave_retired(struct sft_overlay *ov, uint32_t id, struct sft_error *err)
{
	struct overlay_entry *e = ov->entries[id];
	const struct sft_tensor *like = e->like;
	int r = 0;

	/* First, since `like` is known to be there only as long as `base` is. */
	if (!e->has_declared && like) {
		struct sft_change c = { .kind = SFT_DECLARE,
					.id = id,
					.dtype = (enum sft_dtype)like->dtype,
					.shape = like->shape,
					.rank = like->rank };

		r = sft_overlay_change(ov, &c, 1, err);
	}
	if (r == 0)
		r = write_detach(ov, id, err);
	if (r < 0)
		return r;
	e->retired = false;
	overlay_resolve(ov, e);
	return 0;
}

/* What has to be there before the frame is written. */
static int reserve(struct step *s, struct sft_error *err)
{
	struct sft_overlay *ov = s->ov;
	int r = overlay_reserve(ov, s->created);

	if (r == -ENOSPC)
		return sft_fail(err, ENOSPC, "too many tensors were made and removed");
	if (r < 0)
		return no_memory(err);
	for (size_t i = 0; r == 0 && i < s->count; i++) {
		const struct sft_change *c = &s->changes[i];

		if (c->kind != SFT_RENAME)
			continue;
		if (c->scratch && ov->entries[c->id]->base && overlay_reserve_retired(ov) < 0)
			r = no_memory(err);
		else if (!c->scratch && ov->entries[c->id]->retired)
			r = leave_retired(ov, c->id, err);
	}
	return r;
}

static void put_records(struct step *s, struct journal_batch *b, size_t i, uint32_t first_id)
{
	const struct sft_change *c = &s->changes[i];
	const struct prepared *p = &s->prepared[i];
	uint32_t jid = SFT_NO_ID;

	if (c->kind == SFT_CREATE)
		jid = first_id + (p->id - s->ov->count);
	else if (c->kind != SFT_SET_METADATA)
		jid = sync_bind(s->ov, b, p->id);
	switch (c->kind) {
	case SFT_CREATE:
		journal_put_create(b, jid, p->entry->pub.shard, c->scratch, c->name, c->name_len);
		if (c->nbytes)
			journal_put_length(b, jid, c->nbytes);
		if (c->declared)
			journal_put_declare(b, jid, (uint8_t)c->dtype, c->shape, c->rank);
		break;
	case SFT_RENAME:
		journal_put_rename(b, jid, p->shard, c->scratch, c->name, c->name_len);
		break;
	case SFT_REMOVE:
		journal_start(b, JOURNAL_REMOVE);
		journal_u32(b, jid);
		journal_finish(b);
		break;
	case SFT_DECLARE:
		journal_put_declare(b, jid, (uint8_t)c->dtype, c->shape, c->rank);
		break;
	case SFT_SET_METADATA:
		journal_put_metadata(b, p->shard, &p->metadata);
		break;
	}
}

static void apply(struct step *s, size_t i, uint32_t first_id)
{
	struct sft_change *c = &s->changes[i];
	struct prepared *p = &s->prepared[i];
	struct sft_overlay *ov = s->ov;

	switch (c->kind) {
	case SFT_CREATE:
		c->id = apply_create(ov, p->entry, first_id + s->created++);
		if (c->nbytes)
			apply_length(ov, p->entry, c->nbytes);
		if (c->declared)
			apply_declare(ov, p->entry, (uint8_t)c->dtype, p->shape, c->rank);
		break;
	case SFT_RENAME:
		apply_rename(ov, p->id, p->name, c->name_len, c->scratch, p->shard);
		break;
	case SFT_REMOVE:
		apply_remove(ov, p->id);
		break;
	case SFT_DECLARE:
		apply_declare(ov, ov->entries[p->id], (uint8_t)c->dtype, p->shape, c->rank);
		break;
	case SFT_SET_METADATA:
		apply_metadata(ov, p->shard, &p->metadata);
		p->metadata = (struct sft_metadata){ 0 };
		break;
	}
	p->entry = NULL;
	p->name = NULL;
	p->shape = NULL;
}

static int write_and_apply(struct step *s, struct sft_error *err)
{
	struct journal_batch b = { 0 };
	struct sft_overlay *ov = s->ov;
	uint32_t first_id = ov->next_journal_id;
	int r;

	ov->next_journal_id += s->created;
	for (size_t i = 0; i < s->count; i++) {
		if (!s->prepared[i].nothing)
			put_records(s, &b, i, first_id);
	}
	r = sync_append(ov, &b, err);
	if (r < 0)
		return r;
	s->created = 0;
	for (size_t i = 0; i < s->count; i++) {
		if (!s->prepared[i].nothing)
			apply(s, i, first_id);
	}
	return 0;
}

int sft_overlay_change(struct sft_overlay *ov, struct sft_change *changes, size_t count,
		       struct sft_error *err)
{
	struct step s = { .ov = ov, .changes = changes, .count = count };
	bool nothing = true;
	int r = step_begin(&s, err);

	for (size_t i = 0; r == 0 && i < count; i++) {
		r = prepares[changes[i].kind](&s, i, err);
		nothing = nothing && s.prepared[i].nothing;
	}
	if (r == 0 && !nothing)
		r = sync_begin_edit(ov, err);
	if (r == 0 && !nothing)
		r = reserve(&s, err);
	if (r == 0 && !nothing)
		r = write_and_apply(&s, err);
	step_end(&s);
	if (r == 0 && !nothing)
		sync_end_edit(ov);
	return r;
}
