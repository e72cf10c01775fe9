/* test_commit_space.c - what a commit takes: holes, full disks, shared blocks */
#include "edit_fixture.h"

#include <sys/mount.h>

#define M "model.safetensors"

/* A file whose tensors are holes, but for the first bytes of `a`. */
static void sparse_file(const char *path, uint64_t nbytes)
{
	struct sft_buf b = { 0 };
	int fd;

	sft_buf_printf(&b,
		       "12345678{\"a\":{\"dtype\":\"U8\",\"shape\":[%" PRIu64
		       "],\"data_offsets\":[0,%" PRIu64
		       "]},\"b\":{\"dtype\":\"U8\",\"shape\":[%" PRIu64
		       "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}}",
		       nbytes, nbytes, nbytes, nbytes, 2 * nbytes);
	sft_put_le64((unsigned char *)b.data, b.len - 8);
	uint64_t size = b.len + 2 * nbytes;
	sft_buf_add(&b, "data", 4);
	fixture_put(path, b.data, b.len);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
	sft_buf_free(&b);
}

static void test_holes_stay_holes(void **state)
{
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
	struct sft_file *file;
	struct sft_error err = { 0 };
	struct stat st;
	char bytes[8];
	(void)state;

	sparse_file(path, 8ull << 30);
	assert_int_equal(stat(path, &st), 0);
	if (st.st_blocks > 1000) {
		free(path);
		fixture_remove_dir(dir);
		skip();
		return;
	}
	fixture_commit(path, &options, "m a zz; w b 5000000000 abcd");
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 16ll << 30);
	assert_true(st.st_blocks < 1000);
	assert_int_equal(sft_file_open(path, 0, &file, &err), 0);
	const struct sft_tensor *a = sft_index_find(sft_file_index(file), "zz", 2);
	const struct sft_tensor *b = sft_index_find(sft_file_index(file), "b", 1);
	assert_int_equal(sft_file_read(file, bytes, 8, sft_file_data_offset(file) + a->begin, &err),
			 0);
	assert_memory_equal(bytes, "data\0\0\0", 8);
	assert_int_equal(sft_file_read(file, bytes, 4,
				       sft_file_data_offset(file) + b->begin + 4999999999, &err),
			 0);
	assert_memory_equal(bytes, "\0\xab\xcd\0", 4);
	sft_file_free(file);
	free(path);
	fixture_remove_dir(dir);
}

/* Mount a file system for a test at `dir`; false where we may not or it is not there. */
static bool mount_tmpfs(const char *dir, const char *size)
{
	return geteuid() == 0 && mount("tmpfs", dir, "tmpfs", 0, size) == 0;
}

static void test_too_little_space_is_refused_before_anything_is_written(void **state)
{
	const struct sft_overlay_options options = { 0 };
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M), *before, *after;
	struct sft_overlay *ov;
	struct sft_error err = { 0 };
	size_t len;
	(void)state;

	if (!mount_tmpfs(dir, "size=2m")) {
		free(path);
		fixture_remove_dir(dir);
		skip();
		return;
	}
	before = fixture_big(path, 1200000, &len);
	assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
	assert_int_equal(fixture_edit(ov, "m big b", &err), 0);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, "the new files need 12000"));
	assert_non_null(strstr(err.msg, " are free"));
	char *temporary = fixture_join(dir, "." M ".safetensorfs-new");
	assert_int_equal(access(temporary, F_OK), -1);
	free(temporary);
	/* A file that is small enough again can be committed. */
	err = (struct sft_error){ 0 };
	assert_int_equal(fixture_edit(ov, "t b 1000; d b U8 1000", &err), 0);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), 0);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	after = fixture_get(path, &len);
	assert_memory_equal(after + len - 1000,
			    before + strlen("12345678") + sft_le64((unsigned char *)before), 1000);
	free(before);
	free(after);
	assert_int_equal(umount(dir), 0);
	free(path);
	fixture_remove_dir(dir);
}

/* An XFS in a file, mounted at `dir`; false where that cannot be had. */
static bool mount_xfs(const char *image, const char *dir)
{
	char *command = NULL;
	int r;

	if (geteuid() != 0)
		return false;
	assert_true(asprintf(&command,
			     "truncate -s 400M '%s' && mkfs.xfs -q '%s' 2>/dev/null && "
			     "mount -o loop '%s' '%s' 2>/dev/null",
			     image, image, image, dir) > 0);
	r = system(command);
	free(command);
	return r == 0;
}

static uint64_t free_bytes(const char *dir)
{
	char *command = NULL, text[64] = "";
	FILE *f;

	assert_true(asprintf(&command, "sync -f '%s'; stat -f -c '%%f %%S' '%s'", dir, dir) > 0);
	f = popen(command, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	pclose(f);
	free(command);
	uint64_t blocks = strtoull(text, NULL, 10);
	return blocks * strtoull(strchr(text, ' '), NULL, 10);
}

static void test_blocks_are_shared_where_the_file_system_can(void **state)
{
	static const struct {
		const char *name, *edit;
		uint64_t most; /* bytes that the commit may take while the old file is open */
	} cases[] = {
		{ "the same layout", "w big 100000 ff", 1u << 20 },
		{ "another name of the same length", "m big bug", 1u << 20 },
		{ "another layout", "m big b; c c; w c 0 01", 64u << 20 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct sft_overlay_options options = { 0 };
		char *dir = fixture_make_dir(), *image = fixture_join(dir, "image");
		char *mnt = fixture_join(dir, "mnt"), *path = fixture_join(mnt, M);
		struct sft_overlay *ov;
		struct sft_error err = { 0 };
		size_t len;

		assert_int_equal(mkdir(mnt, 0777), 0);
		if (!mount_xfs(image, mnt)) {
			free(path);
			free(mnt);
			free(image);
			fixture_remove_dir(dir);
			skip();
			return;
		}
		print_message("%s\n", cases[i].name);
		free(fixture_big(path, 40000000, &len));
		/* Give it a header as long as the rebuilt one. */
		fixture_commit(path, &options, "m big bag");
		fixture_commit(path, &options, "m bag big");
		assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
		uint64_t before = free_bytes(mnt);
		assert_int_equal(fixture_edit(ov, cases[i].edit, &err), 0);
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), 0);
		uint64_t after = free_bytes(mnt);
		assert_true(before - after < cases[i].most || after > before);
		sft_overlay_adopt(ov);
		sft_overlay_free(ov);
		struct sft_file *file;
		assert_int_equal(sft_file_open(path, 0, &file, &err), 0);
		sft_file_free(file);
		assert_int_equal(umount(mnt), 0);
		free(path);
		free(mnt);
		free(image);
		fixture_remove_dir(dir);
	}
}

/* Take all the room there is, but for so many bytes. */
static void fill_disk(const char *dir, const char *filler, uint64_t but)
{
	char *path = fixture_join(dir, filler);
	uint64_t have = free_bytes(dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_true(have > but);
	assert_int_equal(posix_fallocate(fd, 0, (off_t)(have - but)), 0);
	close(fd);
	free(path);
}

/*
 * In place, on a disk with less room than the source's holes or shared blocks will take: refused
 * before the source changes, so that there is a way out; with room it goes on as if nothing had
 * been, and in place.
 */
static void check_full_disk_in_place(char *dir, char *mnt, const char *path, const char *edits)
{
	char *staging = fixture_join(dir, "staging"), *filler = fixture_join(mnt, "filler");
	const struct sft_overlay_options options = { .staging = staging, .inplace = true };
	struct stat before, after;
	struct sft_overlay *ov;
	struct sft_error err = { 0 };
	size_t len = 0;

	assert_int_equal(stat(path, &before), 0);
	char *old = fixture_get(path, &len);
	assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
	assert_int_equal(fixture_edit(ov, edits, &err), 0);
	fill_disk(mnt, "filler", 300000);
	assert_int_equal(sft_overlay_commit(ov, NULL, NULL, &err), -ENOSPC);
	unsigned long long need;
	assert_int_equal(
		sscanf(err.msg, "holes and shared blocks of the source would take %llu ", &need),
		1);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	char *same = fixture_get(path, &len);
	assert_memory_equal(old, same, len);
	free(same);
	/* What a mount's end leaves can be dropped, or, with room, committed. */
	sft_overlay_free(ov);
	struct sft_buf text = { 0 };
	bool found;
	assert_int_equal(sft_staging_discard(path, staging, false, &text, &found, NULL), 0);
	assert_true(found);
	sft_buf_free(&text);
	/* File systems need more than that for themselves. With too little it stays refused. */
	char note[160] = "";
	int r = -ENOSPC;
	for (uint64_t more = 0; r == -ENOSPC && more < (64u << 20); more += 256u << 10) {
		err = (struct sft_error){ 0 };
		assert_int_equal(unlink(filler), 0);
		fill_disk(mnt, "filler", need + more);
		assert_int_equal(sft_overlay_open(path, &options, &ov, &err), 0);
		r = sft_overlay_commit(ov, NULL, note, &err);
		if (r == 0)
			break;
		print_message("with %llu more: %s\n", (unsigned long long)more, err.msg);
		same = fixture_get(path, &len);
		assert_memory_equal(old, same, len);
		free(same);
		assert_true(sft_overlay_dirty(ov));
		sft_overlay_free(ov);
	}
	assert_int_equal(r, 0);
	assert_string_equal(note, "");
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
	char *now = fixture_get(path, &len);
	size_t edited = 0;
	for (size_t i = 0; i < len; i++)
		edited += now[i] != old[i];
	assert_int_equal(edited, 30);
	free(now);
	free(old);
	free(filler);
	free(staging);
}

/* A byte in each of 30 blocks of tensor `b`. */
#define THIRTY(NAME)                                                                               \
	"w " NAME " 0 ab; w " NAME " 65536 ab; w " NAME " 131072 ab; w " NAME                      \
	" 196608 ab; w " NAME " 262144 ab; w " NAME " 327680 ab; w " NAME " 393216 ab; w " NAME    \
	" 458752 ab; w " NAME " 524288 ab; w " NAME " 589824 ab; w " NAME " 655360 ab; w " NAME    \
	" 720896 ab; w " NAME " 786432 ab; w " NAME " 851968 ab; w " NAME " 917504 ab; w " NAME    \
	" 983040 ab; w " NAME " 1048576 ab; w " NAME " 1114112 ab; w " NAME " 1179648 ab; w " NAME \
	" 1245184 ab; w " NAME " 1310720 ab; w " NAME " 1376256 ab; w " NAME                       \
	" 1441792 ab; w " NAME " 1507328 ab; w " NAME " 1572864 ab; w " NAME                       \
	" 1638400 ab; w " NAME " 1703936 ab; w " NAME " 1769472 ab; w " NAME                       \
	" 1835008 ab; w " NAME " 1900544 ab"

static void test_in_place_a_sparse_source_gets_its_room_first(void **state)
{
	char *dir = fixture_make_dir(), *mnt = fixture_join(dir, "mnt");
	char *path = fixture_join(mnt, M);
	(void)state;

	assert_int_equal(mkdir(mnt, 0777), 0);
	if (mount_tmpfs(mnt, "size=4m")) {
		sparse_file(path, 3000000);
		check_full_disk_in_place(dir, mnt, path, THIRTY("b"));
		assert_int_equal(umount(mnt), 0);
	} else {
		print_message("not run\n");
	}
	free(path);
	free(mnt);
	fixture_remove_dir(dir);
}

static void test_in_place_shared_blocks_get_their_room_first(void **state)
{
	char *dir = fixture_make_dir(), *image = fixture_join(dir, "image");
	char *mnt = fixture_join(dir, "mnt"), *path = fixture_join(mnt, M), *command = NULL;
	size_t len;
	(void)state;

	assert_int_equal(mkdir(mnt, 0777), 0);
	if (mount_xfs(image, mnt)) {
		free(fixture_big(path, 4000000, &len));
		assert_true(asprintf(&command, "cp --reflink=always '%s' '%s/copy' && sync -f '%s'",
				     path, mnt, mnt) > 0);
		assert_int_equal(system(command), 0);
		check_full_disk_in_place(dir, mnt, path, THIRTY("big"));
		assert_int_equal(umount(mnt), 0);
	} else {
		print_message("not run\n");
	}
	free(command);
	free(path);
	free(mnt);
	free(image);
	fixture_remove_dir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holes_stay_holes),
		cmocka_unit_test(test_too_little_space_is_refused_before_anything_is_written),
		cmocka_unit_test(test_blocks_are_shared_where_the_file_system_can),
		cmocka_unit_test(test_in_place_a_sparse_source_gets_its_room_first),
		cmocka_unit_test(test_in_place_shared_blocks_get_their_room_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
