/*
 * fuzz_journal.c - libFuzzer over the staging: a journal and blocks that somebody has changed
 *
 * The bytes are a program: edits that make a staging, then changes of its records, with hashes that
 * are right again, then damage to the files themselves. What then opens can be read, and be
 * committed or refused; where nothing was changed, it is what was there before.
 */
#include "fuzz_disk.h"
#include "journal_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define BLOCK 65536u
#define EDITS_MAX 64u
#define CHANGES_MAX 8u
#define COMMIT_MAX (64u << 20) /* bytes of a checkpoint that is worth the time */

/* ---- the program ---- */

struct program {
	const uint8_t *p, *end;
};

static uint32_t next(struct program *g, uint32_t below)
{
	uint32_t v = g->p < g->end ? *g->p++ : 0;

	if (below > 256)
		v |= (uint32_t)(g->p < g->end ? *g->p++ : 0) << 8;
	return below ? v % below : 0;
}

/* ---- edits ---- */

static uint32_t pick(const struct sft_overlay *ov, struct program *g)
{
	uint32_t count = sft_overlay_count(ov), from = next(g, count);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t id = (from + i) % count;

		if (sft_overlay_entry(ov, id)->live)
			return id;
	}
	return SFT_NO_ID;
}

static uint64_t pick_length(struct program *g)
{
	static const uint32_t beyond[] = { 0, 1, 100, 65535 };

	return (uint64_t)next(g, 20) * BLOCK + beyond[next(g, 4)];
}

static const char *pick_name(struct program *g, size_t *len)
{
	static const char *const names[] = { "a", "b", "c", "d", "e", "f", "a~", "b~" };
	const char *name = names[next(g, 8)];

	*len = strlen(name);
	return name;
}

static void edit_write(struct sft_overlay *ov, struct program *g, uint32_t id)
{
	static unsigned char bytes[3 * BLOCK];
	static const uint32_t lengths[] = { 1, 300, BLOCK, BLOCK, BLOCK + 1, 3 * BLOCK };
	uint64_t offset = pick_length(g);
	uint32_t n = lengths[next(g, 6)];

	memset(bytes, (int)next(g, 256), n);
	(void)sft_overlay_write(ov, id, bytes, n, offset, NULL);
}

static void edit_rename(struct sft_overlay *ov, struct program *g, uint32_t id)
{
	size_t len;
	const char *name = pick_name(g, &len);
	bool scratch = name[len - 1] == '~';
	uint32_t holder = SFT_NO_ID;

	for (uint32_t i = 0; i < sft_overlay_count(ov); i++) {
		const struct sft_entry *e = sft_overlay_entry(ov, i);

		if (e->live && e->scratch == scratch && strcmp(e->name, name) == 0 && i != id)
			holder = i;
	}
	(void)sft_overlay_rename(ov, id, name, len, scratch, SFT_SHARD_AUTO, holder, NULL);
}

static void edit_several(struct sft_overlay *ov, struct program *g, uint32_t id)
{
	static const uint64_t shape[] = { 5 };
	size_t len;
	const char *name = pick_name(g, &len);
	struct sft_change c[] = {
		{ .kind = SFT_REMOVE, .id = id },
		{ .kind = SFT_CREATE,
		  .shard = SFT_SHARD_AUTO,
		  .name = name,
		  .name_len = len,
		  .scratch = name[len - 1] == '~',
		  .declared = true,
		  .dtype = SFT_U8,
		  .shape = shape,
		  .rank = 1,
		  .nbytes = 5 },
	};

	(void)sft_overlay_change(ov, c, 2, NULL);
}

static void edit_metadata(struct sft_overlay *ov, struct program *g)
{
	struct sft_pair pair = { "k", "v", 1, next(g, 2) };
	const struct sft_metadata metadata = { next(g, 2), 1, &pair, NULL };

	(void)sft_overlay_set_metadata(ov, 0, &metadata, NULL);
}

static void edit(struct sft_overlay *ov, struct program *g)
{
	uint32_t what = next(g, 16), id = pick(ov, g), new_id;
	const uint64_t shape[] = { next(g, 8), 2 };
	size_t len;
	const char *name;

	if (id == SFT_NO_ID || what == 0) {
		name = pick_name(g, &len);
		(void)sft_overlay_create(ov, name, len, name[len - 1] == '~', SFT_SHARD_AUTO,
					 &new_id, NULL);
	} else if (what == 1) {
		(void)sft_overlay_remove(ov, id, NULL);
	} else if (what == 2) {
		(void)sft_overlay_declare(ov, id, (enum sft_dtype)next(g, SFT_DTYPE_COUNT), shape,
					  next(g, 3), NULL);
	} else if (what == 3) {
		edit_metadata(ov, g);
	} else if (what == 4) {
		(void)sft_overlay_sync(ov, NULL);
	} else if (what == 5) {
		edit_several(ov, g, id);
	} else if (what < 8) {
		edit_rename(ov, g, id);
	} else if (what < 11) {
		(void)sft_overlay_truncate(ov, id, pick_length(g), NULL);
	} else {
		edit_write(ov, g, id);
	}
}

/* ---- looking ---- */

/* All that can be seen of an overlay, as a number; scratch files are read, and do not count. */
static uint64_t look(const struct sft_overlay *ov, uint64_t *nbytes)
{
	static unsigned char bytes[4 * BLOCK];
	uint64_t sum = 0;
	size_t done;
	char reason[160];

	*nbytes = 0;
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		uint64_t h = e->nbytes;

		if (!e->live)
			continue;
		(void)sft_overlay_problem(ov, id, reason, sizeof(reason));
		/* Of what is endless the beginning and the end. */
		for (uint64_t at = 0; at < e->nbytes; at += done) {
			if (at == 64 * sizeof(bytes) && e->nbytes > 2 * at)
				at = e->nbytes - sizeof(bytes);
			REQUIRE(sft_overlay_read(ov, id, bytes, sizeof(bytes), at, &done, NULL) ==
				0);
			REQUIRE(done > 0);
			h = hash_bytes(bytes, done, h);
		}
		if (e->scratch)
			continue;
		REQUIRE(sft_overlay_find(ov, e->shard, e->name, e->name_len) == id);
		*nbytes += e->nbytes < COMMIT_MAX ? e->nbytes : COMMIT_MAX;
		sum += hash_bytes(e->name, e->name_len, h);
	}
	return sum;
}

/* The same of the checkpoint. */
static uint64_t look_committed(void)
{
	struct sft_checkpoint *ck;
	uint64_t sum = 0;

	REQUIRE(sft_checkpoint_open(source, 0, &ck, NULL) == 0);
	for (size_t i = 0; i < sft_checkpoint_count(ck); i++) {
		const struct sft_tensor *t = sft_checkpoint_at(ck, i);
		const struct sft_file *file = sft_checkpoint_shard(ck, t->shard)->file;
		uint64_t h = t->nbytes;

		for (uint64_t at = 0, n; at < t->nbytes; at += n) {
			static unsigned char bytes[4 * BLOCK];

			n = t->nbytes - at < sizeof(bytes) ? t->nbytes - at : sizeof(bytes);
			REQUIRE(sft_file_read(file, bytes, n, sft_checkpoint_offset(ck, t) + at,
					      NULL) == 0);
			h = hash_bytes(bytes, n, h);
		}
		sum += hash_bytes(t->name, t->name_len, h);
	}
	sft_checkpoint_free(ck);
	return sum;
}

/* ---- changing the staging ---- */

static void put_u32(struct format_record *rec, struct program *g)
{
	static const uint32_t values[] = { 0,	       1,	 2,	     3,		7,
					   8,	       100,	 0xffff,     0x10000,	0xfffffff,
					   0x10000000, 1u << 31, 0xfffffffe, 0xffffffff };
	unsigned char bytes[8];

	if (rec->length < 4)
		return;
	sft_put_le64(bytes, values[next(g, sizeof(values) / sizeof(*values))]);
	memcpy(rec->payload + next(g, (uint32_t)(rec->length / 4)) * 4, bytes, 4);
}

static void change_record(struct format_journal *j, struct program *g)
{
	size_t at, other;
	struct format_record *rec, moved;

	if (j->count == 0)
		return;
	at = next(g, (uint32_t)j->count);
	other = next(g, (uint32_t)j->count);
	rec = &j->records[at];
	switch (next(g, 10)) {
	case 0:
		if (rec->length)
			rec->payload[next(g, (uint32_t)rec->length)] = (unsigned char)next(g, 256);
		break;
	case 1:
	case 2:
	case 3:
		put_u32(rec, g);
		break;
	case 4:
		rec->type = next(g, 18);
		break;
	case 5:
		format_remove(j, at);
		break;
	case 6:
		moved = *rec;
		(void)format_insert(j, other, moved);
		break;
	case 7:
		rec->ends_frame = !rec->ends_frame;
		break;
	case 8:
		rec->length = next(g, (uint32_t)rec->length + 1);
		break;
	default:
		moved = j->records[at];
		j->records[at] = j->records[other];
		j->records[other] = moved;
	}
}

static bool change_journal(struct program *g)
{
	static struct format_journal j;
	struct sft_buf out = { 0 };
	uint32_t changes = next(g, CHANGES_MAX);
	size_t n;
	unsigned char *bytes = changes ? get_file(journal, &n) : NULL;

	if (!bytes)
		return false;
	REQUIRE(format_parse(&j, bytes, n));
	free(bytes);
	while (changes--)
		change_record(&j, g);
	format_write(&j, &out);
	put_file(journal, out.data, out.len);
	format_free(&j);
	sft_buf_free(&out);
	return true;
}

/* What no program does: pieces cut off, put behind, overwritten. */
static bool damage(const char *path, struct program *g)
{
	const uint32_t what = next(g, 8);
	unsigned char byte = (unsigned char)next(g, 256);
	struct stat st;
	off_t at;
	int fd = what >= 5 ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return false;
	REQUIRE(fstat(fd, &st) == 0);
	at = st.st_size * (off_t)next(g, 4096) / 4096;
	if (what == 5)
		REQUIRE(ftruncate(fd, at) == 0);
	else if (what == 6)
		REQUIRE(ftruncate(fd, byte & 1 ? st.st_size + byte : (off_t)1 << 40) == 0);
	else
		REQUIRE(pwrite(fd, &byte, 1, at) == 1);
	close(fd);
	return true;
}

/* ---- a run ---- */

static const struct sft_commit_options any = { .allow_empty = true };

struct before {
	uint64_t shown;
	bool known;   /* it is what will be there again */
	bool changed; /* somebody had his hands on it */
};

/* What was put aside may be back. */
static bool has_scratch(const struct sft_overlay *ov)
{
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		if (sft_overlay_entry(ov, id)->live && sft_overlay_entry(ov, id)->scratch)
			return true;
	}
	return false;
}

static void open_again(struct program *g, const struct before *before)
{
	const struct sft_overlay_options options = { .inplace = next(g, 2) };
	struct sft_error err = { 0 };
	struct sft_overlay *ov;
	struct sft_buf text = { 0 };
	uint64_t is, nbytes;
	bool found;
	int r;

	(void)sft_staging_exists(source, NULL);
	r = sft_overlay_open(source, &options, &ov, &err);
	REQUIRE((r == 0) == (err.errnum == 0));
	if (r < 0) {
		REQUIRE(before->changed);
		(void)sft_staging_discard(source, NULL, next(g, 2), &text, &found, NULL);
		sft_buf_free(&text);
		return;
	}
	is = look(ov, &nbytes);
	REQUIRE(before->changed || !before->known || is == before->shown);
	for (uint32_t n = next(g, 8); n; n--)
		edit(ov, g);
	is = look(ov, &nbytes);
	if (next(g, 2) && nbytes < COMMIT_MAX) {
		r = sft_overlay_commit(ov, &any, NULL, NULL);
		if (r == 0) {
			sft_overlay_adopt(ov);
			REQUIRE(look_committed() == is);
			REQUIRE(look(ov, &nbytes) == is);
		}
	}
	sft_overlay_free(ov);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct program g = { bytes, bytes + size };
	const uint32_t flags = next(&g, 8);
	const struct sft_overlay_options options = { .inplace = flags & 1 };
	struct sft_overlay *ov;
	struct before before = { 0 };
	uint64_t nbytes;

	make_place();
	REQUIRE(sft_overlay_open(source, &options, &ov, NULL) == 0);
	for (uint32_t n = next(&g, EDITS_MAX); n; n--)
		edit(ov, &g);
	before.shown = look(ov, &nbytes);
	before.known = !has_scratch(ov);
	/* Some die in their commit. */
	if (flags & 2 && nbytes < COMMIT_MAX) {
		stop_in = 1 + next(&g, 8);
		if (sft_overlay_commit(ov, &any, NULL, NULL) == 0)
			sft_overlay_adopt(ov);
	}
	sft_overlay_free(ov);
	stop_in = 0;
	stopped = false;
	before.changed = change_journal(&g);
	before.changed = damage(journal, &g) || before.changed;
	before.changed = damage(blocks, &g) || before.changed;
	open_again(&g, &before);
	remove_all(place);
	return 0;
}
