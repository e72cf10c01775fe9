/* main.c - the first word: a verb, or else what to mount */
#include "cmd.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char usage[] =
	"usage: safetensorfs [mount] SOURCE MOUNTPOINT [-f] [-d] [-s] [-o OPTION,...]\n"
	"       safetensorfs ls [-h] [--sort] [--json] SOURCE [GLOB...]\n"
	"       safetensorfs check [-q] SOURCE...\n"
	"       safetensorfs diff [--json] A B\n"
	"       safetensorfs status [--json] MOUNTPOINT\n"
	"       safetensorfs commit [--allow-empty] MOUNTPOINT\n"
	"       safetensorfs umount [--allow-empty] MOUNTPOINT\n"
	"       safetensorfs recover [--allow-empty] SOURCE [-o staging=DIR,output=PATH]\n"
	"       safetensorfs discard SOURCE [-o staging=DIR]\n"
	"       safetensorfs --help | --version\n"
	"\n"
	"Mounts a safetensors checkpoint (a file, a directory of shards or its index.json) and "
	"shows\n"
	"each tensor as a file of raw bytes, with NAME.json (dtype, shape, offsets) and NAME.npy "
	"beside\n"
	"it. Read-only, unless -o edit: then edits are staged, and the checkpoint is regenerated "
	"when it\n"
	"is unmounted.\n"
	"\n"
	"mount options:\n"
	"  ro                   read-only (default)\n"
	"  edit                 stage edits; commit on unmount, or by `safetensorfs commit`\n"
	"  layout=flat          one directory, a file a tensor (default)\n"
	"  layout=tree          a directory for each part of a name between dots\n"
	"  layout=files         a directory for each shard\n"
	"  npy                  list the NAME.npy views too (they always open)\n"
	"  partial              mount although shards are missing\n"
	"  direct_io            bypass the page cache\n"
	"  staging=DIR          keep staged edits there\n"
	"  output=PATH          commit to PATH, never touch SOURCE\n"
	"  commit=replace       write a new file and rename it (default)\n"
	"  commit=inplace       write into SOURCE where names and shapes are unchanged\n"
	"  allow_other, ...     libfuse's own\n"
	"\n"
	"  -f  stay in the foreground    -d  print FUSE messages    -s  one thread\n"
	"\n"
	"ls: -h  sizes such as 1.5K    --sort  natural order    --json  for programs\n"
	"    GLOB  only these names: 'model.*.mlp.*', where * matches dots and slashes too\n"
	"--allow-empty: commit although no tensor would be left\n"
	"\n"
	"A source that is called like a verb is given as ./ls.\n";

static int cmd_help(int argc, char **argv)
{
	fputs(usage, stdout);
	return cmd_flush();
}

static int cmd_version(int argc, char **argv)
{
	printf("safetensorfs %s\n", SAFETENSORFS_VERSION);
	return cmd_flush();
}

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv); /* what stands behind the verb */
} verbs[] = {
	{ "mount", cmd_mount },	  { "ls", cmd_ls },	      { "check", cmd_check },
	{ "diff", cmd_diff },	  { "status", cmd_status },   { "commit", cmd_commit },
	{ "umount", cmd_umount }, { "recover", cmd_recover }, { "discard", cmd_discard },
	{ "--help", cmd_help },	  { "-h", cmd_help },	      { "--version", cmd_version },
	{ "-V", cmd_version },
};

/* 0 to 2 must be something: the first files that we open would be taken for them, and a message
 * would be written into a file of staged edits. What is printed to a closed stdout still fails. */
static bool fill_descriptors(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) != fd)
			return false;
	}
	return true;
}

/* Every shard stays open; the soft limit of descriptors is for programs that use select(2). */
static void raise_open_files(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* A write beyond RLIMIT_FSIZE shall fail with EFBIG, which whoever writes is told. */
static void ignore_file_size_signal(void)
{
	signal(SIGXFSZ, SIG_IGN);
}

int main(int argc, char **argv)
{
	if (!fill_descriptors()) {
		log_error("/dev/null", "%s", strerror(errno));
		return 1;
	}
	raise_open_files();
	ignore_file_size_signal();
	const char *slash = strrchr(argv[0] ? argv[0] : "", '/');
	const char *self = slash ? slash + 1 : argv[0];
	if (self && strncmp(self, "mount.", 6) == 0)
		return cmd_mount_helper(argc - 1, argv + 1);
	if (self && strncmp(self, "umount.", 7) == 0)
		return cmd_umount_helper(argc - 1, argv + 1);
	if (argc < 2) {
		log_error("SOURCE", "missing (see safetensorfs --help)");
		return 2;
	}
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(argv[1], verbs[i].name) == 0)
			return verbs[i].run(argc - 2, argv + 2);
	}
	return cmd_mount(argc - 1, argv + 1);
}
