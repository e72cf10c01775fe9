#!/usr/bin/env bash
# Wrong usage ends with exit status 2 and a line that names the wrong word.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/a.safetensors" --tensors 3
mkdir "$T/mnt"
cd "$T" || die "cd"

# the word to be named | the arguments
while IFS='|' read -r word arguments; do
    read -r -a words <<<"$arguments"
    run "$SAFETENSORFS" "${words[@]}"
    check_eq "$arguments: exit status ($err)" 2 "$rc"
    check_match "$arguments: message" '^safetensorfs: .+: .+' "$err"
    check_eq "$arguments: the message names $word ($err)" 1 "$(grep -cF -e "$word" <<<"$err")"
    check_eq "$arguments: stdout" "" "$out"
done <<'END'
SOURCE|
SOURCE|mount
SOURCE|-f
MOUNTPOINT|a.safetensors
MOUNTPOINT|mount a.safetensors
third|a.safetensors mnt third
--bogus|--bogus
--bogus|a.safetensors mnt --bogus
-x|-x a.safetensors mnt
-fx|a.safetensors mnt -fx
-o|a.safetensors mnt -o
bogus|a.safetensors mnt -o bogus
bogus=1|a.safetensors mnt -o npy,bogus=1
layout=round|a.safetensors mnt -o layout=round
layout|a.safetensors mnt -o layout
commit=never|a.safetensors mnt -o edit,commit=never
staging=|a.safetensors mnt -o edit,staging=
output=|a.safetensors mnt -o edit,output=
fsname=|a.safetensors mnt -o fsname=
max_read=x|a.safetensors mnt -o max_read=x
max_read=0|a.safetensors mnt -o max_read=0
SOURCE|ls
SOURCE|ls --json
--frob|ls --frob a.safetensors
-l|ls -l a.safetensors
-h|ls -h --json a.safetensors
SOURCE|check
SOURCE|check -q
--quiet|check --quiet a.safetensors
A|diff
B|diff --json a.safetensors
third|diff a.safetensors a.safetensors third
--brief|diff --brief a.safetensors a.safetensors
MOUNTPOINT|status
--jason|status --jason mnt
second|status mnt second
MOUNTPOINT|commit
second|commit mnt second
--now|commit --now mnt
MOUNTPOINT|umount
second|umount mnt second
-l|umount -l mnt
SOURCE|recover
second|recover a.safetensors second
layout=tree|recover a.safetensors -o layout=tree
SOURCE|discard
output=x|discard a.safetensors -o output=x
END
check "nothing is mounted" is_unmounted "$T/mnt"

run "$SAFETENSORFS" --help
check_eq "--help: exit status" 0 "$rc"
check_eq "--help: stderr" "" "$err"
for word in mount ls check diff status commit umount recover discard layout=; do
    check_match "--help tells of $word" "$word" "$out"
done
run "$SAFETENSORFS" --version
check_eq "--version: exit status" 0 "$rc"
check_match "--version" '^safetensorfs [0-9]+\.[0-9]+' "$out"

# The verb may be left out or not, options may stand anywhere.
for arguments in "a.safetensors mnt" "mount a.safetensors mnt" "-o npy a.safetensors mnt" \
    "a.safetensors -onpy,layout=tree mnt" "-s a.safetensors mnt" "mount -o ro a.safetensors -s mnt"; do
    read -r -a words <<<"$arguments"
    run "$SAFETENSORFS" "${words[@]}"
    check_eq "$arguments: exit status ($err)" 0 "$rc"
    check "$arguments: mounted" is_mounted "$T/mnt"
    check "$arguments: umount" "$SAFETENSORFS" umount mnt
done

# Words of libfuse, and of mount(8), that it does not know everywhere.
for words in max_read=131072 nodiratime,nosymfollow noatime,nodev,nosuid,noexec,sync,dirsync \
    allow_other allow_root default_permissions fsname=name subtype=other auto_unmount; do
    run "$SAFETENSORFS" a.safetensors mnt -o "$words"
    check_eq "-o $words ($err)" "0 " "$rc $out$err"
    check "-o $words: reads" cmp <(reader cut a.safetensors lm_head.weight) mnt/lm_head.weight
    check "-o $words: umount" "$SAFETENSORFS" umount mnt
done
# However long the subject is, the reason is there; and an empty one is something to be seen.
long=$T
while [ ${#long} -lt 3000 ]; do
    long=$long/$(printf 'é%.0s' {1..100})
done
check_refused "a long path" '^safetensorfs: \.\.\.é.*: (No such file|File name too long)' "$SAFETENSORFS" ls "$long"
check_refused "an empty path" "^safetensorfs: '': No such file" "$SAFETENSORFS" ls ""
# What libfuse refuses is one line as well.
check_refused "what the kernel does not have" 'mnt: cannot mount: fuse: mount failed: ' \
    "$SAFETENSORFS" a.safetensors mnt -o context=none
finish
