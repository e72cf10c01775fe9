#!/usr/bin/env bash
# commit=inplace writes into the source where the layout is the same, and a new file, saying so, where it is not.
. "$(dirname "$0")/../lib_edit.sh"

make_checkpoint "$T/a.safetensors" --odd --tensor 'a:F32:[1000]' --tensor 'b:U8:[400000]' --metadata k=v
inode=$(stat -c %i "$T/a.safetensors")
cp "$T/a.safetensors" "$T/wanted"
edit_start "$T/a.safetensors" "$T/mnt" commit=inplace
for offset in 0 65535 200001 399990; do
    poke "$T/mnt/b" "$offset" "at $offset"
    poke "$T/wanted" $(($(jq .offset "$T/mnt/b.json") + offset)) "at $offset"
done
check "commit" "$SAFETENSORFS" commit "$T/mnt"
check "commit: exactly those bytes" cmp "$T/wanted" "$T/a.safetensors"
check_eq "commit: into the same file" "$inode" "$(stat -c %i "$T/a.safetensors")"
check_eq "commit: says nothing" 0 "$(mount_log "$T/mnt" | grep -c warning)"
check "read back" cmp <(reader cut "$T/wanted" b) "$T/mnt/b"
poke "$T/mnt/a" 3 again
poke "$T/wanted" $(($(jq .offset "$T/mnt/a.json") + 3)) again
mount_stop "$T/mnt"
check "by unmounting: exactly those bytes" cmp "$T/wanted" "$T/a.safetensors"
check_eq "by unmounting: into the same file" "$inode" "$(stat -c %i "$T/a.safetensors")"
check_eq "no staging is left" "" "$(ls -A "$T" | grep '^\.')"

# A changed layout: a new file, with a line that says so.
while IFS=: read -r what command <&3; do
    edit_start "$T/a.safetensors" "$T/mnt" commit=inplace
    inode=$(stat -c %i "$T/a.safetensors")
    (cd "$T/mnt" && eval "$command")
    expect shown "$T/mnt" >"$T/shown"
    check "$what: commit" "$SAFETENSORFS" commit "$T/mnt"
    check_match "$what: says so" 'safetensorfs: warning: .*new file' "$(mount_log "$T/mnt")"
    mount_stop "$T/mnt"
    check "$what: a new file" test "$inode" -ne "$(stat -c %i "$T/a.safetensors")"
    same_state "$what: committed" "$T/a.safetensors" "$T/shown"
    canonical "$what" "$T/a.safetensors"
done 3<<'END'
re-typed: sidecar a I32 [1000]
re-shaped: sidecar a I32 [10,100]
renamed: mv a aa; poke b 0 x
added: printf x >n
deleted: rm n
metadata: echo '{"k":"w"}' >__metadata__.json
longer: sidecar b U8 [400010]; printf 0123456789 >>b
END

# Two tensors that changed places have the same layout, when their types and shapes do; their bytes do not.
make_checkpoint "$T/s.safetensors" --tensor 'x:U8:[70000]' --tensor 'y:U8:[70000]' --tensor 'z:U8:[10]'
expect committed "$T/s.safetensors" >"$T/before"
edit_start "$T/s.safetensors" "$T/mnt" commit=inplace
mv "$T/mnt/x" "$T/mnt/t"
mv "$T/mnt/y" "$T/mnt/x"
mv "$T/mnt/t" "$T/mnt/y"
poke "$T/mnt/z" 1 z
expect shown "$T/mnt" >"$T/shown"
check "swapped: commit" "$SAFETENSORFS" commit "$T/mnt"
same_state "swapped: committed" "$T/s.safetensors" "$T/shown"
check_eq "swapped: shown as before" "$(cat "$T/shown")" "$(expect shown "$T/mnt")"
check_eq "swapped: x is what y was" "$(grep '"y"' "$T/before" | cut -d' ' -f4)" "$(grep '"x"' "$T/shown" | cut -d' ' -f4)"
mount_stop "$T/mnt"

# Shards: only those that changed are written to.
make_checkpoint "$T/dir" --shards 3 --tensors 6 --tensor-bytes 70000
stat -c '%i %Y' "$T"/dir/*1-of* "$T"/dir/*3-of* "$T"/dir/*json >"$T/stat"
inode=$(stat -c %i "$T"/dir/*2-of*)
edit_start "$T/dir" "$T/mnt" commit=inplace
file=$(grep -l -- -00002-of "$T"/mnt/*.json | sed -n 1p)
poke "${file%.json}" 65534 shard
mount_stop "$T/mnt"
check_eq "shards: into the same file" "$inode" "$(stat -c %i "$T"/dir/*2-of*)"
check_eq "shards: the others are not touched" "$(cat "$T/stat")" "$(stat -c '%i %Y' "$T"/dir/*1-of* "$T"/dir/*3-of* "$T"/dir/*json)"
check "shards: valid" "$SAFETENSORFS" check -q "$T/dir"

# Killed and recovered: `recover` knows that it was in place.
inode=$(stat -c %i "$T/s.safetensors")
edit_start "$T/s.safetensors" "$T/mnt" commit=inplace
poke "$T/mnt/z" 5 rec
edit_kill "$T/mnt"
check "recover" "$SAFETENSORFS" recover "$T/s.safetensors"
check_eq "recover: in place" "$inode" "$(stat -c %i "$T/s.safetensors")"
check_eq "recover: committed" rec "$(reader cut "$T/s.safetensors" z | tail -c 5 | head -c 3)"

run "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" -o edit,commit=never
check_eq "another word is wrong usage" 2 "$rc"
finish
