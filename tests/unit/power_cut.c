/* power_cut.c - what is durable, and choosing among the rest */
#include "power_cut.h"

#include "hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum data_choice {
	DATA_NONE,
	DATA_ALL,
	DATA_SIZES, /* sizes without bytes */
	DATA_TORN,  /* all but a part of the last write; its size is there */
	DATA_SHORT, /* the same, and the file ends there */
	DATA_RANDOM,
};
enum name_choice {
	NAMES_NONE,
	NAMES_ALL,
	NAMES_FIRST, /* in order, up to some */
	NAMES_SOME,  /* any of them */
	NAMES_LAST,  /* none but the last */
};

struct choice {
	const char *what;
	enum data_choice data;
	enum name_choice names;
	uint32_t sector; /* bytes that are written as a whole */
};
static const struct choice choices[POWER_FIXED] = {
	{ "nothing unsynced", DATA_NONE, NAMES_NONE, 512 },
	{ "everything", DATA_ALL, NAMES_ALL, 512 },
	{ "names without bytes", DATA_NONE, NAMES_ALL, 512 },
	{ "bytes without names", DATA_ALL, NAMES_NONE, 512 },
	{ "sizes without bytes", DATA_SIZES, NAMES_ALL, 512 },
	{ "torn at 512", DATA_TORN, NAMES_ALL, 512 },
	{ "torn at 4096", DATA_TORN, NAMES_ALL, 4096 },
	{ "short at 512", DATA_SHORT, NAMES_ALL, 512 },
	{ "short at 4096", DATA_SHORT, NAMES_ALL, 4096 },
	{ "sectors of 512", DATA_RANDOM, NAMES_ALL, 512 },
	{ "sectors of 512, first names", DATA_RANDOM, NAMES_FIRST, 512 },
	{ "sectors of 4096, some names", DATA_RANDOM, NAMES_SOME, 4096 },
	{ "the last name", DATA_NONE, NAMES_LAST, 512 },
};

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15u + (a << 6) + (a >> 2))) * 0xbf58476d1ce4e5b9u;

	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void *grown(void *p, size_t n, size_t size)
{
	p = reallocarray(p, n, size);
	if (!p)
		abort();
	return p;
}

/* ---- a file's bytes ---- */

static void set_size(struct cut_object *o, uint64_t size)
{
	if (size > o->cap) {
		o->bytes = grown(o->bytes, size, 1);
		memset(o->bytes + o->cap, 0, size - o->cap);
		o->cap = size;
	}
	if (size < o->size) /* beyond the end there are always zeros */
		memset(o->bytes + size, 0, o->size - size);
	o->size = size;
}

/* All that an event changes but the bytes that it writes. */
static void apply_size(struct cut_object *o, const struct recorded *e)
{
	if (e->kind == RECORDED_SIZE)
		set_size(o, e->offset);
	else if (e->kind == RECORDED_DATA && o->size < e->offset + e->length)
		set_size(o, e->offset + e->length);
	else if (e->kind == RECORDED_ZERO && e->offset < o->size)
		memset(o->bytes + e->offset, 0,
		       e->length < o->size - e->offset ? e->length : o->size - e->offset);
	o->mtime = e->mtime;
}

static void apply_bytes(struct cut_object *o, const struct recorded *e, uint64_t from, uint64_t to)
{
	if (to > o->size)
		to = o->size;
	if (from < to)
		memcpy(o->bytes + from, e->bytes + (from - e->offset), to - from);
}

static void apply(struct cut_object *o, const struct recorded *e)
{
	apply_size(o, e);
	if (e->kind == RECORDED_DATA)
		apply_bytes(o, e, e->offset, e->offset + e->length);
}

/* ---- names ---- */

static void unlink_name(struct cut_link *links, size_t *count, uint32_t dir, const char *name)
{
	for (size_t i = 0; i < *count; i++) {
		if (links[i].dir == dir && strcmp(links[i].name, name) == 0) {
			links[i] = links[--*count];
			return;
		}
	}
}

/* There is room for one more. */
static void apply_name(struct cut_link *links, size_t *count, const struct recorded *e)
{
	const bool moves = e->kind == RECORDED_RENAME;
	const uint32_t dir = moves ? e->new_dir : e->dir;
	const char *name = moves ? e->new_name : e->name;

	unlink_name(links, count, e->dir, e->name);
	unlink_name(links, count, dir, name);
	if (e->kind != RECORDED_UNLINK)
		links[(*count)++] = (struct cut_link){ dir, e->object, name };
}

/* ---- what is durable ---- */

void power_cut_begin(struct power_cut *c, const struct recording *r)
{
	memset(c, 0, sizeof(*c));
	c->r = r;
	c->objects = calloc(r->object_count, sizeof(*c->objects));
	c->links = calloc(r->count + 1, sizeof(*c->links));
	c->names = calloc(r->count + 1, sizeof(*c->names));
	if (!c->objects || !c->links || !c->names)
		abort();
	power_cut_advance(c, r->first);
}

static void sync_object(struct power_cut *c, uint32_t object)
{
	struct cut_object *o = &c->objects[object];
	size_t kept = 0;

	for (size_t i = 0; i < o->pending_count; i++)
		apply(o, &c->r->events[o->pending[i]]);
	o->pending_count = 0;
	for (size_t i = 0; i < c->name_count; i++) {
		const struct recorded *e = &c->r->events[c->names[i]];

		if (e->dir == object || (e->kind == RECORDED_RENAME && e->new_dir == object))
			apply_name(c->links, &c->link_count, e);
		else
			c->names[kept++] = c->names[i];
	}
	c->name_count = kept;
}

void power_cut_advance(struct power_cut *c, size_t at)
{
	for (; c->at < at; c->at++) {
		const struct recorded *e = &c->r->events[c->at];
		struct cut_object *o = &c->objects[e->object];

		switch (e->kind) {
		case RECORDED_DATA:
		case RECORDED_SIZE:
		case RECORDED_ZERO:
		case RECORDED_TIME:
			o->pending = grown(o->pending, o->pending_count + 1, sizeof(*o->pending));
			o->pending[o->pending_count++] = c->at;
			break;
		case RECORDED_SYNC:
			sync_object(c, e->object);
			break;
		case RECORDED_LINK:
			o->mtime = e->mtime;
			c->names[c->name_count++] = c->at;
			break;
		case RECORDED_UNLINK:
		case RECORDED_RENAME:
			c->names[c->name_count++] = c->at;
			break;
		case RECORDED_MARK:
			break;
		}
	}
}

void power_cut_free(struct power_cut *c)
{
	for (uint32_t i = 0; i < c->r->object_count; i++) {
		free(c->objects[i].bytes);
		free(c->objects[i].pending);
	}
	free(c->objects);
	free(c->links);
	free(c->names);
	memset(c, 0, sizeof(*c));
}

/* ---- choosing ---- */

/* How much of one file is there. Moments count the pending events, 0 is what is durable. */
struct kept {
	const struct power_cut *c;
	const struct cut_object *o;
	uint64_t seed;
	uint32_t sector;
	size_t size_moment;  /* sizes and holes are those of then */
	size_t last_moment;  /* a sector may be as of then at the latest */
	bool random_sectors; /* else as of then, all of them */
	size_t torn_event;   /* in c->r->events, or SIZE_MAX: of this one only a part is there */
};

static const struct recorded *pending(const struct kept *k, size_t i)
{
	return &k->c->r->events[k->o->pending[i]];
}

/* Bytes beyond a place that was cut off or punched later cannot have been written after it. */
static size_t limit_moment(const struct kept *k)
{
	size_t i = k->size_moment;

	while (i < k->o->pending_count &&
	       (pending(k, i)->kind == RECORDED_DATA || pending(k, i)->kind == RECORDED_TIME))
		i++;
	return i;
}

static size_t moment_of_sector(const struct kept *k, uint64_t sector)
{
	uint64_t x = mix(k->seed, sector);

	if (!k->random_sectors)
		return k->last_moment;
	if (x % 8 < k->seed % 9) /* some files come with most of their sectors, some with few */
		return k->last_moment;
	return x >> 8 & 1 ? 0 : (x >> 9) % (k->last_moment + 1);
}

/* [*from, *to) of a write that is torn: some sectors at its beginning, or at its end. */
static void tear(const struct kept *k, const struct recorded *e, uint64_t *from, uint64_t *to)
{
	uint64_t first = e->offset / k->sector, last = (e->offset + e->length - 1) / k->sector;
	uint64_t at = (first + mix(k->seed, 1) % (last - first + 1)) * k->sector;

	if (at < e->offset)
		at = e->offset;
	if (mix(k->seed, 2) % 4)
		*to = at;
	else
		*from = at;
}

static void write_sectors(struct cut_object *o, const struct kept *k, size_t i)
{
	const struct recorded *e = pending(k, i);
	uint64_t from = e->offset, to = e->offset + e->length;

	if (k->o->pending[i] == k->torn_event) {
		tear(k, e, &from, &to);
		apply_bytes(o, e, from, to);
		return;
	}
	if (!k->random_sectors) {
		if (i < k->last_moment)
			apply_bytes(o, e, from, to);
		return;
	}
	for (uint64_t end; from < to; from = end) {
		end = (from / k->sector + 1) * k->sector;
		end = end < to ? end : to;
		if (i < moment_of_sector(k, from / k->sector))
			apply_bytes(o, e, from, end);
	}
}

static struct cut_object choose_bytes(const struct kept *k)
{
	struct cut_object o = { .mtime = k->o->mtime };

	set_size(&o, k->o->size);
	if (o.size)
		memcpy(o.bytes, k->o->bytes, o.size);
	for (size_t i = 0; i < k->o->pending_count; i++) {
		const struct recorded *e = pending(k, i);

		if (i < k->size_moment)
			apply_size(&o, e);
		if (e->kind == RECORDED_DATA)
			write_sectors(&o, k, i);
	}
	o.pending_count = 1;
	return o;
}

/* The last write that is not synced. */
static size_t last_write(const struct power_cut *c)
{
	size_t last = SIZE_MAX;

	for (uint32_t i = 0; i < c->r->object_count; i++) {
		const struct cut_object *o = &c->objects[i];

		for (size_t k = 0; k < o->pending_count; k++) {
			if (c->r->events[o->pending[k]].kind == RECORDED_DATA &&
			    (last == SIZE_MAX || o->pending[k] > last))
				last = o->pending[k];
		}
	}
	return last;
}

static struct cut_object choose_object(const struct power_cut *c, uint32_t i,
				       const struct choice *choice, uint64_t seed)
{
	const struct cut_object *o = &c->objects[i];
	struct kept k = { .c = c,
			  .o = o,
			  .seed = mix(seed, i),
			  .sector = choice->sector,
			  .size_moment = o->pending_count,
			  .torn_event = SIZE_MAX };
	uint64_t x = mix(k.seed, 3);

	if (choice->data == DATA_NONE)
		k.size_moment = 0;
	if (choice->data == DATA_RANDOM) {
		k.random_sectors = true;
		if (x % 3)
			k.size_moment = (x >> 8) % (o->pending_count + 1);
	}
	k.last_moment = limit_moment(&k);
	if (choice->data == DATA_NONE || choice->data == DATA_SIZES)
		k.last_moment = 0;
	if (choice->data == DATA_TORN || choice->data == DATA_SHORT)
		k.torn_event = last_write(c);
	struct cut_object chosen = choose_bytes(&k);
	if (choice->data == DATA_SHORT && o->pending_count &&
	    o->pending[o->pending_count - 1] == k.torn_event) {
		const struct recorded *e = &c->r->events[k.torn_event];
		uint64_t from = e->offset, to = e->offset + e->length;

		tear(&k, e, &from, &to);
		if (to > o->size && chosen.size == e->offset + e->length) /* it was made longer */
			set_size(&chosen, from > e->offset ? from : to);
	}
	return chosen;
}

static void choose_names(const struct power_cut *c, struct power_state *s,
			 const struct choice *choice, uint64_t seed)
{
	size_t first = mix(seed, 4) % (c->name_count + 1);

	s->links = calloc(c->link_count + c->name_count + 1, sizeof(*s->links));
	if (!s->links)
		abort();
	if (c->link_count)
		memcpy(s->links, c->links, c->link_count * sizeof(*s->links));
	s->link_count = c->link_count;
	for (size_t i = 0; i < c->name_count; i++) {
		if (choice->names == NAMES_ALL || (choice->names == NAMES_FIRST && i < first) ||
		    (choice->names == NAMES_SOME && mix(seed, 5 + i) % 2) ||
		    (choice->names == NAMES_LAST && i + 1 == c->name_count))
			apply_name(s->links, &s->link_count, &c->r->events[c->names[i]]);
	}
}

struct power_state power_cut_state(const struct power_cut *c, unsigned kind, uint64_t seed)
{
	struct power_state s = { .r = c->r, .object_count = c->r->object_count };
	struct choice choice = choices[kind % POWER_FIXED];

	if (kind >= POWER_FIXED) {
		uint64_t x = mix(seed, 6);
		choice = (struct choice){ "random", DATA_RANDOM, NAMES_ALL + x % 4,
					  x >> 8 & 1 ? 512 : 4096 };
		if ((x >> 9) % 4 == 0)
			choice.data = DATA_ALL + (x >> 11) % 4;
	}
	s.what = choice.what;
	s.objects = calloc(s.object_count, sizeof(*s.objects));
	if (!s.objects)
		abort();
	for (uint32_t i = 0; i < s.object_count; i++) {
		s.objects[i] = c->objects[i];
		s.objects[i].pending_count = 0;
		if (c->objects[i].pending_count)
			s.objects[i] = choose_object(c, i, &choice, seed);
	}
	choose_names(c, &s, &choice, seed);
	return s;
}

void power_state_free(struct power_state *s)
{
	for (uint32_t i = 0; i < s->object_count; i++) {
		if (s->objects[i].pending_count)
			free(s->objects[i].bytes);
	}
	free(s->objects);
	free(s->links);
	memset(s, 0, sizeof(*s));
}

/* ---- using a state ---- */

static uint64_t hash_below(const struct power_state *s, uint32_t dir, unsigned depth)
{
	uint64_t sum = 0;

	for (size_t i = 0; depth < 8 && i < s->link_count; i++) {
		const struct cut_link *l = &s->links[i];
		const struct cut_object *o = &s->objects[l->object];

		if (l->dir != dir)
			continue;
		uint64_t h = hash_bytes(l->name, strlen(l->name), dir);
		h = mix(h, S_ISDIR(s->r->objects[l->object].mode)
				   ? hash_below(s, l->object, depth + 1)
				   : hash_bytes(o->bytes, o->size, o->size));
		/* Of the files that are known again by it. */
		if (dir == 0 && l->name[0] != '.')
			h = mix(h, (uint64_t)o->mtime.tv_sec << 30 ^ (uint64_t)o->mtime.tv_nsec);
		sum += h; /* in whatever order the links are */
	}
	return sum;
}

uint64_t power_state_hash(const struct power_state *s)
{
	return hash_below(s, 0, 0);
}

/* Make a new file, or give the one in the stash this name. */
static int make_file(const char *path, const char *stash, uint32_t object)
{
	char *other;
	int fd;

	if (!stash)
		return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (asprintf(&other, "%s/%u", stash, object) < 0 || link(other, path) < 0)
		abort();
	free(other);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, 0) < 0)
		abort();
	return fd;
}

static void write_file(const struct cut_object *o, int fd, mode_t mode)
{
	const struct timespec times[2] = { o->mtime, o->mtime };

	if (fd < 0 || pwrite(fd, o->bytes, o->size, 0) != (ssize_t)o->size ||
	    fchmod(fd, mode & 07777) < 0 || futimens(fd, times) < 0 || close(fd) < 0)
		abort();
}

static void write_below(const struct power_state *s, uint32_t dir, const char *path,
			const char *stash)
{
	for (size_t i = 0; i < s->link_count; i++) {
		const struct cut_link *l = &s->links[i];
		const mode_t mode = s->r->objects[l->object].mode;
		char *below;

		if (l->dir != dir)
			continue;
		if (asprintf(&below, "%s/%s", path, l->name) < 0)
			abort();
		if (!S_ISDIR(mode)) {
			write_file(&s->objects[l->object], make_file(below, stash, l->object),
				   mode);
		} else {
			if (mkdir(below, mode & 07777) < 0)
				abort();
			write_below(s, l->object, below, stash);
		}
		free(below);
	}
}

void power_state_write(const struct power_state *s, const char *dir, const char *stash)
{
	write_below(s, 0, dir, stash);
}
