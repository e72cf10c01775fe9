#!/usr/bin/env bash
# Everything from where `meson install` puts it: pages, completion, mount(8), umount(8), fstab, units.
#
# BUILD is the build directory, from meson. The staged installation is bound over /usr/local and its
# helpers are shown in /sbin, in a mount namespace of our own. That has copies of whatever else is
# mounted here, whose daemons would hear of it: so umount is told where, and never -a.
. "$(dirname "$0")/../lib_edit.sh"
[ "$(id -u)" -eq 0 ] || skip "mount(8) needs root"
need mount.fuse3 unshare meson
BUILD=${BUILD:-$ROOT/build}
[ -d "$BUILD/meson-private" ] || skip "no build directory $BUILD"
if [ -z "${PRIVATE_MOUNTS:-}" ]; then
    rm -rf "$T"
    unshare --mount --propagation private true 2>/dev/null || skip "unshare --mount is not allowed"
    PRIVATE_MOUNTS=1 exec unshare --mount --propagation private "$0"
fi

build_option() {
    meson introspect "$BUILD" --buildoptions | jq -r --arg name "$1" '.[] | select(.name == $name).value'
}
[ "$(build_option prefix)" = /usr/local ] || skip "the prefix is not /usr/local"
bin=/usr/local/$(build_option bindir)/safetensorfs
helpers=$(build_option helperdir)
DESTDIR=$T/root meson install -C "$BUILD" --no-rebuild >"$T/install" 2>&1 || die "meson install: $(cat "$T/install")"
cp -a /usr/sbin "$T/sbin"
rm -f "$T/sbin"/{,u}mount.{,fuse.}safetensorfs
cp -a "$T/root${helpers:-/usr/local/$(build_option sbindir)}"/*mount*.safetensorfs "$T/sbin"
mount --bind "$T/root/usr/local" /usr/local || die "cannot mount on /usr/local"
if [ -z "$helpers" ]; then
    # What -Dhelperdir=/sbin would have said.
    for file in "$T/sbin"/*mount*.safetensorfs; do
        ln -sfn "$bin" "$file"
    done
fi
mount --bind "$T/sbin" /usr/sbin || die "cannot mount on /usr/sbin"
[ /sbin/umount.fuse.safetensorfs -ef "$bin" ] || skip "/sbin is not /usr/sbin"
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
SAFETENSORFS=$bin
check_eq "it is found" "$bin" "$(type -P safetensorfs)"

# ---- pages and completion ----

# What is read, its section and a heading of it.
while read -r page heading; do
    type -P man >/dev/null || continue
    check_match "man -w $page" "^/usr/local/.*/man/" "$(man -w ${page/./ } 2>&1)"
    check_match "man $page" "$heading" "$(MANPAGER=cat MANWIDTH=80 man ${page/./ } 2>/dev/null)"
done <<'END'
1.safetensorfs EDITING
8.mount.safetensorfs UNMOUNTING
8.umount.safetensorfs UNMOUNTING
END
if [ -f /usr/share/bash-completion/bash_completion ]; then
    check_match "the completion is loaded" "-F _safetensorfs safetensorfs" "$(bash --norc -c '
        . /usr/share/bash-completion/bash_completion
        _completion_loader safetensorfs
        complete -p safetensorfs' 2>&1)"
fi

# ---- units ----

if type -P systemd-analyze >/dev/null; then
    mkdir "$T/units"
    cp /usr/local/share/doc/safetensorfs/examples/* "$T/units"
    check_eq "the units" 4 "$(ls "$T/units" | wc -l)"
    # What it says of the distribution's units is not about ours.
    for unit in "$T"/units/*; do
        check_eq "$(basename "$unit")" "" \
            "$({ systemd-analyze verify "$unit" 2>&1 || echo failed; } | grep -vE '^(/usr)?/lib/systemd/')"
    done
    # It would have said so.
    sed 's/^Type=forking/Type=bogus/; s|^ExecStart=[^ ]*|&-not-there|' "$T/units/safetensorfs@.service" \
        >"$T/units/wrong@.service"
    check_match "a wrong unit" "bogus.*not-there|not-there.*bogus" \
        "$(systemd-analyze verify "$T/units/wrong@.service" 2>&1 | tr '\n' ' ')"
fi

# ---- mount(8), umount(8), fstab ----

source=$T/a.safetensors
make_checkpoint "$source" --tensor 'a:F32:[1000]' --tensor 'b:U8:[1000]'
mkdir "$T/mnt"
printf '%s %s fuse.safetensorfs noauto,edit,x-systemd.automount,x-systemd.mount-timeout=infinity 0 0\n' \
    "$source" "$T/mnt" >"$T/fstab"
# Not every way of calling umount(8) makes it look for the helper: these do.
while IFS='|' read -r what words unmount; do
    read -r -a words <<<"$words"
    read -r -a unmount <<<"$unmount"
    run mount "${words[@]}" "$T/mnt"
    check_eq "$what ($err)" "0 " "$rc $out$err"
    check_eq "$what: type and source" "fuse.safetensorfs $source" "$(findmnt -rno FSTYPE,SOURCE "$T/mnt")"
    pid=$(status_of "$T/mnt" .pid)
    poke "$T/mnt/b" 0 "$what"
    run umount "${unmount[@]}" "$T/mnt"
    check_eq "$what: umount ($err)" "0 " "$rc $out$err"
    check "$what: the daemon is gone" is_gone "$pid"
    check_eq "$what: committed" "$what" "$(reader cut "$source" b | head -c "${#what}")"
done <<END
fuse.safetensorfs|-t fuse.safetensorfs -o edit,x-umount $source|
safetensorfs|-t safetensorfs -o edit,x-umount $source|
_netdev|-t safetensorfs -o edit,_netdev $source|
as systemd does|-t fuse.safetensorfs -o edit $source|-c
fstab|-T $T/fstab|
END

# With the helper no shell parses what it is given.
quoted="$T/it's one.safetensors"
cp "$source" "$quoted"
run mount -t fuse.safetensorfs -o 'ro,x-note=$(touch it)' "$quoted" "$T/mnt"
check_eq "a quote in the source ($err)" 0 "$rc"
check "a quote in the source: bytes" cmp <(reader cut "$quoted" b) "$T/mnt/b"
check "umount by the source" umount "$quoted"
check_eq "rw is no edit" "ro" "$(mount -t safetensorfs -o rw "$source" "$T/mnt" && findmnt -rno OPTIONS "$T/mnt" | cut -d, -f1)"
check "umount -v" umount -v "$T/mnt"

# A refused commit: umount fails with its own status and the reason, and it stays mounted.
check "mount" mount -T "$T/fstab" "$T/mnt"
printf x >>"$T/mnt/b"
run umount "$T/mnt"
check_eq "refused: exit status" 32 "$rc"
check_match "refused: reason" "safetensorfs: $T/mnt: not committed: .*" "$err"
check "refused: still mounted" is_mounted "$T/mnt"
# Past the helper nobody is told: it is unmounted, and the edits stay staged.
pid=$(status_of "$T/mnt" .pid)
run umount -i "$T/mnt"
check_eq "umount -i ($err)" "0 " "$rc $out$err"
check "umount -i: the daemon ends" wait_until is_gone "$pid"
check "umount -i: kept" test -s "$(staging_of "$source")/journal"
check "resumed" mount -T "$T/fstab" "$T/mnt"
truncate -s 1000 "$T/mnt/b"
check "mended" umount "$T/mnt"
check "nothing is staged" test ! -e "$(staging_of "$source")"

# A wrong option, a busy and a dead mount, and a lazy one.
run mount -t safetensorfs -o bogus "$source" "$T/mnt"
check_match "a wrong option ($rc)" "safetensorfs: bogus: unknown mount option" "$err"
check "mount" mount -T "$T/fstab" "$T/mnt"
pid=$(status_of "$T/mnt" .pid)
exec {open}<>"$T/mnt/b"
run umount "$T/mnt"
check_eq "busy: exit status" 32 "$rc"
check_match "busy: reason" "$T/mnt: is in use" "$err"
check "umount -l" umount -l "$T/mnt"
exec {open}>&-
check "umount -l: the daemon ends" wait_until is_gone "$pid"
check "mount" mount -T "$T/fstab" "$T/mnt"
pid=$(status_of "$T/mnt" .pid)
kill -KILL "$pid"
wait_until is_gone "$pid"
check "dead" umount "$T/mnt"
check "dead: unmounted" is_unmounted "$T/mnt"

# A user's own, by umount(8), which is set-uid root and has dropped that when it runs the helper.
umount_bin=$(type -P umount)
if type -P setpriv fusermount3 >/dev/null && [ -u "$(realpath "$umount_bin")" ]; then
    mknod -m 666 "$T/fuse" c 10 229 && mount --bind "$T/fuse" /dev/fuse || die "cannot make a device node"
    user=$(id -u nobody)
    as_user=(setpriv --reuid "$user" --regid "$user" --clear-groups)
    chmod 755 "$T"
    install -d -o "$user" "$T/own"
    install -o "$user" "$source" "$T/own/a.safetensors"
    chown "$user" "$T/mnt"
    check "user: mount" "${as_user[@]}" safetensorfs "$T/own/a.safetensors" "$T/mnt" -o edit
    pid=$("${as_user[@]}" safetensorfs status --json "$T/mnt" | jq .pid)
    printf mine | "${as_user[@]}" dd of="$T/mnt/b" conv=notrunc status=none
    run "${as_user[@]}" umount "$T/mnt"
    check_eq "user: umount ($err)" "0 " "$rc $out$err"
    check "user: the daemon is gone" is_gone "$pid"
    check_eq "user: committed" mine "$(reader cut "$T/own/a.safetensors" b | head -c 4)"
fi
finish
