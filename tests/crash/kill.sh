#!/usr/bin/env bash
# kill -9 at each system call of a daemon, and of a recovery: what was acknowledged is there, and each request
# was made as a whole or not at all. CRASH_ROUNDS deaths of each scenario, 0 for all; see kill.py.
. "$(dirname "$0")/../mount/lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can clear away the mount of a killed daemon"

mkdir "$T/runs"
mount -t tmpfs none "$T/runs" 2>/dev/null # faster, no more
rounds=${CRASH_ROUNDS:-$((40 / SLOW))}
for scenario in blocks over views aside tree commit inplace shards; do
    mkdir "$T/runs/$scenario"
    timeout $((900 * SLOW)) "$PYTHON" "$ROOT/tests/crash/kill.py" "$T/runs/$scenario" "$scenario" \
        "$rounds" 2>&1 | tee "$T/report"
    rc=${PIPESTATUS[0]}
    check_eq "$(tail -n 1 "$T/report")" 0 "$rc"
done
finish
