/*
 * diff.c - compare two checkpoints
 *
 * What lies in one stretch in both is read in one go, whatever tensors that is, and only where such
 * a piece differs the tensors in it are looked at. So equal checkpoints cost what reading them
 * costs, also where the tensors are small and many. Pieces stay in the processor's cache, and there
 * is a thread for each processor.
 */
#include "diff.h"

#include "sort.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (3u * 98304) /* bytes; whole pages, and a multiple of COMPARE_ALIGN */
#define AHEAD (8u << 20)   /* bytes of each side that are asked for before they are read */
#define THREADS_MAX 8	   /* more find memory busy already */

_Static_assert(PIECE % COMPARE_ALIGN == 0, "elements are not cut");

/* ---- pairs of names ---- */

static bool same_declared(const struct sft_tensor *a, const struct sft_tensor *b)
{
	return a->dtype == b->dtype && a->rank == b->rank &&
	       (a->rank == 0 || memcmp(a->shape, b->shape, a->rank * sizeof(*a->shape)) == 0);
}

enum diff_kind diff_kind(const struct diff_item *item)
{
	if (!item->b)
		return DIFF_ONLY_IN_A;
	if (!item->a)
		return DIFF_ONLY_IN_B;
	if (!same_declared(item->a, item->b))
		return DIFF_DECLARED;
	return item->bytes ? DIFF_BYTES : DIFF_SAME;
}

/* Negative where a's i-th name comes before b's k-th. */
static int order(const struct diff *d, size_t i, size_t k)
{
	const struct sft_tensor *a, *b;
	if (i == sft_checkpoint_count(d->a) || k == sft_checkpoint_count(d->b))
		return i == sft_checkpoint_count(d->a) ? 1 : -1;
	a = sft_checkpoint_at(d->a, i);
	b = sft_checkpoint_at(d->b, k);
	return sft_name_compare(a->name, a->name_len, b->name, b->name_len);
}

static int pair_names(struct diff *d, struct sft_error *err)
{
	size_t in_a = sft_checkpoint_count(d->a), in_b = sft_checkpoint_count(d->b);
	size_t names = 0;
	for (size_t i = 0, k = 0; i < in_a || k < in_b; names++) {
		int o = order(d, i, k);
		i += o <= 0;
		k += o >= 0;
	}
	d->items = calloc(names ? names : 1, sizeof(*d->items));
	if (!d->items)
		return sft_fail(err, ENOMEM, "no memory for %zu names", names);
	for (size_t i = 0, k = 0; d->count < names; d->count++) {
		int o = order(d, i, k);
		if (o <= 0)
			d->items[d->count].a = sft_checkpoint_at(d->a, i++);
		if (o >= 0)
			d->items[d->count].b = sft_checkpoint_at(d->b, k++);
	}
	return 0;
}

void diff_free(struct diff *d)
{
	for (size_t i = 0; i < d->count; i++)
		free(d->items[i].bytes);
	free(d->items);
	*d = (struct diff){ 0 };
}

/* ---- pieces ---- */

/* A place in the order of the work. */
struct cursor {
	size_t at;
	uint64_t within; /* bytes of the item there that lie before */
	uint64_t done;	 /* bytes of all items that do */
};

/* What is to be compared, in the order of a's files; and what its threads share, under `lock`. */
struct work {
	struct diff *d;
	uint32_t *order; /* of items */
	size_t count;
	uint64_t total; /* bytes of each side */
	const struct diff_progress *progress;
	pthread_mutex_t lock; /* for what follows, and for the items' `bytes` */
	struct cursor next, ahead;
	struct sft_error err; /* the first failure */
	bool in_b;
};

struct side {
	const struct sft_file *file;
	uint64_t offset;
};

struct piece {
	struct cursor begin;
	struct side a, b;
	size_t length;
};

static int compare_places(uint32_t i, uint32_t k, const void *ctx)
{
	const struct diff_item *items = ctx;
	const struct sft_tensor *a = items[i].a, *b = items[k].a;
	if (a->shard != b->shard)
		return a->shard < b->shard ? -1 : 1;
	return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static int order_work(struct work *w, struct sft_error *err)
{
	struct diff *d = w->d;
	w->order = malloc((d->count ? d->count : 1) * sizeof(*w->order));
	for (size_t i = 0; w->order && i < d->count; i++) {
		const struct diff_item *item = &d->items[i];
		if (diff_kind(item) != DIFF_SAME || item->a->nbytes == 0)
			continue;
		w->order[w->count++] = (uint32_t)i;
		w->total += item->a->nbytes;
	}
	if (!w->order || sft_sort(w->order, w->count, compare_places, d->items) < 0)
		return sft_fail(err, ENOMEM, "no memory for %zu tensors", d->count);
	return 0;
}

static struct side side(const struct sft_checkpoint *ck, const struct sft_tensor *t,
			uint64_t within)
{
	return (struct side){
		.file = sft_checkpoint_shard(ck, t->shard)->file,
		.offset = sft_checkpoint_offset(ck, t) + within,
	};
}

static bool follows(const struct side *next, const struct side *first, size_t length)
{
	return next->file == first->file && next->offset == first->offset + length;
}

/* The next piece, of several items where they lie behind each other in both; false at the end. */
static bool next_piece(const struct work *w, struct cursor *c, struct piece *p)
{
	p->begin = *c;
	p->length = 0;
	while (c->at < w->count && p->length < PIECE) {
		const struct diff_item *item = &w->d->items[w->order[c->at]];
		struct side a = side(w->d->a, item->a, c->within);
		struct side b = side(w->d->b, item->b, c->within);
		uint64_t left = item->a->nbytes - c->within;
		if (p->length == 0) {
			p->a = a;
			p->b = b;
		} else if (!follows(&a, &p->a, p->length) || !follows(&b, &p->b, p->length)) {
			break;
		}
		if (left > PIECE - p->length) {
			size_t part = (PIECE - p->length) / COMPARE_ALIGN * COMPARE_ALIGN;
			p->length += part;
			c->within += part;
			c->done += part;
			break;
		}
		p->length += (size_t)left;
		c->done += left;
		c->at++;
		c->within = 0;
	}
	return p->length > 0;
}

/* ---- reading ---- */

/* Both files are asked for, so that they are read at the same time, and while we compare. */
static void ask(const struct side *s, size_t length)
{
	if (sft_file_is_cold(s->file, s->offset + length - 1))
		posix_fadvise(sft_file_fd(s->file), (off_t)s->offset, (off_t)length,
			      POSIX_FADV_WILLNEED);
}

static void ask_ahead(struct work *w)
{
	struct piece p;
	while (w->ahead.done < w->next.done + AHEAD && next_piece(w, &w->ahead, &p)) {
		ask(&p.a, p.length);
		ask(&p.b, p.length);
	}
}

static int read_side(const struct sft_checkpoint *ck, const struct sft_tensor *t,
		     const struct side *s, void *buf, size_t n, struct sft_error *err)
{
	if (sft_file_read(s->file, buf, n, s->offset, err) < 0)
		return sft_wrap(err, "%s", sft_checkpoint_shard(ck, t->shard)->name);
	return 0;
}

/* ---- comparing ---- */

/* Add what differs in a part of an item. */
static int add_part(struct work *w, struct diff_item *item, const struct compare *part)
{
	pthread_mutex_lock(&w->lock);
	if (!item->bytes) {
		item->bytes = malloc(sizeof(*item->bytes));
		if (item->bytes)
			compare_init(item->bytes);
	}
	bool ok = item->bytes;
	if (ok)
		compare_add(item->bytes, part);
	pthread_mutex_unlock(&w->lock);
	return ok ? 0 : -ENOMEM;
}

static int compare_item(struct work *w, struct diff_item *item, uint64_t within, const char *a,
			const char *b, size_t n)
{
	uint64_t bits = sft_dtype_bits(item->a->dtype);
	struct compare part;
	if (memcmp(a, b, n) == 0)
		return 0;
	compare_init(&part);
	/* Whole groups lie before, so this cannot round; nor overflow, since all of the tensor's
	 * bits are a number. */
	compare_bytes(&part, item->a->dtype, within * 8 / bits, a, b, n);
	return add_part(w, item, &part);
}

static int compare_items(struct work *w, const struct piece *p, const char *a, const char *b)
{
	struct cursor c = p->begin;
	int r = 0;
	if (memcmp(a, b, p->length) == 0)
		return 0;
	for (size_t at = 0; r == 0 && at < p->length; c.at++, c.within = 0) {
		struct diff_item *item = &w->d->items[w->order[c.at]];
		uint64_t left = item->a->nbytes - c.within;
		size_t n = left < p->length - at ? (size_t)left : p->length - at;
		r = compare_item(w, item, c.within, a + at, b + at, n);
		at += n;
	}
	return r;
}

static int compare_piece(struct work *w, const struct piece *p, char *buf, bool *in_b,
			 struct sft_error *err)
{
	const struct diff_item *item = &w->d->items[w->order[p->begin.at]];
	*in_b = false;
	int r = read_side(w->d->a, item->a, &p->a, buf, p->length, err);
	if (r == 0) {
		*in_b = true;
		r = read_side(w->d->b, item->b, &p->b, buf + PIECE, p->length, err);
	}
	if (r == 0 && compare_items(w, p, buf, buf + PIECE) < 0)
		r = sft_fail(err, ENOMEM, "no memory");
	return r;
}

/* A thread: take the next piece, until there is none, or one has failed. */
static void *compare_pieces(void *ctx)
{
	struct work *w = ctx;
	char *buf = malloc(2 * PIECE);
	struct piece p;
	pthread_mutex_lock(&w->lock);
	if (!buf)
		sft_fail(&w->err, ENOMEM, "no memory");
	while (!w->err.errnum && next_piece(w, &w->next, &p)) {
		struct sft_error err = { 0 };
		bool in_b;
		ask_ahead(w);
		if (w->progress)
			w->progress->report(w->progress->ctx, w->next.done, w->total);
		pthread_mutex_unlock(&w->lock);
		int r = compare_piece(w, &p, buf, &in_b, &err);
		pthread_mutex_lock(&w->lock);
		if (r < 0 && !w->err.errnum) {
			w->err = err;
			w->in_b = in_b;
		}
	}
	pthread_mutex_unlock(&w->lock);
	free(buf);
	return NULL;
}

static size_t count_cpus(void)
{
	cpu_set_t cpus;
	size_t n = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (size_t)CPU_COUNT(&cpus) : 1;
	return n < THREADS_MAX ? n : THREADS_MAX;
}

/* Here, and in as many other threads as there are processors. */
static void compare_all(struct work *w)
{
	pthread_t threads[THREADS_MAX];
	size_t count = 0, wanted = w->total > PIECE ? count_cpus() - 1 : 0;
	while (count < wanted && pthread_create(&threads[count], NULL, compare_pieces, w) == 0)
		count++;
	compare_pieces(w);
	while (count)
		pthread_join(threads[--count], NULL);
}

int diff_checkpoints(struct diff *d, const struct sft_checkpoint *a, const struct sft_checkpoint *b,
		     const struct diff_progress *progress, bool *in_b, struct sft_error *err)
{
	struct work w = { .d = d, .progress = progress };
	*d = (struct diff){ .a = a, .b = b };
	pthread_mutex_init(&w.lock, NULL);
	if (pair_names(d, &w.err) == 0 && order_work(&w, &w.err) == 0)
		compare_all(&w);
	pthread_mutex_destroy(&w.lock);
	free(w.order);
	*in_b = w.in_b;
	return w.err.errnum ? sft_fail(err, w.err.errnum, "%s", w.err.msg) : 0;
}
