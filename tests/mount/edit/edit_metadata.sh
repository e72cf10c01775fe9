#!/usr/bin/env bash
# __metadata__.json: edited, created, removed; validated when closed; keys keep their order.
. "$(dirname "$0")/../lib_edit.sh"

make_checkpoint "$T/a.safetensors" --metadata z=1 --metadata format=pt --metadata 'a b=3' --tensor 'x:F32:[3]'
make_checkpoint "$T/none.safetensors" --tensor 'x:F32:[3]'

metadata() {
    reader metadata "$1" | jq -c '.[]'
}

edit_start "$T/a.safetensors" "$T/mnt"
meta=$T/mnt/__metadata__.json
check "an entry more, one changed" cp <(echo '{"new":"4","z":"one","format":"pt","a b":"3"}') "$meta"
check_eq "read back" '{"new":"4","z":"one","format":"pt","a b":"3"}' "$(jq -c '{new,z,format,"a b"}' "$meta")"
check "commit" "$SAFETENSORFS" commit "$T/mnt"
check_eq "committed: old keys in their old order, new ones at the end" \
    '{"z":"one","format":"pt","a b":"3","new":"4"}' "$(metadata "$T/a.safetensors")"
canonical "an entry more" "$T/a.safetensors"

bad=0
cp "$meta" "$T/good"
while IFS= read -r text; do
    bad=$((bad + 1))
    printf '%b' "$text" >"$T/bad"
    check_errno "EINVAL at close: $text" EINVAL cp "$T/bad" "$meta"
    check "old content stays: $text" cmp "$T/good" "$meta"
    cp "$T/bad" "$T/mnt/.new"
    check_errno "EINVAL at rename: $text" EINVAL "${rename[@]}" "$T/mnt/.new" "$meta"
    check "old content stays after the rename: $text" cmp "$T/good" "$meta"
    rm "$T/mnt/.new"
done <<'END'
{
[]
null
{"a":1}
{"a":null}
{"a":{"b":"c"}}
{"a":"b",}
{"a":"b","a":"c"}
{"a":"\\ud800"}
{"a":"\xff"}
{"a":"b"} {}
END
check_eq "EINVAL: no case was lost" 11 "$bad"
check_eq "EINVAL: nothing is staged" '{"tensors":0,"bytes":0}' "$(status_of "$T/mnt" .staged)"

check "strings of all kinds" cp <(echo '{"é\u0000\n":"\u001f\ud83d\ude00/\/","":""}') "$meta"
check "strings of all kinds: commit" "$SAFETENSORFS" commit "$T/mnt"
check_eq "strings of all kinds: committed" '{"é\u0000\n":"\u001f😀//","":""}' "$(metadata "$T/a.safetensors")"
canonical "strings of all kinds" "$T/a.safetensors"

check "by rename" cp <(echo '{"by":"rename"}') "$T/mnt/.m"
check "by rename" mv "$T/mnt/.m" "$meta"
check_eq "by rename: read back" '{"by":"rename"}' "$(jq -c . "$meta")"
check "renamed away" mv "$meta" "$meta~"
check_not "renamed away: gone" test -e "$meta"
check "renamed back" mv "$meta~" "$meta"
check_eq "renamed back" '{"by":"rename"}' "$(jq -c . "$meta")"
check "emptied" cp <(echo '{}') "$meta"
check_eq "emptied: there still" '{}' "$(jq -c . "$meta")"
check "emptied: commit" "$SAFETENSORFS" commit "$T/mnt"
check_eq "emptied: committed" '{}' "$(metadata "$T/a.safetensors")"
canonical "emptied" "$T/a.safetensors"
check "removed" rm "$meta"
check_not "removed: gone" test -e "$meta"
check_eq "removed: not listed" 0 "$(ls "$T/mnt" | grep -c metadata)"
mount_stop "$T/mnt"
check_eq "removed: committed" "" "$(metadata "$T/a.safetensors")"
canonical "removed" "$T/a.safetensors"

edit_start "$T/none.safetensors" "$T/mnt"
check_errno "created, bad" EINVAL cp <(echo '{') "$meta"
check_not "created, bad: not there" test -e "$meta"
check "created" cp <(echo '{"k":"v"}') "$meta"
check_eq "created: read back" '{"k":"v"}' "$(jq -c . "$meta")"
check_eq "created: listed" 1 "$(ls "$T/mnt" | grep -c metadata)"
check_errno "a tensor's file cannot be it" EINVAL "${rename[@]}" "$T/mnt/x" "$meta"
check_errno "it cannot be a tensor" EINVAL cp "$meta" "$T/mnt/__metadata__"
mount_stop "$T/mnt"
check_eq "created: committed" '{"k":"v"}' "$(metadata "$T/none.safetensors")"
canonical "created" "$T/none.safetensors"

# Of a directory it maps the file name of each shard that has metadata to it.
make_checkpoint "$T/dir" --shards 3 --tensors 6 --tensor-bytes 64 --metadata format=pt
meta=$T/mnt/__metadata__.json
first=model-00001-of-00003.safetensors
edit_start "$T/dir" "$T/mnt"
check_eq "directory: each shard" 3 "$(jq length "$meta")"
check_errno "directory: no such shard" EINVAL cp <(echo '{"other.safetensors":{}}') "$meta"
check_errno "directory: of the wrong form" EINVAL cp <(echo '{"format":"pt"}') "$meta"
check "directory: one changed, one dropped" cp <(jq --arg f "$first" 'to_entries | .[:2] | from_entries | .[$f].x = "y"' "$meta") "$T/mnt/.m"
check "directory: by rename" mv "$T/mnt/.m" "$meta"
sha256sum "$T/dir/model-00002-of-00003.safetensors" >"$T/sum"
mount_stop "$T/mnt"
check_eq "directory: committed" \
    '{"model-00001-of-00003.safetensors":{"format":"pt","x":"y"},"model-00002-of-00003.safetensors":{"format":"pt"}}' \
    "$(reader metadata "$T/dir" | jq -c .)"
check "directory: an unchanged shard is not touched" sha256sum --check --quiet "$T/sum"
canonical "directory" "$T/dir"/*.safetensors
finish
