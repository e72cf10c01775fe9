/* cmd.c - what several verbs need */
#include "cmd.h"

#include "log.h"
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

int cmd_usage(const char *word, const char *reason)
{
	log_error(word, "%s", reason);
	return 2;
}

int cmd_flush(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	log_error("stdout", "%s", strerror(errno));
	return 1;
}

bool cmd_write(struct sft_buf *out, size_t above)
{
	if (out->failed || out->len <= above)
		return !out->failed;
	bool ok = fwrite(out->data, 1, out->len, stdout) == out->len;
	out->len = 0;
	return ok;
}

int cmd_words(int argc, char **argv, const char *const *names, bool *found)
{
	int kept = 0;
	bool only_positional = false;
	for (int i = 0; i < argc; i++) {
		size_t k = 0;
		if (only_positional || argv[i][0] != '-' || !argv[i][1]) {
			argv[kept++] = argv[i];
			continue;
		}
		if (strcmp(argv[i], "--") == 0) {
			only_positional = true;
			continue;
		}
		while (names[k] && strcmp(argv[i], names[k]) != 0)
			k++;
		if (!names[k]) {
			cmd_usage(argv[i], "unknown option (see safetensorfs --help)");
			return -1;
		}
		found[k] = true;
	}
	return kept;
}

int cmd_one(int argc, char **argv, const char *const *names, bool *found, const char *what)
{
	char reason[64];
	int n = cmd_words(argc, argv, names, found);
	if (n == 1 || n < 0)
		return n == 1 ? 0 : 2;
	if (n == 0)
		snprintf(reason, sizeof(reason), "missing (see safetensorfs --help)");
	else
		snprintf(reason, sizeof(reason), "one %s, no more", what);
	return cmd_usage(n ? argv[1] : what, reason);
}

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

int cmd_read_control(const char *mountpoint, const char *name, struct sft_buf *text)
{
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
		r = read_all(fd, text);
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
	return r < 0 ? 1 : 0;
}

char *cmd_json_string(const struct sft_json *j, unsigned token)
{
	char *s = NULL;
	if (token && sft_json_is_string(j, token))
		s = malloc((size_t)(j->tokens[token].end - j->tokens[token].start) + 1);
	if (s)
		sft_json_decode(j, token, s);
	return s;
}

/* ---- progress ---- */

static double seconds(const struct timespec *from, const struct timespec *to)
{
	return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

void cmd_progress_start(struct cmd_progress *p, const char *what)
{
	p->what = what;
	p->shown = false;
	clock_gettime(CLOCK_MONOTONIC, &p->start);
	p->last = p->start;
}

void cmd_progress_step(struct cmd_progress *p, uint64_t done, uint64_t total)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double elapsed = seconds(&p->start, &now);
	if (elapsed < 1 || total == 0 || seconds(&p->last, &now) < (p->shown ? 0.2 : 0) ||
	    !isatty(STDERR_FILENO))
		return;
	double part = (double)done / (double)total, rate = (double)done / elapsed;
	int filled = (int)(part * 30);
	fprintf(stderr, "\r%s [%.*s%*s] %3d%% %.0f MB/s, %.0f s left \033[K", p->what, filled,
		"==============================", 30 - filled, "", (int)(part * 100), rate / 1e6,
		rate > 0 ? (double)(total - done) / rate : 0);
	fflush(stderr);
	p->last = now;
	p->shown = true;
}

void cmd_progress_end(struct cmd_progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
