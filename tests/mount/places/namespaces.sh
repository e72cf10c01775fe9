#!/usr/bin/env bash
# What containers are made of: namespaces, propagation of mounts, what is taken away from root.
. "$(dirname "$0")/../lib.sh"
[ "$(id -u)" -eq 0 ] || skip "needs root"
need unshare setpriv nsenter
if [ -z "${PRIVATE_MOUNTS:-}" ]; then
    rm -rf "$T"
    unshare --mount --propagation private true 2>/dev/null || skip "unshare --mount is not allowed"
    PRIVATE_MOUNTS=1 exec unshare --mount --propagation private "$0"
fi

user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
chmod 755 "$T"
"${user[@]}" test -x "$SAFETENSORFS" || skip "the user cannot reach $SAFETENSORFS"
source=$T/a.safetensors
make_checkpoint "$source" --tensor 'x:U8:[100000]'
reader cut "$source" x >"$T/x"
mkdir "$T/mnt" "$T/inside"

# ---- mounted outside, and bound into the container ----

# A mount namespace of its own, in which /dev is empty, and no rights left.
# shellcheck disable=SC2016 # the inner shell's
inside=(unshare --mount --propagation slave bash -c '
    mount --bind "$0/mnt" "$0/inside" && mount -o remount,bind,ro "$0/inside" &&
        mount -t tmpfs none /dev && cd / && exec "$@"' "$T"
    "${user[@]}" --no-new-privs --bounding-set -all)

mount_start "$source" "$T/mnt" -o allow_other
check "bound in, with allow_other: another user reads" "${inside[@]}" cmp "$T/x" "$T/inside/x"
check "bound in, with allow_other: a user namespace" "${inside[@]}" unshare --user --map-root-user cmp "$T/x" "$T/inside/x"
check "bound in, with allow_other: status" "${inside[@]}" "$SAFETENSORFS" status "$T/inside"
mount_stop "$T/mnt"
mount_start "$source" "$T/mnt"
check_errno "bound in, without: another user" EACCES "${inside[@]}" ls "$T/inside/x"
mount_stop "$T/mnt"

# ---- mounts that come later ----

# A directory whose mounts are shared, as `rshared` makes it, and two containers that look at it.
mkdir "$T/pool"
mount --bind "$T/pool" "$T/pool"
mount --make-shared "$T/pool"
mkdir "$T/pool/mnt"

# container PROPAGATION: a process in a mount namespace of its own; its number is in $container.
container() {
    unshare --mount --propagation "$1" sleep "$DEADLINE" &
    container=$!
    wait_until other_namespace "$container"
}
other_namespace() {
    [ "$(readlink "/proc/$1/ns/mnt")" != "$(readlink /proc/$$/ns/mnt)" ] && [ "$(cat "/proc/$1/comm")" = sleep ]
}
containers=()
for propagation in private slave unchanged; do
    container "$propagation"
    containers+=("$container")
done
none=(nsenter --mount="/proc/${containers[0]}/ns/mnt" --wd="$T")
one_way=(nsenter --mount="/proc/${containers[1]}/ns/mnt" --wd="$T")
both_ways=(nsenter --mount="/proc/${containers[2]}/ns/mnt" --wd="$T")

mount_start "$source" "$T/pool/mnt"
check_not "private: a later mount is not seen" "${none[@]}" test -e "$T/pool/mnt/x"
check "slave: it is" "${one_way[@]}" cmp "$T/x" "$T/pool/mnt/x"
check "shared: it is" "${both_ways[@]}" cmp "$T/x" "$T/pool/mnt/x"
mount_stop "$T/pool/mnt"
check_not "slave: it goes, too" "${one_way[@]}" test -e "$T/pool/mnt/x"

"${one_way[@]}" "$SAFETENSORFS" "$source" "$T/pool/mnt"
check_not "slave: what it mounts is its own" test -e "$T/pool/mnt/x"
check "slave: umount" "${one_way[@]}" "$SAFETENSORFS" umount "$T/pool/mnt"

# A sidecar: one mounts, the others see it, until its daemon dies.
"${both_ways[@]}" "$SAFETENSORFS" "$source" "$T/pool/mnt"
check "shared: what it mounts is seen outside" cmp "$T/x" "$T/pool/mnt/x"
check "shared: and in the other container" "${one_way[@]}" cmp "$T/x" "$T/pool/mnt/x"
kill -KILL "$("$SAFETENSORFS" status --json "$T/pool/mnt" | jq .pid)"
wait_until "${one_way[@]}" sh -c '! cat "$1" >/dev/null 2>&1' - "$T/pool/mnt/x.json" || fail "it is readable still"
check_errno "shared: its daemon has died" ENOTCONN "${one_way[@]}" ls "$T/pool/mnt"
check_refused "shared: mounting anew" 'clear it with: fusermount3 -u' \
    "${both_ways[@]}" "$SAFETENSORFS" "$source" "$T/pool/mnt"
check "shared: clear it away" "${both_ways[@]}" fusermount3 -u "$T/pool/mnt"
check "shared: mounting anew" "${both_ways[@]}" "$SAFETENSORFS" "$source" "$T/pool/mnt"
check "shared: the other container sees the new one" "${one_way[@]}" cmp "$T/x" "$T/pool/mnt/x"
check "shared: umount" "${both_ways[@]}" "$SAFETENSORFS" umount "$T/pool/mnt"
kill "${containers[@]}"
wait "${containers[@]}" 2>/dev/null
umount "$T/pool"

# ---- mounted inside: what is missing is said in one line ----

# refused WHAT REGEX COMMAND...: the command finds the mount's words in $@.
refused() {
    check_refused "$1" "mnt: cannot mount: .*$2" "${@:3}" "$SAFETENSORFS" "$source" "$T/mnt"
    check "$1: nothing is mounted" is_unmounted "$T/mnt"
}
refused "root without CAP_SYS_ADMIN" 'Operation not permitted' \
    setpriv --bounding-set -sys_admin --inh-caps -sys_admin
refused "no /dev/fuse" 'device .*not found' \
    unshare --mount sh -c 'mount -t tmpfs none /dev && exec "$@"' -
refused "a user who may not open /dev/fuse" 'Permission denied' \
    unshare --mount sh -c 'mknod -m 600 "$0/fuse" c 10 229; mount --bind "$0/fuse" /dev/fuse && exec "$@"' "$T" "${user[@]}"
mknod -m 666 "$T/open" c 10 229 && mount --bind "$T/open" /dev/fuse
chown 65534 "$T/mnt"
refused "a user who may gain no rights, so not by fusermount3" 'Operation not permitted' \
    "${user[@]}" --no-new-privs
# A user namespace has root's rights inside, and needs none outside.
if "${user[@]}" unshare --user --map-root-user --mount true 2>/dev/null; then
    run "${user[@]}" --no-new-privs unshare --user --map-root-user --mount bash -c '
        "$1" "$2" "$3" && cmp "$4" "$3/x" && "$1" umount "$3"' - "$SAFETENSORFS" "$source" "$T/mnt" "$T/x"
    check_eq "a user namespace ($err)" "0 " "$rc $out$err"
else
    echo "SKIP: no user namespaces, so none was tried"
fi
finish
