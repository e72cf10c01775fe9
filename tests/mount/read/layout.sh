#!/usr/bin/env bash
# layout=flat, tree and files show the same tensors in different places.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/shards" --shards 2 --tensors 12 --tensor-bytes 3000
shard=model-00001-of-00002.safetensors

# path_of LAYOUT NAME FILE: where a tensor is to be.
path_of() {
    case $1 in
    flat) echo "$2" ;;
    tree) echo "${2//.//}" ;;
    files) echo "$3/$2" ;;
    esac
}

for layout in flat tree files; do
    mount_start "$T/shards" "$T/mnt" -o "layout=$layout"
    while IFS=$'\t' read -r name file; do
        path=$T/mnt/$(path_of "$layout" "$name" "$file")
        check "$layout: $name" cmp <(reader cut "$T/shards" "$name") "$path"
        check_eq "$layout: sidecar of $name" "$name" "$(jq -r .name "$path.json")"
        check "$layout: view of $name" test -s "$path.npy"
    done < <(reader list "$T/shards" | jq -r '.[] | [.name, .file] | @tsv')
    check_eq "$layout: nothing but tensors and sidecars" 24 "$(find "$T/mnt" -type f | wc -l)"
    check_eq "$layout in status" "$layout" "$("$SAFETENSORFS" status --json "$T/mnt" | jq -r .layout)"
    # A directory's link count is 2 and its subdirectories, for find's sake.
    while read -r links directory; do
        below=$(find "$directory" -mindepth 1 -maxdepth 1 -type d | wc -l)
        check_eq "$layout: links of $directory" "$((below + 2))" "$links"
    done < <(find "$T/mnt" -type d -printf '%n %p\n')
    mount_stop "$T/mnt"
done

# One file has the layout too.
mount_start "$T/shards/$shard" "$T/mnt" -o layout=files
check_eq "files: one file is one directory" "$shard" "$(ls "$T/mnt")"
mount_stop "$T/mnt"

# A name that is both a tensor and the beginning of others; empty components.
make_checkpoint "$T/both.safetensors" --tensor 'a:U8:[1]' --tensor 'a.b:U8:[2]' \
    --tensor 'a.b.c:U8:[3]' --tensor 'a..d:U8:[4]' --tensor 'e.:U8:[5]' --tensor '.f:U8:[6]' \
    --tensor 'g.json:U8:[7]' --tensor 'h~.i:U8:[8]'
mount_start "$T/both.safetensors" "$T/mnt" -o layout=tree
while read -r size path; do
    check_eq "tree: $path" "$size" "$(stat -c %s "$T/mnt/$path" 2>&1)"
    check_eq "tree: sidecar of $path" "$size" "$(jq .nbytes "$T/mnt/$path.json" 2>&1)"
done <<'END'
1 a%
2 a/b%
3 a/b/c
4 a/%/d
5 e/%
6 %/f
7 g/json
8 h%7E/i
END
check_eq "tree: nothing else" 8 "$(find "$T/mnt" -type f ! -name '*.json' | wc -l)"
mount_stop "$T/mnt"

# Names that are in two files need layout=files.
mkdir "$T/same"
make_checkpoint "$T/same/a.safetensors" --tensor 'x:U8:[3]' --seed 1
make_checkpoint "$T/same/b.safetensors" --tensor 'x:U8:[3]' --seed 2
check_refused "a name in two files" 'a\.safetensors.*b\.safetensors.*layout=files' \
    "$SAFETENSORFS" "$T/same" "$T/mnt"
check_match "it names the tensor" '"?x"?' "$err"
mount_start "$T/same" "$T/mnt" -o layout=files
for file in a b; do
    check "x of $file" cmp <(reader cut "$T/same/$file.safetensors" x) "$T/mnt/$file.safetensors/x"
done
mount_stop "$T/mnt"
finish
