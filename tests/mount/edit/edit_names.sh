#!/usr/bin/env bash
# Which files can be made, and which cannot: scratch names, encodings, links, devices, the reserved ones.
. "$(dirname "$0")/../lib_edit.sh"

make_checkpoint "$T/a.safetensors" --tensor 'a:F32:[2]' --tensor 'b:U8:[100000]' --metadata k=v
cp "$T/a.safetensors" "$T/before"
edit_start "$T/a.safetensors" "$T/mnt"
cd "$T/mnt" || exit

# Scratch: any use is fine, none of it is committed.
for name in .x x~ .x.json x.json~ .a.swp a~ .a.npy '%~' .x.safetensors; do
    check "scratch $name: made" cp b "$name"
    check "scratch $name: read back" cmp b "$name"
    check "scratch $name: listed" test "$(ls -A | grep -cFx -- "$name")" -eq 1
    check "scratch $name: written" poke "$name" 65534 scratch
    check "scratch $name: renamed" mv "$name" "$name.1~"
    check "scratch $name: removed" rm "$name.1~"
done
check_eq "scratch: nothing is staged" '{"tensors":0,"bytes":0}' "$(status_of "$T/mnt" .staged)"
check "scratch from a tensor" mv a .a
check_eq "scratch from a tensor: it is no tensor then" 1 "$(status_of "$T/mnt" .tensors)"
check "scratch to another name" mv .a c
check_eq "scratch to another name: with what was declared" '["F32",[2]]' "$(declared c)"
check "and back" mv c a
cp b .kept
check_eq "kept while mounted" "$(sha256sum <b)" "$(poke b 0 x; "$SAFETENSORFS" commit "$T/mnt"; dd if="$T/before" bs=1M skip="$(jq .offset b.json)" iflag=skip_bytes status=none | sha256sum)"
check "kept over a commit" test "$(stat -c %s .kept)" -eq 100000
poke b 0 y
check_eq "kept over a commit: its own bytes" x "$(poke .kept 0 x; head -c 1 .kept)"

# Two of one name are different things.
check "a scratch file whose name decodes to a tensor's" cp b %2Eb
check_eq "an encoded dot is a tensor" .b "$(jq -r .name %2Eb.json)"
rm %2Eb

# What is no valid name for a tensor.
while IFS= read -r name; do
    name=$(printf '%b.' "$name")
    name=${name%.}
    check_errno "invalid, create: $name" EINVAL touch "$name"
    check_errno "invalid, rename: $name" EINVAL "${rename[@]}" b "$name"
    check_errno "invalid, sidecar: $name" EINVAL cp a.json "$name.json"
    check_errno "invalid, npy: $name" EINVAL cp a.npy "$name.npy"
done <<'END'
\xff
a\xc0\x80
a\xed\xa0\x80b
%zz
%2
%2f
%41
a%00b%
x\x01y
x\x7fy
__metadata__
END
# In full, the names that only this file system would give.
for name in 'x%' "$(printf 'n%.0s' {1..252})"; do
    check_not "no encoding: ${name:0:20}" touch "$name"
done
check_errno "a name above 255 bytes" ENAMETOOLONG touch "$(printf 'n%.0s' {1..256})"
while IFS= read -r name; do
    check "valid: $name" touch "$name"
    check "valid: $name: listed so" test "$(ls | grep -cFx -- "$name")" -eq 1
    check "valid: $name: removed" rm "$name"
done <<'END'
a b
é
%2F%25%09
%7F%00
x%2Ejson
x%2Enpy
x%7E
%
END
long=$(printf 'n%.0s' {1..246})
check "as long as can be" touch "$long"
check_eq "as long as can be: its name" 246 "$(jq -r .name "$long.json" | tr -d '\n' | wc -c)"
rm "$long"

# Neither links nor devices nor, in this layout, directories.
check_errno "symlink" EPERM ln -s a link
check_errno "link" EPERM ln a link
check_errno "fifo" EPERM mkfifo fifo
[ "$(id -u)" -ne 0 ] || check_errno "device" EPERM mknod dev c 1 3
check_errno "socket" EPERM "$PYTHON" -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
check_errno "directory" EPERM mkdir dir
check_errno "scratch directory" EPERM mkdir .dir

# The control directory is as it is.
check_errno "reserved: create" EPERM touch .safetensorfs/new
check_errno "reserved: remove" EPERM rm -f .safetensorfs/status
check_errno "reserved: rename" EPERM "${rename[@]}" .safetensorfs/status x
check_errno "reserved: rename onto" EPERM "${rename[@]}" b .safetensorfs/commit
check_errno "reserved: rename the directory" EPERM "${rename[@]}" .safetensorfs x
check_errno "reserved: rmdir" EPERM rmdir .safetensorfs
check_errno "reserved: write the status" EACCES cp b .safetensorfs/status
check_not "reserved: not listed" test "$(ls -A | grep -c safetensorfs)" -gt 0

# Views are no files of their own.
check_errno "unlink of a view" EPERM rm -f a.npy
check_errno "rename of a view" EPERM "${rename[@]}" a.npy z
check_errno "truncate of a sidecar by name" EINVAL "$PYTHON" -c 'import os; os.truncate("a.json", 3)'
check_errno "a committed tensor as a sidecar" EINVAL "${rename[@]}" b a.json
check_errno "exchange" EINVAL "$PYTHON" -c 'import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.renameat2(-100, b"a", -100, b"b", 2):
    sys.exit(os.strerror(ctypes.get_errno()))'
check_errno "extended attributes are read only" EOPNOTSUPP setfattr -n user.mine -v 1 a
check_errno "extended attributes of ours" EOPNOTSUPP setfattr -n user.safetensors.dtype -v F16 a
check_eq "all are as before" '"a" "b"' "$(ls | grep -v json | sed 's/.*/"&"/' | xargs -d '\n')"
cd "$T" || exit
mount_stop "$T/mnt"
check_eq "nothing of all that was committed" "$(reader names "$T/before")" "$(reader names "$T/a.safetensors")"
finish
