/*
 * overlay_fixture.h - overlays as short texts, and checkpoints of any size
 *
 * overlay_describe() gives what an overlay shows: "a U8 3 aabbcc; b F32 2,1 0102030405060708 *",
 * live tensors by name, `*` where staged, `!` where there is a problem, "N:" in front where there
 * are several shards, metadata of shard N as "@N k=v". Edits are those of edit_fixture.h.
 */
#ifndef OVERLAY_FIXTURE_H
#define OVERLAY_FIXTURE_H

#include "edit_fixture.h"
#include "overlay.h"

static inline int overlay_compare_ids(const void *a, const void *b, void *ctx)
{
	const struct sft_entry *x = sft_overlay_entry(ctx, *(const uint32_t *)a);
	const struct sft_entry *y = sft_overlay_entry(ctx, *(const uint32_t *)b);
	int c = sft_name_compare(x->name, x->name_len, y->name, y->name_len);

	return c ? c : (x->shard > y->shard) - (x->shard < y->shard);
}

static inline void overlay_describe_entry(struct sft_buf *out, const struct sft_overlay *ov,
					  uint32_t id)
{
	const struct sft_entry *e = sft_overlay_entry(ov, id);
	unsigned char *bytes = malloc(e->nbytes + 1);
	struct sft_error err = { 0 };
	char reason[160];
	size_t done;

	if (!bytes || sft_overlay_read(ov, id, bytes, e->nbytes + 1, 0, &done, &err) < 0 ||
	    done != e->nbytes) {
		fprintf(stderr, "cannot read %s: %s\n", e->name, err.msg);
		abort();
	}
	if (sft_checkpoint_shards(sft_overlay_checkpoint(ov)) > 1)
		sft_buf_printf(out, "%u:", e->shard);
	sft_buf_printf(out, "%s %s ", e->name, sft_dtype_name(e->dtype));
	for (uint32_t i = 0; i < e->rank; i++)
		sft_buf_printf(out, "%s%" PRIu64, i ? "," : "", e->shape[i]);
	sft_buf_printf(out, e->rank ? " " : "- ");
	for (uint64_t i = 0; i < e->nbytes; i++)
		sft_buf_printf(out, "%02x", bytes[i]);
	sft_buf_printf(out, "%s%s%s", e->nbytes ? "" : "-", e->staged ? " *" : "",
		       sft_overlay_problem(ov, id, reason, sizeof(reason)) ? " !" : "");
	free(bytes);
}

/* Malloced. */
static inline char *overlay_describe(struct sft_overlay *ov)
{
	const uint32_t count = sft_overlay_count(ov);
	uint32_t *ids = calloc(count + 1, sizeof(*ids)), n = 0;
	struct sft_buf out = { 0 };

	sft_buf_add(&out, "", 0);
	for (uint32_t id = 0; id < count; id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);

		if (e->live && !e->scratch)
			ids[n++] = id;
	}
	qsort_r(ids, n, sizeof(*ids), overlay_compare_ids, ov);
	for (uint32_t i = 0; i < n; i++) {
		sft_buf_printf(&out, out.len ? "; " : "");
		overlay_describe_entry(&out, ov, ids[i]);
	}
	for (uint32_t i = 0; i < sft_checkpoint_shards(sft_overlay_checkpoint(ov)); i++) {
		const struct sft_metadata *m = sft_overlay_metadata(ov, i);

		if (m->present)
			sft_buf_printf(&out, "%s@%u", out.len ? "; " : "", i);
		for (uint32_t k = 0; k < m->count; k++)
			sft_buf_printf(&out, "%s%s=%s", k ? "," : " ", m->pairs[k].key,
				       m->pairs[k].value);
	}
	free(ids);
	return out.data;
}

/* A directory with a checkpoint in it: one file "m.safetensors", or, where `two` is given, the
 * shards "a.safetensors" and "b.safetensors". Both malloced. */
struct overlay_place {
	char *dir, *source;
};

static inline struct overlay_place overlay_place(const char *one, const char *two)
{
	struct overlay_place p = { .dir = fixture_make_dir() };
	char *path = fixture_join(p.dir, two ? "a.safetensors" : "m.safetensors");

	fixture_checkpoint(path, one);
	if (!two) {
		p.source = path;
		return p;
	}
	free(path);
	path = fixture_join(p.dir, "b.safetensors");
	fixture_checkpoint(path, two);
	free(path);
	p.source = strdup(p.dir);
	return p;
}

static inline void overlay_place_free(struct overlay_place *p)
{
	free(p->source);
	fixture_remove_dir(p->dir);
}

/* Open, or say why not and fail the test. */
static inline struct sft_overlay *overlay_open(const char *source,
					       const struct sft_overlay_options *options)
{
	const struct sft_overlay_options none = { 0 };
	struct sft_overlay *ov = NULL;
	struct sft_error err = { 0 };

	if (sft_overlay_open(source, options ? options : &none, &ov, &err) < 0)
		fail_msg("cannot open %s: %s", source, err.msg);
	return ov;
}

/* One file of tensors of U8, which are called t and their number, counted from `first`; bytes
 * follow from number and position; `sparse`: zeros. */
static inline unsigned char overlay_byte(uint64_t seed, uint64_t at)
{
	return (unsigned char)((at * 2654435761u + seed * 40503u) >> 13);
}

static inline void overlay_big_shard(const char *path, size_t first, const uint64_t *sizes,
				     size_t count, bool sparse)
{
	struct sft_buf header = { 0 };
	unsigned char length[8], block[4096];
	uint64_t begin = 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	for (size_t i = 0; i < count; i++, begin += sizes[i - 1])
		sft_buf_printf(&header,
			       "%c\"t%zu\":{\"dtype\":\"U8\",\"shape\":[%" PRIu64
			       "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
			       i ? ',' : '{', first + i, sizes[i], begin, begin + sizes[i]);
	sft_buf_printf(&header, "}");
	sft_put_le64(length, header.len);
	if (fd < 0 || write(fd, length, 8) != 8 ||
	    write(fd, header.data, header.len) != (ssize_t)header.len)
		abort();
	for (size_t i = 0; !sparse && i < count; i++) {
		for (uint64_t at = 0, n; at < sizes[i]; at += n) {
			n = sizes[i] - at < sizeof(block) ? sizes[i] - at : sizeof(block);
			for (uint64_t k = 0; k < n; k++)
				block[k] = overlay_byte(first + i, at + k);
			if (write(fd, block, n) != (ssize_t)n)
				abort();
		}
	}
	if (ftruncate(fd, (off_t)(8 + header.len + begin)) < 0 || close(fd) < 0)
		abort();
	sft_buf_free(&header);
}

static inline void overlay_big_checkpoint(const char *path, const uint64_t *sizes, size_t count,
					  bool sparse)
{
	overlay_big_shard(path, 0, sizes, count, sparse);
}

/* Open, describe, close; malloced, or NULL if it is refused. */
static inline char *describe_source(const char *source, struct sft_error *err)
{
	const struct sft_overlay_options options = { 0 };
	struct sft_overlay *ov;
	char *shows;

	if (sft_overlay_open(source, &options, &ov, err) < 0)
		return NULL;
	shows = overlay_describe(ov);
	sft_overlay_free(ov);
	return shows;
}

#endif
