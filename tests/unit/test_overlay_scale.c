/* test_overlay_scale.c - what edits cost: time, blocks, space; and a staging that is full */
#include "overlay_fixture.h"

#include "journal.h"
#include "slots.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

#define MIB (1u << 20)

/* Sanitizers and slow machines may take longer; what is compared here are orders of magnitude. */
#if defined(__SANITIZE_ADDRESS__)
#define PATIENCE 10.0
#else
#define PATIENCE 1.0
#endif

/* Of this process: others may keep the processors busy. */
static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t random_state = 88172645463325252u;

static uint64_t random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 11) % n;
}

/* A checkpoint of tensors of these sizes. */
static struct overlay_place sized_place(const uint64_t *sizes, size_t count, bool sparse)
{
	struct overlay_place p = { .dir = fixture_make_dir() };

	p.source = fixture_join(p.dir, "m.safetensors");
	overlay_big_checkpoint(p.source, sizes, count, sparse);
	return p;
}

static void test_two_bytes_of_a_large_tensor_stage_one_block(void **state)
{
	const uint64_t size = 4ull << 30;
	struct overlay_place p = sized_place(&size, 1, true);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	double best = 1;
	uint32_t tensors;
	uint64_t bytes;
	struct stat st;
	(void)state;

	for (int i = 0; i < 20; i++) {
		double start = seconds();

		assert_int_equal(sft_overlay_write(ov, 0, "xy", 2, (3ull << 30) + 77, NULL), 0);
		best = seconds() - start < best ? seconds() - start : best;
	}
	sft_overlay_staged(ov, &tensors, &bytes);
	assert_int_equal(tensors, 1);
	assert_int_equal(bytes, SFT_BLOCK);
	assert_int_equal(fstat(ov->staging.blocks, &st), 0);
	/* Overwritten before it was synced, the first slot is used again. */
	assert_true(st.st_size <= 2 * (off_t)SFT_BLOCK);
	print_message("two bytes: %.3f ms\n", best * 1e3);
	assert_true(best < 5e-3);
	/* The regions around it are three, however large the tensor. */
	struct sft_region regions[8];
	assert_int_equal(sft_overlay_regions(ov, 0, 0, size, regions, 8), 3);
	assert_int_equal(regions[0].kind, SFT_REGION_SOURCE);
	assert_int_equal(regions[0].length, 3ull << 30);
	assert_int_equal(regions[1].kind, SFT_REGION_STAGED);
	assert_int_equal(regions[1].length, SFT_BLOCK);
	assert_int_equal(regions[2].length, size - (3ull << 30) - SFT_BLOCK);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void test_growing_costs_nothing(void **state)
{
	const uint64_t size = 100;
	struct overlay_place p = sized_place(&size, 1, false);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	struct sft_region regions[8];
	uint32_t tensors;
	uint64_t bytes;
	double start = seconds();
	(void)state;

	assert_int_equal(sft_overlay_truncate(ov, 0, 1ull << 48, NULL), 0);
	assert_int_equal(sft_overlay_write(ov, 0, "z", 1, (1ull << 48) - 1, NULL), 0);
	assert_int_equal(sft_overlay_regions(ov, 0, 0, 1ull << 48, regions, 8), 3);
	assert_int_equal(regions[0].length, 100);
	assert_int_equal(regions[1].kind, SFT_REGION_ZERO);
	assert_int_equal(regions[2].length, SFT_BLOCK);
	sft_overlay_staged(ov, &tensors, &bytes);
	assert_int_equal(bytes, SFT_BLOCK);
	assert_int_equal(sft_overlay_truncate(ov, 0, 100, NULL), 0);
	assert_false(sft_overlay_dirty(ov));
	assert_true(seconds() - start < 0.5);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

/* Read tensor `id` in pieces of 1 MiB; the best of five times, in seconds. */
static double read_all(const struct sft_overlay *ov, uint32_t id)
{
	static unsigned char bytes[MIB];
	const uint64_t size = sft_overlay_entry(ov, id)->nbytes;
	double best = 1e9;

	for (int i = 0; i < 5; i++) {
		double start = seconds(), took;
		size_t done;

		for (uint64_t at = 0; at < size; at += done)
			assert_int_equal(sft_overlay_read(ov, id, bytes, MIB, at, &done, NULL), 0);
		took = seconds() - start;
		best = took < best ? took : best;
	}
	return best;
}

static void test_small_writes_stay_cheap_and_reading_stays_fast(void **state)
{
	enum { WRITES = 100000 };
	const uint64_t sizes[] = { 128u * MIB, 128u * MIB };
	struct overlay_place p = sized_place(sizes, 2, false);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	double start = seconds(), each, untouched, written;
	struct stat st;
	(void)state;

	for (int i = 0; i < WRITES; i++)
		assert_int_equal(
			sft_overlay_write(ov, 0, "abc", 3, random_below(sizes[0] - 3), NULL), 0);
	each = (seconds() - start) / WRITES;
	untouched = read_all(ov, 1);
	written = read_all(ov, 0);
	print_message("a small write %.4f ms; reading 128 MiB: untouched %.1f ms, after %d writes "
		      "%.1f ms\n",
		      each * 1e3, untouched * 1e3, WRITES, written * 1e3);
	assert_true(each < 1e-4 * PATIENCE);
	assert_true(written < untouched * 3 * PATIENCE);
	/* 100,000 blocks were staged in 2048 and a few slots. */
	assert_int_equal(fstat(ov->staging.blocks, &st), 0);
	assert_true(st.st_size <= (off_t)2048 * SFT_BLOCK + (off_t)64 * MIB);
	sft_overlay_free(ov);
	start = seconds();
	ov = overlay_open(p.source, NULL);
	print_message("resumed in %.0f ms\n", (seconds() - start) * 1e3);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void test_writing_over_synced_bytes_takes_bounded_space(void **state)
{
	const uint64_t size = 64u * MIB;
	struct overlay_place p = sized_place(&size, 1, true);
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	unsigned char *bytes = malloc(MIB);
	struct stat st;
	(void)state;

	for (unsigned pass = 0; pass < 6; pass++) {
		memset(bytes, (int)pass, MIB);
		for (uint64_t at = 0; at < size; at += MIB)
			assert_int_equal(sft_overlay_write(ov, 0, bytes, MIB, at, NULL), 0);
		assert_int_equal(sft_overlay_sync(ov, NULL), 0);
	}
	assert_int_equal(fstat(ov->staging.blocks, &st), 0);
	assert_true(st.st_size <= (off_t)size + 17 * (off_t)MIB);
	/* What is removed is given back. */
	assert_int_equal(sft_overlay_truncate(ov, 0, 100, NULL), 0);
	assert_int_equal(fstat(ov->staging.blocks, &st), 0);
	assert_true((off_t)st.st_blocks * 512 <= 17 * (off_t)MIB);
	free(bytes);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void test_names_of_many_tensors_stay_cheap(void **state)
{
	enum { COUNT = 100000 };
	struct overlay_place p = overlay_place("a U8 1 01", "z U8 1 02");
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	double start = seconds();
	uint32_t id;
	char name[40];
	(void)state;

	for (unsigned i = 0; i < COUNT; i++) {
		int n = snprintf(name, sizeof(name), "m.%llu",
				 (unsigned long long)i * 7919 % COUNT);

		assert_int_equal(
			sft_overlay_create(ov, name, (size_t)n, false, SFT_SHARD_AUTO, &id, NULL),
			0);
	}
	for (uint32_t i = 0; i < id; i += 2)
		assert_int_equal(sft_overlay_remove(ov, i, NULL), 0);
	print_message("made and removed: %.0f ms\n", (seconds() - start) * 1e3);
	assert_true(seconds() - start < 5 * PATIENCE);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

static void test_small_tensors_take_little_space(void **state)
{
	enum { COUNT = 3000 };
	static uint64_t sizes[COUNT];
	struct overlay_place p;
	struct sft_overlay *ov;
	struct stat st;
	(void)state;

	for (uint32_t i = 0; i < COUNT; i++)
		sizes[i] = 1 + i % 3000;
	p = sized_place(sizes, COUNT, false);
	ov = overlay_open(p.source, NULL);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(sft_overlay_write(ov, i, "x", 1, 0, NULL), 0);
	assert_int_equal(fstat(ov->staging.blocks, &st), 0);
	assert_true((off_t)st.st_blocks * 512 <= COUNT * (off_t)4096 + MIB);
	/* Grown and overwritten they are whole blocks, whatever was in their slots. */
	for (uint32_t i = 0; i < COUNT; i++) {
		const uint64_t size = sft_overlay_entry(ov, i)->nbytes, end = SFT_BLOCK + size;
		unsigned char bytes[2];
		size_t done;

		assert_int_equal(sft_overlay_write(ov, i, "yz", 2, end, NULL), 0);
		assert_int_equal(sft_overlay_read(ov, i, bytes, 2, size, &done, NULL), 0);
		assert_int_equal(bytes[0] | bytes[1], 0);
		assert_int_equal(sft_overlay_truncate(ov, i, 1, NULL), 0);
		assert_int_equal(sft_overlay_truncate(ov, i, end, NULL), 0);
		assert_int_equal(sft_overlay_read(ov, i, bytes, 2, end - 1, &done, NULL), 0);
		assert_int_equal(bytes[0], 0);
	}
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

/* ---- a full staging ---- */

/* Whether a file system of its own could be mounted, of so many bytes. */
static bool mount_small(const char *dir, const char *size)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%s,mode=0700", size);
	return unshare(CLONE_NEWNS) == 0 &&
	       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

static void check_byte(const struct sft_overlay *ov, uint64_t at, unsigned char want)
{
	unsigned char byte;
	size_t done;

	assert_int_equal(sft_overlay_read(ov, 0, &byte, 1, at, &done, NULL), 0);
	assert_int_equal(byte, want);
}

static void fill_staging(const char *source, const char *staging)
{
	const struct sft_overlay_options options = { .staging = staging };
	struct sft_overlay *ov = overlay_open(source, &options);
	unsigned char *bytes = malloc(MIB);
	struct sft_error err = { 0 };
	uint64_t at = 0;
	int r;

	memset(bytes, 1, MIB);
	for (r = 0; r == 0 && at < 16 * MIB; at += r == 0 ? MIB : 0)
		r = sft_overlay_write(ov, 0, bytes, MIB, at, &err);
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(err.msg, "tensor \"t0\": cannot stage 16 blocks in"));
	assert_in_range(at, 2 * MIB, 4 * MIB);
	/* Nothing of the write that failed is there, and all of those before it. */
	check_byte(ov, at - 1, 1);
	check_byte(ov, at, overlay_byte(0, at));
	/* What is synced can still be overwritten: its old slots come back by syncing. */
	assert_int_equal(sft_overlay_sync(ov, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		memset(bytes, (int)i, SFT_BLOCK);
		assert_int_equal(
			sft_overlay_write(ov, 0, bytes, SFT_BLOCK, i % 16 * SFT_BLOCK, &err), 0);
	}
	check_byte(ov, 7 * SFT_BLOCK, 199 - (199 - 7) % 16);
	/* What is given up makes room again. */
	assert_int_equal(sft_overlay_truncate(ov, 0, MIB, NULL), 0);
	assert_int_equal(sft_overlay_sync(ov, NULL), 0);
	memset(bytes, 9, MIB);
	assert_int_equal(sft_overlay_write(ov, 0, bytes, MIB, MIB, NULL), 0);
	sft_overlay_free(ov);
	ov = overlay_open(source, &options);
	check_byte(ov, MIB, 9);
	check_byte(ov, 7 * SFT_BLOCK, 199 - (199 - 7) % 16);
	sft_overlay_free(ov);
	free(bytes);
}

static void test_a_full_staging_loses_nothing(void **state)
{
	const uint64_t size = 16u * MIB;
	struct overlay_place p = sized_place(&size, 1, false);
	char *staging = fixture_make_dir();
	pid_t child = fork();
	int status;
	(void)state;

	assert_true(child >= 0);
	if (child == 0) {
		if (!mount_small(staging, "4m"))
			_exit(77);
		fill_staging(p.source, staging);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	fixture_remove_dir(staging);
	overlay_place_free(&p);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_bytes_of_a_large_tensor_stage_one_block),
		cmocka_unit_test(test_growing_costs_nothing),
		cmocka_unit_test(test_small_writes_stay_cheap_and_reading_stays_fast),
		cmocka_unit_test(test_writing_over_synced_bytes_takes_bounded_space),
		cmocka_unit_test(test_small_tensors_take_little_space),
		cmocka_unit_test(test_names_of_many_tensors_stay_cheap),
		cmocka_unit_test(test_a_full_staging_loses_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
