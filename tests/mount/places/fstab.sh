#!/usr/bin/env bash
# mount(8) finds the driver by its type, with the options that it passes of its own accord.
. "$(dirname "$0")/../lib.sh"
[ "$(id -u)" -eq 0 ] || skip "mount(8) needs root"
need mount.fuse3 unshare
# mount(8) drops PATH, so the driver has to be where every shell looks: in a namespace of our own.
if [ -z "${PRIVATE_MOUNTS:-}" ]; then
    rm -rf "$T"
    unshare --mount --propagation private true 2>/dev/null || skip "unshare --mount is not allowed"
    PRIVATE_MOUNTS=1 exec unshare --mount --propagation private "$0"
fi

make_checkpoint "$T/a.safetensors" --tensor 'x.y:U8:[100]'
mkdir "$T/bin" "$T/mnt"
ln -s "$SAFETENSORFS" "$T/bin/safetensorfs"
mount --bind "$T/bin" /usr/local/sbin || die "cannot mount on /usr/local/sbin"

# options | the file that has to be there
while IFS='|' read -r options file; do
    run mount -t fuse.safetensorfs ${options:+-o "$options"} "$T/a.safetensors" "$T/mnt"
    check_eq "mount -o '$options' ($err)" 0 "$rc"
    check_eq "mount -o '$options': silence" "" "$out$err"
    check "mount -o '$options': bytes" cmp <(reader cut "$T/a.safetensors" x.y) <(tail -c 100 "$T/mnt/$file")
    check_errno "mount -o '$options': read-only" EROFS touch "$T/mnt/$file"
    check_eq "mount -o '$options': type and source" "fuse.safetensorfs $T/a.safetensors" \
        "$(findmnt -rno FSTYPE,SOURCE "$T/mnt")"
    check "umount" unmount "$T/mnt"
done <<'END'
|x.y
ro|x.y
rw|x.y
ro,layout=tree|x/y
noexec,nodev,noatime,npy|x.y.npy
allow_other,nofail,_netdev,x-systemd.automount|x.y
END

printf '%s %s fuse.safetensorfs ro,noauto,layout=tree 0 0\n' "$T/a.safetensors" "$T/mnt" >"$T/fstab"
run mount -T "$T/fstab" "$T/mnt"
check_eq "a line of fstab ($err)" 0 "$rc"
check "a line of fstab: bytes" cmp <(reader cut "$T/a.safetensors" x.y) "$T/mnt/x/y"
check "umount" unmount "$T/mnt"

# Installed as the helper of mount(8), under a name of that form.
ln -s "$SAFETENSORFS" "$T/bin/mount.fuse.safetensorfs"
run "$T/bin/mount.fuse.safetensorfs" "$T/a.safetensors" "$T/mnt" -n -v -o rw,dev,suid,layout=tree -t fuse.safetensorfs
check_eq "the helper ($err)" 0 "$rc"
check "the helper: bytes" cmp <(reader cut "$T/a.safetensors" x.y) "$T/mnt/x/y"
check_errno "the helper: read-only" EROFS touch "$T/mnt/x/y"
check "umount" unmount "$T/mnt"

# mount(8) passes rw of its own accord; editing has a word of its own.
run mount -t fuse.safetensorfs -o edit "$T/a.safetensors" "$T/mnt"
check_eq "mount -o edit ($err)" 0 "$rc"
check_eq "mount -o edit: silence" "" "$out$err"
printf edited | dd of="$T/mnt/x.y" bs=1 seek=7 conv=notrunc status=none
check "mount -o edit: umount" "$SAFETENSORFS" umount "$T/mnt"
check_eq "mount -o edit: committed" edited "$(reader cut "$T/a.safetensors" x.y | tail -c +8 | head -c 6)"

run mount -t fuse.safetensorfs -o bogus "$T/a.safetensors" "$T/mnt"
check_match "a wrong option is named" 'bogus' "$err"
check "nothing is mounted" is_unmounted "$T/mnt"
echo broken >"$T/bad.safetensors"
run mount -t fuse.safetensorfs "$T/bad.safetensors" "$T/mnt"
check "a broken file fails" test "$rc" -ne 0
check_match "a broken file: the reason" "bad.safetensors" "$err"
finish
