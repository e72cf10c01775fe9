/* test_blocks.c - block maps, slots, and the hash that finds torn ones */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io.h"
#include "blockmap.h"
#include "hash.h"
#include "slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NONE UINT32_MAX

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)((random_state >> 20) % n);
}

/* ---- block maps ---- */

static void check_map(const struct blockmap *map, const uint32_t *model, uint32_t n)
{
	uint32_t count = 0, slot;

	for (uint32_t b = 0; b < n; b++) {
		bool found = blockmap_find(map, b, &slot);

		assert_int_equal(found, model[b] != NONE);
		if (found)
			assert_int_equal(slot, model[b]);
		count += found;
	}
	assert_int_equal(map->count, count);
}

static void test_blockmap_is_an_array_with_holes(void **state)
{
	enum { BLOCKS = 300 };
	uint32_t model[BLOCKS];
	struct blockmap map = { 0 };
	(void)state;

	for (uint32_t b = 0; b < BLOCKS; b++)
		model[b] = NONE;
	for (unsigned i = 0; i < 200000; i++) {
		uint32_t b = random_below(i / 20000 % 2 ? 12 : BLOCKS);

		if (random_below(2)) {
			assert_int_equal(blockmap_reserve(&map, 1), 0);
			blockmap_put(&map, b, i);
			model[b] = i;
		} else {
			blockmap_remove(&map, b);
			model[b] = NONE;
		}
		if (i % 1000 == 0)
			check_map(&map, model, BLOCKS);
	}
	check_map(&map, model, BLOCKS);
	blockmap_free(&map);
}

static void test_blockmap_next_finds_the_lowest(void **state)
{
	static const uint32_t blocks[] = { 5, 6, 70000, 70001, 4000000000u, UINT32_MAX };
	static const struct {
		uint64_t first, end, next;
	} cases[] = {
		{ 0, 10, 5 },
		{ 5, 10, 5 },
		{ 6, 10, 6 },
		{ 7, 10, 10 },
		{ 7, 70000, 70000 },
		{ 7, 1ull << 32, 70000 },
		{ 70002, 1ull << 32, 4000000000u },
		{ 4000000001u, 1ull << 32, UINT32_MAX },
		{ 4000000001u, UINT32_MAX, UINT32_MAX },
		{ 10, 10, 10 },
	};
	struct blockmap map = { 0 };
	(void)state;

	assert_int_equal(blockmap_next(&map, 3, 9), 9);
	assert_int_equal(blockmap_reserve(&map, 6), 0);
	for (uint32_t i = 0; i < 6; i++)
		blockmap_put(&map, blocks[i], i);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(blockmap_next(&map, cases[i].first, cases[i].end), cases[i].next);
	blockmap_free(&map);
}

static void test_a_staged_block_takes_at_most_64_bytes_of_memory(void **state)
{
	struct blockmap map = { 0 };
	struct slots s = { 0 };
	uint32_t slot;
	(void)state;

	for (uint32_t b = 0; b < 1000000; b++) {
		assert_int_equal(blockmap_reserve(&map, 1), 0);
		assert_int_equal(slots_take(&s, 1, &slot), 0);
		blockmap_put(&map, b, slot);
		if (b < 1000)
			continue;
		/* A table that grows is there twice for a moment, the smaller one and the larger.
		 */
		uint64_t bytes = (uint64_t)map.capacity * sizeof(*map.places) * 3 / 2 +
				 (uint64_t)s.cap * 8 + s.cap / 8;
		if (bytes > (uint64_t)b * 64)
			fail_msg("%llu bytes for %u blocks", (unsigned long long)bytes, b);
	}
	blockmap_free(&map);
	slots_free(&s);
}

/* ---- slots ---- */

static void test_slots_are_given_out_again_when_it_is_safe(void **state)
{
	struct slots s = { 0 };
	uint32_t a[4], b[4];
	(void)state;

	assert_int_equal(slots_take(&s, 4, a), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(a[i], i);
	/* Never recorded: at once. */
	slots_untake(&s, a + 2, 2);
	assert_int_equal(slots_take(&s, 2, b), 0);
	assert_memory_equal(b, a + 2, sizeof(*b) * 2);
	/* Recorded and not synced: at once too. */
	slots_recorded(&s, a, 4);
	slots_release(&s, 1);
	assert_int_equal(slots_take(&s, 1, b), 0);
	assert_int_equal(b[0], 1);
	slots_recorded(&s, b, 1);
	/* Synced: only after the next sync. */
	slots_synced(&s);
	slots_release(&s, 0);
	assert_int_equal(slots_take(&s, 1, b), 0);
	assert_int_equal(b[0], 4);
	assert_int_equal(s.pending_count, 1);
	slots_synced(&s);
	assert_int_equal(s.pending_count, 0);
	assert_int_equal(slots_take(&s, 1, b), 0);
	assert_int_equal(b[0], 0);
	slots_free(&s);
}

static void test_slots_come_in_runs(void **state)
{
	struct slots s = { 0 };
	uint32_t slots[100];
	(void)state;

	assert_int_equal(slots_take(&s, 100, slots), 0);
	for (uint32_t i = 100; i-- > 50;)
		slots_untake(&s, &slots[i], 1);
	assert_int_equal(slots_take(&s, 60, slots), 0);
	for (uint32_t i = 0; i < 60; i++)
		assert_int_equal(slots[i], 50 + i);
	slots_free(&s);
}

static void test_slots_have_an_end(void **state)
{
	struct slots s = { .end = SLOTS_MAX - 1, .cap = SLOTS_MAX - 1 };
	uint32_t slots[2];
	(void)state;

	assert_int_equal(slots_take(&s, 2, slots), -ENOSPC);
	assert_int_equal(s.end, SLOTS_MAX - 1);
}

static int64_t disk_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (int64_t)st.st_blocks * 512;
}

static void test_space_of_unused_slots_is_given_back(void **state)
{
	enum { COUNT = 2000 };
	static unsigned char block[SFT_BLOCK];
	static uint32_t slots[COUNT];
	char path[] = "/tmp/sft-blocks-XXXXXX";
	struct slots s = { 0 };
	int fd = mkstemp(path);
	struct stat st;
	(void)state;

	memset(block, 7, sizeof(block));
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(slots_take(&s, COUNT, slots), 0);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(io_pwrite(fd, block, SFT_BLOCK, (uint64_t)i * SFT_BLOCK), 0);
	slots_recorded(&s, slots, COUNT);
	slots_synced(&s);
	int64_t full = disk_bytes(fd);
	/* Few are kept, to be written again; many, in the middle and at the end, go. */
	for (uint32_t i = 0; i < 100; i++)
		slots_release(&s, i);
	slots_synced(&s);
	slots_reclaim(&s, fd, false);
	assert_true(disk_bytes(fd) == full);
	for (uint32_t i = 100; i < 900; i++)
		slots_release(&s, i);
	for (uint32_t i = COUNT - 500; i < COUNT; i++)
		slots_release(&s, i);
	slots_synced(&s);
	slots_reclaim(&s, fd, false);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, (off_t)(COUNT - 500) * SFT_BLOCK);
	assert_int_equal(s.end, COUNT - 500);
	assert_true(disk_bytes(fd) <= full - 1300 * (int64_t)SFT_BLOCK);
	/* What is in use is whole. */
	for (uint32_t i = 900; i < COUNT - 500; i++) {
		unsigned char byte;

		assert_int_equal(io_pread(fd, &byte, 1, (uint64_t)i * SFT_BLOCK + 777), 0);
		assert_int_equal(byte, 7);
	}
	slots_free(&s);
	close(fd);
}

/* ---- the hash ---- */

static void test_hash_tells_every_bit_and_length(void **state)
{
	static unsigned char bytes[200];
	(void)state;

	for (size_t n = 0; n < 130; n++) {
		uint64_t h = hash_bytes(bytes, n, 0);

		assert_true(h != hash_bytes(bytes, n + 1, 0));
		assert_true(h != hash_bytes(bytes, n, 1));
		for (size_t bit = 0; bit < n * 8; bit++) {
			bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
			assert_true(h != hash_bytes(bytes, n, 0));
			bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
		}
	}
}

static void test_hash_is_the_same_for_ever(void **state)
{
	static const struct {
		const char *text;
		uint64_t hash;
	} cases[] = {
		{ "", 0x68d4f6f4b2b4dd1e },
		{ "a", 0x867e5f5e65212219 },
		{ "journal", 0xad4d08cfc15f732e },
		{ "0123456789abcdef0123456789abcdef0123456789", 0x52acedda329fc1de },
	};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t h = hash_bytes(cases[i].text, strlen(cases[i].text), 0);

		if (h != cases[i].hash)
			fail_msg("\"%s\" hashes to 0x%016llx", cases[i].text,
				 (unsigned long long)h);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blockmap_is_an_array_with_holes),
		cmocka_unit_test(test_blockmap_next_finds_the_lowest),
		cmocka_unit_test(test_a_staged_block_takes_at_most_64_bytes_of_memory),
		cmocka_unit_test(test_slots_are_given_out_again_when_it_is_safe),
		cmocka_unit_test(test_slots_come_in_runs),
		cmocka_unit_test(test_slots_have_an_end),
		cmocka_unit_test(test_space_of_unused_slots_is_given_back),
		cmocka_unit_test(test_hash_tells_every_bit_and_length),
		cmocka_unit_test(test_hash_is_the_same_for_ever),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
