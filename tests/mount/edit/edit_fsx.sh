#!/usr/bin/env bash
# Thousands of random edits by several threads, with commits, remounts and kills between, against a model.
# FSX_SEED repeats a run; FSX_ROUNDS, FSX_OPS and FSX_THREADS say how much (fsx.py).
. "$(dirname "$0")/../lib_edit.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"
[ "$(id -u)" -eq 0 ] || skip "only root can clear away the mount of a killed daemon"

for run in $([ "${FSX_SEED:-}" ] && echo 1 || echo 1 2 3); do
    mkdir "$T/$run"
    timeout $((DEADLINE * 5)) "$PYTHON" "$ROOT/tests/mount/edit/fsx.py" "$T/$run" 2>&1 | tee "$T/report"
    rc=${PIPESTATUS[0]}
    check_eq "run $run, $(sed 's/:.*//;1q' "$T/report")" 0 "$rc"
done
finish
