#!/usr/bin/env bash
# kill -9 under load: every acknowledged edit is there when the next mount resumes, or `recover` has run,
# and the checkpoint is the old one or the new one. CRASH_ROUNDS rounds of each kind.
. "$(dirname "$0")/../mount/lib_edit.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"
[ "$(id -u)" -eq 0 ] || skip "only root can clear away the mount of a killed daemon"

rounds=${CRASH_ROUNDS:-$((48 / SLOW / SLOW))}

# Under edits of all kinds.
mkdir "$T/fsx"
FSX_KILL=1 FSX_ROUNDS=$((rounds / 2)) timeout $((DEADLINE * 10)) \
    "$PYTHON" "$ROOT/tests/mount/edit/fsx.py" "$T/fsx" 2>&1 | tee "$T/report"
rc=${PIPESTATUS[0]}
check_eq "edits, $(sed 's/:.*//;1q' "$T/report")" 0 "$rc"

# Under commits beside writes.
for source in file shards; do
    for options in edit edit,commit=inplace; do
        mkdir "$T/$source.$options"
        CRASH_ROUNDS=$((rounds / 2)) timeout $((DEADLINE * 10)) "$PYTHON" "$ROOT/tests/crash/load.py" \
            "$T/$source.$options" "$options" "$source" 2>&1 | tee "$T/report"
        rc=${PIPESTATUS[0]}
        check_eq "commits ($options, $source)" 0 "$rc"
    done
done
finish
