/* control.c - the control files of a mount */
#include "control.h"

#include "log.h"
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

static int read_all(int fd, struct sft_buf *text)
{
	char buf[4096];
	ssize_t n;
	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		sft_buf_add(text, buf, (size_t)n);
	}
	return text->failed ? -ENOMEM : 0;
}

int control_read(struct control *c, const char *mountpoint, const char *name)
{
	struct sft_error err = { 0 };
	char *path = NULL;
	struct statfs st;
	int fd = -1, r = -ENOMEM;
	if (asprintf(&path, "%s/.safetensorfs/%s", mountpoint, name) < 0)
		path = NULL;
	if (path) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		r = fd < 0 ? -errno : 0;
	}
	free(path);
	/* An ordinary directory may have files of these names. */
	if (r == 0 && (fstatfs(fd, &st) < 0 || st.f_type != FUSE_FS_MAGIC))
		r = -ENOENT;
	if (r == 0)
		r = read_all(fd, &c->text);
	if (fd >= 0)
		close(fd);
	if (r == -ENOTCONN)
		log_error(mountpoint,
			  "the daemon of this mount is dead (%s); clear it with: fusermount3 -u %s",
			  strerror(ENOTCONN), mountpoint);
	else if ((r == -ENOENT || r == -ENOTDIR) && access(mountpoint, F_OK) == 0)
		log_error(mountpoint,
			  "is not a safetensorfs mount (findmnt -t fuse.safetensorfs lists those)");
	else if (r < 0)
		log_error(mountpoint, "%s", strerror(-r));
	if (r == 0 && sft_json_parse(&c->json, c->text.data, c->text.len, 0, &err) < 0) {
		log_error(mountpoint, "%s", err.msg);
		return 1;
	}
	return r < 0 ? 1 : 0;
}

void control_free(struct control *c)
{
	sft_json_free(&c->json);
	sft_buf_free(&c->text);
}

char *control_string(const struct sft_json *j, unsigned token)
{
	char *s = NULL;
	if (token && sft_json_is_string(j, token))
		s = malloc((size_t)(j->tokens[token].end - j->tokens[token].start) + 1);
	if (s)
		sft_json_decode(j, token, s);
	return s;
}

/*
 * What was written through mappings counts too: have the kernel hand it over, file by file, since
 * syncfs(2) does not wait for FUSE. Where some of it is lost, the daemon knows, and refuses.
 */
void control_sync_writers(const char *mountpoint)
{
	struct control c = { 0 };
	unsigned array = 0;
	if (control_read(&c, mountpoint, "progress") == 0)
		array = sft_json_get(&c.json, 0, "writers");
	unsigned end = array ? sft_json_next(&c.json, array) : 0;
	for (unsigned i = array + 1; array && i < end; i = sft_json_next(&c.json, i)) {
		char *name = control_string(&c.json, i), *path = NULL;
		if (!name || asprintf(&path, "%s/%s", mountpoint, name) < 0)
			path = NULL;
		int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
		if (fd >= 0) {
			fsync(fd);
			close(fd);
		}
		free(path);
		free(name);
	}
	control_free(&c);
}
