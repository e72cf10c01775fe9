#!/usr/bin/env bash
# One request, one step: renames and metadata that concern many tensors or shards are made as a whole or not at all,
# on a staging that is full and where the daemon is killed; what the mount shows is what a commit writes.
. "$(dirname "$0")/../lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can mount"

small() {
    ! is_mounted "$T/small" || umount -l "$T/small"
    mkdir -p "$T/small"
    mount -t tmpfs -o "size=$1" none "$T/small" || skip "no tmpfs can be mounted"
}

# fill [LEFT]: take all the room but so many KiB.
fill() {
    dd if=/dev/zero of="$T/small/ballast" bs=4K status=none 2>/dev/null
    truncate -s "-${1:-0}K" "$T/small/ballast"
}

# The same, and use up what the journal has of room that it has already taken.
long=$(printf %0200d 0)
exhaust() {
    local i=0
    fill
    while : 2>/dev/null >"$T/mnt/.$((i++)).$long"; do :; done
    truncate -s "-$1K" "$T/small/ballast"
}

# counted DIR: how many tensors it shows.
counted() {
    find "$1" -type f ! -name '*.json' 2>/dev/null | wc -l
}

# ---- a directory ----

make_checkpoint "$T/d.safetensors" $(printf -- '--tensor first.block.number.%s:U8:[4] ' {1..3000}) --tensor z:U8:[4]
small 1M
edit_start "$T/d.safetensors" "$T/mnt" layout=tree staging="$T/small/stage"
poke "$T/mnt/z" 0 x
for left in 0 40 80 120; do
    fill "$left"
    check_errno "a directory, $left KiB left" ENOSPC "${rename[@]}" "$T/mnt/first" "$T/mnt/second"
    check_eq "a directory, $left KiB left: as it was" 3000 "$(counted "$T/mnt/first")"
    check_not "a directory, $left KiB left: nothing there" test -e "$T/mnt/second"
done
rm "$T/small/ballast"
commits "a directory that was refused" "$T/mnt" "$T/d.safetensors"
check_eq "a directory that was refused: all the old names" 3000 \
    "$("$SAFETENSORFS" ls --json "$T/d.safetensors" | jq '[.[] | select(.name | startswith("first."))] | length')"
check "a directory, with room" "${rename[@]}" "$T/mnt/first" "$T/mnt/second"
check_eq "a directory, with room: there" 3000 "$(counted "$T/mnt/second")"
commits "a directory, with room" "$T/mnt" "$T/d.safetensors"
mount_stop "$T/mnt"

# Killed while it is renamed, here and there.
for delay in 0 0.002 0.005 0.01 0.02; do
    edit_start "$T/d.safetensors" "$T/mnt" layout=tree
    from=$([ -e "$T/mnt/second" ] && echo second || echo first)
    to=$([ $from = first ] && echo second || echo first)
    "${rename[@]}" "$T/mnt/$from" "$T/mnt/$to" 2>/dev/null &
    sleep 0.0$((RANDOM % 9))
    sleep "$delay"
    edit_kill "$T/mnt"
    wait $! 2>/dev/null
    check "killed: recover" "$SAFETENSORFS" recover "$T/d.safetensors"
    check_eq "killed: all of it or nothing" 3000 "$("$SAFETENSORFS" ls --json "$T/d.safetensors" |
        jq '[.[].name | split(".")[0]] | [map(select(. == "first")), map(select(. == "second"))] | map(length) | max')"
done

# ---- a rename over an open tensor ----

make_checkpoint "$T/r.safetensors" $(printf -- "--tensor t%s.$long:U8:[70000] " {1..59}) --tensor t60:U8:[70000]
small 1M
edit_start "$T/r.safetensors" "$T/mnt" staging="$T/small/stage"
poke "$T/mnt/t60" 0 x
exhaust 4
refused=0
for i in {1..59}; do
    exec 3<"$T/mnt/t60" 4<"$T/mnt/t60.npy"
    sum=$(cksum <"$T/mnt/t$i.$long")
    if "${rename[@]}" "$T/mnt/t$i.$long" "$T/mnt/t60" 2>/dev/null; then
        check_eq "over an open one: replaced" "$sum" "$(cksum <"$T/mnt/t60")"
        check_not "over an open one: no other name" test -e "$T/mnt/t$i.$long"
        poke "$T/mnt/t60" 0 "$i" 2>/dev/null
    else
        refused=$((refused + 1))
        check "over an open one, refused: both are there" test -e "$T/mnt/t$i.$long" -a -e "$T/mnt/t60"
        truncate -s -4K "$T/small/ballast"
    fi
    exec 3<&- 4<&-
done
check "over an open one: some were refused" test "$refused" -gt 0
rm "$T/small/ballast"
commits "over an open one" "$T/mnt" "$T/r.safetensors"
mount_stop "$T/mnt"
umount "$T/small"

# ---- metadata of all shards, a sidecar that makes a tensor ----

mkdir "$T/shards"
for i in {1..40}; do
    make_checkpoint "$T/shards/s$i.safetensors" --tensor "t$i:U8:[1]" --metadata "k=$(printf %1000s x)"
done
small 1M
edit_start "$T/shards" "$T/mnt" staging="$T/small/stage"
poke "$T/mnt/t1" 0 x
jq 'map_values(.k += "y")' "$T/mnt/__metadata__.json" >"$T/new.json"
cp "$T/mnt/__metadata__.json" "$T/old.json"
refused=0
for left in 0 12 28 44 60; do
    cp "$T/new.json" "$T/mnt/.new"
    exhaust "$left"
    if "${rename[@]}" "$T/mnt/.new" "$T/mnt/__metadata__.json" 2>/dev/null; then
        check "metadata, $left KiB left: all of it" cmp <(jq -S . "$T/new.json") <(jq -S . "$T/mnt/__metadata__.json")
    else
        refused=$((refused + 1))
        check "metadata, $left KiB left: as it was" cmp "$T/old.json" "$T/mnt/__metadata__.json"
    fi
    rm -f "$T/mnt/__metadata__.json" 2>/dev/null
    check_match "metadata, $left KiB left: all of it is removed or nothing" '^(40|0)$' \
        "$(jq length "$T/mnt/__metadata__.json" 2>/dev/null || echo 0)"
    rm -f "$T/small/ballast" "$T/mnt"/.[0-9n]*
    cp "$T/old.json" "$T/mnt/__metadata__.json"
done
check "metadata: some were refused" test "$refused" -gt 0
exhaust 4
refused=0
for i in {1..30}; do
    if echo '{"dtype":"F32","shape":[2]}' | cp /dev/stdin "$T/mnt/n$i.$long.json" 2>/dev/null; then
        check_eq "a sidecar that makes a tensor: all of it" '["F32",[2]] 8' \
            "$(declared "$T/mnt/n$i.$long") $(stat -c %s "$T/mnt/n$i.$long")"
    else
        refused=$((refused + 1))
        check_not "a sidecar that makes a tensor, refused: there is none" test -e "$T/mnt/n$i.$long"
        truncate -s -4K "$T/small/ballast"
    fi
done
check "a sidecar that makes a tensor: some were refused" test "$refused" -gt 0
rm "$T/small/ballast"
commits "shards" "$T/mnt" "$T/shards"
mount_stop "$T/mnt"
umount "$T/small"

# ---- how editors save, and a death between ----

# saved WHAT EXPECTED COMMAND: kill after the command; then what a commit has: NAME=first two bytes of each.
saved() {
    printf 'aaaa' >"$T/aaaa"
    make_checkpoint "$T/e.safetensors" --tensor a:U8:[4] --tensor b:U8:[4]
    mount_start "$T/e.safetensors" "$T/mnt" -o edit
    printf aa | dd of="$T/mnt/a" conv=notrunc status=none
    printf bb | dd of="$T/mnt/b" conv=notrunc status=none
    check "$1: commit" "$SAFETENSORFS" commit "$T/mnt"
    (cd "$T/mnt" && eval "$3") || fail "$1: $3"
    if [ "$4" = kill ]; then
        edit_kill "$T/mnt"
        check "$1: recover" "$SAFETENSORFS" recover "$T/e.safetensors"
    else
        mount_stop "$T/mnt"
    fi
    check_eq "$1" "$2" "$("$SAFETENSORFS" ls --json "$T/e.safetensors" | jq -r '.[].name' | sort |
        while read -r name; do printf '%s=%s ' "$name" "$(reader cut "$T/e.safetensors" "$name" | head -c 2)"; done)"
}

saved 'put aside, death' 'a=aa b=bb ' 'mv a a~' kill
saved 'put aside, the end' 'b=bb ' 'mv a a~' end
saved 'put aside, written anew, death' 'a=cc b=bb ' 'mv a a~; printf cccc >a' kill
saved 'put aside, written anew, the end' 'a=cc b=bb ' 'mv a a~; printf cccc >a' end
saved 'put aside, then renamed' 'b=aa ' 'mv a a~; mv a~ b' kill
saved 'put aside, then another in its place' 'a=bb ' 'mv a a~; mv b a' kill
saved 'put aside, changed there, death' 'a=xa b=bb ' 'mv a a~; printf x | dd of=a~ conv=notrunc status=none' kill
saved 'put aside and removed' 'b=bb ' 'mv a .a.swp; rm .a.swp' kill
saved 'written beside, renamed over' 'a=cc b=bb ' 'printf cccc >.a.tmp; mv .a.tmp a' kill
saved 'written beside, death' 'a=aa b=bb ' 'printf cccc >.a.tmp' kill
saved 'removed while it is open, death' 'b=bb ' 'exec 3<a.npy; rm a; :' kill
finish
