#!/usr/bin/env bash
# A disk that is full: for the staging, for the new file. Nothing is torn, and it goes on once there is room.
. "$(dirname "$0")/../mount/lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "only root can mount"

# small SIZE: a file system of that size on $T/small.
small() {
    ! is_mounted "$T/small" || umount -l "$T/small"
    mkdir -p "$T/small"
    mount -t tmpfs -o "size=$1" none "$T/small" || skip "no tmpfs can be mounted"
}

# Take all the room that there is, to the last page.
fill() {
    dd if=/dev/zero of="$T/small/ballast" bs=4K status=none 2>/dev/null
    check_not "the disk is full" dd if=/dev/zero of="$T/small/more" bs=4K count=1 status=none
}

# shown_now WHAT: what the mount shows, into $T/now.
shown_now() {
    expect shown "$T/mnt" >"$T/now" 2>&1 || fail "$1: $(cat "$T/now")"
}

# ---- the staging is full ----

make_checkpoint "$T/a.safetensors" --tensor 'a:U8:[4000000]' --tensor 'b:F32:[1000]' --tensor 'c:U8:[100]' --metadata k=v
sha256sum "$T/a.safetensors" >"$T/sum"
reader cut "$T/a.safetensors" a >"$T/old"
head -c 4000000 /dev/urandom >"$T/new"
small 2M
edit_start "$T/a.safetensors" "$T/mnt" staging="$T/small/stage"
check_errno "a large write" ENOSPC dd if="$T/new" of="$T/mnt/a" bs=64K conv=notrunc
written=$(($(sed -n 's/^\([0-9]*\)+.* records out/\1/p' "$T/err") * 65536))
check "a large write: some of it was acknowledged" test "$written" -gt 0 -a "$written" -lt 4000000
check "a large write: what was acknowledged is there, the rest is as it was" \
    cmp "$T/mnt/a" <(head -c "$written" "$T/new" && tail -c +$((written + 1)) "$T/old")

# Then every other change is made, or refused as a whole.
fill
refused=0
while read -r change <&3; do
    shown_now "before '$change'"
    cp "$T/now" "$T/before"
    if (cd "$T/mnt" && eval "$change") >/dev/null 2>"$T/err"; then
        rm -rf "$T/mnt/.tmp"
    else
        refused=$((refused + 1))
        check_match "'$change': the error" 'No space left on device' "$(cat "$T/err")"
        shown_now "after '$change'"
        check_eq "'$change': nothing has changed" "$(cat "$T/before")" "$(cat "$T/now")"
    fi
done 3<<'END'
poke a 3900000 x
cp c .tmp
cp c.npy d.npy
cp b.npy c.npy
sidecar new F32 '[10]'
sidecar b I32 '[1000]'
touch e
mv b z
echo '{"k":"w"}' >__metadata__.json
rm -f __metadata__.json
rm c
END
check "something was refused" test "$refused" -gt 0
check "status" "$SAFETENSORFS" status "$T/mnt"
check "the source is whole" sha256sum --check --quiet "$T/sum"
shown_now "full"
cp "$T/now" "$T/wanted"

# Killed while full, resumed when there is room.
edit_kill "$T/mnt"
if mount_try "$T/a.safetensors" "$T/mnt" -o "edit,staging=$T/small/stage"; then
    check_eq "resumed while full: what was acknowledged is there" "$(cat "$T/wanted")" "$(expect shown "$T/mnt")"
    edit_kill "$T/mnt"
else
    check_match "not resumed while full: the reason" 'No space left' "$(mount_log "$T/mnt")"
fi
mount -o remount,size=16M "$T/small"
edit_start "$T/a.safetensors" "$T/mnt" staging="$T/small/stage"
check_eq "resumed: what was acknowledged is there" "$(cat "$T/wanted")" "$(expect shown "$T/mnt")"
check "with room: the write" dd if="$T/new" of="$T/mnt/a" bs=64K conv=notrunc status=none
check "with room: the write is there" cmp "$T/new" "$T/mnt/a"
shown_now "with room"
mount_stop "$T/mnt"
same_state "with room: committed" "$T/a.safetensors" "$T/now"

# What counts when it is complete, and cannot be written whole: the reason is the room, not the half that is there.
small 2M
make_checkpoint "$T/v.safetensors" --tensor 'a:U8:[4000000]' --tensor 'c:U8:[100]' --metadata k=v
edit_start "$T/v.safetensors" "$T/mnt" staging="$T/small/stage"
shown_now "views"
for name in a.npy new.npy a.json new.json __metadata__.json; do
    "$PYTHON" "$ROOT/tests/crash/write_until_full.py" "$T/mnt/$name" >"$T/report" 2>&1
    check_eq "$name: write, fsync, fsync, close" "ENOSPC ENOSPC ENOSPC ENOSPC" "$(cat "$T/report")"
    check_eq "$name: the log, once" 1 "$(mount_log "$T/mnt" | grep -c "$name: not taken: .*No space left on device")"
    check_eq "$name: nothing else is logged" 0 "$(mount_log "$T/mnt" | grep "$name: " | grep -vc 'No space left')"
    check_eq "$name: nothing has changed" "$(cat "$T/now")" "$(expect shown "$T/mnt")"
done
for name in c.npy z.npy c.json __metadata__.json; do
    "$PYTHON" "$ROOT/tests/crash/write_until_full.py" "$T/mnt/$name" again >"$T/report" 2>&1
    check_eq "$name, emptied and written again" "ENOSPC ENOSPC ENOSPC 0" "$(cat "$T/report")"
done
check_eq "written again: c" '["U8",[3]]' "$(declared "$T/mnt/c")"
check_eq "written again: z" abc "$(cat "$T/mnt/z")"
check_eq "written again: metadata" '{"k":"w"}' "$(jq -c . "$T/mnt/__metadata__.json")"
mount_stop "$T/mnt"

# A writer that goes on after an error, in the same mount.
small 1M
edit_start "$T/a.safetensors" "$T/mnt" staging="$T/small/stage"
check_errno "again: a large write" ENOSPC dd if="$T/old" of="$T/mnt/a" bs=64K conv=notrunc
mount -o remount,size=16M "$T/small"
check "again, with room: the same handle's program succeeds" dd if="$T/old" of="$T/mnt/a" bs=64K conv=notrunc status=none
mount_stop "$T/mnt"
check "again: committed" cmp "$T/old" <(reader cut "$T/a.safetensors" a)

# ---- no room for the new file ----

for source in a.safetensors dir; do
    small 16M
    if [ "$source" = dir ]; then
        make_checkpoint "$T/small/dir" --shards 2 --tensors 6 --bytes 6M
    else
        make_checkpoint "$T/small/$source" --tensors 6 --bytes 6M
    fi
    find "$T/small" -type f -exec sha256sum {} + >"$T/sum"
    find "$T/small" | sort >"$T/list"
    edit_start "$T/small/$source" "$T/mnt" staging="$T/stage"
    for name in $(ls "$T/mnt" | grep -v json); do
        poke "$T/mnt/$name" 5 edited
    done
    printf new >"$T/mnt/new"
    shown_now "$source"
    fill
    rm -f "$T/small/more"
    run "$SAFETENSORFS" commit "$T/mnt"
    check_eq "$source, commit without room: exit status" 1 "$rc"
    check_match "$source, commit without room: the reason" 'bytes .* are free; free some, or .* safetensorfs recover SOURCE -o output=PATH; .*fusermount3 -u; .*\.safetensorfs/model.safetensors elsewhere' "$err"
    check_errno "$source, commit without room: by the control file" ENOSPC bash -c 'echo >"$1"' - "$T/mnt/.safetensorfs/commit"
    check "$source, commit without room: the source is whole" sha256sum --check --quiet "$T/sum"
    check_eq "$source, commit without room: nothing is left behind" "$(cat "$T/list")" "$(find "$T/small" ! -name ballast ! -path '*/.*safetensorfs' ! -path '*/.*safetensorfs/*' | sort)"
    check "$source, commit without room: result" test -s "$T/stage/result"
    check_eq "$source, commit without room: it is shown as before" "$(cat "$T/now")" "$(expect shown "$T/mnt")"
    rm "$T/small/ballast"
    check "$source, with room: commit" "$SAFETENSORFS" commit "$T/mnt"
    mount_stop "$T/mnt"
    same_state "$source, with room: committed" "$T/small/$source" "$T/now"
done

# Without room for the new file, what the message says can be done.
small 16M
make_checkpoint "$T/small/a.safetensors" --tensors 6 --bytes 6M
edit_start "$T/small/a.safetensors" "$T/mnt" staging="$T/stage"
poke "$T/mnt/lm_head.weight" 5 edited
shown_now "elsewhere"
fill
check_not "elsewhere: commit" "$SAFETENSORFS" commit "$T/mnt"
check "elsewhere: a copy" cp "$T/mnt/.safetensorfs/model.safetensors" "$T/copy.safetensors"
same_state "elsewhere: the copy" "$T/copy.safetensors" "$T/now"
check "elsewhere: unmount" fusermount3 -u "$T/mnt"
mount_ended "$T/mnt" 1
check_match "elsewhere: the result, to nobody with a mount" 'output=PATH$' "$(cat "$T/stage/result")"
check "elsewhere: recover" "$SAFETENSORFS" recover "$T/small/a.safetensors" -o "staging=$T/stage,output=$T/elsewhere.safetensors"
same_state "elsewhere: recovered" "$T/elsewhere.safetensors" "$T/now"

# In place there is nothing to be had room for.
small 16M
make_checkpoint "$T/small/a.safetensors" --tensors 6 --bytes 6M
edit_start "$T/small/a.safetensors" "$T/mnt" staging="$T/stage" commit=inplace
poke "$T/mnt/lm_head.weight" 5 edited
fill
mount_stop "$T/mnt"
check_eq "in place: committed" edited "$(reader cut "$T/small/a.safetensors" lm_head.weight 2>/dev/null | tail -c +6 | head -c 6)"
finish
