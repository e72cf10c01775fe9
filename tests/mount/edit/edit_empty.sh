#!/usr/bin/env bash
# A commit that would leave no tensor is refused, whoever asks for it, unless --allow-empty says so.
. "$(dirname "$0")/../lib_edit.sh"

make_checkpoint "$T/a.safetensors" --tensor 'a:F32:[1000]' --tensor 'b:U8:[4000]'
cp "$T/a.safetensors" "$T/kept"
unchanged() {
    check "$1: the checkpoint is what it was" cmp "$T/kept" "$T/a.safetensors"
}

# Each way to commit; the mount goes on.
edit_start "$T/a.safetensors" "$T/mnt"
rm -rf "${T:?}/mnt"/* 2>/dev/null
check_eq "nothing is shown" "" "$(ls "$T/mnt")"
for verb in commit umount; do
    run "$SAFETENSORFS" "$verb" "$T/mnt"
    check_eq "$verb: exit status" 1 "$rc"
    check_match "$verb: says how many, and the option" '2 tensors would go and none be left.*--allow-empty' "$err"
    check "$verb: still mounted" is_mounted "$T/mnt"
    unchanged "$verb"
done
for text in 1 'allow-emptyness' 'disallow-empty'; do
    check_errno "a write of $text to the control file" EINVAL \
        bash -c 'echo "$1" >"$2"' - "$text" "$T/mnt/.safetensorfs/commit"
    unchanged "a write of $text"
done
check_eq "still staged" 2 "$(status_of "$T/mnt" .staged.tensors)"

# At the end of the mount: kept staged, and the log has the words for both ways out.
unmount "$T/mnt"
mount_ended "$T/mnt" 1
unchanged "unmounting"
check_match "unmounting: the log says what to do" \
    'recover --allow-empty SOURCE` commits them, `safetensorfs discard SOURCE` drops them' "$(mount_log "$T/mnt")"
run "$SAFETENSORFS" recover "$T/a.safetensors"
check_eq "recover: exit status" 1 "$rc"
check_match "recover: says how many" '2 tensors would go' "$err"
unchanged "recover"
edit_start "$T/a.safetensors" "$T/mnt"
kill -TERM "${daemon_pid[$T/mnt]}"
mount_ended "$T/mnt" 1
unchanged "SIGTERM"

# With one tensor there again it is a commit like any other.
edit_start "$T/a.safetensors" "$T/mnt"
printf abc >"$T/mnt/c"
check "one is left: commit" "$SAFETENSORFS" commit "$T/mnt"
rm "$T/mnt/c"
check "--allow-empty: commit" "$SAFETENSORFS" commit --allow-empty "$T/mnt"
check_eq "--allow-empty: committed" "" "$("$SAFETENSORFS" ls "$T/a.safetensors" --json | jq -r '.[].name')"
echo '{"k":"v"}' >"$T/mnt/__metadata__.json"
mount_stop "$T/mnt"

# The others.
while IFS=: read -r what command <&3; do
    cp "$T/kept" "$T/a.safetensors"
    edit_start "$T/a.safetensors" "$T/mnt"
    rm "$T/mnt/a" "$T/mnt/b"
    check "$what" eval "$command"
    is_mounted "$T/mnt" && unmount "$T/mnt"
    mount_ended "$T/mnt"
    check_eq "$what: committed" 0 "$(reader list "$T/a.safetensors" | jq length)"
done 3<<'END'
umount: "$SAFETENSORFS" umount --allow-empty "$T/mnt"
the control file: echo allow-empty >"$T/mnt/.safetensorfs/commit"
the word among others: echo please allow-empty now >"$T/mnt/.safetensorfs/commit"
END
cp "$T/kept" "$T/a.safetensors"
edit_start "$T/a.safetensors" "$T/mnt"
rm "$T/mnt/a" "$T/mnt/b"
edit_kill "$T/mnt"
check "recover --allow-empty" "$SAFETENSORFS" recover --allow-empty "$T/a.safetensors"
check_eq "recover: committed" 0 "$(reader list "$T/a.safetensors" | jq length)"
run "$SAFETENSORFS" discard --allow-empty "$T/a.safetensors"
check_eq "discard knows no such word" 2 "$rc"

# An indexed directory of which all was deleted takes new tensors again, in the shards that are left.
make_checkpoint "$T/dir" --shards 2 --tensors 4
edit_start "$T/dir" "$T/mnt"
rm "$T/mnt"/*.*.* "$T/mnt"/* 2>/dev/null
check "all of a directory: commit" "$SAFETENSORFS" commit --allow-empty "$T/mnt"
printf 123 >"$T/mnt/new"
check "a new one in the same mount: commit" "$SAFETENSORFS" commit "$T/mnt"
rm "$T/mnt/new"
check "and again" "$SAFETENSORFS" commit --allow-empty "$T/mnt"
mount_stop "$T/mnt"
edit_start "$T/dir" "$T/mnt"
printf 1234 >"$T/mnt/newer"
mount_stop "$T/mnt"
check_eq "a new one in the next mount" newer "$("$SAFETENSORFS" ls --json "$T/dir" | jq -r '.[].name')"
check "valid" "$SAFETENSORFS" check -q "$T/dir"
finish
