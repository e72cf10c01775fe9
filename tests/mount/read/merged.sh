#!/usr/bin/env bash
# .safetensorfs/model.safetensors: everything that is mounted as one file.
. "$(dirname "$0")/../lib_edit.sh"

name=.safetensorfs/model.safetensors
read_at() { # DESCRIPTOR OFFSET: a byte, from the file that the descriptor has open
    "$PYTHON" -c 'import os, sys; os.pread(int(sys.argv[1]), 1, int(sys.argv[2]))' "$1" "$2"
}
# same_tensors WHAT SOURCE FILE: an independent reader finds each tensor of SOURCE in FILE, and no other.
same_tensors() {
    check_eq "$1: every tensor" "$(reader sha256 "$2" | jq -S .)" "$(reader sha256 "$3" | jq -S .)"
    check_eq "$1: dtypes and shapes" "$(reader list "$2" | jq -S 'map([.name, .dtype, .shape])')" \
        "$(reader list "$3" | jq -S 'map([.name, .dtype, .shape])')"
}

# ---- one file ----

make_checkpoint "$T/one.safetensors" --tensors 22 --dtype all --odd --order random --metadata k=v \
    --tensor 'nothing:F32:[0,4]' --tensor 'zz.scalar:F64:[]' --tensor 'big:BF16:[3,400000]'
mount_start "$T/one.safetensors" "$T/mnt"
check "one file: it is that file" cmp "$T/one.safetensors" "$T/mnt/$name"
check "one file: by large direct reads" cmp "$T/one.safetensors" \
    <(dd if="$T/mnt/$name" iflag=direct bs=16M status=none)
check "one file: mapped" "$PYTHON" - "$T/one.safetensors" "$T/mnt/$name" <<'PY'
import mmap, os, sys
a, b = (mmap.mmap(os.open(path, os.O_RDONLY), 0, access=mmap.ACCESS_READ) for path in sys.argv[1:])
assert a[:] == b[:] and a[12345:54321] == b[12345:54321]
PY
check "one file: check accepts it in place" "$SAFETENSORFS" check -q "$T/mnt/$name"
check_errno "one file: nobody writes to it" EROFS touch "$T/mnt/$name"
check_eq "one file: listed in its directory" "commit model.safetensors progress status" \
    "$(echo $(ls "$T/mnt/.safetensorfs"))"
check_eq "one file: as old as the source" "$(stat -c '%Y %s' "$T/one.safetensors")" "$(stat -c '%Y %s' "$T/mnt/$name")"
mount_stop "$T/mnt"

# With staged edits it is what a commit of them writes elsewhere. Bytes alone; then the layout, too.
edit_start "$T/one.safetensors" "$T/mnt" output="$T/out.safetensors"
poke "$T/mnt/big" 65530 "across a block"
exec 8<"$T/mnt/$name"
cp "$T/mnt/$name" "$T/bytes.safetensors"
check "bytes: commit" "$SAFETENSORFS" commit "$T/mnt"
check "bytes: the same" cmp "$T/bytes.safetensors" "$T/out.safetensors"
check "bytes: the one who had it open goes on" cmp "$T/out.safetensors" - <&8
exec 8<&-
check "bytes: shown after the commit" cmp "$T/out.safetensors" "$T/mnt/$name"
exec 9<"$T/mnt/$name"
check "layout: a reader that came before" read_at 9 5000
mv "$T/mnt/big" "$T/mnt/bigger"
printf 12345 >"$T/mnt/new"
sidecar "$T/mnt/zeros" F32 '[300000]'
rm "$T/mnt/zz.scalar"
echo '{"k": "w", "l": "m"}' >"$T/mnt/__metadata__.json"
checks=$((checks + 1))
[[ $(read_at 9 1000000 2>&1) =~ "Stale file handle" ]] || fail "layout: who has it open from before is not told"
check_not "layout: nor can it be looked at" "$PYTHON" -c 'import os; os.fstat(9)'
exec 9<&-
cp "$T/mnt/$name" "$T/layout.safetensors"
check "layout: by direct reads as well" cmp "$T/layout.safetensors" <(dd if="$T/mnt/$name" iflag=direct bs=1M status=none)
check "layout: commit" "$SAFETENSORFS" commit "$T/mnt"
check "layout: the same" cmp "$T/layout.safetensors" "$T/out.safetensors"
canonical "layout" "$T/layout.safetensors"
check_eq "nobody opens it for writing" "1" "$( (: >>"$T/mnt/$name") 2>/dev/null; echo $?)"
check_not "nobody removes it" rm -f "$T/mnt/$name"

# Bytes that are overwritten in their place show in it; who opens it again sees them.
printf abcde | dd of="$T/mnt/new" conv=notrunc status=none
check "overwritten: the independent reader finds them" test "$(cp "$T/mnt/$name" "$T/again"; reader cut "$T/again" new)" = abcde
# Where a commit would be refused there is no such file, and the directory can still be listed.
truncate -s 1 "$T/mnt/bigger"
check_errno "a problem" EINVAL cp "$T/mnt/$name" "$T/none"
check_eq "a problem: listed" "commit model.safetensors progress status" "$(echo $(ls "$T/mnt/.safetensorfs"))"
rm "$T/mnt/bigger"
check "mended" cp "$T/mnt/$name" "$T/mended"
mount_stop "$T/mnt"
check "mended: what was committed in the end" cmp "$T/mended" "$T/out.safetensors"

# ---- shards ----

make_checkpoint "$T/dir" --shards 3 --tensors 30 --tensor-bytes 70000 --dtype F32,BF16,I64,U8 --metadata format=pt
for layout in flat tree files; do
    mount_start "$T/dir" "$T/mnt" -o "layout=$layout"
    cp "$T/mnt/$name" "$T/$layout.safetensors"
    same_tensors "shards, layout=$layout" "$T/dir" "$T/$layout.safetensors"
    canonical "shards, layout=$layout" "$T/$layout.safetensors"
    check "shards, layout=$layout: valid" "$SAFETENSORFS" check -q "$T/$layout.safetensors"
    check_eq "shards, layout=$layout: metadata" '{"format":"pt"}' "$(reader metadata "$T/$layout.safetensors" | jq -c '.[]')"
    mount_stop "$T/mnt"
done
# It can be mounted itself, and shows the same tensors.
mount_start "$T/dir" "$T/mnt"
mount_start "$T/mnt/$name" "$T/mnt2"
check "shards: mounted in place" diff -rq <(cd "$T/mnt" && sha256sum ./*.weight) <(cd "$T/mnt2" && sha256sum ./*.weight)
mount_stop "$T/mnt2"
mount_stop "$T/mnt"
# Edited, in an edit mount.
edit_start "$T/dir" "$T/mnt"
first=$(ls "$T/mnt" | grep 'weight$' | head -n 1)
poke "$T/mnt/$first" 1000 edited
mv "$T/mnt/$(ls "$T/mnt" | grep 'weight$' | tail -n 1)" "$T/mnt/aaa"
cp "$T/mnt/$name" "$T/edited.safetensors"
mount_stop "$T/mnt"
same_tensors "shards, edited" "$T/dir" "$T/edited.safetensors"
canonical "shards, edited" "$T/edited.safetensors"

# One name in two files cannot be in one file.
mkdir "$T/twice"
make_checkpoint "$T/twice/a.safetensors" --tensor 'x:U8:[3]'
make_checkpoint "$T/twice/b.safetensors" --tensor 'x:U8:[4]'
mount_start "$T/twice" "$T/mnt" -o layout=files
check_errno "one name in two files" EEXIST cp "$T/mnt/$name" "$T/none"
check "one name in two files: listed all the same" ls "$T/mnt/.safetensorfs"
mount_stop "$T/mnt"

# A source that lost its end: the reader of what is missing is told.
make_checkpoint "$T/cut.safetensors" --tensor 'a:U8:[3000000]' --tensor 'b:U8:[3000000]'
mount_start "$T/cut.safetensors" "$T/mnt"
truncate -s 4000000 "$T/cut.safetensors"
check_errno "a truncated source" EIO cp "$T/mnt/$name" "$T/none"
check "a truncated source: what is there" cmp -n 3000000 "$T/cut.safetensors" "$T/mnt/$name"
mount_stop "$T/mnt"

# Only who may read every shard may read it.
make_checkpoint "$T/modes" --shards 2 --tensors 4 --tensor-bytes 100
while read -r first second group mode; do
    chmod "$first" "$T/modes"/*1-of*.safetensors
    chmod "$second" "$T/modes"/*2-of*.safetensors
    [ "$(id -u)" -eq 0 ] || group=0
    [ "$group" -eq 0 ] || chgrp "$group" "$T/modes"/*2-of*.safetensors
    mount_start "$T/modes" "$T/mnt"
    check_eq "modes $first $second, group $group" "$mode" "$(stat -c %a "$T/mnt/$name")"
    mount_stop "$T/mnt"
done <<'END'
640 604 0 400
644 444 0 444
644 604 1234 0
644 644 1234 444
END
[ "$(id -u)" -ne 0 ] || chgrp 0 "$T/modes"/*
edit_start "$T/modes" "$T/mnt"
before=$(stat -c %y "$T/mnt/$name")
first=$(ls "$T/mnt" | grep 'weight$' | head -n 1)
poke "$T/mnt/$first" 0 x
check_not "an edit makes it newer" test "$before" = "$(stat -c %y "$T/mnt/$name")"
check_eq "and then it is as old as that" "$(stat -c %y "$T/mnt/$name")" "$(stat -c %y "$T/mnt/$name")"
chmod 600 "$T/mnt/$first"
check_eq "the mode of a tensor counts" 400 "$(stat -c %a "$T/mnt/$name")"
check_errno "its own cannot be changed" EPERM chmod 600 "$T/mnt/$name"
mount_stop "$T/mnt"
for source in $(real_checkpoints); do
    mount_start "$source" "$T/mnt"
    check "$source" cmp "$source" "$T/mnt/$name"
    mount_stop "$T/mnt"
done
finish
