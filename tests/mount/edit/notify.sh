#!/usr/bin/env bash
# The kernel is told what it has to forget: what is shown is right at once, and nobody waits for somebody who waits.
. "$(dirname "$0")/../lib_edit.sh"
DEADLINE=$((20 * SLOW))

[ "$(id -u)" -eq 0 ] || skip "only root can clear away the mount of a killed daemon"

make_checkpoint "$T/m.safetensors" --tensor 'a:U8:[1048576]' --tensor 'b:U8:[1048576]'

# Two arrays that are closed one right after the other, while others read, with many threads and with one.
for thread in "" -s; do
    # shellcheck disable=SC2086
    mount_start "$T/m.safetensors" "$T/mnt" -o edit $thread
    run "$PYTHON" "$ROOT/tests/mount/edit/notify_stat.py" "$T/mnt" $((16 / SLOW))
    check_eq "two arrays, one after the other${thread:+, $thread} ($err)" 0 "$rc"
    unmount -l "$T/mnt"
    mount_ended "$T/mnt"
done

# Whether nothing of a killed process is left but what its parent waits for.
is_dead() {
    is_gone "$1" && [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -le 1 ]
}

# abort_connection WHAT: end what hangs there in spite of SIGKILL, so that the test goes on.
abort_connection() {
    local connection
    fail "$1: the daemon waits for somebody who waits for it"
    connection=$(awk -v m="$T/mnt" '$5 == m { sub(".*:", "", $3); print $3 }' /proc/self/mountinfo)
    echo 1 >"/sys/fs/fuse/connections/$connection/abort"
}

# A death, and commits, in the middle of it all.
mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null
for round in $(seq "${CRASH_ROUNDS:-6}"); do
    cp "$T/m.safetensors" "$T/r.safetensors"
    mount_start "$T/r.safetensors" "$T/mnt" -o edit $([ $((round % 3)) -ne 0 ] || echo -s)
    "$PYTHON" "$ROOT/tests/mount/edit/notify.py" "$T/mnt" "${daemon_pid[$T/mnt]}" \
        "0.$((RANDOM % 9))" >"$T/report" 2>&1 &
    driver=$!
    wait_until is_gone "$driver" && wait_until is_dead "${daemon_pid[$T/mnt]}" || abort_connection "round $round"
    status=0
    wait "$driver" || status=$?
    check_eq "round $round: $(cat "$T/report")" 0 "$status"
    mount_ended "$T/mnt" 137
    check "round $round: unmount" umount -l "$T/mnt"
    run "$SAFETENSORFS" recover "$T/r.safetensors"
    check_match "round $round: recover ($err)" '^[01]$' "$rc"
    check "round $round: valid" "$SAFETENSORFS" check -q "$T/r.safetensors"
    rm -rf "$T/r.safetensors" "$(staging_of "$T/r.safetensors")"
done
finish
