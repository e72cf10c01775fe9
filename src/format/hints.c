/* hints.c - what a source that cannot be opened seems to be, and what to do */
#include "hints.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAD_MAX 32

#define PICKLE                                                                                     \
	"looks like a Python pickle, as PyTorch used to write: convert it to safetensors first"
#define PAGE "looks like a web page, of an error or a login perhaps: download it again"
#define PACKED "is compressed: unpack it first"

static const struct magic {
	const char *bytes; /* letters in lower case; either is found */
	unsigned char len;
	const char *hint;
} table[] = {
	{ "pk\3\4", 4, "looks like a PyTorch pickle (zip): convert it to safetensors first" },
	{ "\x80\2\x8a\nl\xfc\x9c", 7, PICKLE },
	{ "\x80\2}", 3, PICKLE },
	{ "\x80\4\x95", 3, PICKLE },
	{ "\x80\5\x95", 3, PICKLE },
	{ "gguf", 4, "looks like a GGUF file: that format is not read" },
	{ "\x89hdf\r\n\x1a\n", 8, "looks like an HDF5 file: that format is not read" },
	{ "\x93numpy", 6, "looks like a numpy array: that format is not read" },
	{ "version https://git-lfs", 23,
	  "is a git-lfs pointer, not the file itself: run \"git lfs pull\"" },
	{ "<!doctype", 9, PAGE },
	{ "<html", 5, PAGE },
	{ "<?xml", 5, PAGE },
	{ "{", 1, "looks like JSON text (an index has to be called *.index.json)" },
	{ "\x1f\x8b", 2, PACKED },
	{ "\x28\xb5\x2f\xfd", 4, PACKED },
	{ "\0\0\0\0\0\0\0\0", 8, "begins with zeros: an unfinished download?" },
};

static bool begins_with(const unsigned char *head, const struct magic *m)
{
	for (size_t i = 0; i < m->len; i++) {
		if (tolower(head[i]) != (unsigned char)m->bytes[i])
			return false;
	}
	return true;
}

static const char *find_hint(int fd)
{
	unsigned char head[HEAD_MAX];
	ssize_t n = pread(fd, head, sizeof(head), 0);
	if (n > 8 && head[8] == '{')
		return NULL;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (n >= table[i].len && begins_with(head, &table[i]))
			return table[i].hint;
	}
	return NULL;
}

void hints_of_file(int fd, struct sft_error *err)
{
	const char *hint = find_hint(fd);
	if (hint)
		sft_hint(err, "it %s", hint);
}

/* ---- directories ---- */

static int may_be_weights(const struct dirent *e)
{
	static const char *const suffixes[] = { ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5" };
	const char *dot = strrchr(e->d_name, '.');
	for (size_t i = 0; dot && i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (strcmp(dot, suffixes[i]) == 0)
			return 1;
	}
	return 0;
}

static int compare_dirents(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void hint_other_format(const char *path, const char *name, struct sft_error *err)
{
	char *whole = NULL;
	if (asprintf(&whole, "%s/%s", path, name) < 0)
		return;
	int fd = open(whole, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	const char *hint = fd < 0 ? NULL : find_hint(fd);
	if (hint)
		sft_hint(err, "%s %s", name, hint);
	if (fd >= 0)
		close(fd);
	free(whole);
}

void hints_of_directory(const char *path, struct sft_error *err)
{
	struct dirent **entries = NULL;
	struct stat st;
	char *snapshots = NULL;
	if (asprintf(&snapshots, "%s/snapshots", path) < 0)
		return;
	bool hub = stat(snapshots, &st) == 0 && S_ISDIR(st.st_mode);
	free(snapshots);
	if (hub) {
		sft_hint(err, "in a hub cache the source is a directory in snapshots/");
		return;
	}
	int n = scandir(path, &entries, may_be_weights, compare_dirents);
	if (n > 0)
		hint_other_format(path, entries[0]->d_name, err);
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
}
