#!/usr/bin/env bash
# Two sources with one output= at the same time: one writer of it, and who is told that it is committed has it there.
. "$(dirname "$0")/../mount/lib_edit.sh"

for kind in file dir; do
    for n in 1 2; do
        if [ "$kind" = file ]; then
            make_checkpoint "$T/$kind.$n" --tensor "a:U8:[300000]" --tensor "b:U8:[300000]" --seed "$n"
            mv "$T/$kind.$n" "$T/$kind.$n.safetensors"
        else
            make_checkpoint "$T/$kind.$n.safetensors" --shards 2 --tensor "a:U8:[300000]" --tensor "b:U8:[300000]" \
                --seed "$n"
        fi
    done
    target=$T/target.$kind.safetensors

    edit_start "$T/$kind.2.safetensors" "$T/mnt"
    poke "$T/mnt/a" 0 second
    edit_kill "$T/mnt"

    # Mounted for it: nobody else gets it, by whatever way.
    edit_start "$T/$kind.1.safetensors" "$T/mnt" "output=$target"
    poke "$T/mnt/a" 0 first
    # A directory that is not there yet is of whoever makes it.
    [ "$kind" = file ] || check "$kind: a first commit" "$SAFETENSORFS" commit "$T/mnt"
    poke "$T/mnt/b" 0 again
    expect shown "$T/mnt" >"$T/wanted"
    check_not "$kind: a second mount for the same output" \
        mount_try "$T/$kind.2.safetensors" "$T/second" -o "edit,output=$target"
    if is_mounted "$T/second"; then
        poke "$T/second/a" 0 other
        unmount "$T/second"
        wait "${daemon_pid[$T/second]}"
        unset "daemon_pid[$T/second]"
    fi
    check_refused "$kind: recover to it" "$(printf '%s|process' "${daemon_pid[$T/mnt]}")" \
        "$SAFETENSORFS" recover "$T/$kind.2.safetensors" -o "output=$target"
    check "$kind: commit" "$SAFETENSORFS" commit "$T/mnt"
    same_state "$kind: what was committed is there" "$target" "$T/wanted"
    mount_stop "$T/mnt"
    rm -rf "$target"

    # Two that were staged, recovered at once.
    for n in 1 2; do
        edit_start "$T/$kind.$n.safetensors" "$T/mnt"
        poke "$T/mnt/a" 0 "by $n"
        expect shown "$T/mnt" >"$T/wanted.$n"
        edit_kill "$T/mnt"
        cp -rp "$T/$kind.$n.safetensors" "$T/keep.$n"
        if [ "$kind" = file ]; then
            cp -rp "$(staging_of "$T/$kind.$n.safetensors")" "$T/keep.$n.staging"
        fi
    done
    for round in $(seq $((8 / SLOW))); do
        rm -rf "$target"
        for n in 1 2; do
            (
                status=0
                "$SAFETENSORFS" recover "$T/$kind.$n.safetensors" -o "output=$target" >/dev/null 2>&1 || status=$?
                echo "$status" >"$T/status.$n"
            ) &
        done
        wait
        for n in 1 2; do
            check_match "$kind, round $round: exit status of $n" '^[01]$' "$(cat "$T/status.$n")"
        done
        found=$(expect committed "$target" 2>&1)
        case $(cat "$T/status.1")$(cat "$T/status.2") in
        01) check_eq "$kind, round $round: the first's" "$(cat "$T/wanted.1")" "$found" ;;
        10) check_eq "$kind, round $round: the second's" "$(cat "$T/wanted.2")" "$found" ;;
        00) check "$kind, round $round: one after the other" grep -qxF "$(tail -n 2 <<<"$found" | head -n 1)" \
            "$T/wanted.1" "$T/wanted.2" ;;
        *) fail "$kind, round $round: both are refused" ;;
        esac
        check "$kind, round $round: valid" "$SAFETENSORFS" check -q "$target"
        # Again from where it was.
        for n in 1 2; do
            rm -rf "$T/$kind.$n.safetensors" "$(staging_of "$T/$kind.$n.safetensors")"
            cp -rp "$T/keep.$n" "$T/$kind.$n.safetensors"
            [ "$kind" = dir ] || cp -rp "$T/keep.$n.staging" "$(staging_of "$T/$kind.$n.safetensors")"
        done
    done
    rm -rf "$T"/keep.*
done
finish
