#!/usr/bin/env bash
# However an edit mount ends, unless it is killed, what was written is committed: those bytes only.
. "$(dirname "$0")/../lib_edit.sh"

make_checkpoint "$T/a.safetensors" --odd --tensors 6 --tensor 'x:U8:[200000]'
cp "$T/a.safetensors" "$T/before"

# changed WHAT OFFSET BYTES: exactly these bytes of x differ from before.
changed() {
    local offset
    offset=$(reader list "$T/before" | jq '.[] | select(.name == "x").offset')
    cp "$T/before" "$T/wanted"
    poke "$T/wanted" $((offset + $2)) "$3"
    check "$1: exactly what was written differs" cmp "$T/wanted" "$T/a.safetensors"
    check_eq "$1: no staging is left" "" "$(ls -A "$T" | grep '^\.')"
    cp "$T/before" "$T/a.safetensors"
}

end_umount() { unmount "$1"; }
end_fusermount() { fusermount3 -u "$1"; }
end_command() { "$SAFETENSORFS" umount "$1"; }
end_TERM() { kill -s TERM "${daemon_pid[$1]}"; }
end_INT() { kill -s INT "${daemon_pid[$1]}"; }
end_HUP() { kill -s HUP "${daemon_pid[$1]}"; }

for how in umount fusermount command TERM INT HUP; do
    [ "$how" != fusermount ] || type -P fusermount3 >/dev/null || continue
    edit_start "$T/a.safetensors" "$T/mnt"
    poke "$T/mnt/x" 65534 "by $how"
    check "$how" "end_$how" "$T/mnt"
    mount_ended "$T/mnt"
    check "$how: unmounted" is_unmounted "$T/mnt"
    changed "$how" 65534 "by $how"
done

# A signal while files are open for writing: what was written so far counts.
for how in TERM INT; do
    edit_start "$T/a.safetensors" "$T/mnt"
    exec {open}<>"$T/mnt/x"
    printf 'open at SIG%s' "$how" >&"$open"
    check "SIG$how with an open writer" "end_$how" "$T/mnt"
    mount_ended "$T/mnt"
    exec {open}>&-
    changed "SIG$how with an open writer" 0 "open at SIG$how"
done

# What was written through a mapping, and not synced, while nothing is open any more.
edit_start "$T/a.safetensors" "$T/mnt"
"$PYTHON" -c 'import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
m = mmap.mmap(fd, 0)
m[131070:131076] = b"mapped"
os._exit(0)' "$T/mnt/x"
check "mapped: SIGTERM" end_TERM "$T/mnt"
mount_ended "$T/mnt"
changed "mapped" 131070 mapped

# In use: umount refuses, commits what there is and stays; so does umount(8), committing nothing.
edit_start "$T/a.safetensors" "$T/mnt"
exec {open}<>"$T/mnt/x"
printf kept >&"$open"
check_not "in use: umount(8)" unmount "$T/mnt"
check_refused "in use: umount" "in use" "$SAFETENSORFS" umount "$T/mnt"
check "in use: still mounted" is_mounted "$T/mnt"
exec {open}>&-
check "no longer in use: umount" "$SAFETENSORFS" umount "$T/mnt"
mount_ended "$T/mnt"
changed "in use" 0 kept

# Daemonized, as users have it: umount waits until the daemon has ended.
for options in edit edit,commit=inplace; do
    check "daemonized ($options)" "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" -o "$options"
    pid=$(status_of "$T/mnt" .pid)
    poke "$T/mnt/x" 7 daemon
    check "daemonized ($options): umount" "$SAFETENSORFS" umount "$T/mnt"
    check "daemonized ($options): the daemon is gone" is_gone "$pid"
    changed "daemonized ($options)" 7 daemon
done

# umount(8) does not wait; the commit is done soon after.
check "daemonized" "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" -o edit
pid=$(status_of "$T/mnt" .pid)
poke "$T/mnt/x" 7 daemon
check "umount(8)" unmount "$T/mnt"
check "the daemon ends" wait_until is_gone "$pid"
changed "umount(8)" 7 daemon

# Nothing edited: the file is not even touched.
stat -c '%i %y %z' "$T/a.safetensors" >"$T/stat"
edit_start "$T/a.safetensors" "$T/mnt"
cat "$T"/mnt/* >/dev/null
check "nothing edited: commit" "$SAFETENSORFS" commit "$T/mnt"
mount_stop "$T/mnt"
check_eq "nothing edited: not touched" "$(cat "$T/stat")" "$(stat -c '%i %y %z' "$T/a.safetensors")"
check_eq "nothing edited: no staging is left" "" "$(ls -A "$T" | grep '^\.')"
finish
