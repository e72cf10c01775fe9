/* test_checkpoint.c - files, directories and indexes, as sources and as what is wrong with them */
#include "sft.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[] = "/tmp/test-checkpoint-XXXXXX";

static const char *in_dir(const char *name)
{
	static char path[512];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

/* A checkpoint of U8 tensors of one byte each; names are separated by spaces. */
static void write_shard(const char *file, const char *names)
{
	char json[4096] = "{", copy[256];
	int n = 0;
	snprintf(copy, sizeof(copy), "%s", names);
	for (char *name = strtok(copy, " "); name; name = strtok(NULL, " "), n++)
		snprintf(json + strlen(json), sizeof(json) - strlen(json),
			 "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
			 n ? "," : "", name, n, n + 1);
	strcat(json, "}");
	FILE *f = fopen(in_dir(file), "wb");
	assert_non_null(f);
	unsigned char length[8] = { (unsigned char)strlen(json),
				    (unsigned char)(strlen(json) >> 8) };
	fwrite(length, 1, 8, f);
	fwrite(json, 1, strlen(json), f);
	for (int i = 0; i < n; i++)
		fputc('0' + i, f);
	assert_int_equal(fclose(f), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return ftw->level ? remove(path) : 0;
}

static int empty_dir(void **state)
{
	return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void open_fails(const char *name, unsigned flags, int errnum, const char *message)
{
	struct sft_checkpoint *ck = NULL;
	struct sft_error err = { 0 };
	int r = sft_checkpoint_open(name ? in_dir(name) : dir, flags, &ck, &err);
	if (r != -errnum || !strstr(err.msg, message))
		fail_msg("wanted %d \"%s\", got %d \"%s\"", -errnum, message, r, err.msg);
	assert_null(ck);
}

static struct sft_checkpoint *open_ok(const char *name, unsigned flags)
{
	struct sft_checkpoint *ck = NULL;
	struct sft_error err = { 0 };
	if (sft_checkpoint_open(name ? in_dir(name) : dir, flags, &ck, &err) < 0)
		fail_msg("%s", err.msg);
	return ck;
}

/* The tensors in order, as "name@file name@file". */
static void tensors_are(const struct sft_checkpoint *ck, const char *expected)
{
	char text[512] = "";
	for (size_t i = 0; i < sft_checkpoint_count(ck); i++) {
		const struct sft_tensor *t = sft_checkpoint_at(ck, i);
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s@%s", i ? " " : "",
			 t->name, sft_checkpoint_shard(ck, t->shard)->name);
		assert_ptr_equal(sft_checkpoint_find(ck, "absent", 6), NULL);
	}
	assert_string_equal(text, expected);
}

static void warnings_are(const struct sft_checkpoint *ck, const char *const *parts)
{
	size_t i = 0;
	for (; parts[i]; i++) {
		const char *line = sft_checkpoint_warning(ck, i);
		if (!line || !strstr(line, parts[i]))
			fail_msg("wanted \"%s\", got \"%s\"", parts[i], line ? line : "nothing");
	}
	assert_null(sft_checkpoint_warning(ck, i));
}

static void one_file_is_a_checkpoint(void **state)
{
	write_shard("m.safetensors", "b a");
	struct sft_checkpoint *ck = open_ok("m.safetensors", 0);
	char byte;
	tensors_are(ck, "a@m.safetensors b@m.safetensors");
	assert_false(sft_checkpoint_is_directory(ck));
	assert_int_equal(sft_checkpoint_nbytes(ck), 2);
	const struct sft_tensor *a = sft_checkpoint_find(ck, "a", 1);
	assert_int_equal(sft_file_read(sft_checkpoint_shard(ck, 0)->file, &byte, 1,
				       sft_checkpoint_offset(ck, a), NULL),
			 0);
	assert_int_equal(byte, '1');
	sft_checkpoint_free(ck);
}

static void a_file_may_have_any_name(void **state)
{
	write_shard("0123abcd", "a");
	assert_int_equal(symlink("0123abcd", in_dir("link.safetensors")), 0);
	struct sft_checkpoint *ck = open_ok("link.safetensors", 0);
	tensors_are(ck, "a@0123abcd");
	sft_checkpoint_free(ck);
}

static void bytes_cut_off_meanwhile_are_an_error(void **state)
{
	write_shard("m.safetensors", "a b");
	struct sft_checkpoint *ck = open_ok("m.safetensors", 0);
	const struct sft_file *file = sft_checkpoint_shard(ck, 0)->file;
	uint64_t offset = sft_checkpoint_offset(ck, sft_checkpoint_find(ck, "b", 1));
	struct sft_error err = { 0 };
	char byte;
	assert_int_equal(truncate(in_dir("m.safetensors"), (off_t)offset), 0);
	assert_int_equal(sft_file_read(file, &byte, 1, offset, &err), -EIO);
	assert_non_null(strstr(err.msg, "truncated"));
	assert_int_equal(sft_file_read(file, &byte, 1, offset - 1, NULL), 0);
	sft_checkpoint_free(ck);
}

static void what_is_no_file_is_refused(void **state)
{
	assert_int_equal(mkfifo(in_dir("pipe.safetensors"), 0600), 0);
	open_fails("pipe.safetensors", 0, EINVAL, "is not a regular file");
	open_fails("absent.safetensors", 0, ENOENT, "No such file");
	write_text("short", "1234567");
	open_fails("short", 0, EBADMSG, "shorter than 8 bytes (it has 7)");
}

static void a_directory_without_index_is_all_its_files(void **state)
{
	open_fails(NULL, 0, ENOENT, "no *.safetensors");
	write_shard("2.safetensors", "a c");
	write_shard("1.safetensors", "d b");
	write_shard(".hidden.safetensors", "z");
	write_text("other.txt", "x");
	struct sft_checkpoint *ck = open_ok(NULL, 0);
	tensors_are(ck, "a@2.safetensors b@1.safetensors c@2.safetensors d@1.safetensors");
	assert_true(sft_checkpoint_is_directory(ck));
	assert_null(sft_checkpoint_index_path(ck));
	sft_checkpoint_free(ck);
	write_text("3.safetensors", "xx");
	open_fails(NULL, 0, EBADMSG, "3.safetensors: shorter than 8 bytes");
}

static void one_name_in_two_files_needs_a_layout(void **state)
{
	write_shard("1.safetensors", "a b");
	write_shard("2.safetensors", "b c");
	open_fails(NULL, 0, EBADMSG,
		   "\"b\" is in two files, 1.safetensors and 2.safetensors (layout=files");
	struct sft_checkpoint *ck = open_ok(NULL, SFT_SAME_NAMES);
	tensors_are(ck, "a@1.safetensors b@1.safetensors b@2.safetensors c@2.safetensors");
	sft_checkpoint_free(ck);
}

#define INDEX "m.safetensors.index.json"

static void an_index_names_the_shards(void **state)
{
	write_shard("1.safetensors", "a");
	write_shard("2.safetensors", "b");
	write_shard("unnamed.safetensors", "z");
	write_text(INDEX, "{\"metadata\":{},\"weight_map\":{\"a\":\"1.safetensors\","
			  "\"b\":\"2.safetensors\"}}\n");
	struct sft_checkpoint *ck = open_ok(NULL, 0);
	tensors_are(ck, "a@1.safetensors b@2.safetensors");
	assert_string_equal(sft_checkpoint_index_path(ck), in_dir(INDEX));
	warnings_are(ck, (const char *const[]){ NULL });
	sft_checkpoint_free(ck);
	ck = open_ok(INDEX, 0);
	tensors_are(ck, "a@1.safetensors b@2.safetensors");
	assert_string_equal(sft_checkpoint_path(ck), dir);
	sft_checkpoint_free(ck);
	write_text("other.safetensors.index.json", "{\"weight_map\":{\"a\":\"1.safetensors\"}}");
	open_fails(NULL, 0, EBADMSG, "2 index files, among them " INDEX " and other");
	ck = open_ok("other.safetensors.index.json", 0);
	tensors_are(ck, "a@1.safetensors");
	sft_checkpoint_free(ck);
}

static void a_linked_index_means_the_directory_of_the_link(void **state)
{
	assert_int_equal(mkdir(in_dir("blobs"), 0700), 0);
	write_shard("1.safetensors", "a");
	write_text("blobs/0123", "{\"weight_map\":{\"a\":\"1.safetensors\"}}");
	assert_int_equal(symlink("blobs/0123", in_dir(INDEX)), 0);
	struct sft_checkpoint *ck = open_ok(INDEX, 0);
	tensors_are(ck, "a@1.safetensors");
	sft_checkpoint_free(ck);
}

static void missing_shards_are_listed(void **state)
{
	write_shard("1.safetensors", "a");
	write_text(INDEX, "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
			  "\"c\":\"3.safetensors\"}}");
	open_fails(NULL, 0, ENOENT,
		   "2 of 3 shards missing (-o partial mounts without them): "
		   "2.safetensors, 3.safetensors");
	struct sft_checkpoint *ck = open_ok(NULL, SFT_PARTIAL);
	tensors_are(ck, "a@1.safetensors");
	assert_int_equal(sft_checkpoint_shards(ck), 3);
	assert_null(sft_checkpoint_shard(ck, 1)->file);
	warnings_are(ck, (const char *const[]){ "2 of 3 shards are missing", NULL });
	sft_checkpoint_free(ck);
}

static void differences_between_index_and_shards_are_warnings(void **state)
{
	write_shard("1.safetensors", "a b x y");
	write_shard("2.safetensors", "c");
	write_text(INDEX, "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
			  "\"c\":\"2.safetensors\",\"gone\":\"1.safetensors\"}}");
	struct sft_checkpoint *ck = open_ok(NULL, 0);
	tensors_are(ck, "a@1.safetensors b@1.safetensors c@2.safetensors x@1.safetensors "
			"y@1.safetensors");
	warnings_are(ck,
		     (const char *const[]){
			     "tensor \"gone\" is listed in the index, and no shard has it",
			     "tensor \"b\" is in another shard than the index says",
			     "tensor \"x\" and 1 more: each is in a shard, and the index does not",
			     NULL });
	sft_checkpoint_free(ck);
}

static void the_index_settles_a_name_in_two_shards(void **state)
{
	write_shard("1.safetensors", "a b");
	write_shard("2.safetensors", "b c");
	write_text(INDEX, "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\","
			  "\"c\":\"2.safetensors\"}}");
	struct sft_checkpoint *ck = open_ok(NULL, 0);
	tensors_are(ck, "a@1.safetensors b@2.safetensors c@2.safetensors");
	warnings_are(ck, (const char *const[]){ "\"b\" is in two files, 1.safetensors and "
						"2.safetensors; the index says 2.safetensors",
						NULL });
	sft_checkpoint_free(ck);
	write_text(INDEX, "{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}");
	open_fails(NULL, 0, EBADMSG, "and the index says neither");
}

static void many_names_in_two_shards_are_not_many_lines(void **state)
{
	char names[256] = "", map[1024] = "{\"weight_map\":{";
	for (int i = 0; i < 30; i++) {
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%st%02d",
			 i ? " " : "", i);
		snprintf(map + strlen(map), sizeof(map) - strlen(map),
			 "%s\"t%02d\":\"%d.safetensors\"", i ? "," : "", i, 1 + i % 2);
	}
	strcat(map, "}}");
	write_shard("1.safetensors", names);
	write_shard("2.safetensors", names);
	write_text(INDEX, map);
	struct sft_checkpoint *ck = open_ok(NULL, 0);
	warnings_are(ck, (const char *const[]){ "tensor \"t00\" is in two files",
						"and 29 more tensors", NULL });
	sft_checkpoint_free(ck);
}

static void a_bad_index_is_refused(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", INDEX ": " },
		{ "{}", "has no weight_map" },
		{ "{\"weight_map\":[]}", "weight_map is not an object" },
		{ "{\"weight_map\":{\"a\":1}}", "\"a\": not a string" },
		{ "{\"weight_map\":{\"a\":\"\"}}", "is not a plain file name" },
		{ "{\"weight_map\":{\"a\":\".\"}}", "is not a plain file name" },
		{ "{\"weight_map\":{\"a\":\"..\"}}", "is not a plain file name" },
		{ "{\"weight_map\":{\"a\":\"../x\"}}", "is not a plain file name" },
		{ "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "is not a plain file name" },
		{ "{\"weight_map\":{\"a\":\"x\\u0000y\"}}", "is not a plain file name" },
		{ "{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", "occurs twice" },
		{ "{\"weight_map\":{\"a\":\"x\",}}", INDEX ": " },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_text(INDEX, cases[i].text);
		open_fails(NULL, 0, EBADMSG, cases[i].message);
	}
}

static void an_index_of_nothing_is_an_empty_checkpoint(void **state)
{
	write_text(INDEX, "{\"weight_map\":{}}");
	struct sft_checkpoint *ck = open_ok(NULL, 0);
	assert_int_equal(sft_checkpoint_count(ck), 0);
	assert_int_equal(sft_checkpoint_shards(ck), 0);
	sft_checkpoint_free(ck);
}

/* So that there is a place for new tensors after all were deleted. */
static void an_index_that_names_no_shard_has_the_empty_ones(void **state)
{
	write_text(INDEX, "{\"weight_map\":{}}");
	write_shard("full.safetensors", "a");
	write_shard("void.safetensors", "");
	write_shard("aa.safetensors", "");
	write_text("broken.safetensors", "no header");
	struct sft_checkpoint *ck = open_ok(NULL, 0);
	assert_int_equal(sft_checkpoint_count(ck), 0);
	assert_int_equal(sft_checkpoint_shards(ck), 2);
	assert_string_equal(sft_checkpoint_shard(ck, 0)->name, "aa.safetensors");
	assert_string_equal(sft_checkpoint_shard(ck, 1)->name, "void.safetensors");
	assert_null(sft_checkpoint_warning(ck, 0));
	sft_checkpoint_free(ck);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(one_file_is_a_checkpoint, empty_dir),
		cmocka_unit_test_teardown(a_file_may_have_any_name, empty_dir),
		cmocka_unit_test_teardown(bytes_cut_off_meanwhile_are_an_error, empty_dir),
		cmocka_unit_test_teardown(what_is_no_file_is_refused, empty_dir),
		cmocka_unit_test_teardown(a_directory_without_index_is_all_its_files, empty_dir),
		cmocka_unit_test_teardown(one_name_in_two_files_needs_a_layout, empty_dir),
		cmocka_unit_test_teardown(an_index_names_the_shards, empty_dir),
		cmocka_unit_test_teardown(a_linked_index_means_the_directory_of_the_link,
					  empty_dir),
		cmocka_unit_test_teardown(missing_shards_are_listed, empty_dir),
		cmocka_unit_test_teardown(differences_between_index_and_shards_are_warnings,
					  empty_dir),
		cmocka_unit_test_teardown(the_index_settles_a_name_in_two_shards, empty_dir),
		cmocka_unit_test_teardown(many_names_in_two_shards_are_not_many_lines, empty_dir),
		cmocka_unit_test_teardown(a_bad_index_is_refused, empty_dir),
		cmocka_unit_test_teardown(an_index_of_nothing_is_an_empty_checkpoint, empty_dir),
		cmocka_unit_test_teardown(an_index_that_names_no_shard_has_the_empty_ones,
					  empty_dir),
	};
	if (!mkdtemp(dir))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
