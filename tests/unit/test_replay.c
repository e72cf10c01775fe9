/* test_replay.c - what a kill or a power cut leaves is what was there at some moment */
#include "faults.h"
#include "overlay_fixture.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define MIB (1u << 20)
#define PIECE 65536u

/* Two tensors, t0 and t1, of 2 MiB. */
static struct overlay_place big_place(void)
{
	const uint64_t sizes[] = { 2 * MIB, 2 * MIB };
	struct overlay_place p = { .dir = fixture_make_dir() };

	p.source = fixture_join(p.dir, "m.safetensors");
	overlay_big_checkpoint(p.source, sizes, 2, false);
	return p;
}

static void put(struct sft_overlay *ov, uint32_t id, unsigned char byte, size_t n, uint64_t offset)
{
	static unsigned char bytes[4 * MIB];
	struct sft_error err = { 0 };

	memset(bytes, byte, n);
	if (sft_overlay_write(ov, id, bytes, n, offset, &err) < 0)
		fail_msg("%s", err.msg);
}

static unsigned char byte_at(const struct sft_overlay *ov, uint32_t id, uint64_t offset)
{
	unsigned char byte;
	size_t done;

	assert_int_equal(sft_overlay_read(ov, id, &byte, 1, offset, &done, NULL), 0);
	assert_int_equal(done, 1);
	return byte;
}

/* Leave what is on disk as a dead process would, and close. */
static void die(struct sft_overlay *ov)
{
	ov->staging.broken = true;
	sft_overlay_free(ov);
}

static char *staged(const struct sft_overlay *ov, const char *name)
{
	return fixture_join(sft_overlay_staging(ov), name);
}

static void test_a_cut_that_leaves_no_block_is_replayed(void **state)
{
	struct overlay_place p = big_place();
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	(void)state;

	put(ov, 0, 1, PIECE, 5 * PIECE);
	put(ov, 0, 2, PIECE, 20 * PIECE);
	assert_int_equal(sft_overlay_truncate(ov, 0, 5 * PIECE + 100, NULL), 0);
	put(ov, 1, 3, PIECE, 0);
	die(ov);
	ov = overlay_open(p.source, NULL);
	assert_int_equal(sft_overlay_entry(ov, 0)->nbytes, 5 * PIECE + 100);
	assert_int_equal(byte_at(ov, 0, 5 * PIECE + 99), 1);
	assert_int_equal(byte_at(ov, 1, 0), 3);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

/* ---- a power cut that keeps some blocks ---- */

/* One write of 17 blocks between others; each of its blocks in turn does not reach the disk. */
static void test_a_write_without_one_of_its_blocks_did_not_happen(void **state)
{
	(void)state;
	for (unsigned lost = 0; lost < 19; lost++) {
		struct overlay_place p = big_place();
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		unsigned char old = byte_at(ov, 0, 0);
		char *path = staged(ov, "blocks");

		put(ov, 1, 7, 10, 0);
		assert_int_equal(sft_overlay_sync(ov, NULL), 0);
		put(ov, 1, 8, 10, 10);		  /* slot 1 */
		put(ov, 0, 9, 17 * PIECE, 0);	  /* 2 to 18 */
		put(ov, 1, 10, PIECE, 3 * PIECE); /* 19 */
		die(ov);
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, "\0\0\0\0", 4, (off_t)(1 + lost) * PIECE), 4);
		close(fd);
		free(path);
		for (int again = 0; again < 2; again++) {
			ov = overlay_open(p.source, NULL);
			assert_int_equal(byte_at(ov, 1, 5), 7);
			/* What came before the loss is there; nothing that came after it is. */
			assert_int_equal(byte_at(ov, 1, 15) == 8, lost > 0);
			assert_int_equal(byte_at(ov, 0, 0), lost > 17 ? 9 : old);
			assert_int_equal(byte_at(ov, 0, 16 * PIECE) == 9, lost > 17);
			assert_int_not_equal(byte_at(ov, 1, 3 * PIECE), 10);
			sft_overlay_free(ov);
		}
		overlay_place_free(&p);
	}
}

/* The slot of a block that was written again before a sync is used for another block: if the
 * journal's end does not reach the disk, neither of the two counts. */
static void test_a_slot_that_was_used_twice_is_not_believed(void **state)
{
	struct overlay_place p = big_place();
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *path = staged(ov, "journal");
	uint64_t end;
	unsigned char old;
	(void)state;

	put(ov, 1, 5, 10, 0);
	assert_int_equal(sft_overlay_sync(ov, NULL), 0);
	old = byte_at(ov, 0, 0);
	put(ov, 0, 1, PIECE, 0);
	end = ov->staging.journal_end;
	put(ov, 0, 2, PIECE, 0);     /* gives the first one's slot up */
	put(ov, 0, 3, PIECE, PIECE); /* which goes here */
	assert_int_equal(ov->slots.end, 3);
	die(ov);
	assert_int_equal(truncate(path, (off_t)end), 0);
	free(path);
	ov = overlay_open(p.source, NULL);
	assert_int_equal(byte_at(ov, 0, 0), old);
	assert_int_equal(byte_at(ov, 1, 0), 5);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

/* ---- a death within a write ---- */

/* Die at the k-th call of a short write to a tensor of its own; what a later process writes to that
 * slot is not mixed with it. */
static void test_a_death_within_a_write_leaves_no_bytes(void **state)
{
	(void)state;
	for (unsigned k = 1;; k++) {
		struct overlay_place p = overlay_place("a U8 3 010203", NULL);
		pid_t child = fork();

		if (child == 0) {
			struct sft_overlay *ov = overlay_open(p.source, NULL);
			uint32_t id;

			if (fixture_edit(ov, "w a 0 07; c n", NULL) < 0)
				_exit(1);
			id = fixture_find(ov, "n");
			faults_arm(FAULT_DIE, k);
			put(ov, id, 0xee, 60000, 0);
			_exit(0);
		}
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == FAULT_DIED);
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		uint32_t id = fixture_find(ov, "n");
		assert_int_equal(byte_at(ov, 0, 0), 7);
		assert_int_equal(sft_overlay_truncate(ov, id, 0, NULL), 0);
		put(ov, id, 1, 10, 0);
		assert_int_equal(sft_overlay_truncate(ov, id, 60000, NULL), 0);
		for (uint64_t at = 10; at < 60000; at += 997)
			assert_int_equal(byte_at(ov, id, at), 0);
		/* And what was acknowledged is there after the next death. */
		die(ov);
		ov = overlay_open(p.source, NULL);
		assert_int_equal(byte_at(ov, fixture_find(ov, "n"), 9), 1);
		sft_overlay_free(ov);
		overlay_place_free(&p);
		if (WEXITSTATUS(status) == 0)
			break;
		assert_true(k < 100);
	}
}

/* A part of a slot at the end of the file, as an older process or another program may leave it. */
static void test_half_a_slot_is_none(void **state)
{
	struct overlay_place p = big_place();
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *path = staged(ov, "blocks");
	(void)state;

	put(ov, 0, 1, 10, 0);
	die(ov);
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	static const char rest[5000] = { 1 };
	assert_int_equal(write(fd, rest, sizeof(rest)), sizeof(rest));
	close(fd);
	ov = overlay_open(p.source, NULL);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, PIECE);
	free(path);
	sft_overlay_free(ov);
	overlay_place_free(&p);
}

/* ---- what is sparse costs nothing ---- */

static void test_sparse_files_cost_no_time(void **state)
{
	struct overlay_place p = big_place();
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	char *journal = staged(ov, "journal"), *blocks = staged(ov, "blocks");
	struct timespec begin, end;
	struct rusage used;
	(void)state;

	put(ov, 0, 1, 10, 0);
	die(ov);
	if (truncate(journal, 1ll << 40) < 0 || truncate(blocks, 15ll << 40) < 0) {
		print_message("no files of that size here\n");
		assert_true(errno == EFBIG || errno == ENOSPC);
	} else {
		clock_gettime(CLOCK_MONOTONIC, &begin);
		ov = overlay_open(p.source, NULL);
		clock_gettime(CLOCK_MONOTONIC, &end);
		assert_true(end.tv_sec - begin.tv_sec < 20);
		assert_int_equal(byte_at(ov, 0, 9), 1);
		sft_overlay_free(ov);
		getrusage(RUSAGE_SELF, &used);
		print_message("%ld KiB\n", used.ru_maxrss);
		assert_true(used.ru_maxrss < 1 << 20);
	}
	free(journal);
	free(blocks);
	overlay_place_free(&p);
}

/* ---- durable is what is found again ---- */

static void test_a_removed_staging_takes_no_edits(void **state)
{
	static const char *const names[] = { "journal", "blocks" };
	(void)state;

	for (size_t i = 0; i < 2; i++) {
		struct overlay_place p = big_place();
		struct sft_overlay *ov = overlay_open(p.source, NULL);
		char *path = staged(ov, names[i]);
		struct sft_error err = { 0 };

		put(ov, 0, 1, 10, 0);
		assert_int_equal(sft_overlay_sync(ov, NULL), 0);
		assert_int_equal(unlink(path), 0);
		assert_int_equal(sft_overlay_sync(ov, &err), -EIO);
		assert_non_null(strstr(err.msg, "was removed by somebody else"));
		assert_int_equal(sft_overlay_write(ov, 0, "x", 1, 0, NULL), -EIO);
		assert_int_equal(sft_overlay_remove(ov, 0, NULL), -EIO);
		assert_int_equal(sft_overlay_commit(ov, NULL, NULL, NULL), -EIO);
		/* It can still be read, and so be copied. */
		assert_int_equal(byte_at(ov, 0, 9), 1);
		free(path);
		sft_overlay_free(ov);
		overlay_place_free(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cut_that_leaves_no_block_is_replayed),
		cmocka_unit_test(test_a_write_without_one_of_its_blocks_did_not_happen),
		cmocka_unit_test(test_a_slot_that_was_used_twice_is_not_believed),
		cmocka_unit_test(test_a_death_within_a_write_leaves_no_bytes),
		cmocka_unit_test(test_half_a_slot_is_none),
		cmocka_unit_test(test_sparse_files_cost_no_time),
		cmocka_unit_test(test_a_removed_staging_takes_no_edits),
	};
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
