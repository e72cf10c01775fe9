#!/usr/bin/env bash
# SIGTERM, SIGINT and SIGHUP unmount and end the driver with 0.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/a.safetensors" --tensors 3
for signal in TERM INT HUP; do
    mount_start "$T/a.safetensors" "$T/mnt"
    kill -s "$signal" "${daemon_pid[$T/mnt]}"
    mount_ended "$T/mnt"
    check "SIG$signal: unmounted" is_unmounted "$T/mnt"
done

# An open file and a working directory inside do not keep it.
mount_start "$T/a.safetensors" "$T/mnt"
exec {open}<"$T/mnt/lm_head.weight"
(
    cd "$T/mnt" || exit
    exec sleep infinity
) &
inside=$!
is_inside() { [ "$(readlink "/proc/$inside/cwd")" = "$T/mnt" ]; }
wait_until is_inside
kill -s TERM "${daemon_pid[$T/mnt]}"
mount_ended "$T/mnt"
check "in use: unmounted" is_unmounted "$T/mnt"
kill "$inside"
exec {open}<&-

# While reads are under way.
make_checkpoint "$T/b.safetensors" --tensors 4 --bytes 64M
mount_start "$T/b.safetensors" "$T/mnt"
for i in 1 2 3 4; do
    (while cat "$T"/mnt/*weight; do :; done >/dev/null 2>&1) &
done
cat "$T/mnt/lm_head.weight" >"$T/whole"
kill -s TERM "${daemon_pid[$T/mnt]}"
mount_ended "$T/mnt"
check "while reading: unmounted" is_unmounted "$T/mnt"

# Other signals do not end it, SIGPIPE above all.
mount_start "$T/a.safetensors" "$T/mnt"
kill -s PIPE "${daemon_pid[$T/mnt]}"
check "SIGPIPE: still there" cksum "$T/mnt/lm_head.weight"
mount_stop "$T/mnt"

# What whoever starts it had ignored stays ignored, as nohup has SIGHUP; the others count.
for options in ro edit; do
    for pair in 'HUP TERM' 'TERM HUP' 'INT TERM'; do
        read -r ignored other <<<"$pair"
        check "SIG$ignored ignored, $options: mounted" env --ignore-signal="$ignored" --default-signal="$other" \
            "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" -o "$options"
        pid=$("$SAFETENSORFS" status --json "$T/mnt" | jq .pid)
        kill -s "$ignored" "$pid"
        for ((i = 0; i < 30; i++)); do
            pause
        done
        check "SIG$ignored ignored, $options: still mounted" is_mounted "$T/mnt"
        check "SIG$ignored ignored, $options: still there" cksum "$T/mnt/lm_head.weight"
        kill -s "$other" "$pid"
        check "SIG$ignored ignored, $options: SIG$other ends it" wait_until is_gone "$pid"
        check "SIG$ignored ignored, $options: unmounted" is_unmounted "$T/mnt"
    done
done
finish
