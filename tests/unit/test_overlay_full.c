/*
 * test_overlay_full.c - a disk that is really full, at whatever page
 *
 * A tmpfs of a megabyte, in a mount namespace of its own, has some pages left when edits begin.
 * Each request is done, or fails with ENOSPC and has changed nothing: neither what is shown, nor
 * what is found when the process is gone. With space again all of it is committed. Needs root.
 */
#include "overlay_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define PAGE 4096u
#define PAGES_MAX 45u /* left at the beginning; a block takes 16 */
#define REQUESTS 60u  /* for each, more than a full disk takes */
#define VALUE 3000u   /* bytes of a metadata value */

typedef int request(struct sft_overlay *ov, unsigned i, struct sft_error *err);

static uint32_t live_tensor(const struct sft_overlay *ov, unsigned i)
{
	uint32_t found = SFT_NO_ID;

	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);

		if (e->live && !e->scratch && (found == SFT_NO_ID || i-- > 0))
			found = id;
	}
	return found;
}

static int set_metadata(struct sft_overlay *ov, unsigned i, struct sft_error *err)
{
	char value[VALUE];
	struct sft_pair pair = { "k", value, 1, VALUE };
	const struct sft_metadata metadata = { .present = true, .count = 1, .pairs = &pair };
	struct sft_change c[] = {
		{ .kind = SFT_SET_METADATA, .shard = 0, .metadata = &metadata },
		{ .kind = SFT_SET_METADATA, .shard = 1, .metadata = &metadata },
	};

	memset(value, 'a' + (int)(i % 26), sizeof(value));
	return sft_overlay_change(ov, c, 2, err);
}

static int rename_all(struct sft_overlay *ov, unsigned i, struct sft_error *err)
{
	struct sft_change c[16] = { 0 };
	char names[16][32];
	size_t n = 0;

	for (uint32_t id = 0; id < sft_overlay_count(ov) && n < 16; id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);

		if (!e->live || e->scratch)
			continue;
		snprintf(names[n], sizeof(names[n]), "%u.%zu", i, n);
		c[n].kind = SFT_RENAME;
		c[n].id = id;
		c[n].shard = SFT_SHARD_AUTO;
		c[n].name = names[n];
		c[n].name_len = strlen(names[n]);
		n++;
	}
	return sft_overlay_change(ov, c, n, err);
}

/* The old one goes on under a key, for whoever has it open. */
static int replace(struct sft_overlay *ov, unsigned i, struct sft_error *err)
{
	static const uint64_t shape[] = { 2 };
	uint32_t id = live_tensor(ov, i % 3);
	char *name = strdup(sft_overlay_entry(ov, id)->name), key[16];
	struct sft_change c[] = {
		{ .kind = SFT_RENAME, .id = id, .name = key, .scratch = true },
		{ .kind = SFT_CREATE,
		  .name = name,
		  .name_len = strlen(name),
		  .declared = true,
		  .dtype = SFT_U16,
		  .shape = shape,
		  .rank = 1,
		  .nbytes = 4 },
	};
	int r;

	snprintf(key, sizeof(key), "/%u", i);
	c[0].name_len = strlen(key);
	c[0].shard = c[1].shard = SFT_SHARD_AUTO;
	r = sft_overlay_change(ov, c, 2, err);
	free(name);
	return r;
}

static int write_one(struct sft_overlay *ov, unsigned i, struct sft_error *err)
{
	unsigned char byte = (unsigned char)i;

	return sft_overlay_write(ov, live_tensor(ov, i % 3), &byte, 1, i % 4, err);
}

static int set_length(struct sft_overlay *ov, unsigned i, struct sft_error *err)
{
	return sft_overlay_truncate(ov, live_tensor(ov, i % 3), i % 5, err);
}

static int sync_all(struct sft_overlay *ov, unsigned i, struct sft_error *err)
{
	(void)i;
	return sft_overlay_sync(ov, err);
}

/* Not each of them in turn, as then a large one would meet the end each time. */
static request *const requests[] = {
	set_metadata, rename_all, replace,	set_metadata, write_one,    set_length,
	replace,      sync_all,	  set_metadata, rename_all,   set_metadata,
};

/* Until so many pages are left. */
static void fill(const char *path, uint64_t pages)
{
	static const unsigned char page[PAGE] = { 1 };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct statvfs sv;

	assert_true(fd >= 0);
	while (fstatvfs(fd, &sv) == 0 && sv.f_bavail * sv.f_bsize > pages * PAGE)
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	close(fd);
}

/* How many requests failed. */
static unsigned run_requests(struct sft_overlay *ov, uint64_t pages)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < REQUESTS; i++) {
		struct sft_error err = { 0 };
		char *before = overlay_describe(ov);
		int r = requests[(i + pages) % (sizeof(requests) / sizeof(*requests))](ov, i, &err);
		char *after = overlay_describe(ov);

		if (r < 0) {
			failed++;
			if (r != -ENOSPC)
				fail_msg("%s", err.msg);
			assert_string_equal(after, before);
		}
		free(before);
		free(after);
	}
	return failed;
}

static void mend(struct sft_overlay *ov)
{
	for (uint32_t id = 0; id < sft_overlay_count(ov); id++) {
		const struct sft_entry *e = sft_overlay_entry(ov, id);
		const uint64_t shape = e->nbytes;

		if (e->live && !e->scratch)
			assert_int_equal(sft_overlay_declare(ov, id, SFT_U8, &shape, 1, NULL), 0);
	}
}

static unsigned run_with(uint64_t pages)
{
	struct overlay_place p =
		overlay_place("a U8 2 0102; b U8 2 0304; c U8 2 0506", "x U8 1 0a; @k=v");
	char *filler = fixture_join(p.dir, "filler");
	struct sft_overlay *ov = overlay_open(p.source, NULL);
	struct sft_error err = { 0 };
	char *shown, *replayed;
	unsigned failed;

	fill(filler, pages);
	failed = run_requests(ov, pages);
	shown = overlay_describe(ov);
	sft_overlay_free(ov);
	assert_int_equal(unlink(filler), 0);
	ov = overlay_open(p.source, NULL);
	replayed = overlay_describe(ov);
	assert_string_equal(replayed, shown);
	mend(ov);
	if (sft_overlay_commit(ov, &fixture_any, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	sft_overlay_adopt(ov);
	sft_overlay_free(ov);
	free(shown);
	free(replayed);
	free(filler);
	overlay_place_free(&p);
	return failed;
}

static void test_a_request_on_a_full_disk_is_done_or_changes_nothing(void **state)
{
	char *dir;
	unsigned failed = 0;
	(void)state;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		skip();
	dir = fixture_make_dir();
	if (mount("none", dir, "tmpfs", 0, "size=1m") < 0) {
		fixture_remove_dir(dir);
		skip();
	}
	(void)setenv("TMPDIR", dir, 1);
	for (uint64_t pages = 0; pages < PAGES_MAX; pages++)
		failed += run_with(pages);
	print_message("%u requests failed\n", failed);
	assert_true(failed > PAGES_MAX);
	assert_int_equal(umount(dir), 0);
	fixture_remove_dir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_on_a_full_disk_is_done_or_changes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
