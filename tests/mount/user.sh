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

# What umount(8) runs. It has dropped what makes it root by then.
ln -s "$SAFETENSORFS" "$T/umount.fuse.safetensorfs"
helper=("${as_user[@]}" "$T/umount.fuse.safetensorfs")
install -d -o "$user" "$T/own"
install -o "$user" "$T/a.safetensors" "$T/own/a.safetensors"
user_edits() { # write TEXT to a tensor in a new mount of the user's, and leave `pid`
    check "mount" "${as_user[@]}" "$SAFETENSORFS" "$T/own/a.safetensors" "$T/mnt" -o edit
    pid=$("${as_user[@]}" "$SAFETENSORFS" status --json "$T/mnt" | jq .pid)
    printf %s "$1" | "${as_user[@]}" dd of="$T/mnt/x" conv=notrunc status=none
}
committed() {
    reader cut "$T/own/a.safetensors" x | head -c "$1"
}
user_edits mine
run "${helper[@]}" "$T/mnt"
check_eq "the helper ($err)" "0 " "$rc $out$err"
check_eq "the helper: committed" mine "$(committed 4)"
check "the helper: the daemon is gone" is_gone "$pid"
user_edits lazy
run "${helper[@]}" "$T/mnt" -l
check_eq "the helper, -l ($err)" 0 "$rc"
check "-l: detached" is_unmounted "$T/mnt"
check "-l: the daemon ends" wait_until is_gone "$pid"
check_eq "-l: committed" lazy "$(committed 4)"
if mountpoint -q /sys/fs/fuse/connections; then
    user_edits late
    coproc "${as_user[@]}" sh -c 'exec 3<>"$1"; echo; exec cat' - "$T/mnt/x"
    writer=$COPROC_PID
    read -r -u "${COPROC[0]}"
    run "${helper[@]}" "$T/mnt" -f
    check_eq "the helper, -f, in use ($err)" 32 "$rc"
    check "-f: the daemon ends" wait_until is_gone "$pid"
    check_eq "-f: not committed" lazy "$(committed 4)"
    eval "exec ${COPROC[1]}>&-"
    wait "$writer"
    run "${helper[@]}" "$T/mnt"
    check "-f: unmounted" is_unmounted "$T/mnt"
    check "discard" "${as_user[@]}" "$SAFETENSORFS" discard "$T/own/a.safetensors"
fi
# Root cannot ask, but can unmount; the daemon commits by itself.
user_edits root
run "$T/umount.fuse.safetensorfs" "$T/mnt"
check_eq "root, of a user's mount ($err)" 0 "$rc"
check_match "root, of a user's mount: says so" '^safetensorfs: warning: .*mounted by another user' "$err"
check "root: the daemon ends" wait_until is_gone "$pid"
check_eq "root: committed" root "$(committed 4)"
check "mount" "${as_user[@]}" "$SAFETENSORFS" "$T/own/a.safetensors" "$T/mnt"
run "$T/umount.fuse.safetensorfs" "$T/mnt"
check_eq "root, of a user's read-only mount ($err)" "0 " "$rc $out$err"

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
