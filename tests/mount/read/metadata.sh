#!/usr/bin/env bash
# __metadata__.json shows the free-form metadata, where there is some.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/none.safetensors" --tensors 3
make_checkpoint "$T/some.safetensors" --tensors 3 --metadata format=pt \
    --metadata $'odd "key"\n=é\t\\' --metadata empty=
printf '\x30\0\0\0\0\0\0\0%-48s' '{"__metadata__":{}}' >"$T/empty.safetensors"
mkdir "$T/dir"
cp "$T/some.safetensors" "$T/dir/one.safetensors"
cp "$T/empty.safetensors" "$T/dir/three.safetensors"
make_checkpoint "$T/dir/two.safetensors" --tensor 'x:U8:[1]'

for layout in flat tree; do
    for source in some empty; do
        mount_start "$T/$source.safetensors" "$T/mnt" -o "layout=$layout"
        check "$layout: metadata of $source" diff \
            <(reader metadata "$T/$source.safetensors" | jq -S '.[]') <(jq -S . "$T/mnt/__metadata__.json")
        check "$layout: it is listed" grep -qx __metadata__.json <(ls "$T/mnt")
        check_eq "$layout: its size" "$(cat "$T/mnt/__metadata__.json" | wc -c)" \
            "$(stat -c %s "$T/mnt/__metadata__.json")"
        mount_stop "$T/mnt"
    done
    mount_start "$T/none.safetensors" "$T/mnt" -o "layout=$layout"
    check_errno "$layout: no metadata, no file" ENOENT cat "$T/mnt/__metadata__.json"
    check_not "$layout: nor is it listed" grep -q __metadata__ <(ls -a "$T/mnt")
    mount_stop "$T/mnt"
    mount_start "$T/dir" "$T/mnt" -o "layout=$layout"
    check "$layout: of a directory, by file" diff <(reader metadata "$T/dir" | jq -S .) \
        <(jq -S . "$T/mnt/__metadata__.json")
    mount_stop "$T/mnt"
done
mount_start "$T/some.safetensors" "$T/mnt"
check_eq "the order of the keys is the file's" '["format","odd \"key\"\n","empty"]' \
    "$(jq -c keys_unsorted "$T/mnt/__metadata__.json")"
mount_stop "$T/mnt"

mount_start "$T/dir" "$T/mnt" -o layout=files
for file in one three; do
    check "files: metadata of $file" diff <(reader metadata "$T/dir/$file.safetensors" | jq -S '.[]') \
        <(jq -S . "$T/mnt/$file.safetensors/__metadata__.json")
done
check_errno "files: two has none" ENOENT cat "$T/mnt/two.safetensors/__metadata__.json"
check_errno "files: nor has the root" ENOENT cat "$T/mnt/__metadata__.json"
finish
