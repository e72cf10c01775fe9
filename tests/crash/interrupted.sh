#!/usr/bin/env bash
# A commit that died when it was prepared: between its record and its renames, or between two of those. It is
# finished onto what it was to replace and onto nothing else, and nothing of the user's is lost.
. "$(dirname "$0")/../mount/lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can clear away the mount of a killed daemon"

REAL=$SAFETENSORFS
if ldd "$REAL" | grep -q libasan; then
    export ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0"
fi

# A daemon that dies so, instead of the real one.
printf '#!/bin/sh\nexec env LD_PRELOAD="%s" CRASH_ONLY=rename CRASH_AT="$AT" CRASH_COUNT="%s" "%s" "$@"\n' \
    "$CRASH_CALLS" "$T/calls" "$REAL" >"$T/dying"
chmod +x "$T/dying"

mkdir -p "$T/file" "$T/shards"
make_checkpoint "$T/file/m.safetensors" --tensor 'a:U8:[1000]' --tensor 'b:U8:[1000]'
make_checkpoint "$T/shards/dir" --shards 2 --tensor 'a:U8:[1000]' --tensor 'b:U8:[1000]'
expect committed "$T/file/m.safetensors" >"$T/old"

# fresh KIND: $S is a new source, `file` or `shards`, in a directory of its own. $T/old has the tensors of both.
fresh() {
    rm -rf "$T/d" "$T/stage" "$T/o"
    mkdir "$T/o"
    cp -r "$T/$1" "$T/d"
    S=$(find "$T/d" -mindepth 1 -maxdepth 1)
}

# die_at AT [OPTION...]: edit both tensors of $S, and die in front of that rename; $T/new has what was shown.
die_at() {
    local AT=$1 SAFETENSORFS=$T/dying
    shift
    export AT
    : >"$T/calls"
    edit_start "$S" "$T/mnt" "$@"
    poke "$T/mnt/a" 5 edited
    poke "$T/mnt/b" 5 edited
    expect shown "$T/mnt" >"$T/new"
    unmount "$T/mnt"
    mount_ended "$T/mnt" "$([ "$AT" = 0 ] && echo 0 || echo 137)"
    ! is_mounted "$T/mnt" || unmount -l "$T/mnt"
    renames=$(stat -c %s "$T/calls")
}

# prepared KIND [OPTION...]: a fresh source whose commit died at the first rename of a new file.
declare -A first
prepared() {
    if [ -z "${first[$*]:-}" ]; then
        fresh "$1"
        die_at 0 "${@:2}"
        first[$*]=$((renames - $([ "$1" = file ] && echo 0 || echo 1)))
    fi
    fresh "$1"
    die_at "${first[$*]}" "${@:2}"
}

# The same, at the second.
half_done() {
    [ -n "${first[$*]:-}" ] || prepared "$@"
    fresh "$1"
    die_at $((first[$*] + 1)) "${@:2}"
}

temporaries() {
    find "$T/d" "$T/o" -name '*safetensorfs-new*' | wc -l
}

put_another() {
    make_checkpoint "$T/another.safetensors" --tensor 'mine:U8:[77]'
    sha256sum <"$T/another.safetensors" >"$T/sum"
    mv "$T/another.safetensors" "$1"
}

# ---- as it is: every way forward leads to the new checkpoint ----

for how in recover edit; do
    prepared file
    same_state "$how: nothing was renamed yet" "$S" "$T/old"
    check_eq "$how: the new file is there" 1 "$(temporaries)"
    if [ "$how" = edit ]; then
        edit_start "$S" "$T/mnt"
        mount_stop "$T/mnt"
    else
        check "recover" "$REAL" recover "$S"
    fi
    same_state "$how: committed" "$S" "$T/new"
    check_eq "$how: nothing is left behind" m.safetensors "$(ls -A "$T/d")"
done

prepared file
check "discard, nothing was renamed" "$REAL" discard "$S"
same_state "discard: dropped" "$S" "$T/old"
check_eq "discard: nothing is left behind" m.safetensors "$(ls -A "$T/d")"

# ---- another checkpoint has its place ----

prepared file
put_another "$S"
for verb in recover "mount -o edit"; do
    if [ "$verb" = recover ]; then
        run "$REAL" recover "$S"
    else
        run timeout 20 "$REAL" "$S" "$T/mnt" -f -o edit
        ! is_mounted "$T/mnt" || unmount -l "$T/mnt"
    fi
    check_eq "another source, $verb: exit status ($err)" 1 "$rc"
    check_eq "another source, $verb: it is the user's" "$(cat "$T/sum")" "$(sha256sum <"$S")"
    check "another source, $verb: the edits are kept" test -s "$(staging_of "$S")/journal"
    check_eq "another source, $verb: and the new file" 1 "$(temporaries)"
done
check "another source, discard" "$REAL" discard "$S"
check_eq "another source, discard: it is the user's" "$(cat "$T/sum")" "$(sha256sum <"$S")"
check_eq "another source, discard: nothing is left behind" m.safetensors "$(ls -A "$T/d")"
edit_start "$S" "$T/mnt"
poke "$T/mnt/mine" 0 edited
mount_stop "$T/mnt"
check_eq "another source, afterwards: edited" edited "$(reader cut "$S" mine | head -c 6)"

# The same at output=.
prepared file "output=$T/o/o.safetensors"
put_another "$T/o/o.safetensors"
run "$REAL" recover "$S"
check_eq "another output: exit status ($err)" 1 "$rc"
check_eq "another output: it is the user's" "$(cat "$T/sum")" "$(sha256sum <"$T/o/o.safetensors")"
check "another output: the edits are kept" test -s "$(staging_of "$S")/journal"
run "$REAL" recover "$S" -o "output=$T/o/p.safetensors"
check_eq "another output, recovered elsewhere ($err)" 0 "$rc"
same_state "another output, recovered elsewhere" "$T/o/p.safetensors" "$T/new"
check_eq "another output, recovered elsewhere: it is the user's" "$(cat "$T/sum")" \
    "$(sha256sum <"$T/o/o.safetensors")"
same_state "another output: the source is as it was" "$S" "$T/old"

# ---- another output= than the commit was made for ----

prepared file
check "output= afterwards" "$REAL" recover "$S" -o "output=$T/o/o.safetensors"
same_state "output= afterwards: the source is as it was" "$S" "$T/old"
same_state "output= afterwards: the output" "$T/o/o.safetensors" "$T/new"
check_eq "output= afterwards: nothing is left behind" 0 "$(temporaries)"

# ---- between two renames: it is always finished ----

for how in recover discard edit elsewhere renumbered; do
    half_done shards
    check_not "$how: one of two was renamed" cmp "$T/old" <(expect committed "$S")
    at=$S
    case $how in
    edit)
        edit_start "$S" "$T/mnt"
        mount_stop "$T/mnt"
        ;;
    elsewhere)
        rm -rf "$T/moved"
        mv "$T/d" "$T/moved"
        at=$T/moved/dir
        check "$how: recover" "$REAL" recover "$at"
        ;;
    renumbered)
        find "$T/d" -type f -exec sh -c 'cp -p "$1" "$1~" && mv "$1~" "$1"' - {} \;
        check "$how: discard" "$REAL" discard "$S"
        ;;
    *)
        check "$how" "$REAL" "$how" "$S"
        ;;
    esac
    same_state "$how: finished" "$at" "$T/new"
    check_eq "$how: nothing is left behind" 0 "$(find "$at" -name '*safetensorfs*' | wc -l)"
done

# With the staging elsewhere, and a mount that does not say where.
half_done shards "staging=$T/stage"
before=$(find "$S" -type f ! -path '*/.safetensorfs/*' | sort)
check_not "staging= is left out: refused" mount_try "$S" "$T/mnt" -o edit
! is_mounted "$T/mnt" || mount_stop "$T/mnt"
check_eq "staging= is left out: every file is still there" "$before" \
    "$(find "$S" -type f ! -path '*/.safetensorfs/*' | sort)"
check "staging= again: recover" "$REAL" recover "$S" -o "staging=$T/stage"
same_state "staging= again: finished" "$S" "$T/new"

# ---- edits in the other place ----

fresh file
edit_start "$S" "$T/mnt"
poke "$T/mnt/a" 5 default
expect shown "$T/mnt" >"$T/new"
edit_kill "$T/mnt"
check_not "staged in the default place: staging=DIR is refused" mount_try "$S" "$T/mnt" -o "edit,staging=$T/stage"
! is_mounted "$T/mnt" || mount_stop "$T/mnt"
run "$REAL" recover "$S"
check_eq "staged in the default place: recover ($err)" 0 "$rc"
same_state "staged in the default place: nothing is lost" "$S" "$T/new"

fresh file
edit_start "$S" "$T/mnt" "staging=$T/stage"
poke "$T/mnt/a" 5 DIR
expect shown "$T/mnt" >"$T/new"
edit_kill "$T/mnt"
check_not "staged in DIR: the default place is refused" mount_try "$S" "$T/mnt" -o edit
! is_mounted "$T/mnt" || mount_stop "$T/mnt"
run "$REAL" recover "$S" -o "staging=$T/stage"
check_eq "staged in DIR: recover ($err)" 0 "$rc"
same_state "staged in DIR: nothing is lost" "$S" "$T/new"
check_eq "staged in DIR: nothing is left behind" m.safetensors "$(ls -A "$T/d")"
edit_start "$S" "$T/mnt"
mount_stop "$T/mnt"
finish
