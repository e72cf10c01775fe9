#!/usr/bin/env bash
# Edits, commits and recoveries with few descriptors: done or refused with a reason, and nothing is lost.
. "$(dirname "$0")/../mount/lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can clear away the mount of a killed daemon"

# The daemons are started by this, which sets $LIMIT first.
printf '#!/bin/bash\nulimit -n "$LIMIT" && exec "%s" "$@"\n' "$SAFETENSORFS" >"$T/starved"
chmod +x "$T/starved"
starved() {
    local SAFETENSORFS=$T/starved
    "$@"
}

# told WHAT: the last command has ended by itself, with a line if it was refused.
told() {
    check_match "$1: exit status ($err)" '^[01]$' "$rc"
    [ "$rc" -eq 0 ] || check_match "$1: the reason" 'safetensorfs: .+: .+' "$err"
}

# whole WHAT: the tensors are the old or the new ones.
whole() {
    local found
    found=$(expect committed "$T/dir" 2>&1)
    [ "$found" = "$(cat "$T/new")" ] || check_eq "$1: the checkpoint is whole" "$(cat "$T/old")" "$found"
}

make_checkpoint "$T/dir" --shards 20 --tensors 40 --bytes 1M
expect committed "$T/dir" >"$T/old"
edit_start "$T/dir" "$T/mnt"
reader names "$T/dir" | jq -r . | while read -r name; do
    poke "$T/mnt/$name" 5 edited
done
expect shown "$T/mnt" >"$T/new"
edit_kill "$T/mnt"
cp -a "$T/dir" "$T/staged"

refused=0
for LIMIT in 6 10 16 28 46 60 70 80 100 200; do
    export LIMIT
    rm -rf "$T/dir"
    cp -a "$T/staged" "$T/dir"
    run "$T/starved" recover "$T/dir"
    told "$LIMIT descriptors, recover"
    refused=$((refused + rc))
    whole "$LIMIT descriptors, recover"
    rm -rf "$T/dir"
    cp -a "$T/staged" "$T/dir"
    if starved mount_try "$T/dir" "$T/mnt" -o edit; then
        run "$SAFETENSORFS" commit "$T/mnt"
        told "$LIMIT descriptors, commit"
        whole "$LIMIT descriptors, commit"
        unmount "$T/mnt" 2>/dev/null || unmount -l "$T/mnt"
        status=0
        wait "${daemon_pid[$T/mnt]}" || status=$?
        unset "daemon_pid[$T/mnt]"
        check_match "$LIMIT descriptors, the daemon's exit status" '^[01]$' "$status"
    else
        check_eq "$LIMIT descriptors, mount: exit status" 1 "$mount_status"
        check_match "$LIMIT descriptors, mount" 'safetensorfs: .+: .+' "$(mount_log "$T/mnt")"
    fi
    check "$LIMIT descriptors: recover without the limit" "$SAFETENSORFS" recover "$T/dir"
    same_state "$LIMIT descriptors: nothing is lost" "$T/dir" "$T/new"
done
check "some limits were too low" test "$refused" -gt 0 -a "$refused" -lt 10
finish
