#!/usr/bin/env bash
# Without root: the mount is the user's own, and only allow_other lets others in.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" -eq 0 ] || skip "needs root, to become another user"
need setpriv unshare fusermount3
# /dev/fuse may be root's alone: give the test one for everybody, in a namespace of its own.
if [ -z "${PRIVATE_MOUNTS:-}" ]; then
    rm -rf "$T"
    unshare --mount --propagation private true 2>/dev/null || skip "unshare --mount is not allowed"
    PRIVATE_MOUNTS=1 exec unshare --mount --propagation private "$0"
fi
mknod -m 666 "$T/fuse" c 10 229 && mount --bind "$T/fuse" /dev/fuse || skip "cannot make a device node"
cat /dev/null <>/dev/fuse || skip "device nodes do not work in $T"

user=$(id -u nobody)
as_user=(setpriv --reuid "$user" --regid "$user" --clear-groups)
chmod 755 "$T"
"${as_user[@]}" test -x "$SAFETENSORFS" || skip "the user cannot reach $SAFETENSORFS"
make_checkpoint "$T/a.safetensors" --tensor 'x:U8:[100000]'
mkdir "$T/mnt" "$T/roots"
chown "$user" "$T/mnt"

run "${as_user[@]}" "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt"
check_eq "mount ($err)" "0 " "$rc $out$err"
check "bytes" cmp <(reader cut "$T/a.safetensors" x) <("${as_user[@]}" cat "$T/mnt/x")
check "large direct reads" cmp <(reader cut "$T/a.safetensors" x) \
    <("${as_user[@]}" dd if="$T/mnt/x" iflag=direct bs=16M status=none)
check_not "others are kept out, root among them" ls "$T/mnt"
run "${as_user[@]}" "$SAFETENSORFS" status --json "$T/mnt"
check_eq "status ($err)" "0 $T/mnt" "$rc $(jq -r .mountpoint <<<"$out")"
run "${as_user[@]}" "$SAFETENSORFS" umount "$T/mnt"
check_eq "umount ($err)" 0 "$rc"
check "unmounted" is_unmounted "$T/mnt"

"${as_user[@]}" "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" || fail "mount"
check "fusermount3 -u" "${as_user[@]}" fusermount3 -u "$T/mnt"
check "unmounted" is_unmounted "$T/mnt"

# A mountpoint that is not the user's, and a source that the user cannot read.
check_refused "somebody else's directory" "$T/roots.*no write access" \
    "${as_user[@]}" "$SAFETENSORFS" "$T/a.safetensors" "$T/roots"
check "nothing is mounted there" is_unmounted "$T/roots"
cp "$T/a.safetensors" "$T/b.safetensors"
chmod 600 "$T/b.safetensors"
check_refused "a source of root's" 'b.safetensors.*Permission denied' \
    "${as_user[@]}" "$SAFETENSORFS" "$T/b.safetensors" "$T/mnt"

# Root's mount for everybody: allow_other implies that permissions count.
run "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" -o allow_other
check_eq "allow_other ($err)" 0 "$rc"
check "the user may read" "${as_user[@]}" cmp "$T/mnt/x" "$T/mnt/x"
check "the user may have the status" "${as_user[@]}" "$SAFETENSORFS" status "$T/mnt"
check "umount" "$SAFETENSORFS" umount "$T/mnt"
run "$SAFETENSORFS" "$T/b.safetensors" "$T/mnt" -o allow_other
check_eq "allow_other, of a file of root's ($err)" 0 "$rc"
check_not "the user may not read" "${as_user[@]}" cat "$T/mnt/x"
check "umount" "$SAFETENSORFS" umount "$T/mnt"
finish
