#!/usr/bin/env bash
# A directory is a checkpoint of shards; what its index says, and where it is wrong.
. "$(dirname "$0")/../lib.sh"

one=model-00001-of-00002.safetensors
two=model-00002-of-00002.safetensors

# fresh: $T/dir, two shards of three tensors and their index.
fresh() {
    rm -rf "$T/dir"
    make_checkpoint "$T/dir" --shards 2 --tensor 'a:U8:[4]' --tensor 'b:U8:[4]' \
        --tensor 'c:U8:[4]' --tensor 'd:U8:[4]'
}
index=$T/dir/model.safetensors.index.json

# edit_index FILTER [ARGUMENT...]: change the index with jq.
edit_index() {
    jq "$@" "$index" >"$T/index" && cp "$T/index" "$index"
}

# listed WHAT NAMES: mounts and shows just these tensors, with the right bytes.
listed() {
    mount_start "$T/dir" "$T/mnt" "${@:3}"
    check_eq "$1: tensors" "$2" "$(ls "$T/mnt" | grep -v json | tr '\n' ' ' | sed 's/ $//')"
    for name in $2; do
        check_eq "$1: size of $name" 4 "$(stat -c %s "$T/mnt/$name")"
    done
    log=$(mount_log "$T/mnt")
    mount_stop "$T/mnt"
}

# refused WHAT REGEX: by the mount, by ls and by check.
refused() {
    local what=$1 regex=$2
    check_refused "$what: ls" "$regex" "$SAFETENSORFS" ls "$T/dir"
    check_refused "$what: mount" "$regex" "$SAFETENSORFS" "$T/dir" "$T/mnt" -f
    check_refused "$what: check" "$regex" "$SAFETENSORFS" check "$T/dir"
    check "$what: nothing is mounted" is_unmounted "$T/mnt"
}
mkdir "$T/mnt"

fresh
listed "with an index" "a b c d"
check_eq "with an index: no warning" "" "$log"
reader sha256 "$T/dir" >"$T/sums"
mount_start "$T/dir/model.safetensors.index.json" "$T/mnt"
check_eq "the index as source" "a b c d" "$(ls "$T/mnt" | grep -v json | tr '\n' ' ' | sed 's/ $//')"
mount_stop "$T/mnt"

mkdir "$T/blobs" "$T/snapshot"
mv "$T/dir/$one" "$T/blobs/111"
mv "$T/dir/$two" "$T/blobs/222"
ln -s "$T/blobs/111" "$T/dir/$one"
ln -s "$T/blobs/222" "$T/dir/$two"
listed "shards that are links, as in a cache of downloads" "a b c d"

fresh
rm "$index"
cp "$T/dir/$one" "$T/dir/notes.txt"
listed "without an index" "a b c d"

fresh
rm "$T/dir/$two"
refused "a missing shard" "$two"
listed "a missing shard, with partial" "a b" -o partial
check_match "a missing shard, with partial: a warning" "^safetensorfs: warning: .*1 of 2 shards" "$log"
rm "$T/dir/$one"
refused "two missing shards" "$one.*$two"
listed "all are missing, with partial" "" -o partial

fresh
edit_index --arg file "$two" '.weight_map.extra = $file'
listed "a name that only the index has" "a b c d"
check_match "a name that only the index has: a warning" '^safetensorfs: warning: .*extra' "$log"
run "$SAFETENSORFS" check "$T/dir"
check_eq "check: a warning is no failure" "0 $T/dir: ok" "$rc $out"
check_match "check: the warning" '^safetensorfs: warning: .*extra' "$err"

fresh
edit_index 'del(.weight_map.b)'
listed "a name that only a shard has" "a b c d"
check_match "a name that only a shard has: a warning" '^safetensorfs: warning: .*b' "$log"

fresh
make_checkpoint "$T/dir/$two" --tensor 'b:U8:[4]' --tensor 'c:U8:[4]' --tensor 'd:U8:[4]' --seed 9
edit_index --arg file "$two" '.weight_map.b = $file'
listed "a name in two shards" "a b c d"
check_match "a name in two shards: a warning" '^safetensorfs: warning: .*b' "$log"
mount_start "$T/dir" "$T/mnt"
check "a name in two shards: the index decides" cmp <(reader cut "$T/dir/$two" b) "$T/mnt/b"
mount_stop "$T/mnt"
edit_index 'del(.weight_map.b)'
refused "a name in two shards, and the index says neither" "b.*$one.*$two"

fresh
make_checkpoint "$T/dir/other.safetensors" --tensor 'z:U8:[4]'
echo broken >"$T/dir/broken.safetensors"
listed "files that the index does not name" "a b c d"

fresh
rm "$index"
make_checkpoint "$T/dir/again.safetensors" --tensor 'c:U8:[4]'
refused "a name in two files" "c.*again.safetensors.*$two.*layout=files"

fresh
echo broken >"$T/dir/$two"
refused "a broken shard" "$two.*shorter than 8 bytes|$two.*header length"

fresh
cp "$index" "$T/dir/second.safetensors.index.json"
refused "two index files" "model.safetensors.index.json.*second.safetensors.index.json"
mount_start "$T/dir/second.safetensors.index.json" "$T/mnt"
check "one of two index files as source" cmp <(reader cut "$T/dir/$one" a) "$T/mnt/a"
mount_stop "$T/mnt"

# Values of weight_map that name no plain file.
for value in '"../x.safetensors"' '"sub/x.safetensors"' '"/etc/passwd"' '""' '"."' '".."' 7 null \
    '"nul\u0000byte"'; do
    fresh
    edit_index --argjson value "$value" '.weight_map.a = $value'
    refused "weight_map value $value" 'a'
done

# An index that is none.
while IFS='|' read -r text regex; do
    fresh
    printf '%s' "$text" >"$index"
    refused "index $text" "model.safetensors.index.json.*$regex"
done <<'END'
|
{|
[]|
{}|weight_map
{"weight_map":[]}|weight_map
{"weight_map":{},}|
{"weight_map":{"a":"x","a":"x"}}|a
END

rm -rf "$T/dir"
mkdir "$T/dir"
refused "an empty directory" "$T/dir"
echo '{"weight_map":{}}' >"$T/dir/model.safetensors.index.json"
listed "an index without tensors" ""

rm -rf "$T/dir"
refused "no such source" 'No such file'
mkfifo "$T/dir"
refused "a pipe" 'regular file|directory'
finish
