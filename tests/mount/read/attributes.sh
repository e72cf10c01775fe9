#!/usr/bin/env bash
# Attributes, extended attributes and file system figures come from the source.
. "$(dirname "$0")/../lib.sh"
need getfattr df mountpoint

make_checkpoint "$T/one.safetensors" --tensor 'x:F32:[2,3]' --tensor 'scalar:BF16:[]' --metadata a=b
chmod 640 "$T/one.safetensors"
[ "$(id -u)" -ne 0 ] || chown 1234:5678 "$T/one.safetensors"
touch -d '2001-02-03 04:05:06.789' "$T/one.safetensors"
mount_start "$T/one.safetensors" "$T/mnt"
cd "$T/mnt" || die "cd"

for file in x x.json x.npy scalar.f32.npy __metadata__.json; do
    for format in %u:%g %Y %y; do
        check_eq "$file: owner and times are the source's ($format)" \
            "$(stat -c "$format" "$T/one.safetensors")" "$(stat -c "$format" "$file")"
    done
    check_eq "$file: mode" 440 "$(stat -c %a "$file")"
    check_eq "$file: type" "regular file" "$(stat -c %F "$file")"
    check_eq "$file: block size" 1048576 "$(stat -c %o "$file")"
    check_eq "$file: links" 1 "$(stat -c %h "$file")"
done
check_eq "size" 24 "$(stat -c %s x)"
check_match "mode of the root" '^dr-x' "$(stat -c %A .)"

# Stable inode numbers, one for each file.
before=$(ls -i x x.json x.npy scalar scalar.f32.npy)
check_eq "each file has an inode number of its own" 5 "$(awk '{ print $1 }' <<<"$before" | sort -u | wc -l)"
[ "$(id -u)" -ne 0 ] || echo 2 >/proc/sys/vm/drop_caches
check_eq "inode numbers are stable" "$before" "$(ls -i x x.json x.npy scalar scalar.f32.npy)"
check_eq "a listing gives the same inode numbers" "$(stat -c '%i %n' x x.json)" \
    "$(find . -name 'x*' -printf '%i %P\n' | sort -k 2)"

# Extended attributes.
while read -r file attribute value; do
    check_eq "$attribute of $file" "$value" \
        "$(getfattr -n "user.safetensors.$attribute" --only-values "$file" 2>&1)"
done <<'END'
x name x
x dtype F32
x shape [2,3]
scalar dtype BF16
scalar shape []
END
check_eq "list of attributes" "user.safetensors.dtype user.safetensors.name user.safetensors.shape" \
    "$(getfattr -m - x | grep -v '^#' | grep . | sort | tr '\n' ' ' | sed 's/ $//')"
check_errno "no such attribute" ENODATA getfattr -n user.safetensors.none x
# ls -l asks each file for these, unless the first says that there are none of the kind.
for attribute in system.posix_acl_access security.selinux trusted.none; do
    check_errno "no attributes of the kind: $attribute" ENOTSUP getfattr -n "$attribute" x
done

# File system figures.
blocks=$(stat -f -c %b .)
block=$(stat -f -c %S .)
size=$(stat -c %s "$T/one.safetensors")
check "statfs shows the checkpoint's size" \
    test $((blocks * block)) -ge 26 -a $((blocks * block)) -lt $((size + 2 * block))
check_eq "nothing is free" "0 0" "$(stat -f -c '%f %a' .)"
check_eq "names may have 255 bytes" 255 "$(stat -f -c %l .)"
check_eq "df" "$T/one.safetensors fuse.safetensorfs" \
    "$(df --output=source,fstype . | tail -n 1 | tr -s ' ')"
check_eq "findmnt" "$T/one.safetensors fuse.safetensorfs" "$(findmnt -rno SOURCE,FSTYPE "$T/mnt")"
check_match "it is mounted read-only" '^ro,' "$(findmnt -rno OPTIONS "$T/mnt")"
check_match "mount" "$T/one.safetensors on $T/mnt type fuse.safetensorfs" "$(mount)"

# A checkpoint that is empty.
cd "$T" || die "cd"
mount_stop "$T/mnt"
printf '\x02\0\0\0\0\0\0\0{}' >"$T/empty.safetensors"
mount_start "$T/empty.safetensors" "$T/mnt"
check_eq "an empty checkpoint is an empty directory" "" "$(ls "$T/mnt")"
check "statfs of it" stat -f "$T/mnt"
mount_stop "$T/mnt"

# Two shards, each with attributes of its own.
make_checkpoint "$T/shards" --shards 2 --tensors 4
touch -d '2002-02-02' "$T/shards/model-00002-of-00002.safetensors"
mount_start "$T/shards" "$T/mnt"
while IFS=$'\t' read -r name file; do
    check_eq "times of $name are its shard's" "$(stat -c %y "$T/shards/$file")" \
        "$(stat -c %y "$T/mnt/$name")"
done < <(reader list "$T/shards" | jq -r '.[] | [.name, .file] | @tsv')
finish
