#!/usr/bin/env bash
# Each tensor has a sidecar that says what and where it is.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/one.safetensors" --tensors 22 --tensor-bytes 3000 --dtype all --odd \
    --tensor 'scalar:F64:[]' --tensor 'nothing:F32:[2,0]'
make_checkpoint "$T/shards" --shards 3 --tensors 30 --bytes 300K

for source in "$T/one.safetensors" "$T/shards" $(real_checkpoints); do
    reader list "$source" | jq -S . >"$T/expected"
    mount_start "$source" "$T/mnt"
    count=0
    while IFS=$'\t' read -r name file offset nbytes; do
        sidecar=$T/mnt/$name.json
        jq -S --arg name "$name" '.[] | select(.name == $name)' "$T/expected" >"$T/want"
        check "sidecar of $name" diff "$T/want" <(jq -S . "$sidecar")
        check_eq "keys of $name in their order" \
            '["name","dtype","shape","nbytes","file","offset","data_offsets"]' \
            "$(jq -c keys_unsorted "$sidecar")"
        check_eq "size of $name as its sidecar says" "$nbytes" "$(stat -c %s "$T/mnt/$name")"
        check_eq "sidecar of $name ends in a newline" "0a" "$(tail -c 1 "$sidecar" | od -An -tx1 | tr -d ' ')"
        check_eq "size of the sidecar of $name" "$(cat "$sidecar" | wc -c)" "$(stat -c %s "$sidecar")"
        if [ -d "$source" ]; then file=$source/$file; else file=$source; fi
        dd if="$file" skip="$offset" iflag=skip_bytes,count_bytes count="$nbytes" status=none >"$T/recipe"
        check "the recipe gives the bytes of $name" cmp "$T/recipe" "$T/mnt/$name"
        count=$((count + 1))
    done < <(jq -r '.[] | [.name, .file, .offset, .nbytes] | @tsv' "$T/expected")
    check_eq "listing of $source is tensors and sidecars" \
        "$(jq -r '.[] | .name, .name + ".json"' "$T/expected" | sort)" "$(ls "$T/mnt")"
    check_match "sidecars are pretty-printed" $'^[{]\n  "name": ' "$(cat "$sidecar")"
    check "ls --json is an array of the sidecars" diff "$T/expected" \
        <("$SAFETENSORFS" ls --json "$source" | jq -S .)
    mount_stop "$T/mnt"
    [ "$count" -gt 0 ] || fail "$source: no tensor was looked at"
done
finish
