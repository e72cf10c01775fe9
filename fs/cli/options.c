/* options.c - command line of mount, recover and discard */
#include "options.h"

#include "cmd.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum action {
	FUSE,	    /* pass on */
	FUSE_VALUE, /* pass on, has a value */
	IGNORE,	    /* of the kernel's or mount(8)'s default, or for fstab's readers */
	IGNORE_VALUE,
	RO,
	RW,
	EDIT,
	LAYOUT,
	NPY,
	PARTIAL,
	STAGING,
	OUTPUT,
	COMMIT,
	DIRECT_IO,
	ALLOW_OTHER,
	ALLOW_ROOT,
	MAX_THREADS,
	MAX_READ,
	FROM_MOUNT,
};

static const struct word {
	const char *name; /* one that ends in = takes a value */
	enum action action;
} words[] = {
	{ "ro", RO },
	{ "rw", RW },
	{ "edit", EDIT },
	{ "layout=", LAYOUT },
	{ "npy", NPY },
	{ "partial", PARTIAL },
	{ "staging=", STAGING },
	{ "output=", OUTPUT },
	{ "commit=", COMMIT },
	{ "direct_io", DIRECT_IO },
	{ "allow_other", ALLOW_OTHER },
	{ "allow_root", ALLOW_ROOT },
	{ "default_permissions", FUSE },
	{ "auto_unmount", FUSE },
	{ "fsname=", FUSE_VALUE },
	{ "subtype=", FUSE_VALUE },
	{ "max_read=", MAX_READ },
	{ "max_threads=", MAX_THREADS },
	{ "clone_fd", IGNORE }, /* always tried */
	{ "nodev", FUSE },
	{ "nosuid", FUSE },
	{ "noexec", FUSE },
	{ "noatime", FUSE },
	{ "nodiratime", IGNORE },  /* reading changes no times, and there are no links; */
	{ "nosymfollow", IGNORE }, /* libfuse 3.14 knows neither */
	{ "sync", FUSE },
	{ "dirsync", FUSE },
	{ "context=", FUSE_VALUE },
	{ "fscontext=", FUSE_VALUE },
	{ "defcontext=", FUSE_VALUE },
	{ "rootcontext=", FUSE_VALUE },
	{ "dev", FROM_MOUNT },
	{ "suid", FROM_MOUNT },
	{ "exec", IGNORE },
	{ "async", IGNORE },
	{ "atime", IGNORE },
	{ "diratime", IGNORE },
	{ "relatime", IGNORE },
	{ "norelatime", IGNORE },
	{ "strictatime", IGNORE },
	{ "nostrictatime", IGNORE },
	{ "defaults", IGNORE },
	{ "auto", IGNORE },
	{ "noauto", IGNORE },
	{ "user", IGNORE },
	{ "nouser", IGNORE },
	{ "users", IGNORE },
	{ "group", IGNORE },
	{ "owner", IGNORE },
	{ "nofail", IGNORE },
	{ "_netdev", IGNORE },
	{ "comment=", IGNORE_VALUE },
	{ "user=", IGNORE_VALUE },
};

static const struct word *find_word(const char *text)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i].name);
		if (words[i].name[n - 1] == '=' ? strncmp(text, words[i].name, n) == 0
						: strcmp(text, words[i].name) == 0)
			return &words[i];
	}
	return NULL;
}

/* One word for libfuse, with what its own option parser would split at escaped. */
static void pass_on(struct options *o, const char *text)
{
	if (o->fuse.len)
		sft_buf_add(&o->fuse, ",", 1);
	for (const char *p = text; *p; p++) {
		if (*p == ',' || *p == '\\')
			sft_buf_add(&o->fuse, "\\", 1);
		sft_buf_add(&o->fuse, p, 1);
	}
}

static int set_string(char **to, const char *text, const char *value)
{
	if (!*value)
		return cmd_usage(text, "needs a value");
	free(*to);
	*to = strdup(value);
	return *to ? 0 : cmd_usage(text, "no memory");
}

static int set_layout(struct options *o, const char *text, const char *value)
{
	static const char *const names[] = {
		[TREE_FLAT] = "flat", [TREE_TREE] = "tree", [TREE_FILES] = "files"
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			o->layout = (enum tree_layout)i;
			return 0;
		}
	}
	return cmd_usage(text, "the layouts are flat, tree and files");
}

static int set_number(unsigned *to, const char *text, const char *value, unsigned max)
{
	char *end, reason[64];
	unsigned long n = strtoul(value, &end, 10);
	snprintf(reason, sizeof(reason), "needs a number from 1 to %u", max);
	if (*value < '0' || *value > '9' || *end || n < 1 || n > max)
		return cmd_usage(text, reason);
	*to = (unsigned)n;
	return 0;
}

static int set_commit(struct options *o, const char *text, const char *value)
{
	o->inplace = strcmp(value, "inplace") == 0;
	return o->inplace || strcmp(value, "replace") == 0
		       ? 0
		       : cmd_usage(text, "the ways to commit are replace and inplace");
}

static int mount_word(struct options *o, const char *text, bool *given_ro)
{
	const struct word *w = find_word(text);
	if (!w)
		return strncmp(text, "x-", 2) == 0 || strncmp(text, "X-", 2) == 0
			       ? 0
			       : cmd_usage(text, "unknown mount option (see safetensorfs --help)");
	const char *value = text + strlen(w->name);
	switch (w->action) {
	case FUSE_VALUE:
		if (!*value)
			return cmd_usage(text, "needs a value");
		pass_on(o, text);
		return 0;
	case FUSE:
		pass_on(o, text);
		return 0;
	case IGNORE:
	case IGNORE_VALUE:
		return 0;
	case FROM_MOUNT:
		o->from_mount = true;
		return 0;
	case RO:
		*given_ro = true;
		return 0;
	case RW:
		o->given_rw = true;
		return 0;
	case EDIT:
		o->edit = true;
		return 0;
	case LAYOUT:
		return set_layout(o, text, value);
	case NPY:
		o->list_npy = true;
		return 0;
	case PARTIAL:
		o->partial = true;
		return 0;
	case STAGING:
		return set_string(&o->staging, text, value);
	case OUTPUT:
		return set_string(&o->output, text, value);
	case COMMIT:
		return set_commit(o, text, value);
	case DIRECT_IO:
		o->direct_io = true;
		return 0;
	case ALLOW_OTHER:
		o->allow_other = true;
		return 0;
	case ALLOW_ROOT:
		o->allow_root = true;
		pass_on(o, text);
		return 0;
	case MAX_THREADS:
		return set_number(&o->max_threads, text, value, 1000);
	case MAX_READ:
		pass_on(o, text);
		return set_number(&o->max_read, text, value, INT_MAX);
	}
	return 0;
}

/* recover and discard know two options. */
static int staging_word(struct options *o, enum options_for what, const char *text)
{
	if (strncmp(text, "staging=", 8) == 0)
		return set_string(&o->staging, text, text + 8);
	if (what == OPTIONS_RECOVER && strncmp(text, "output=", 7) == 0)
		return set_string(&o->output, text, text + 7);
	return cmd_usage(text, what == OPTIONS_RECOVER
				       ? "recover knows -o staging=DIR and output=PATH"
				       : "discard knows -o staging=DIR");
}

/* The words of one -o; `\,` is a comma inside a word, as libfuse reads it. */
static int parse_words(struct options *o, enum options_for what, const char *list, bool *given_ro)
{
	int r = 0;
	char *text = malloc(strlen(list) + 1);
	if (!text)
		return cmd_usage("-o", "no memory");
	while (r == 0 && *list) {
		char *out = text;
		for (; *list && *list != ','; list++) {
			if (*list == '\\' && (list[1] == ',' || list[1] == '\\'))
				list++;
			*out++ = *list;
		}
		*out = '\0';
		if (*list == ',')
			list++;
		if (!*text)
			continue;
		r = what == OPTIONS_MOUNT ? mount_word(o, text, given_ro)
					  : staging_word(o, what, text);
	}
	free(text);
	return r;
}

static int positional(struct options *o, enum options_for what, const char *text)
{
	char **to = !o->source				      ? &o->source
		    : what == OPTIONS_MOUNT && !o->mountpoint ? &o->mountpoint
							      : NULL;
	if (!to)
		return cmd_usage(text, what == OPTIONS_MOUNT
					       ? "one source and one mountpoint, no more"
					       : "one source, no more");
	return set_string(to, *text ? text : "''", text);
}

/* -f, -d and -s, alone or together. */
static int parse_flags(struct options *o, const char *text)
{
	for (const char *p = text + 1; *p; p++) {
		if (*p == 'f')
			o->foreground = true;
		else if (*p == 'd')
			o->debug = o->foreground = true;
		else if (*p == 's')
			o->single_thread = true;
		else
			return cmd_usage(text, "unknown option (see safetensorfs --help)");
	}
	return 0;
}

static int check(const struct options *o, enum options_for what, bool given_ro)
{
	if (!o->source)
		return cmd_usage("SOURCE", "missing (see safetensorfs --help)");
	if (what != OPTIONS_MOUNT)
		return 0;
	if (!o->mountpoint)
		return cmd_usage("MOUNTPOINT",
				 "missing; safetensorfs ls lists a source without mounting "
				 "(see safetensorfs --help)");
	if (o->edit && given_ro)
		return cmd_usage("ro", "contradicts edit");
	if (o->output && !o->edit)
		return cmd_usage("output=", "needs edit");
	if (o->inplace && !o->edit)
		return cmd_usage("commit=", "needs edit");
	if (o->inplace && o->output)
		return cmd_usage("commit=inplace", "contradicts output=");
	return 0;
}

int options_parse(struct options *o, enum options_for what, int argc, char **argv)
{
	bool given_ro = false, only_positional = false;
	int r = 0;
	memset(o, 0, sizeof(*o));
	for (int i = 0; r == 0 && i < argc; i++) {
		const char *a = argv[i];
		if (only_positional || a[0] != '-' || !a[1])
			r = positional(o, what, a);
		else if (strcmp(a, "--") == 0)
			only_positional = true;
		else if (strncmp(a, "-o", 2) == 0 && a[2])
			r = parse_words(o, what, a + 2, &given_ro);
		else if (strcmp(a, "-o") == 0)
			r = ++i < argc ? parse_words(o, what, argv[i], &given_ro)
				       : cmd_usage("-o", "needs a list of options behind it");
		else if (what == OPTIONS_RECOVER && strcmp(a, "--allow-empty") == 0)
			o->allow_empty = true;
		else if (what == OPTIONS_MOUNT && a[1] != '-')
			r = parse_flags(o, a);
		else
			r = cmd_usage(a, "unknown option (see safetensorfs --help)");
	}
	return r ? r : check(o, what, given_ro);
}

void options_free(struct options *o)
{
	free(o->source);
	free(o->mountpoint);
	free(o->given_source);
	free(o->given_mountpoint);
	free(o->staging);
	free(o->output);
	sft_buf_free(&o->fuse);
}
