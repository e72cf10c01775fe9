#!/usr/bin/env bash
# Power cuts by block, on ext4 and XFS: what was synced is there, and the checkpoint is the old or the new one.
# CRASH_ROUNDS crash states in all; CRASH_SEED repeats them, as far as the timing does. See power.py.
. "$(dirname "$0")/../mount/lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can mount"
losetup -f >/dev/null 2>&1 || skip "no loop devices"
need mkfs.ext4 mkfs.xfs

# Disks in memory: what they are made of is copied for each state.
mkdir "$T/disks"
mount -t tmpfs none "$T/disks" || skip "no tmpfs can be mounted"
rounds=$((${CRASH_ROUNDS:-120 / SLOW} / 6))
for kind in ext4 xfs; do
    truncate -s 300M "$T/disks/image"
    "mkfs.$kind" -q "$T/disks/image" 2>/dev/null || skip "mkfs.$kind fails"
    mkdir -p "$T/try"
    mount -o loop "$T/disks/image" "$T/try" 2>/dev/null || skip "$kind cannot be mounted from a file"
    umount "$T/try"
    rm "$T/disks/image"
    for how in file inplace shards; do
        work=$T/disks/$kind.$how
        mkdir "$work"
        timeout $((600 * SLOW + rounds)) "$PYTHON" "$ROOT/tests/crash/power.py" "$work" "$kind" "$how" "$rounds" 2>&1 |
            tee "$T/report"
        rc=${PIPESTATUS[0]}
        check_eq "$(tail -n 1 "$T/report")" 0 "$rc"
        rm -rf --one-file-system "$work"
    done
done
finish
