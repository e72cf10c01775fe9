#!/usr/bin/env bash
# A staging that is not one's own, or not what an edit mount makes: refused in time, and nothing in it is obeyed.
. "$(dirname "$0")/../mount/lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can give files away"

other=65534 # nobody

make_checkpoint "$T/template.safetensors" --tensor 'a:U8:[1000]' --tensor 'b:U8:[1000]'
mkdir "$T/template"

# The edits of a daemon that was killed.
cp "$T/template.safetensors" "$T/template/m.safetensors"
edit_start "$T/template/m.safetensors" "$T/mnt"
poke "$T/mnt/a" 5 edited
expect shown "$T/mnt" >"$T/shown"
edit_kill "$T/mnt"

# fresh: $S is such a source, $staging its staging, in a directory of its own.
fresh() {
    rm -rf "$T/d"
    cp -a "$T/template" "$T/d"
    S=$T/d/m.safetensors
    staging=$T/d/.m.safetensors.safetensorfs
}

# bounded COMMAND...: in 1 GiB of memory and 10 seconds.
bounded() {
    local bound=$((1 << 20))
    [ "$SLOW" -eq 1 ] || bound=unlimited # sanitizers reserve terabytes
    run bash -c 'ulimit -v "$0"; exec timeout -k 1 "$1" "${@:2}"' "$bound" "$((10 * SLOW))" "$@"
}

listing() {
    find "$T/d" -printf '%P %y %s %m %U %i\n' | sort
}

# refused WHAT REGEX: recover, discard and an edit mount refuse it, touching nothing; a read-only mount serves.
refused() {
    local what=$1 regex=$2 verb before
    before=$(listing)
    for verb in recover discard; do
        bounded "$SAFETENSORFS" "$verb" "$S"
        check_eq "$what, $verb: exit status ($err)" 1 "$rc"
        check_match "$what, $verb" "$regex" "$err"
        check_eq "$what, $verb: nothing has changed" "$before" "$(listing)"
    done
    bounded "$SAFETENSORFS" "$S" "$T/mnt" -o edit
    check_eq "$what, mount -o edit: exit status ($err)" 1 "$rc"
    check_match "$what, mount -o edit" "$regex" "$err"
    ! is_mounted "$T/mnt" || unmount -l "$T/mnt"
    check_eq "$what, mount -o edit: nothing has changed" "$before" "$(listing)"
    serves "$what"
}

# serves WHAT: whoever only reads gets an answer.
serves() {
    local verb before
    before=$(listing)
    for verb in ls check; do
        bounded "$SAFETENSORFS" "$verb" "$S"
        check_eq "$1, $verb: exit status ($err)" 0 "$rc"
    done
    bounded "$SAFETENSORFS" "$S" "$T/ro"
    check_eq "$1, read-only mount: exit status ($err)" 0 "$rc"
    if is_mounted "$T/ro"; then
        check "$1, read-only mount" cmp "$T/ro/b" <(reader cut "$S" b)
        check "$1, read-only mount: unmount" "$SAFETENSORFS" umount "$T/ro"
    fi
    check_eq "$1, read-only: nothing has changed" "$before" "$(listing)"
}

# answers WHAT: each verb ends by itself, whatever it says, and the tensors are the old or the new ones.
answers() {
    local verb
    serves "$1"
    for verb in recover discard "mount -o edit"; do
        if [ "$verb" = recover ] || [ "$verb" = discard ]; then
            bounded "$SAFETENSORFS" "$verb" "$S"
        else
            bounded "$SAFETENSORFS" "$S" "$T/mnt" -o edit
        fi
        check_match "$1, $verb: exit status ($err)" '^[01]$' "$rc"
        if is_mounted "$T/mnt"; then
            bounded "$SAFETENSORFS" umount "$T/mnt"
            check_match "$1, umount: exit status ($err)" '^[01]$' "$rc"
            ! is_mounted "$T/mnt" || unmount -l "$T/mnt"
        fi
        check "$1, $verb: the checkpoint is valid" "$SAFETENSORFS" check -q "$S"
        check_eq "$1, $verb: and has its tensors" '"a" "b"' "$(reader names "$S" | paste -sd' ')"
    done
}

# ---- whose it is ----

mkdir "$T/mnt" "$T/ro" 2>/dev/null
for part in . journal blocks; do
    fresh
    chown "$other" "$staging/$part"
    refused "somebody else's $part" "nobody|$other"
done
fresh
chown -R "$other" "$staging"
refused "somebody else's staging" "nobody|$other"
for mode in 770 707 777; do
    fresh
    chmod "$mode" "$staging"
    refused "a directory of mode $mode" 'writ'
done
for part in journal blocks; do
    for mode in 660 606; do
        fresh
        chmod "$mode" "$staging/$part"
        refused "$part of mode $mode" 'writ'
    done
done

# ---- a journal that somebody has put there ----

# As good as one's own, and prepared to take another file's place.
mkdir "$T/victim"
make_checkpoint "$T/victim/v.safetensors" --tensor 'mine:U8:[10]'
chmod 1777 "$T/victim"
printf '#!/bin/sh\nexec env LD_PRELOAD="%s" CRASH_ONLY=rename CRASH_AT="$AT" CRASH_COUNT="%s" "%s" "$@"\n' \
    "$CRASH_CALLS" "$T/calls" "$SAFETENSORFS" >"$T/dying"
chmod +x "$T/dying"

# plant AT: commit edits to the victim's place, and die in front of that rename.
plant() {
    local AT=$1 SAFETENSORFS=$T/dying ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0"
    export AT ASAN_OPTIONS
    rm -rf "$T/d"
    mkdir "$T/d"
    chmod 1777 "$T/d"
    cp "$T/template.safetensors" "$T/d/m.safetensors"
    : >"$T/calls"
    edit_start "$T/d/m.safetensors" "$T/mnt" "output=$T/victim/v.safetensors"
    poke "$T/mnt/a" 5 edited
    unmount "$T/mnt"
    mount_ended "$T/mnt" "$([ "$AT" = 0 ] && echo 0 || echo 137)"
    ! is_mounted "$T/mnt" || unmount -l "$T/mnt"
}

plant 0
last=$(stat -c %s "$T/calls")
make_checkpoint "$T/victim/v.safetensors" --tensor 'mine:U8:[10]'
plant "$last"
S=$T/d/m.safetensors
staging=$T/d/.m.safetensors.safetensorfs
check "planted: it is prepared" test -s "$staging/journal"
check "planted: the new file is there" test "$(find "$T/victim" -type f | wc -l)" -gt 1
chown -R "$other" "$staging"
find "$T/victim" -type f ! -name v.safetensors -exec chown "$other" {} +
find "$T/victim" -printf '%P %y %s %m %U %i\n' | sort >"$T/victims"
refused "planted" "nobody|$other"
check_eq "planted: no file outside was touched" "$(cat "$T/victims")" \
    "$(find "$T/victim" -printf '%P %y %s %m %U %i\n' | sort)"

# ---- what is no file ----

fresh
mv "$staging" "$T/d/real"
ln -s real "$staging"
refused "a link in the default place" '.'
for part in journal blocks lock; do
    fresh
    [ ! -e "$staging/$part" ] || mv "$staging/$part" "$T/d/away"
    touch "$T/d/away"
    ln -s ../away "$staging/$part"
    sum=$(sha256sum <"$T/d/away")
    answers "a link called $part"
    check_eq "a link called $part: where it leads to" "$sum" "$(sha256sum <"$T/d/away")"
done
for part in journal blocks result lock journal.new; do
    fresh
    rm -f "$staging/$part"
    mkfifo "$staging/$part"
    answers "a FIFO called $part"
    fresh
    rm -f "${staging:?}"/*
    mkfifo "$staging/$part"
    answers "nothing but a FIFO called $part"
done

# ---- what is larger than it is ----

for what in "journal 1T" "blocks 15T"; do
    part=${what% *} size=${what#* }
    fresh
    truncate -s "$size" "$staging/$part" 2>/dev/null || continue
    answers "$part of $size, most of it a hole"
    fresh
    rm "$staging/$part"
    truncate -s "$size" "$staging/$part"
    answers "$part of $size that is nothing but a hole"
done

# ---- what goes to a terminal ----

mkdir "$T/d/"$'esc\e[31m\nred'
S=$T/d/$'esc\e[31m\nred'/m.safetensors
cp "$T/template.safetensors" "$S"
edit_start "$S" "$T/mnt"
poke "$T/mnt/a" 5 edited
edit_kill "$T/mnt"
# The journal's path alone: what is given as a word of the command comes back as it is.
run bash -c 'cd "$1" && exec "$2" discard m.safetensors' - "$(dirname "$S")" "$SAFETENSORFS"
check_eq "discard: exit status ($err)" 0 "$rc"
check_match "discard: the journal's path" 'red/m.safetensors, staged in' "$out"
check_eq "discard: no control characters" "" "$(tr -d '[:print:]\n' <<<"$out$err")"
finish
