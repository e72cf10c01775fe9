#!/usr/bin/env bash
# Many readers at once, and many open files.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/a.safetensors" --tensors 60 --bytes $((96 / SLOW))M --dtype BF16,F32 --odd
expect_content "$T/a.safetensors" "$T/expected"
for options in ro direct_io; do
    mount_start "$T/a.safetensors" "$T/mnt" -o "$options"
    readers=()
    for i in {1..16}; do
        (
            shuf "$T/expected" --random-source=<(yes "$i") >"$T/expected.$i"
            same_content "$T/mnt" "$T/expected.$i" >"$T/reader.$i" 2>&1
        ) &
        readers+=($!)
    done
    # Meanwhile, directories and attributes.
    for i in {1..20}; do
        check_eq "a listing under load ($options)" 120 "$(ls -l "$T/mnt" | grep -c weight)"
    done
    for i in {1..16}; do
        wait "${readers[i - 1]}"
        check_eq "reader $i of 16 ($options)" "0 " "$? $(head -n 5 "$T/reader.$i")"
    done
    mount_stop "$T/mnt"
done

# One process holds this many files open and reads from each.
want=$((65536 / SLOW))
if (ulimit -n $((want + 100))) 2>/dev/null; then
    mount_start "$T/a.safetensors" "$T/mnt"
    ulimit -n $((want + 100))
    check "$want open files" "$PYTHON" - "$T/mnt" "$want" <<'PY'
import os, sys
directory, count = sys.argv[1], int(sys.argv[2])
names = sorted(os.listdir(directory))
open_files = [os.open(os.path.join(directory, names[i % len(names)]), os.O_RDONLY) for i in range(count)]
for i, fd in enumerate(open_files):
    assert len(os.pread(fd, 1, 0)) == 1, names[i % len(names)]
PY
    mount_stop "$T/mnt"
else
    echo "note: $want open files are not allowed here; not tried"
fi
finish
