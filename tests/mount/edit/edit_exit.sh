#!/usr/bin/env bash
# Exit status of a foreground edit mount: 0 all committed, 1 refused or failed, 3 killed under an open writer.
. "$(dirname "$0")/../lib_edit.sh"

source=$T/a.safetensors
stage=$(staging_of "$source")
make_checkpoint "$source" --tensor 'a:F32:[1000]' --tensor 'b:U8:[400000]'

edit_start "$source" "$T/mnt"
poke "$T/mnt/b" 0 x
unmount "$T/mnt"
mount_ended "$T/mnt" 0

# Whatever ends it: edits that have a problem stay staged, and the status is 1.
for how in 'unmount "$T/mnt"' 'kill -s TERM $pid' 'kill -s INT $pid'; do
    edit_start "$source" "$T/mnt"
    pid=${daemon_pid[$T/mnt]}
    printf x >>"$T/mnt/b"
    eval "$how"
    mount_ended "$T/mnt" 1
    check "$how: unmounted" is_unmounted "$T/mnt"
    check "$how: kept" test -s "$stage/journal"
    check "$how: discard" "$SAFETENSORFS" discard "$source"
done

# A connection that is killed. Needs root, for the control file system and umount -f.
[ "$(id -u)" -eq 0 ] || finish
mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null

kill_abort() {
    echo 1 >"/sys/fs/fuse/connections/$minor/abort"
}
kill_umount() {
    umount -f "$T/mnt" 2>/dev/null || true # busy, but the connection is dead then
}

for how in abort umount; do
    [ "$how" != abort ] || [ -d /sys/fs/fuse/connections ] || continue
    sha256sum "$source" >"$T/sum"
    edit_start "$source" "$T/mnt"
    minor=$(mountpoint -d "$T/mnt" | cut -d: -f2)
    exec {open}<>"$T/mnt/b"
    printf '%s, staged' "$how" >&"$open"
    mv "$T/mnt/a" "$T/mnt/$how"
    "kill_$how"
    mount_ended "$T/mnt" 3
    exec {open}>&-
    ! is_mounted "$T/mnt" || umount -l "$T/mnt"
    check "$how: nothing was committed" sha256sum --check --quiet "$T/sum"
    check_match "$how: the log says so" 'nothing was committed' "$(mount_log "$T/mnt")"
    check_match "$how: the log names the staging" "$stage" "$(mount_log "$T/mnt")"
    check "$how: kept" test -s "$stage/journal"
    check "$how: recover commits" "$SAFETENSORFS" recover "$source"
    check_eq "$how: recovered" "$how, staged" "$(reader cut "$source" b | head -c $((${#how} + 8)))"
    check_eq "$how: recovered names" 1 "$(reader names "$source" | grep -cFx "\"$how\"")"
    edit_start "$source" "$T/mnt"
    mv "$T/mnt/$how" "$T/mnt/a"
    mount_stop "$T/mnt"
done

# Readers, and files that were closed, are no reason.
edit_start "$source" "$T/mnt"
poke "$T/mnt/b" 0 closed
exec {open}<"$T/mnt/b"
kill_umount
mount_ended "$T/mnt" 0
exec {open}<&-
! is_mounted "$T/mnt" || umount -l "$T/mnt"
check_eq "an open reader: committed" closed "$(reader cut "$source" b | head -c 6)"

# The daemonized one says it in the log only; umount knows from the staging.
check "daemonized" "$SAFETENSORFS" "$source" "$T/mnt" -o edit
exec {open}<>"$T/mnt/b"
printf 'daemon' >&"$open"
pid=$(status_of "$T/mnt" .pid)
kill_umount
check "daemonized: it ends" wait_until is_gone "$pid"
exec {open}>&-
! is_mounted "$T/mnt" || umount -l "$T/mnt"
edit_start "$source" "$T/mnt"
check_match "daemonized: the next mount resumes" resum "$(mount_log "$T/mnt")"
check_eq "daemonized: what was written" daemon "$(head -c 6 "$T/mnt/b")"
mount_stop "$T/mnt"
# A mount that is gone, although something else is mounted at its place, and a handle that was flushed and whose RELEASE
# never came: no false alarm.
if [ -d /sys/fs/fuse/connections ] && mkdir -p "$T/place" && mount -t tmpfs none "$T/place"; then
    edit_start "$source" "$T/place"
    wait_until test -e "$T/place/.safetensorfs"
    minor=$(mountpoint -d "$T/place" | cut -d: -f2)
    exec {open}<>"$T/place/b"
    printf flushed >&"$open"
    true {copy}>&"$open" {copy}>&-
    umount -l "$T/place"
    kill_abort
    mount_ended "$T/place" 0
    exec {open}>&-
    check_eq "over a mount: committed" flushed "$(reader cut "$source" b | head -c 7)"
    umount "$T/place"
fi
finish
