#!/usr/bin/env bash
# A rename that fails half-way leaves the tensor that it would have replaced, also while that is open.
. "$(dirname "$0")/../lib_edit.sh"

[ "$(id -u)" -eq 0 ] || skip "needs a small file system for the staging"
mkdir "$T/stage"
mount -t tmpfs -o size=3m,mode=700 none "$T/stage" || skip "no tmpfs"
source=$T/a.safetensors
make_checkpoint "$source" --tensor 'big:U8:[8000000]' --tensor 'kept:U8:[1000]' --tensor 'x:U8:[10]'
edit_start "$source" "$T/mnt" staging="$T/stage"
before=$(sha256sum <"$T/mnt/kept")
# What is scratch over a commit is staged when it becomes a tensor again: for that there is no room.
mv "$T/mnt/big" "$T/mnt/.big"
check "commit" "$SAFETENSORFS" commit "$T/mnt"
exec {held}<"$T/mnt/kept"
check_errno "rename onto an open tensor" ENOSPC "${rename[@]}" "$T/mnt/.big" "$T/mnt/kept"
check_eq "the tensor is still listed" "kept kept.json x x.json " "$(ls "$T/mnt" | tr '\n' ' ')"
check_eq "its bytes are" "$before" "$(sha256sum <"$T/mnt/kept")"
check_eq "the scratch file is" 8000000 "$(stat -c %s "$T/mnt/.big")"
poke "$T/mnt/kept" 0 after
check_eq "who has it open sees what is written to it" after "$(head -c 5 <&"$held")"
exec {held}<&-
mount_stop "$T/mnt"
check_eq "it is committed" after "$(reader cut "$source" kept | head -c 5)"
finish
