/* cmd.c - what several verbs need */
#include "cmd.h"

#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
