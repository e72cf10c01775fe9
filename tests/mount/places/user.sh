#!/usr/bin/env bash
# Without root: the mount is the user's own, and only allow_other lets others in.
. "$(dirname "$0")/../lib_edit.sh"
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
as_other=(setpriv --reuid $((user - 1)) --regid $((user - 1)) --clear-groups)
chmod 755 "$T"
"${as_user[@]}" test -x "$SAFETENSORFS" || skip "the user cannot reach $SAFETENSORFS"
source=$T/a.safetensors
make_checkpoint "$source" --tensor 'x:U8:[100000]'
reader cut "$source" x >"$T/x"
mkdir "$T/mnt" "$T/roots" "$T/theirs"
chown "$user" "$T/mnt" "$T/theirs"
# The configuration is the test's own.
echo '#user_allow_other' >"$T/forbidden.conf"
echo user_allow_other >"$T/allowed.conf"
[ -e /etc/fuse.conf ] || skip "no /etc/fuse.conf to be replaced"
mount --bind "$T/forbidden.conf" /etc/fuse.conf || skip "cannot replace /etc/fuse.conf"

# mount_as_user WHAT SOURCE [OPTIONS]: it works, and says nothing.
mount_as_user() {
    run "${as_user[@]}" "$SAFETENSORFS" "$2" "$T/mnt" ${3:+-o "$3"}
    check_eq "$1: mount ($err)" "0 " "$rc $out$err"
}

umount_as_user() { # WHAT
    run "${as_user[@]}" "$SAFETENSORFS" umount "$T/mnt"
    check_eq "$1: umount ($err)" "0 " "$rc $out$err"
    check "$1: unmounted" is_unmounted "$T/mnt"
}

# Somebody's working directory is there.
refuses_umount_while_busy() { # WHAT
    check_refused "$1: umount while it is in use" 'mnt: is in use' \
        "${as_user[@]}" sh -c 'cd "$1" && exec "$2" umount "$1"' - "$T/mnt" "$SAFETENSORFS"
    check "$1: still mounted" is_mounted "$T/mnt"
}

mount_as_user "plain" "$source"
check "bytes" "${as_user[@]}" cmp "$T/x" "$T/mnt/x"
check "large direct reads" cmp "$T/x" \
    <("${as_user[@]}" dd if="$T/mnt/x" iflag=direct bs=16M status=none)
check_match "whatever the modes say" '^.r..r..r..' "$("${as_user[@]}" stat -c %A "$T/mnt/x")"
for file in x x.json x.npy .safetensorfs/status; do
    check_errno "root is kept out: $file" EACCES head -c 1 "$T/mnt/$file"
    check_errno "another user is kept out: $file" EACCES "${as_other[@]}" head -c 1 "$T/mnt/$file"
done
check_errno "root is kept out" EACCES ls "$T/mnt"
check_refused "status, as root" 'mnt: Permission denied' "$SAFETENSORFS" status "$T/mnt"
check_refused "umount, as another user" 'mnt: Permission denied' \
    "${as_other[@]}" "$SAFETENSORFS" umount "$T/mnt"
run "${as_user[@]}" "$SAFETENSORFS" status --json "$T/mnt"
check_eq "status ($err)" "0 $T/mnt" "$rc $(jq -r .mountpoint <<<"$out")"
refuses_umount_while_busy "plain"
umount_as_user "plain"

mount_as_user "fusermount3" "$source"
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

if "${as_user[@]}" "$PYTHON" -c 'import numpy' 2>/dev/null; then
    mount_as_user "numpy" "$source"
    check_eq "numpy: a mapped view" "(100000,) $(sha256sum <"$T/x")" \
        "$("${as_user[@]}" "$PYTHON" -c '
import hashlib, numpy, sys
x = numpy.load(sys.argv[1], mmap_mode="r")
print(x.shape, hashlib.sha256(x).hexdigest() + "  -")' "$T/mnt/x.npy" 2>&1)"
    umount_as_user "numpy"
else
    echo "SKIP: no numpy for the user, so no mapped view"
fi

# Options that fusermount3 has a word in.
for option in max_read=65536 auto_unmount default_permissions; do
    mount_as_user "$option" "$source" "$option"
    check "$option: bytes" "${as_user[@]}" cmp "$T/x" "$T/mnt/x"
    refuses_umount_while_busy "$option"
    umount_as_user "$option"
done
# allow_other is root's to grant.
for option in allow_other allow_root; do
    for mode in "" -f; do
        check_refused "$option $mode, forbidden" \
            'mnt: cannot mount: .*user_allow_other.*/etc/fuse.conf: have root add that line' \
            "${as_user[@]}" "$SAFETENSORFS" "$source" "$T/mnt" -o "$option" $mode
        check "$option $mode, forbidden: nothing is mounted" is_unmounted "$T/mnt"
    done
done
umount /etc/fuse.conf
mount --bind "$T/allowed.conf" /etc/fuse.conf
mount_as_user "allow_root" "$source" allow_root
check "allow_root: root" cmp "$T/x" "$T/mnt/x"
check "allow_root: root lists" ls -l "$T/mnt/x.json" "$T/mnt/x.npy"
# The kernel lets everybody in; what it has cached for root is refused all the same.
for file in x x.json x.npy none; do
    check_errno "allow_root: another user: $file" EACCES "${as_other[@]}" head -c 1 "$T/mnt/$file"
    check_errno "allow_root: another user: $file" EACCES "${as_other[@]}" stat "$T/mnt/$file"
done
check_errno "allow_root: another user" EACCES "${as_other[@]}" ls "$T/mnt"
umount_as_user "allow_root"
mount_as_user "allow_other" "$source" allow_other
check "allow_other: root" cmp "$T/x" "$T/mnt/x"
check "allow_other: another user" "${as_other[@]}" cmp "$T/x" "$T/mnt/x"
check_refused "allow_other: another user may not unmount" 'mnt: fusermount3 could not unmount it: ' \
    "${as_other[@]}" "$SAFETENSORFS" umount "$T/mnt"
check "allow_other: still mounted" is_mounted "$T/mnt"
umount_as_user "allow_other"
mine=$T/theirs/mine.safetensors
"${as_user[@]}" cp "$source" "$mine"
chmod 600 "$mine"
mount_as_user "allow_other, a file of mode 600" "$mine" allow_other
check "allow_other: the owner" "${as_user[@]}" cmp "$T/x" "$T/mnt/x"
check_errno "allow_other: modes count" EACCES "${as_other[@]}" head -c 1 "$T/mnt/x"
umount_as_user "allow_other, a file of mode 600"

# Before libfuse 3.15 fusermount3 cannot look at a dead mount that is for its user alone. It looks
# once, when its socket closes: a slow daemon has the connection open still.
mount_as_user "auto_unmount" "$source" auto_unmount,allow_other
daemon=$("$SAFETENSORFS" status --json "$T/mnt" | jq .pid)
check "auto_unmount: kill the daemon" kill -KILL "$daemon"
if [ "$SLOW" -eq 1 ]; then
    check "auto_unmount: gone with the daemon" wait_until is_unmounted "$T/mnt"
else
    wait_until is_gone "$daemon"
    unmount -l "$T/mnt" 2>/dev/null
fi

# Editing what is the user's.
export -f poke
poke_as_user() { # OFFSET TEXT
    check "edit: write $2" "${as_user[@]}" bash -c 'poke "$@"' - "$T/mnt/x" "$@"
}
mount_as_user "edit" "$mine" edit
poke_as_user 65530 first
run "${as_user[@]}" "$SAFETENSORFS" commit "$T/mnt"
check_eq "edit: commit ($err)" "0 " "$rc $out$err"
check_eq "edit: committed" first "$(reader cut "$mine" x | tail -c +65531 | head -c 5)"
poke_as_user 7 second
refuses_umount_while_busy "edit"
umount_as_user "edit"
check_eq "edit: committed by umount" second "$(reader cut "$mine" x | tail -c +8 | head -c 6)"
check_eq "edit: owner and mode" "$user 600" "$(stat -c '%u %a' "$mine")"
check_eq "edit: no staging is left" mine.safetensors "$(ls -A "$T/theirs")"
check_refused "edit of what is not the user's" 'a.safetensors: .*staging=' \
    "${as_user[@]}" "$SAFETENSORFS" "$source" "$T/mnt" -o edit

# A mountpoint that is not the user's, and a source that the user cannot read.
check_refused "somebody else's directory" "$T/roots.*no write access" \
    "${as_user[@]}" "$SAFETENSORFS" "$source" "$T/roots"
check "nothing is mounted there" is_unmounted "$T/roots"
cp "$source" "$T/b.safetensors"
chmod 600 "$T/b.safetensors"
check_refused "a source of root's" 'b.safetensors.*Permission denied' \
    "${as_user[@]}" "$SAFETENSORFS" "$T/b.safetensors" "$T/mnt"

# Root's mount for everybody: allow_other implies that permissions count.
run "$SAFETENSORFS" "$source" "$T/mnt" -o allow_other
check_eq "allow_other ($err)" 0 "$rc"
check "the user may read" "${as_user[@]}" cmp "$T/x" "$T/mnt/x"
check "the user may have the status" "${as_user[@]}" "$SAFETENSORFS" status "$T/mnt"
check_refused "the user may not unmount" 'mnt: fusermount3 could not unmount it: ' \
    "${as_user[@]}" "$SAFETENSORFS" umount "$T/mnt"
check "umount" "$SAFETENSORFS" umount "$T/mnt"
run "$SAFETENSORFS" "$T/b.safetensors" "$T/mnt" -o allow_other
check_eq "allow_other, of a file of root's ($err)" 0 "$rc"
check_not "the user may not read" "${as_user[@]}" cat "$T/mnt/x"
check "umount" "$SAFETENSORFS" umount "$T/mnt"

# In a user namespace of their own, users are root enough to need no fusermount3.
if "${as_user[@]}" unshare --user --map-root-user --mount true 2>/dev/null; then
    run "${as_user[@]}" unshare --user --map-root-user --mount bash -c '
        set -e
        PATH=/nowhere "$1" "$2" "$3"
        sha256sum <"$3/x"
        "$1" status "$3" >/dev/null
        "$1" umount "$3"' - "$SAFETENSORFS" "$source" "$T/mnt"
    check_eq "user namespace ($err)" "0 $(sha256sum <"$T/x")" "$rc $out$err"
    check "user namespace: nothing is mounted outside" is_unmounted "$T/mnt"
else
    echo "SKIP: no user namespaces, so none was tried"
fi
finish
