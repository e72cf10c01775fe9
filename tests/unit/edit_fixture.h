/*
 * edit_fixture.h - checkpoints and edits as short texts, for tests that change files
 *
 * A file's tensors: "alpha F32 2 0102030405060708; beta U8 - aa; @k=v": name, dtype, shape (comma
 * separated, `-` for a scalar, `0` and so on), bytes in hex (`-` for none); `@` begins metadata
 * (`@` alone: an empty one). fixture_describe() gives a file back in that form, tensors sorted by
 * name; of a large one `#` and a hash.
 *
 * Edits: "w NAME OFFSET HEX" write, "t NAME LENGTH" truncate, "c NAME" create, "C SHARD NAME"
 * create there, "x NAME" create scratch, "d NAME DTYPE SHAPE" declare, "r NAME" remove, "m OLD NEW"
 * rename (replacing), "mx OLD NEW" to scratch, "mt OLD NEW" from scratch, "@ SHARD k=v,k=v"
 * metadata
 * ("@ SHARD -": none), "s" sync; separated by "; ".
 */
#ifndef EDIT_FIXTURE_H
#define EDIT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hash.h"
#include "num.h"
#include "sft.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURE_SHOWN 4096u /* bytes of a tensor */

/* ---- files ---- */

static inline char *fixture_join(const char *dir, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		abort();
	return path;
}

static inline char *fixture_make_dir(void)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = fixture_join(tmp ? tmp : "/tmp", "sft-test-XXXXXX");

	if (!mkdtemp(dir))
		abort();
	return dir;
}

static inline int fixture_remove_one(const char *path, const struct stat *st, int flag,
				     struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void fixture_remove_dir(char *dir)
{
	nftw(dir, fixture_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(dir);
}

static inline void fixture_put(const char *path, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || close(fd) < 0)
		abort();
}

/* Malloced, with a NUL behind; NULL where there is no such file. */
static inline char *fixture_get(const char *path, size_t *len)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (len)
		*len = 0;
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) < 0)
		abort();
	char *bytes = malloc((size_t)st.st_size + 1);
	if (!bytes || read(fd, bytes, (size_t)st.st_size) != st.st_size)
		abort();
	bytes[st.st_size] = '\0';
	close(fd);
	if (len)
		*len = (size_t)st.st_size;
	return bytes;
}

static inline size_t fixture_unhex(const char *hex, unsigned char *out)
{
	size_t n = 0;

	for (; strcmp(hex, "-") != 0 && hex[0]; hex += 2) {
		unsigned byte;
		if (sscanf(hex, "%2x", &byte) != 1)
			abort();
		out[n++] = (unsigned char)byte;
	}
	return n;
}

static inline uint32_t fixture_shape(const char *text, uint64_t *shape)
{
	uint32_t rank = 0;

	while (*text && strcmp(text, "-") != 0) {
		char *end;
		shape[rank++] = strtoull(text, &end, 10);
		text = *end == ',' ? end + 1 : end;
	}
	return rank;
}

/* "k=v,k=v" as JSON. */
static inline void fixture_pairs(struct sft_buf *json, const char *text)
{
	sft_buf_printf(json, "{");
	for (const char *sep = ""; *text; sep = ", ") {
		size_t n = strcspn(text, ","), k = strcspn(text, "=");
		sft_buf_printf(json, "%s\"%.*s\": \"%.*s\"", sep, (int)k, text, (int)(n - k - 1),
			       text + k + 1);
		text += n + (text[n] == ',');
	}
	sft_buf_printf(json, "}");
}

/*
 * Write a file in a way that the reference library does not: with spaces, keys in another order, in
 * the order of the text, unpadded. So a header that was rebuilt can be told from one that was kept.
 */
static inline void fixture_checkpoint(const char *path, const char *spec)
{
	struct sft_buf header = { 0 }, data = { 0 };
	char *copy = strdup(spec), *save = NULL;
	const char *sep = "";

	sft_buf_add(&header, "12345678{", 9);
	for (char *t = strtok_r(copy, ";", &save); t; t = strtok_r(NULL, ";", &save)) {
		char name[100], dtype[20], shape[100], hex[4096];
		unsigned char bytes[2048];
		t += strspn(t, " ");
		sft_buf_printf(&header, "%s", sep);
		sep = ", ";
		if (*t == '@') {
			sft_buf_printf(&header, "\"__metadata__\": ");
			fixture_pairs(&header, t + 1);
			continue;
		}
		if (sscanf(t, "%99s %19s %99s %4095s", name, dtype, shape, hex) != 4)
			abort();
		size_t n = fixture_unhex(hex, bytes);
		sft_buf_printf(&header,
			       "\"%s\": {\"shape\": [%s], \"dtype\": \"%s\", \"data_offsets\": "
			       "[%zu, %zu]}",
			       name, strcmp(shape, "-") == 0 ? "" : shape, dtype, data.len,
			       data.len + n);
		sft_buf_add(&data, bytes, n);
	}
	sft_buf_add(&header, "}", 1);
	sft_put_le64((unsigned char *)header.data, header.len - 8);
	sft_buf_add(&header, data.data, data.len);
	if (header.failed)
		abort();
	fixture_put(path, header.data, header.len);
	sft_buf_free(&header);
	sft_buf_free(&data);
	free(copy);
}

static inline void fixture_describe_tensor(struct sft_buf *out, const struct sft_file *file,
					   const struct sft_tensor *t)
{
	unsigned char *bytes = malloc(t->nbytes + 1);
	struct sft_error err = { 0 };

	if (!bytes ||
	    sft_file_read(file, bytes, t->nbytes, sft_file_data_offset(file) + t->begin, &err) < 0)
		abort();
	sft_buf_printf(out, "%s %s ", t->name, sft_dtype_name(t->dtype));
	for (uint32_t i = 0; i < t->rank; i++)
		sft_buf_printf(out, "%s%" PRIu64, i ? "," : "", t->shape[i]);
	sft_buf_printf(out, t->rank ? " " : "- ");
	if (t->nbytes > FIXTURE_SHOWN)
		sft_buf_printf(out, "#%016" PRIx64, hash_bytes(bytes, t->nbytes, 0));
	for (uint64_t i = 0; t->nbytes <= FIXTURE_SHOWN && i < t->nbytes; i++)
		sft_buf_printf(out, "%02x", bytes[i]);
	if (t->nbytes == 0)
		sft_buf_printf(out, "-");
	free(bytes);
}

/* The text for a file, malloced; "invalid: ..." where the reader refuses it, "-" where it is not
 * there. */
static inline char *fixture_describe(const char *path)
{
	struct sft_buf out = { 0 };
	struct sft_file *file;
	struct sft_error err = { 0 };

	if (access(path, F_OK) < 0)
		return strdup("-");
	if (sft_file_open(path, 0, &file, &err) < 0) {
		sft_buf_printf(&out, "invalid: %s", err.msg);
		return out.data;
	}
	const struct sft_index *index = sft_file_index(file);
	const struct sft_metadata *metadata = sft_index_metadata(index);
	sft_buf_add(&out, "", 0);
	for (size_t i = 0; i < sft_index_count(index); i++) {
		sft_buf_printf(&out, out.len ? "; " : "");
		fixture_describe_tensor(&out, file, sft_index_at(index, i));
	}
	if (metadata->present)
		sft_buf_printf(&out, out.len ? "; @" : "@");
	for (uint32_t i = 0; i < metadata->count; i++)
		sft_buf_printf(&out, "%s%s=%s", i ? "," : "", metadata->pairs[i].key,
			       metadata->pairs[i].value);
	sft_file_free(file);
	return out.data;
}

/* ---- edits ---- */

/* The first live tensor of that name, else the scratch file. */
static inline uint32_t fixture_find(const struct sft_overlay *ov, const char *name)
{
	uint32_t scratch = SFT_NO_ID;

	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		if (!e->live || strcmp(e->name, name) != 0)
			continue;
		if (!e->scratch)
			return id;
		scratch = id;
	}
	return scratch;
}

static inline int fixture_set_metadata(struct sft_overlay *ov, uint32_t shard, const char *text,
				       struct sft_error *err)
{
	struct sft_metadata metadata = { 0 };
	struct sft_buf json = { 0 };
	int r = 0;

	if (strcmp(text, "-") != 0) {
		fixture_pairs(&json, strcmp(text, "{}") == 0 ? "" : text);
		r = json.failed ? -ENOMEM : sft_metadata_parse(json.data, json.len, &metadata, err);
	}
	if (r == 0)
		r = sft_overlay_set_metadata(ov, shard, &metadata, err);
	sft_buf_free(&json);
	sft_metadata_free(&metadata);
	return r;
}

/* Do one edit; an unknown name or verb is a mistake of the test. */
static inline int fixture_edit_one(struct sft_overlay *ov, const char *verb, char (*arg)[4096],
				   struct sft_error *err)
{
	const bool moves = verb[0] == 'm';
	const char *name = arg[0];
	uint32_t id = fixture_find(ov, name), shard = SFT_SHARD_AUTO;
	unsigned char bytes[2048];
	uint64_t shape[16];
	enum sft_dtype dtype;

	if (strcmp(verb, "s") == 0)
		return sft_overlay_sync(ov, err);
	if (verb[0] == '@')
		return fixture_set_metadata(ov, (uint32_t)atoi(arg[0]), arg[1], err);
	if (verb[0] == 'C') {
		shard = (uint32_t)atoi(arg[0]);
		name = arg[1];
	}
	if (strchr("cCx", verb[0]))
		return sft_overlay_create(ov, name, strlen(name), verb[0] == 'x', shard, &id, err);
	if (id == SFT_NO_ID) {
		fprintf(stderr, "no tensor %s\n", name);
		abort();
	}
	if (verb[0] == 'w')
		return sft_overlay_write(ov, id, bytes, fixture_unhex(arg[2], bytes),
					 strtoull(arg[1], NULL, 10), err);
	if (verb[0] == 't')
		return sft_overlay_truncate(ov, id, strtoull(arg[1], NULL, 10), err);
	if (verb[0] == 'r')
		return sft_overlay_remove(ov, id, err);
	if (verb[0] == 'd' && sft_dtype_parse(arg[1], strlen(arg[1]), &dtype))
		return sft_overlay_declare(ov, id, dtype, shape, fixture_shape(arg[2], shape), err);
	if (moves)
		return sft_overlay_rename(
			ov, id, arg[1], strlen(arg[1]), verb[1] == 'x', SFT_SHARD_AUTO,
			verb[1] == 'x' ? SFT_NO_ID : fixture_find(ov, arg[1]), err);
	abort();
}

/* Do what the text says; stops at the first error. */
static inline int fixture_edit(struct sft_overlay *ov, const char *script, struct sft_error *err)
{
	char *copy = strdup(script), *save = NULL;
	int r = 0;

	for (char *t = strtok_r(copy, ";", &save); r == 0 && t; t = strtok_r(NULL, ";", &save)) {
		static char arg[3][4096];
		char verb[4] = "";
		memset(arg, 0, sizeof(arg));
		if (sscanf(t, " %3s %4095s %4095s %4095s", verb, arg[0], arg[1], arg[2]) < 1)
			abort();
		r = fixture_edit_one(ov, verb, arg, err);
	}
	free(copy);
	return r;
}

/* ---- both together ---- */

/* Write a file of one tensor, `big`, in a way that the reference does not. Its bytes, malloced. */
static inline char *fixture_big(const char *path, size_t nbytes, size_t *len)
{
	struct sft_buf b = { 0 };
	char *data = malloc(nbytes);

	for (size_t i = 0; i < nbytes; i++)
		data[i] = (char)(i * 2654435761u >> 13);
	sft_buf_printf(&b,
		       "12345678{\"big\" : {\"dtype\":\"U8\", \"x\":[{}], \"shape\":[%zu], "
		       "\"data_offsets\":[0,%zu]}}   ",
		       nbytes, nbytes);
	sft_put_le64((unsigned char *)b.data, b.len - 8);
	sft_buf_add(&b, data, nbytes);
	fixture_put(path, b.data, b.len);
	free(data);
	*len = b.len;
	return b.data;
}

/* Commits whatever is left. */
static const struct sft_commit_options fixture_any
	__attribute__((unused)) = { .allow_empty = true };

/* Open, edit, commit, adopt, close; all of which must work. */
static inline void fixture_commit(const char *source, const struct sft_overlay_options *options,
				  const char *script)
{
	struct sft_overlay *ov;
	struct sft_error err = { 0 };
	int r = sft_overlay_open(source, options, &ov, &err);

	if (r == 0)
		r = fixture_edit(ov, script, &err);
	if (r == 0)
		r = sft_overlay_commit(ov, &fixture_any, NULL, &err);
	if (r < 0)
		print_message("%s\n", err.msg);
	assert_int_equal(r, 0);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
}

#endif
