#!/usr/bin/env bash
# A daemon that is killed leaves a dead mount, which is unmounted and mounted again as usual.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/a.safetensors" --tensors 4
expect_content "$T/a.safetensors" "$T/expected"
for round in 1 2; do
    mount_start "$T/a.safetensors" "$T/mnt"
    check "round $round: content" same_content "$T/mnt" "$T/expected"
    kill -KILL "${daemon_pid[$T/mnt]}"
    mount_ended "$T/mnt" 137
    # What the kernel remembers of attributes it still answers; nothing else.
    check_errno "round $round: ls" ENOTCONN ls "$T/mnt"
    check_errno "round $round: statfs" ENOTCONN stat -f "$T/mnt"
    check_refused "round $round: status" "$T/mnt" "$SAFETENSORFS" status "$T/mnt"
    check_refused "round $round: commit" "$T/mnt" "$SAFETENSORFS" commit "$T/mnt"
    if type -P fusermount3 >/dev/null; then
        check "round $round: fusermount3 -u" fusermount3 -u "$T/mnt"
    else
        check "round $round: umount" unmount "$T/mnt"
    fi
    check "round $round: it is gone" is_unmounted "$T/mnt"
done
mount_start "$T/a.safetensors" "$T/mnt"
check "afterwards: content" same_content "$T/mnt" "$T/expected"
mount_stop "$T/mnt"

# A connection that is aborted: read-only, so there is nothing to lose and the exit status is 0.
if [ "$(id -u)" -eq 0 ] && mountpoint -q /sys/fs/fuse/connections; then
    mount_start "$T/a.safetensors" "$T/mnt"
    minor=$(mountpoint -d "$T/mnt" | cut -d: -f2)
    echo 1 >"/sys/fs/fuse/connections/$minor/abort"
    mount_ended "$T/mnt"
    ! is_mounted "$T/mnt" || unmount "$T/mnt"
fi
finish
