#!/usr/bin/env bash
# A staging that is full at each byte of what a request appends: made as a whole, or refused and nothing of it there.
# CRASH_ROUNDS tries of each request, 0 for every byte; see full.py.
. "$(dirname "$0")/../mount/lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can mount"

for request in over committed-over aside remove npy zeros shards tree; do
    mkdir "$T/$request"
    mount -t tmpfs none "$T/$request" || skip "no tmpfs can be mounted"
    timeout $((900 * SLOW)) "$PYTHON" "$ROOT/tests/crash/full.py" "$T/$request" "$request" \
        "${CRASH_ROUNDS:-$((16 / SLOW))}" 2>&1 | tee "$T/report"
    rc=${PIPESTATUS[0]}
    check_eq "$(tail -n 1 "$T/report")" 0 "$rc"
    umount -l "$T/$request/small" "$T/$request" 2>/dev/null
done
finish
