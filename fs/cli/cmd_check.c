/* cmd_check.c - validate checkpoints fully */
#include "advice.h"
#include "cmd.h"
#include "log.h"
#include "progress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE (8u << 20)

/* Where the next bytes that are no hole begin; a sparse file is not read through. */
static uint64_t next_data(const struct sft_file *file, uint64_t at, uint64_t size)
{
	off_t data = lseek(sft_file_fd(file), (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? size
				      : at; /* no data behind; or the file system cannot tell */
	return (uint64_t)data;
}

static uint64_t file_bytes(const struct sft_checkpoint *ck)
{
	uint64_t total = 0;
	for (size_t i = 0; i < sft_checkpoint_shards(ck); i++)
		total += (uint64_t)sft_file_stat(sft_checkpoint_shard(ck, i)->file)->st_size;
	return total;
}

/*
 * Every rule has been checked by opening; what is left is whether each byte can be read, which a
 * bad disk or a truncation meanwhile prevents. BOOL tensors are not looked into: the format leaves
 * their bytes free.
 */
static int read_all(const struct sft_checkpoint *ck, struct progress *progress,
		    struct sft_error *err)
{
	uint64_t done = 0, total = file_bytes(ck);
	int r = 0;
	char *buf = malloc(PIECE);
	if (!buf)
		return sft_fail(err, ENOMEM, "no memory");
	for (size_t i = 0; r == 0 && i < sft_checkpoint_shards(ck); i++) {
		const struct sft_shard *shard = sft_checkpoint_shard(ck, i);
		uint64_t size = (uint64_t)sft_file_stat(shard->file)->st_size;
		for (uint64_t at = 0; r == 0 && at < size;) {
			at = next_data(shard->file, at, size);
			size_t n = size - at < PIECE ? (size_t)(size - at) : PIECE;
			r = sft_file_read(shard->file, buf, n, at, err);
			at += n;
			progress_step(progress, done + at, total);
		}
		done += size;
		if (r < 0)
			sft_wrap(err, "%s", shard->name);
	}
	free(buf);
	return r;
}

static bool check(const char *source, bool quiet)
{
	struct sft_checkpoint *ck = NULL;
	struct sft_error err = { 0 };
	struct progress progress;
	const char *line;
	int r = sft_checkpoint_open(source, 0, &ck, &err);
	if (r < 0)
		advise_source(source, NULL, &err);
	for (size_t i = 0; r == 0 && (line = sft_checkpoint_warning(ck, i)); i++)
		log_warning(source, "%s", line);
	if (r == 0) {
		progress_start(&progress, "check");
		r = read_all(ck, &progress, &err);
		progress_end(&progress);
	}
	sft_checkpoint_free(ck);
	if (r < 0)
		log_error(source, "%s", err.msg);
	else if (!quiet)
		printf("%s: ok\n", source);
	return r == 0;
}

int cmd_check(int argc, char **argv)
{
	static const char *const names[] = { "-q", NULL };
	bool quiet = false, ok = true;
	int n = cmd_words(argc, argv, names, &quiet);
	if (n < 1)
		return n < 0 ? 2 : cmd_usage("SOURCE", "missing");
	for (int i = 0; i < n; i++)
		ok = check(argv[i], quiet) && ok;
	if (fflush(stdout) != 0) {
		log_error("stdout", "cannot write");
		return 1;
	}
	return ok ? 0 : 1;
}
