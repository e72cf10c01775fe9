/* test_corpus.c - each file of tests/corpus is accepted, or refused for the reason expected */
#include "sft.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static char corpus[4096]; /* the directory */

/* Complain about what one file does, and count it, so that all are seen at once. */
static int wrong(const char *path, const char *wanted, int r, const struct sft_error *err)
{
	print_error("%s: wanted \"%s\", got %d \"%s\"\n", path, wanted, r, err->msg);
	return 1;
}

/* Open a file of the corpus: 0 where it is accepted or refused as `wanted` says. */
static int check_file(const char *path, const char *wanted)
{
	struct sft_error err = { 0 };
	struct sft_file *file = NULL;
	char full[8192];
	int bad = 0;

	snprintf(full, sizeof(full), "%s/%s", corpus, path);
	int r = sft_file_open(full, 0, &file, &err);
	if (strcmp(wanted, "ok") == 0)
		bad = r ? wrong(path, wanted, r, &err) : 0;
	else if (r != -EBADMSG || err.errnum != EBADMSG || !strstr(err.msg, wanted) || file)
		bad = wrong(path, wanted, r, &err);
	sft_file_free(file);
	return bad;
}

static void each_file_has_the_expected_outcome(void **state)
{
	char path[4096], *line = NULL;
	size_t cap = 0;
	int bad = 0, files = 0;

	snprintf(path, sizeof(path), "%.4000s/expected.tsv", corpus);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	while (getline(&line, &cap, f) > 0) {
		char *tab = strchr(line, '\t');

		assert_non_null(tab);
		*tab = '\0';
		tab[1 + strcspn(tab + 1, "\n")] = '\0';
		bad += check_file(line, tab + 1);
		files++;
	}
	free(line);
	fclose(f);
	assert_true(files > 200);
	assert_int_equal(bad, 0);
}

/* A file that nobody wrote into expected.tsv would never be tested. */
static void each_file_is_expected(void **state)
{
	static const char *const dirs[] = { "valid", "invalid" };
	char path[4096 + 16];
	static char table[1 << 20];
	int missing = 0;

	snprintf(path, sizeof(path), "%s/expected.tsv", corpus);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	table[fread(table, 1, sizeof(table) - 1, f)] = '\0';
	fclose(f);
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", corpus, dirs[i]);
		DIR *dir = opendir(path);
		assert_non_null(dir);
		for (struct dirent *d; (d = readdir(dir));) {
			char name[600];

			snprintf(name, sizeof(name), "%s/%s\t", dirs[i], d->d_name);
			if (d->d_name[0] == '.' || strstr(table, name))
				continue;
			print_error("%s/%s is not in expected.tsv\n", dirs[i], d->d_name);
			missing++;
		}
		closedir(dir);
	}
	assert_int_equal(missing, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_file_has_the_expected_outcome),
		cmocka_unit_test(each_file_is_expected),
	};
	const char *root = getenv("SOURCE_ROOT");

	snprintf(corpus, sizeof(corpus), "%.4000s/tests/corpus", root ? root : ".");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
