#!/usr/bin/env bash
# Power cuts under load, on ext4 and XFS: what was synced is there, and the checkpoint is the old or the new one.
# CRASH_ROUNDS cuts for each file system and way to commit; CRASH_SEED repeats the timing, more or less.
. "$(dirname "$0")/lib_edit.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"
[ "$(id -u)" -eq 0 ] || skip "only root can mount"
losetup -f >/dev/null 2>&1 || skip "no loop devices"

rounds=${CRASH_ROUNDS:-$((20 / SLOW / SLOW))}
tried=0
for kind in ext4 xfs; do
    type -P "mkfs.$kind" >/dev/null || continue
    truncate -s 400M "$T/image"
    "mkfs.$kind" -q "$T/image" 2>/dev/null
    mkdir -p "$T/try"
    mount -o loop "$T/image" "$T/try" 2>/dev/null || continue
    umount "$T/try"
    for how in edit/file edit,commit=inplace/file edit/shards; do
        work=$T/$kind.${how/\//.}
        mkdir "$work"
        CRASH_ROUNDS=$rounds timeout $((DEADLINE * 10)) "$PYTHON" "$ROOT/tests/mount/crash.py" \
            power "$work" "${how%/*}" "${how#*/}" "$kind" 2>&1 | tee "$T/report"
        rc=${PIPESTATUS[0]}
        check_eq "$kind, $how" 0 "$rc"
        tried=$((tried + 1))
    done
done
[ "$tried" -gt 0 ] || skip "neither ext4 nor XFS can be mounted from a file"
finish
