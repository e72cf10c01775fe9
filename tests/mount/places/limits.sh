#!/usr/bin/env bash
# Limits of the process are errors, not deaths: file sizes (ulimit -f), address space (-v), descriptors (-n).
. "$(dirname "$0")/../lib_edit.sh"

# with LIMIT COMMAND...: run it under a limit such as `-f 1000`.
with() {
    local limit=$1
    shift
    # shellcheck disable=SC2086 # two words
    run bash -c 'ulimit '"$limit"' && exec "$@"' - "$@"
}

# limited LIMIT: from here on what is mounted is under that limit; `limited` alone ends that.
plain=$SAFETENSORFS
limited() {
    SAFETENSORFS=$plain
    [ $# -gt 0 ] || return
    printf '#!/bin/bash\nulimit %s && exec %q "$@"\n' "$1" "$plain" >"$T/limited"
    chmod +x "$T/limited"
    SAFETENSORFS=$T/limited
}

# ---- ulimit -f ----

make_checkpoint "$T/a.safetensors" --tensor 'a:U8:[3000000]' --tensor 'b:U8:[70000]'
cp "$T/a.safetensors" "$T/kept"
limited '-f 2000' # KiB
edit_start "$T/a.safetensors" "$T/mnt"
limited
check_errno "more staged bytes than a file may have" EFBIG \
    dd if=/dev/zero of="$T/mnt/new" bs=64K count=64 status=none
check "the daemon lives" ls "$T/mnt"
rm "$T/mnt/new"
poke "$T/mnt/b" 5 staged
run "$SAFETENSORFS" commit "$T/mnt"
check_eq "a commit above the limit: exit status" 1 "$rc"
check_match "a commit above the limit: says so" 'may write files of at most 2048000; `ulimit -f`' "$err"
check "a commit above the limit: nothing has changed" cmp "$T/kept" "$T/a.safetensors"
check_eq "still there" staged "$(tail -c +6 "$T/mnt/b" | head -c 6)"
unmount "$T/mnt"
mount_ended "$T/mnt" 1
limits=('-f 2000' '-f 0')
# The runtime of TSan writes a file of its own before the program begins, and dies of that.
! grep -qa __tsan_init "$SAFETENSORFS" || limits=('-f 2000')
for limit in "${limits[@]}"; do
    with "$limit" "$SAFETENSORFS" recover "$T/a.safetensors"
    check_eq "recover, $limit: exit status ($err)" 1 "$rc"
    check "recover, $limit: nothing has changed" cmp "$T/kept" "$T/a.safetensors"
done
with '-f 4000' "$SAFETENSORFS" recover "$T/a.safetensors"
check_eq "recover with enough: exit status ($err)" 0 "$rc"
check_eq "recover with enough: committed" staged "$(reader cut "$T/a.safetensors" b | tail -c +6 | head -c 6)"

# In place, where the file would stay as long as it is.
cp "$T/kept" "$T/a.safetensors"
limited '-f 2000'
edit_start "$T/a.safetensors" "$T/mnt" commit=inplace
limited
poke "$T/mnt/b" 69990 end
check_not "in place above the limit" "$SAFETENSORFS" commit "$T/mnt"
check "in place above the limit: nothing has changed" cmp "$T/kept" "$T/a.safetensors"
unmount "$T/mnt"
mount_ended "$T/mnt" 1
check "discard" "$SAFETENSORFS" discard "$T/a.safetensors"

# survives WHAT LIMIT SOURCE: a mount under a limit that may be too low works, or ends with an error.
survives() {
    local pids=() status=0
    limited "$2"
    if mount_try "$3" "$T/mnt" -o edit 2>/dev/null; then
        for _ in 1 2 3 4 5 6; do
            timeout "$DEADLINE" cat "$T"/mnt/* >/dev/null 2>&1 &
            pids+=($!)
        done
        wait "${pids[@]}"
        unmount "$T/mnt" 2>/dev/null
        wait_until is_gone "${daemon_pid[$T/mnt]}" || fail "$1: the daemon does not end"
        wait "${daemon_pid[$T/mnt]}" || status=$?
        unset "daemon_pid[$T/mnt]"
    else
        status=${mount_status:-0}
    fi
    limited
    check "$1: no signal ($status: $(mount_log "$T/mnt" | head -c 500))" test "$status" -lt 128
    is_unmounted "$T/mnt" || unmount -l "$T/mnt"
}

# ---- ulimit -v ----

# A sanitizer takes all the addresses there are.
if [ "$SLOW" = 1 ]; then
    # Most of it is a hole.
    "$PYTHON" - "$T/big.safetensors" <<'END'
import json, struct, sys
n = 4 << 30
header = json.dumps({"a": {"dtype": "U8", "shape": [n], "data_offsets": [0, n]}}).encode()
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(header)) + header + bytes(range(256)) * 1000)
    f.truncate(8 + len(header) + n)
END
    with '-v 1000000' "$SAFETENSORFS" ls "$T/big.safetensors"
    check_eq "ls of a file above the limit: exit status ($err)" 0 "$rc"
    check_match "ls of a file above the limit" 'a +U8 +\[4294967296\]' "$out"
    with '-v 1000000' "$SAFETENSORFS" check "$T/big.safetensors"
    check_eq "check of a file above the limit: exit status ($err)" 0 "$rc"
    for options in ro edit; do
        limited '-v 1000000'
        mount_start "$T/big.safetensors" "$T/mnt" -o "$options"
        limited
        check "$options: bytes" cmp -n 256000 <(tail -c +$(($(jq .offset "$T/mnt/a.json") + 1)) "$T/big.safetensors") "$T/mnt/a"
        check "$options: over the end of what is there, and aside" \
            cmp -n 70000 -i 200000 "$T/mnt/a" <(head -c 256000 "$T/mnt/a"; head -c 100000 /dev/zero)
        check "$options: all of it as one file" cmp -n 300000 "$T/big.safetensors" "$T/mnt/.safetensorfs/model.safetensors"
        check "$options: the view" cmp -n 256000 -i 128:0 "$T/mnt/a.npy" "$T/mnt/a"
        mount_stop "$T/mnt"
    done
    # Sizes around what a process takes by itself: an error or success, no signal.
    for kib in 10000 20000 50000 100000 200000 300000 400000 500000; do
        for verb in ls check; do
            with "-v $kib" "$SAFETENSORFS" "$verb" "$T/kept"
            check "$verb with $kib KiB: no signal ($rc)" test "$rc" -lt 124
        done
    done
    for kib in 8000 16000 24000 30000 60000; do
        survives "a mount with $kib KiB" "-v $kib" "$T/kept"
    done
    for kib in 300000 400000 600000; do
        limited "-v $kib"
        mount_start "$T/kept" "$T/mnt" -o edit
        limited
        check "$kib KiB: read" cmp <(reader cut "$T/kept" a) "$T/mnt/a"
        poke "$T/mnt/b" 1 "$kib"
        check "$kib KiB: commit" "$SAFETENSORFS" commit "$T/mnt"
        mount_stop "$T/mnt"
    done
fi

# ---- ulimit -n ----

make_checkpoint "$T/dir" --shards 40 --tensors 40
for n in 10 20 40 60 92 94 96 98 100; do
    with "-n $n" "$SAFETENSORFS" ls "$T/dir"
    check "ls with $n descriptors: no signal ($rc)" test "$rc" -le 1
    survives "a mount with $n descriptors" "-n $n" "$T/dir"
    [ "$rc" -eq 0 ] || check_match "ls with $n descriptors: says so" 'Too many open files' "$err"
done
finish
