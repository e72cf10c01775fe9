/* cmd_umount_helper.c - what umount(8) runs for a mount of ours, so that it hears of the commit */
#include "cmd.h"
#include "log.h"
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { UMOUNT_USAGE = 1, UMOUNT_FAILED = 32 }; /* umount(8) has them */

struct words {
	char *mountpoint;
	const char *namespace; /* NULL: ours */
	int flags;	       /* MNT_DETACH, MNT_FORCE */
};

static int parse(struct words *w, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		char *a = argv[i];
		bool takes_value = strcmp(a, "-t") == 0 || strcmp(a, "-N") == 0;
		if (takes_value && i + 1 == argc)
			return cmd_usage(a, "needs a value");
		if (takes_value) {
			i++;
			if (a[1] == 'N')
				w->namespace = argv[i];
		} else if (a[0] != '-') {
			if (w->mountpoint)
				return cmd_usage(a, "one mountpoint, no more");
			w->mountpoint = a;
		} else if (!a[1] || strspn(a + 1, "nlfvr") != strlen(a + 1)) {
			return cmd_usage(a, "unknown option (see mount.safetensorfs(8))");
		} else {
			w->flags |= (strchr(a, 'l') ? MNT_DETACH : 0) |
				    (strchr(a, 'f') ? MNT_FORCE : 0);
		}
	}
	return w->mountpoint ? 0 : cmd_usage("MOUNTPOINT", "missing");
}

static int enter_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 || setns(fd, CLONE_NEWNS) < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	if (r)
		log_error(path, "cannot enter the mount namespace: %s", strerror(r));
	return r;
}

/*
 * A dead mount answers nothing. Nor may root ask a user's mount: the kernel keeps root out, since
 * whoever serves it could keep root waiting for ever.
 */
static bool can_be_asked(const char *mountpoint)
{
	struct statvfs st;
	char *path = NULL;
	if (statvfs(mountpoint, &st) < 0)
		return errno != ENOTCONN;
	if (asprintf(&path, "%s/.safetensorfs/status", mountpoint) < 0)
		return true;
	bool denied = access(path, F_OK) < 0 && errno == EACCES;
	free(path);
	if (denied && !(st.f_flag & ST_RDONLY))
		log_warning(mountpoint, "was mounted by another user: its daemon commits, and only "
					"its log says how that ends");
	return !denied;
}

/* Without a question, so without a commit that we would hear of. */
static int only_unmount(const char *given, int flags)
{
	struct sft_error err = { 0 };
	char *mountpoint = mountpoint_resolve(given, &err);
	int r = mountpoint ? mountpoint_unmount(mountpoint, flags, &err) : -1;
	if (r < 0)
		log_error(given, "%s", err.msg);
	free(mountpoint);
	return r;
}

int cmd_umount_helper(int argc, char **argv)
{
	struct words w = { 0 };
	if (parse(&w, argc, argv) != 0)
		return UMOUNT_USAGE;
	if (w.namespace && enter_namespace(w.namespace) != 0)
		return UMOUNT_FAILED;
	int r = w.flags || !can_be_asked(w.mountpoint) ? only_unmount(w.mountpoint, w.flags)
						       : cmd_umount(1, &w.mountpoint);
	return r ? UMOUNT_FAILED : 0;
}
