/*
 * claim.c - one process at a time has a directory
 *
 * A lock on a directory does not reach other machines: on NFS and its like only regular files are
 * locked for all, and only by a descriptor that can be written to. So it is a file `lock` in the
 * directory that is locked, before anything else there is looked at or changed, and its descriptor
 * is held to the end. Whoever holds it is the only one who removes anything: the lock last, then
 * the directory. So somebody who had it open before may come to lock a file that nobody finds any
 * more: then he begins again.
 *
 * The text in the lock says that the directory is ours, and whether we made it. It is written while
 * the lock is held. An empty one, or zeros, was left by a process that did not come to that.
 */
#include "io.h"
#include "staging.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK "lock"
#define TEXT "safetensorfs: locked while edits are staged here\n"
#define TEXT_MADE "safetensorfs: locked while edits are staged here; made for that\n"
#define TEXT_LEN (sizeof("safetensorfs: locked while edits are staged here") - 1)
#define REMAINS_STEPS 100
#define REMAINS_MS 10
#define ATTEMPTS 100 /* each follows a removal by somebody else */

int claim_refuse_place(const char *path, int r, struct sft_error *err)
{
	if (r == -EACCES || r == -EROFS || r == -EPERM || r == -ENAMETOOLONG)
		return sft_fail(err, -r,
				"cannot stage edits in %s: %s; staging=DIR stages them elsewhere, "
				"output=PATH commits elsewhere",
				path, strerror(-r));
	return sft_fail(err, -r, "cannot stage edits in %s: %s", path, strerror(-r));
}

/* ---- the text ---- */

/* What the lock says of the directory; EEXIST where the file is none of ours. */
static int read_text(struct claim *c, struct sft_error *err)
{
	char text[sizeof(TEXT_MADE)] = { 0 };
	ssize_t n = TEMP_FAILURE_RETRY(pread(c->lock, text, sizeof(TEXT_MADE) - 1, 0));
	ssize_t i = 0;

	if (n < 0)
		return claim_refuse_place(c->path, -errno, err);
	while (i < n && text[i] == '\0')
		i++;
	c->known = n >= (ssize_t)TEXT_LEN && memcmp(text, TEXT, TEXT_LEN) == 0;
	c->own = c->own || (c->known && strcmp(text, TEXT_MADE) == 0);
	if (c->known || i == n)
		return 0;
	return sft_fail(err, EEXIST,
			"the staging directory %s holds a file " LOCK
			" that is not one of ours; remove it, or stage elsewhere",
			c->path);
}

/* Best effort: without it the directory is only not known again. It is durable before anything else
 * is put there: after a power cut it shows that the rest is ours. */
static void write_text(const struct claim *c)
{
	const char *text = c->own ? TEXT_MADE : TEXT;

	if (c->known)
		return;
	if (io_pwrite(c->lock, text, strlen(text), 0) < 0)
		(void)io_ftruncate(c->lock, 0);
	else if (io_fdatasync(c->lock) == 0)
		(void)io_fsync(c->dir);
}

/* ---- taking it ---- */

/* Whether the name still leads to the file that is locked. Opening it asks the server. */
static bool is_there(const struct claim *c)
{
	int fd = io_openat(c->dir, LOCK, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat mine, found;
	bool same = fd >= 0 && fstat(fd, &found) == 0 && fstat(c->lock, &mine) == 0 &&
		    mine.st_nlink > 0 && mine.st_dev == found.st_dev && mine.st_ino == found.st_ino;

	if (fd >= 0)
		close(fd);
	return same;
}

/* With the directory open: lock it. -EAGAIN: it was removed meanwhile. */
static int lock_directory(struct claim *c, struct sft_error *err)
{
	struct sft_error e = { 0 };
	struct holder h;
	int r;

	if (faccessat(c->dir, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return claim_refuse_place(c->path, -errno, err);
	c->lock = trust_openat(c->dir, c->path, LOCK, O_RDWR | O_CREAT, &e);
	if (c->lock < 0) {
		c->distrusted = e.errnum;
		return c->lock == -ENOENT ? -EAGAIN
		       : e.errnum	  ? sft_fail(err, e.errnum, "%s", e.msg)
					  : claim_refuse_place(c->path, c->lock, err);
	}
	r = io_flock(c->lock, LOCK_EX | LOCK_NB);
	if (r == -EWOULDBLOCK)
		return sft_fail(err, EBUSY, "is being edited by %s", lock_say_holder(c->lock, &h));
	if (r < 0)
		return sft_fail(err, -r,
				"the staging directory %s cannot be locked, without which two "
				"could edit at the same time: %s",
				c->path, strerror(-r));
	if (!is_there(c))
		return -EAGAIN;
	r = read_text(c, err);
	if (r == 0)
		write_text(c);
	return r;
}

static void let_go(struct claim *c)
{
	if (c->lock >= 0)
		close(c->lock);
	if (c->dir >= 0)
		close(c->dir);
	c->lock = c->dir = -1;
}

static int take_once(struct claim *c, unsigned how, struct sft_error *err)
{
	struct sft_error e = { 0 };
	bool made = false;
	struct stat st;
	int r = 0;

	c->own = c->known = c->distrusted = false;
	c->dir = trust_open_dir(c->path, !(how & CLAIM_DEFAULT), &e);
	if (c->dir == -ENOENT && how & CLAIM_MAKE) {
		r = io_mkdir(c->path, 0700);
		made = r == 0;
		if (r < 0 && r != -EEXIST)
			return claim_refuse_place(c->path, r, err);
		c->dir = trust_open_dir(c->path, !(how & CLAIM_DEFAULT), &e);
	}
	r = c->dir;
	if (r < 0) {
		c->dir = -1;
		/* What is no directory nobody edits in; nor in one of ours, where the file system
		 * says that what we make is somebody else's. */
		c->distrusted =
			e.errnum && !made && lstat(c->path, &st) == 0 && S_ISDIR(st.st_mode);
		if (made) {
			(void)io_unlinkat(AT_FDCWD, c->path, AT_REMOVEDIR);
			sft_hint(&e, "staging=DIR stages edits elsewhere");
		}
		if (e.errnum)
			return sft_fail(err, e.errnum, "%s", e.msg);
		if (r == -ENOENT)
			return how & CLAIM_MAKE ? -EAGAIN : 0;
		return claim_refuse_place(c->path, r, err);
	}
	c->own = made || how & CLAIM_DEFAULT;
	r = lock_directory(c, err);
	if (r < 0) {
		let_go(c);
		/* Only if it is empty, so nobody else has begun to use it. */
		if (made && r != -EBUSY && r != -EAGAIN)
			(void)io_unlinkat(AT_FDCWD, c->path, AT_REMOVEDIR);
	}
	return r;
}

int claim_take(struct claim *c, unsigned how, struct sft_error *err)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		int r = take_once(c, how, err);

		if (r != -EAGAIN)
			return r;
	}
	return sft_fail(err, EBUSY, "the staging directory %s was just removed; try again",
			c->path);
}

bool claim_is(const struct claim *c, const char *path)
{
	struct stat mine, other;

	return c->dir >= 0 && fstat(c->dir, &mine) == 0 && stat(path, &other) == 0 &&
	       mine.st_dev == other.st_dev && mine.st_ino == other.st_ino;
}

/* ---- giving it back ---- */

/*
 * Whether a directory that should be empty holds what NFS and FUSE file systems keep of files that
 * were removed while they were open, and of which they may not have heard yet that they are closed.
 */
static bool has_remains_only(int dir)
{
	int fd = io_openat(dir, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	bool remains = d;

	while (remains && (e = readdir(d)))
		remains = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			  strncmp(e->d_name, ".nfs", 4) == 0 ||
			  strncmp(e->d_name, ".fuse_hidden", 12) == 0;
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
	return remains;
}

void claim_remove(struct claim *c)
{
	if (c->dir < 0)
		return;
	/* As long as anything of ours may come back after a power cut, so has the lock to. */
	int r = io_fsync(c->dir);
	if (r == 0 || r == -EINVAL)
		(void)io_unlinkat(c->dir, LOCK, 0);
	/* From here on somebody else may have it, and then the directory is not empty. */
	close(c->lock);
	c->lock = -1;
	for (int i = 0; c->own && i < REMAINS_STEPS; i++) {
		if (io_unlinkat(AT_FDCWD, c->path, AT_REMOVEDIR) != -ENOTEMPTY ||
		    !has_remains_only(c->dir))
			break;
		poll(NULL, 0, REMAINS_MS);
	}
	let_go(c);
}

void claim_free(struct claim *c)
{
	if (c->path)
		let_go(c);
	free(c->path);
	c->path = NULL;
}
