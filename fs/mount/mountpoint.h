/* mountpoint.h - whether a directory can be mounted on, and unmounting it; no FUSE library here */
#ifndef MOUNTPOINT_H
#define MOUNTPOINT_H

#include "sft.h"

#define FUSE_FS_MAGIC 0x65735546 /* linux/magic.h: FUSE_SUPER_MAGIC */

/*
 * The absolute path of a mountpoint, malloced: its directory resolved, so that it works for a dead
 * mount as well. NULL and *err where it cannot be.
 */
char *mountpoint_resolve(const char *mountpoint, struct sft_error *err);

/*
 * Refuse what could not work: no directory, a mount whose daemon is dead (ENOTCONN; the message
 * says how to clear it), the source itself, a directory that holds a part of it, a place inside the
 * source directory. EINVAL and the errors of stat(2).
 */
int mountpoint_check(const char *mountpoint, const struct sft_checkpoint *ck,
		     struct sft_error *err);

/*
 * Refuse a path that lies inside the mountpoint, or would once it is made, where the daemon is to
 * write there: it would wait for its own answer. `what` it is goes into the message. EINVAL.
 */
int mountpoint_check_outside(const char *mountpoint, const char *what, const char *path,
			     struct sft_error *err);

/* Whether something is still mounted there, by /proc/self/mountinfo: asks no mount anything.
 * *device (may be NULL) is set to its "MAJOR:MINOR". */
#define MOUNTPOINT_DEVICE_MAX 32
bool mountpoint_is_mounted(const char *mountpoint, char device[MOUNTPOINT_DEVICE_MAX]);

/* Whether it is the root of a mount of ours that answers. */
bool mountpoint_is_ours(const char *path);

/* Unmount, without root by way of fusermount3. EBUSY while it is in use. The flags are umount2(2)'s
 * MNT_DETACH and MNT_FORCE. No umount(8) is run, which might call us as its helper. */
int mountpoint_unmount(const char *mountpoint, int flags, struct sft_error *err);

/*
 * What tells the file system of this "MAJOR:MINOR" from a later one of the same number, as long as
 * it is mounted in any place and any namespace: the inode of its entry in sysfs, which the kernel
 * removes before the last umount(2) returns. 0 where there is none, or no sysfs.
 */
uint64_t mountpoint_identity(const char *device);
/* Whether it is mounted in any place of our namespace. */
bool mountpoint_has_device(const char *device);

/*
 * Raise the readahead of the mount's device, where that is allowed (root). Without it requests are
 * at most 128 KiB; the value in INIT can only lower it. To be called from outside the daemon once
 * the mount answers.
 */
void mountpoint_raise_read_ahead(dev_t device);

#endif
