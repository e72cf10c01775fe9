/* test_commit_files.c - the new file: its bytes, its attributes, and how it gets its name */
#include "edit_fixture.h"

#include "overlay.h"

#include <sys/xattr.h>

#define M "model.safetensors"

/* ---- the bytes of the new file ---- */

static void test_only_edited_bytes_differ(void **state)
{
	static const struct sft_overlay_options modes[] = { { 0 }, { .inplace = true } };
	(void)state;
	for (size_t m = 0; m < 2; m++) {
		char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
		size_t len, new_len, edited = 0;
		const size_t nbytes = 5 * 65536 + 123;
		char *before = fixture_big(path, nbytes, &len), *after;
		struct stat old, new;
		struct sft_overlay *ov;
		struct sft_error err = { 0 };

		assert_int_equal(stat(path, &old), 0);
		assert_int_equal(sft_overlay_open(path, &modes[m], &ov, &err), 0);
		const uint64_t places[] = { 0, 65535, 65536, 200000, nbytes - 1 };
		for (size_t i = 0; i < 5; i++) {
			char *old_byte = before + (len - nbytes) + places[i];
			char byte = (char)~*old_byte;
			assert_int_equal(sft_overlay_write(ov, 0, &byte, 1, places[i], &err), 0);
		}
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), 0);
		sft_overlay_adopt(ov);
		sft_overlay_free(ov);
		after = fixture_get(path, &new_len);
		assert_int_equal(new_len, len);
		for (size_t i = 0; i < len; i++)
			edited += before[i] != after[i];
		assert_int_equal(edited, 5);
		assert_memory_equal(before, after, len - nbytes);
		assert_int_equal(stat(path, &new), 0);
		assert_true((new.st_ino == old.st_ino) == modes[m].inplace);
		free(before);
		free(after);
		free(path);
		fixture_remove_dir(dir);
	}
}

/* What is in a file, as tests/oracles/reference_writer.py wants it. */
static void describe_for_reference(struct sft_buf *out, const struct sft_file *file)
{
	const struct sft_index *index = sft_file_index(file);
	const struct sft_metadata *metadata = sft_index_metadata(index);

	sft_buf_printf(out, "{\"metadata\":%s", metadata->present ? "[" : "null");
	for (uint32_t i = 0; i < metadata->count; i++) {
		const struct sft_pair *p = &metadata->pairs[i];
		sft_buf_printf(out, i ? ",[" : "[");
		sft_buf_json(out, p->key, p->key_len);
		sft_buf_printf(out, ",");
		sft_buf_json(out, p->value, p->value_len);
		sft_buf_printf(out, "]");
	}
	sft_buf_printf(out, "%s,\"tensors\":[", metadata->present ? "]" : "");
	for (size_t i = 0; i < sft_index_count(index); i++) {
		const struct sft_tensor *t = sft_index_at(index, i);
		unsigned char bytes[64];
		struct sft_error err = { 0 };

		assert_int_equal(sft_file_read(file, bytes, t->nbytes,
					       sft_file_data_offset(file) + t->begin, &err),
				 0);
		sft_buf_printf(out, "%s{\"name\":", i ? "," : "");
		sft_buf_json(out, t->name, t->name_len);
		sft_buf_printf(out, ",\"dtype\":\"%s\",\"shape\":[", sft_dtype_name(t->dtype));
		for (uint32_t k = 0; k < t->rank; k++)
			sft_buf_printf(out, "%s%" PRIu64, k ? "," : "", t->shape[k]);
		sft_buf_printf(out, "],\"hex\":\"");
		for (uint64_t k = 0; k < t->nbytes; k++)
			sft_buf_printf(out, "%02x", bytes[k]);
		sft_buf_printf(out, "\"}");
	}
	sft_buf_printf(out, "]}");
}

/* Make tensors of every dtype, under names that need escapes; every id is new. */
static void make_every_dtype(struct sft_overlay *ov)
{
	static const char *const names[] = { "plain",
					     "\x01\x1f\x7f",
					     "a\"b\\c\n\t\r\b\f",
					     "\xc3\xa9",
					     "\xf0\x9f\x90\xab",
					     "",
					     "a/b",
					     "A" };
	struct sft_error err = { 0 };
	unsigned char bytes[48];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 37 + 1);
	for (unsigned dtype = 0; dtype < SFT_DTYPE_COUNT; dtype++) {
		for (size_t n = 0; n < sizeof(names) / sizeof(*names); n++) {
			const uint64_t shape[] = { 2, n % 3, 4 };
			char name[40];
			size_t len = (size_t)sprintf(name, "%s%s%u", names[n], n ? "." : "", dtype);
			uint64_t nbytes;
			uint32_t id;

			assert_int_equal(sft_shape_nbytes(dtype, shape, 3, &nbytes, &err), 0);
			nbytes = nbytes < sizeof(bytes) ? nbytes : 0;
			assert_int_equal(
				sft_overlay_create(ov, name, len, false, SFT_SHARD_AUTO, &id, &err),
				0);
			assert_int_equal(sft_overlay_write(ov, id, bytes, nbytes, 0, &err), 0);
			assert_int_equal(sft_overlay_declare(ov, id, dtype,
							     nbytes ? shape : (uint64_t[]){ 0 },
							     nbytes ? 3 : 1, &err),
					 0);
		}
	}
}

static void test_a_new_layout_is_what_the_reference_writes(void **state)
{
	const struct sft_overlay_options options = { 0 };
	const char *root = getenv("SOURCE_ROOT"), *python = getenv("PYTHON");
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
	char *json = fixture_join(dir, "wanted.json"), *other = fixture_join(dir, "reference");
	char *command = NULL, *ours, *theirs;
	struct sft_overlay *ov;
	struct sft_file *file;
	struct sft_error err = { 0 };
	struct sft_buf wanted = { 0 };
	size_t our_len, their_len;
	(void)state;

	if (!root || !python) {
		fixture_remove_dir(dir);
		skip();
		return;
	}
	fixture_checkpoint(path, "zz F16 2 01020304; @format=pt,b=c");
	assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
	make_every_dtype(ov);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), 0);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	assert_int_equal(sft_file_open(path, 0, &file, &err), 0);
	describe_for_reference(&wanted, file);
	sft_file_free(file);
	fixture_put(json, wanted.data, wanted.len);
	assert_true(asprintf(&command, "'%s' '%s/tests/oracles/reference_writer.py' '%s' <'%s'", python,
			     root, other, json) > 0);
	assert_int_equal(system(command), 0);
	ours = fixture_get(path, &our_len);
	theirs = fixture_get(other, &their_len);
	assert_int_equal(our_len, their_len);
	assert_memory_equal(ours, theirs, our_len);
	sft_buf_free(&wanted);
	free(ours);
	free(theirs);
	free(command);
	free(json);
	free(other);
	free(path);
	fixture_remove_dir(dir);
}

static void test_an_empty_file_is_sixteen_bytes(void **state)
{
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M), *bytes;
	struct sft_overlay *ov;
	struct sft_error err = { 0 };
	size_t len;
	(void)state;

	fixture_checkpoint(path, "a U8 1 00");
	assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
	assert_int_equal(fixture_edit(ov, "r a", &err), 0);
	assert_int_equal(sft_overlay_commit(ov, &fixture_any, NULL, &err), 0);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	bytes = fixture_get(path, &len);
	assert_int_equal(len, 16);
	assert_memory_equal(bytes, "\x08\0\0\0\0\0\0\0{}      ", 16);
	free(bytes);
	free(path);
	fixture_remove_dir(dir);
}

/* ---- attributes ---- */

static void test_mode_owner_and_attributes_are_kept(void **state)
{
	static const char *const scripts[] = { "w a 0 00", "m a b" };
	const struct sft_overlay_options options = { 0 };
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char *dir = fixture_make_dir(), *path = fixture_join(dir, M), value[8] = "";
		const bool root = geteuid() == 0;
		struct stat st;

		fixture_checkpoint(path, "a U8 1 01");
		if (root)
			assert_int_equal(chown(path, 1234, 5678), 0);
		assert_int_equal(chmod(path, 0604), 0);
		const bool attributes = setxattr(path, "user.origin", "here", 4, 0) == 0;
		fixture_commit(path, &options, scripts[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0604);
		if (root) {
			assert_int_equal(st.st_uid, 1234);
			assert_int_equal(st.st_gid, 5678);
		}
		if (attributes) {
			assert_int_equal(getxattr(path, "user.origin", value, sizeof(value)), 4);
			assert_string_equal(value, "here");
		}
		free(path);
		fixture_remove_dir(dir);
	}
}

static void test_the_index_keeps_its_mode(void **state)
{
	const char *text = "{\"weight_map\":{\"a\":\"" M "\"}}";
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
	char *index = fixture_join(dir, "model.safetensors.index.json");
	struct stat st;
	(void)state;

	fixture_checkpoint(path, "a U8 1 01");
	fixture_put(index, text, strlen(text));
	assert_int_equal(chmod(index, 0640), 0);
	fixture_commit(dir, &options, "m a b");
	assert_int_equal(stat(index, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	free(index);
	free(path);
	fixture_remove_dir(dir);
}

static void test_a_link_stays_and_its_target_is_replaced(void **state)
{
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *link = fixture_join(dir, "link.safetensors");
	char *real = fixture_join(dir, "real"), *path = fixture_join(dir, "real/" M), *text;
	struct stat st;
	(void)state;

	assert_int_equal(mkdir(real, 0777), 0);
	fixture_checkpoint(path, "a U8 1 01");
	assert_int_equal(symlink("real/" M, link), 0);
	fixture_commit(link, &options, "m a b");
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	text = fixture_describe(path);
	assert_string_equal(text, "b U8 1 01");
	free(text);
	free(path);
	free(real);
	free(link);
	fixture_remove_dir(dir);
}

static void test_an_output_link_to_the_source_is_replaced_and_the_source_is_not(void **state)
{
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
	char *link = fixture_join(dir, "out.safetensors"), *text;
	const struct sft_overlay_options options = { .output = link };
	(void)state;

	fixture_checkpoint(path, "a U8 1 01");
	assert_int_equal(symlink(M, link), 0);
	fixture_commit(path, &options, "w a 0 ff");
	text = fixture_describe(path);
	assert_string_equal(text, "a U8 1 01");
	free(text);
	text = fixture_describe(link);
	assert_string_equal(text, "a U8 1 ff");
	free(text);
	free(link);
	free(path);
	fixture_remove_dir(dir);
}

static void test_a_name_without_room_for_the_suffix(void **state)
{
	char name[256], *dir = fixture_make_dir(), *path, *text;
	char *staging = fixture_join(dir, "staging");
	const struct sft_overlay_options options = { .staging = staging };
	(void)state;

	memset(name, 'n', 255);
	memcpy(name + 243, ".safetensors", 13);
	path = fixture_join(dir, name);
	fixture_checkpoint(path, "a U8 1 01");
	fixture_commit(path, &options, "m a b");
	text = fixture_describe(path);
	assert_string_equal(text, "b U8 1 01");
	free(text);
	free(path);
	free(staging);
	fixture_remove_dir(dir);
}

/* ---- progress ---- */

struct progress {
	uint64_t done, total;
	unsigned calls;
};

static void count_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct progress *p = ctx;

	assert_true(done >= p->done);
	assert_true(done <= total);
	assert_true(p->calls == 0 || total == p->total);
	p->done = done;
	p->total = total;
	p->calls++;
}

static void test_progress_ends_at_the_total(void **state)
{
	static const struct {
		const char *edit;
		bool inplace;
		uint64_t least, most; /* the total */
	} cases[] = {
		{ "m big b", false, 20000000, 20001000 },
		{ "w big 0 ff; w big 19999999 ff", true, 65536, 131072 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct sft_overlay_options options = { .inplace = cases[i].inplace };
		char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
		struct progress p = { 0 };
		const struct sft_commit_options commit = { .progress = { count_progress, &p } };
		struct sft_overlay *ov;
		struct sft_error err = { 0 };
		size_t len;

		free(fixture_big(path, 20000000, &len));
		assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
		assert_int_equal(fixture_edit(ov, cases[i].edit, &err), 0);
		assert_int_equal(sft_overlay_commit(ov, &commit, NULL, &err), 0);
		sft_overlay_adopt(ov);
		sft_overlay_free(ov);
		assert_true(p.calls > 0 && p.done == p.total);
		assert_in_range(p.total, cases[i].least, cases[i].most);
		free(path);
		fixture_remove_dir(dir);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_edited_bytes_differ),
		cmocka_unit_test(test_a_new_layout_is_what_the_reference_writes),
		cmocka_unit_test(test_an_empty_file_is_sixteen_bytes),
		cmocka_unit_test(test_mode_owner_and_attributes_are_kept),
		cmocka_unit_test(test_the_index_keeps_its_mode),
		cmocka_unit_test(test_a_link_stays_and_its_target_is_replaced),
		cmocka_unit_test(
			test_an_output_link_to_the_source_is_replaced_and_the_source_is_not),
		cmocka_unit_test(test_a_name_without_room_for_the_suffix),
		cmocka_unit_test(test_progress_ends_at_the_total),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
