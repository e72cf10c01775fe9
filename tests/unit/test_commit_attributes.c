/* test_commit_attributes.c - the new file opens to nobody to whom the old one did not */
#include "commit.h"
#include "edit_fixture.h"

#include <endian.h>
#include <grp.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define M "model.safetensors"
#define ACL "system.posix_acl_access"
#define NOBODY 65534
#define TEAM 12345  /* a group that nobody is not in */
#define GUEST 23456 /* a user whom an ACL names */

/* An ACL as the kernel takes it: the file's own classes, the guest, and the mask. */
static size_t make_acl(unsigned char *out, unsigned group, unsigned guest, unsigned mask,
		       unsigned other)
{
	const struct {
		unsigned tag, permissions, id;
	} entries[] = {
		{ 0x01, 6, UINT32_MAX },     { 0x02, guest, GUEST },
		{ 0x04, group, UINT32_MAX }, { 0x10, mask, UINT32_MAX },
		{ 0x20, other, UINT32_MAX },
	};
	size_t n = 4;

	memcpy(out, "\2\0\0\0", 4);
	for (size_t i = 0; i < 5; i++) {
		const uint16_t tag = htole16((uint16_t)entries[i].tag);
		const uint16_t permissions = htole16((uint16_t)entries[i].permissions);
		const uint32_t id = htole32(entries[i].id);

		memcpy(out + n, &tag, 2);
		memcpy(out + n + 2, &permissions, 2);
		memcpy(out + n + 4, &id, 4);
		n += 8;
	}
	return n;
}

/* Commit as nobody, whom the kernel lets give no file to the team. */
static void commit_as_nobody(const char *path)
{
	const struct sft_overlay_options options = { 0 };
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct sft_overlay *ov;

		if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
		    setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(2);
		if (sft_overlay_open(path, &options, &ov, NULL) < 0 ||
		    fixture_edit(ov, "m a b", NULL) < 0 ||
		    sft_overlay_commit(ov, NULL, NULL, NULL) < 0)
			_exit(3);
		sft_overlay_adopt(ov);
		sft_overlay_free(ov);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static const struct {
	const char *name;
	mode_t before, after;
	gid_t group;
	/* Bits of an ACL before and after, -1: none. */
	int acl_group, acl_guest, acl_mask, acl_other, after_group, after_other;
} cases[] = {
	{ "a group that can be kept", 0640, 0640, NOBODY, -1, 0, 0, 0, 0, 0 },
	{ "a group that cannot", 0640, 0600, TEAM, -1, 0, 0, 0, 0, 0 },
	{ "who was in it is among the others now", 0604, 0600, TEAM, -1, 0, 0, 0, 0, 0 },
	{ "the others keep what the group had too", 0664, 0604, TEAM, -1, 0, 0, 0, 0, 0 },
	{ "set-gid was for the other group", 02770, 0700, TEAM, -1, 0, 0, 0, 0, 0 },
	{ "an ACL of a group that can be kept", 0644, 0644, NOBODY, 4, 4, 4, 4, 4, 4 },
	{ "whom an ACL names keeps it", 0664, 0664, TEAM, 4, 6, 6, 4, 0, 4 },
	{ "an ACL's mask counts for the group", 0604, 0600, TEAM, 4, 4, 0, 4, 0, 0 },
	{ "and its bits do, not the mask's", 0664, 0660, TEAM, 0, 6, 6, 4, 0, 0 },
};

static void test_a_group_that_cannot_be_kept_gets_nothing(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
		unsigned char acl[64], want[64], got[64];
		struct stat st;
		size_t n;

		print_message("%s\n", cases[i].name);
		assert_int_equal(chown(dir, NOBODY, NOBODY), 0);
		fixture_checkpoint(path, "a U8 1 01");
		assert_int_equal(chown(path, NOBODY, cases[i].group), 0);
		assert_int_equal(chmod(path, cases[i].before), 0);
		if (cases[i].acl_group >= 0) {
			n = make_acl(acl, (unsigned)cases[i].acl_group,
				     (unsigned)cases[i].acl_guest, (unsigned)cases[i].acl_mask,
				     (unsigned)cases[i].acl_other);
			if (setxattr(path, ACL, acl, n, 0) < 0) {
				print_message("no ACLs here\n");
				free(path);
				fixture_remove_dir(dir);
				continue;
			}
		}
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, cases[i].before);
		commit_as_nobody(path);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_gid, NOBODY);
		assert_int_equal(st.st_mode & 07777, cases[i].after);
		if (cases[i].acl_group >= 0) {
			n = make_acl(want, (unsigned)cases[i].after_group,
				     (unsigned)cases[i].acl_guest, (unsigned)cases[i].acl_mask,
				     (unsigned)cases[i].after_other);
			assert_int_equal(getxattr(path, ACL, got, sizeof(got)), n);
			assert_memory_equal(got, want, n);
		}
		free(path);
		fixture_remove_dir(dir);
	}
}

/* The bits in the middle of the mode are an ACL's mask; where there is no ACL they are the group's.
 */
static void test_an_acl_that_cannot_be_kept_opens_to_nobody(void **state)
{
	char *dir = fixture_make_dir(), *path = fixture_join(dir, M);
	char *mnt = fixture_join(dir, "mnt"), *out = fixture_join(mnt, M);
	unsigned char acl[64];
	struct stat st;
	size_t n = make_acl(acl, 0, 6, 6, 4);
	(void)state;

	fixture_checkpoint(path, "a U8 1 01");
	assert_int_equal(mkdir(mnt, 0777), 0);
	/* A file system without extended attributes. */
	const bool has =
		setxattr(path, ACL, acl, n, 0) == 0 && mount("ramfs", mnt, "ramfs", 0, NULL) == 0;
	if (has) {
		fixture_checkpoint(out, "a U8 1 01");
		int from = open(path, O_RDONLY | O_CLOEXEC), to = open(out, O_RDWR | O_CLOEXEC);
		assert_true(from >= 0 && to >= 0);
		assert_int_equal(commit_copy_attributes(from, to, NULL), 0);
		assert_int_equal(fstat(to, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0604);
		close(from);
		close(to);
		assert_int_equal(umount(mnt), 0);
	}
	free(out);
	free(mnt);
	free(path);
	fixture_remove_dir(dir);
	if (!has)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_group_that_cannot_be_kept_gets_nothing),
		cmocka_unit_test(test_an_acl_that_cannot_be_kept_opens_to_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
