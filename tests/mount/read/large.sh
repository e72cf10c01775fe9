#!/usr/bin/env bash
# A checkpoint of hundreds of gigabytes and tens of thousands of tensors, without its bytes on disk.
. "$(dirname "$0")/../lib.sh"

tensors=$((91000 / SLOW))
make_checkpoint "$T/huge" --shards 163 --tensors "$tensors" --bytes 700G --sparse
mount_start "$T/huge" "$T/mnt"
check_eq "ls -l shows each tensor and sidecar" $((2 * tensors)) "$(ls -l "$T/mnt" | grep -c '^-r')"
check_eq "and again" $((2 * tensors)) "$(ls -l "$T/mnt" | grep -c '^-r')"
reader list "$T/huge" >"$T/list"
check "sizes by find" diff <(jq -r '.[] | "\(.nbytes) \(.name)"' "$T/list" | sort) \
    <(find "$T/mnt" -type f ! -name '*.json' -printf '%s %P\n' | sort)
check_eq "find -size" "$(jq 'map(select(.nbytes > 1048576)) | length' "$T/list")" \
    "$(find "$T/mnt" -type f -size +1024k | wc -l)"
check "every sidecar can be read" diff <(jq -cS '.[]' "$T/list" | sort) \
    <(find "$T/mnt" -name '*.json' -exec cat {} + | jq -cS . | sort)
# The last bytes of the last shard: holes are zeros.
last=$(jq -r 'max_by([.file, .offset + .nbytes]).name' "$T/list")
check_eq "the end of the last tensor" "0000" "$(tail -c 2 "$T/mnt/$last" | od -An -tx1 | tr -d ' ')"
check_eq "status" "$tensors 163" "$("$SAFETENSORFS" status --json "$T/mnt" | jq -r '"\(.tensors) \(.shards)"')"
mount_stop "$T/mnt"
rm -r "$T/huge"

# Two mounts of one model compare as equal, and differ where one byte does. Real names where they are present.
index=$CHECKPOINTS/gpt-oss-20b.safetensors.index.json
if [ -e "$index" ]; then
    make_checkpoint "$T/one" --from-index "$index" --sparse --bytes $((512 / SLOW))M
else
    make_checkpoint "$T/one" --shards 3 --tensors 459 --sparse --bytes $((512 / SLOW))M
fi
cp -r --sparse=always "$T/one" "$T/two"
mount_start "$T/one" "$T/mnt"
mount_start "$T/two" "$T/mnt2"
check "diff -rq of two mounts" diff -rq "$T/mnt" "$T/mnt2"
mount_stop "$T/mnt2"
read -r name file offset < <(reader list "$T/two" | jq -r '.[100] | "\(.name) \(.file) \(.offset)"')
printf x | dd of="$T/two/$file" bs=1 seek=$((offset + 1)) conv=notrunc status=none
mount_start "$T/two" "$T/mnt2"
check_eq "diff -rq finds the tensor that differs" "Files $T/mnt/$name and $T/mnt2/$name differ" \
    "$(diff -rq "$T/mnt" "$T/mnt2")"
finish
