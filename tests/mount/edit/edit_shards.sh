#!/usr/bin/env bash
# Directories of shards: which shard a tensor is in, what is rewritten, and what the index says afterwards.
. "$(dirname "$0")/../lib_edit.sh"

# make WHAT: s1 has b c, s2 has e f, s3 has h i; with an index, or without.
make() {
    rm -rf "$T/dir"
    mkdir "$T/dir"
    make_checkpoint "$T/dir/s1.safetensors" --tensor 'b:F32:[4]' --tensor 'c:U8:[7]' --seed 1
    make_checkpoint "$T/dir/s2.safetensors" --tensor 'e:BF16:[8]' --tensor 'f:U8:[70000]' --seed 2
    make_checkpoint "$T/dir/s3.safetensors" --tensor 'h:I64:[]' --tensor 'i:F16:[3]' --seed 3
    [ "$1" = index ] || return 0
    "$PYTHON" - "$T/dir" <<'PY'
import json, sys
names = {"b": "s1", "c": "s1", "e": "s2", "f": "s2", "h": "s3", "i": "s3"}
index = {"before": [1, {"x": None}], "metadata": {"total_size": 70053, "more": "kept"},
         "weight_map": {k: v + ".safetensors" for k, v in names.items()}, "behind": 1e3}
with open(sys.argv[1] + "/model.safetensors.index.json", "w") as f:
    json.dump(index, f, indent=2)
PY
}

# where NAME...: the shards that these tensors are in, by the files themselves.
where() {
    local name
    for name; do
        reader list "$T/dir" | jq -r --arg n "$name" '.[] | select(.name == $n).file' | cut -c2
    done | tr -d '\n'
}

# index_follows WHAT: the index says what the files say, and has its other keys.
index_follows() {
    local index=$T/dir/model.safetensors.index.json
    [ -e "$index" ] || return 0
    check_eq "$1: weight_map" "$(reader list "$T/dir" | jq -c 'map({(.name): .file}) | add // {}')" "$(jq -cS .weight_map "$index")"
    check_eq "$1: total_size" "$(reader list "$T/dir" | jq 'map(.nbytes) | add // 0')" "$(jq .metadata.total_size "$index")"
    check_eq "$1: the other keys" '[[1,{"x":null}],"kept",true]' "$(jq -c '[.before,.metadata.more,.behind == 1000]' "$index")"
    check_eq "$1: the order of the keys" '["before","metadata","weight_map","behind"]' "$(jq -c keys_unsorted "$index")"
}

for kind in index plain; do
    # Bytes only: one shard is rewritten, the others and the index are not even touched.
    make "$kind"
    sha256sum "$T"/dir/s[13]* "$T"/dir/*.json 2>/dev/null >"$T/sum"
    stat -c '%i %y' "$T"/dir/s[13]* "$T"/dir/*.json 2>/dev/null >"$T/stat"
    cp "$T/dir/s2.safetensors" "$T/wanted"
    edit_start "$T/dir" "$T/mnt"
    poke "$T/mnt/f" 65534 edited
    poke "$T/wanted" $(($(jq .offset "$T/mnt/f.json") + 65534)) edited
    mount_stop "$T/mnt"
    check "$kind, bytes: the shard" cmp "$T/wanted" "$T/dir/s2.safetensors"
    check "$kind, bytes: the others" sha256sum --check --quiet "$T/sum"
    check_eq "$kind, bytes: the others are not touched" "$(cat "$T/stat")" \
        "$(stat -c '%i %y' "$T"/dir/s[13]* "$T"/dir/*.json 2>/dev/null)"
    check_eq "$kind, bytes: no staging is left" "" "$(ls -A "$T/dir" | grep '^\.')"

    # A rename keeps the shard; a new tensor has that of the committed one before it.
    edit_start "$T/dir" "$T/mnt"
    check "$kind: rename" mv "$T/mnt/b" "$T/mnt/zz"
    check "$kind: new, in the middle" cp "$T/mnt/c" "$T/mnt/ee"
    check "$kind: new, at the end" cp "$T/mnt/c" "$T/mnt/zzz"
    check "$kind: new, the first" cp "$T/mnt/c" "$T/mnt/a"
    check_eq "$kind: the sidecar has the shard" '"s2.safetensors"' "$(jq .file "$T/mnt/ee.json")"
    commits "$kind, names" "$T/mnt" "$T/dir"
    check_eq "$kind: shards of zz ee zzz a" 1231 "$(where zz ee zzz a)"
    index_follows "$kind, names"
    canonical "$kind, names" "$T"/dir/s1.safetensors "$T"/dir/s2.safetensors

    # A tensor that programs save by unlink and create, or by rename, stays in its shard; mv onto one of another.
    check "$kind: unlink and create" cp --remove-destination "$T/mnt/c" "$T/mnt/h"
    cp "$T/mnt/c" "$T/mnt/.tmp"
    check "$kind: scratch, renamed" mv "$T/mnt/.tmp" "$T/mnt/i"
    check "$kind: onto one of another shard" mv "$T/mnt/e" "$T/mnt/c"
    sidecar "$T/mnt/h" U8 '[7]'
    sidecar "$T/mnt/i" U8 '[7]'
    commits "$kind, saved anew" "$T/mnt" "$T/dir"
    check_eq "$kind: shards of h i c" 332 "$(where h i c)"
    index_follows "$kind, saved anew"

    # A name that has been in a shard is there again, as long as it was so when last committed.
    rm "$T/mnt/h"
    cp "$T/mnt/f" "$T/mnt/h"
    sidecar "$T/mnt/h" U8 '[70000]'
    rm "$T/mnt/ee" "$T/mnt/f" "$T/mnt/c"
    commits "$kind, an emptied shard" "$T/mnt" "$T/dir"
    check_eq "$kind: shard of h" 3 "$(where h)"
    check_eq "$kind: an emptied shard stays, as an empty checkpoint" 0 "$(reader list "$T/dir/s2.safetensors" | jq length)"
    index_follows "$kind, an emptied shard"
    rm -f "$T"/mnt/*
    commits "$kind, all empty" "$T/mnt" "$T/dir" --allow-empty
    index_follows "$kind, all empty"
    check "$kind: all shards stay" test -e "$T/dir/s1.safetensors" -a -e "$T/dir/s2.safetensors" -a -e "$T/dir/s3.safetensors"
    printf 'the first' >"$T/mnt/new"
    mount_stop "$T/mnt"
    check_eq "$kind: the first shard where there is none before" 1 "$(where new)"
    check_eq "$kind: an index only where there was one" "$([ "$kind" = plain ] || echo model.safetensors.index.json)" "$(ls "$T/dir" | grep json)"
done

# SOURCE is the index itself; the shards are links into another directory, as a cache has them.
make index
mkdir "$T/store"
for i in 1 2 3; do
    mv "$T/dir/s$i.safetensors" "$T/store/data$i"
    ln -s "../store/data$i" "$T/dir/s$i.safetensors"
done
edit_start "$T/dir/model.safetensors.index.json" "$T/mnt"
poke "$T/mnt/f" 3 linked
rm "$T/mnt/h"
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "links: committed" "$T/dir" "$T/shown"
check "links: they are links still" test -L "$T/dir/s2.safetensors" -a -L "$T/dir/s3.safetensors"
check_eq "links: what they lead to is rewritten" linked "$(reader cut "$T/dir" f | tail -c +4 | head -c 6)"
check_eq "links: no temporary file is left" "data1 data2 data3" "$(ls -A "$T/store" | xargs)"
index_follows links

# With a shard missing: what is there can be edited, the index keeps what it says of the rest.
make index
rm "$T/dir/s2.safetensors"
edit_start "$T/dir" "$T/mnt" partial
poke "$T/mnt/c" 1 xy
mv "$T/mnt/i" "$T/mnt/j"
printf new >"$T/mnt/ee"
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
check_eq "partial: the index" '{"b":"s1.safetensors","c":"s1.safetensors","e":"s2.safetensors","ee":"s1.safetensors","f":"s2.safetensors","h":"s3.safetensors","j":"s3.safetensors"}' \
    "$(jq -cS .weight_map "$T/dir/model.safetensors.index.json")"
mount_start "$T/dir" "$T/mnt" -o partial
check_eq "partial: committed" "$(cat "$T/shown")" "$(expect shown "$T/mnt")"
mount_stop "$T/mnt"

# Names in two indexed shards, files that the index does not name: nothing is lost by an edit.
make index
cp "$T/dir/s1.safetensors" "$T/dir/other.safetensors"
make_checkpoint "$T/dir/s3.safetensors" --tensor 'b:F32:[4]' --tensor 'h:I64:[]' --tensor 'i:F16:[3]' --seed 9
sha256sum "$T/dir/other.safetensors" >"$T/sum"
edit_start "$T/dir" "$T/mnt"
check_eq "twice: the index says which" "s1.safetensors" "$(jq -r .file "$T/mnt/b.json")"
poke "$T/mnt/i" 0 zz
cp "$T/mnt/c" "$T/mnt/ii"
mount_stop "$T/mnt"
check_eq "twice: the other one is kept" 4 "$(reader list "$T/dir/s3.safetensors" | jq length)"
check "twice: a file that the index does not name is left alone" sha256sum --check --quiet "$T/sum"
finish
