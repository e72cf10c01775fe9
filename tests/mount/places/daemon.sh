#!/usr/bin/env bash
# Without -f the driver returns when the mount answers, and keeps nothing of its caller.
. "$(dirname "$0")/../lib.sh"
need setsid

make_checkpoint "$T/a.safetensors" --tensors 3
want=$(reader cut "$T/a.safetensors" lm_head.weight | sha256sum)

# A directory and relative paths that are gone afterwards.
mkdir "$T/cwd" "$T/mnt"
cd "$T/cwd" || die "cd"
cp "$T/a.safetensors" .
mkfifo "$T/fifo"
# The reader of the pipe comes to its end only when nobody holds the other side any more.
cat "$T/fifo" >"$T/fifo.out" &
waiting=$!
exec {held}>"$T/fifo"
run "$SAFETENSORFS" a.safetensors ../mnt
exec {held}>&-
check_eq "exit status ($err)" 0 "$rc"
check_eq "silence" "" "$out$err"
check "it answers at once" is_mounted "$T/mnt"
check_eq "bytes" "$want" "$(sha256sum <"$T/mnt/lm_head.weight")"
check "inherited descriptors are closed" wait_until is_gone "$waiting"

pid=$("$SAFETENSORFS" status --json "$T/mnt" | jq .pid)
check_eq "working directory" / "$(readlink "/proc/$pid/cwd")"
for fd in 0 1 2; do
    check_eq "descriptor $fd" /dev/null "$(readlink "/proc/$pid/fd/$fd")"
done
check_eq "a session of its own" "$pid" "$(awk '{ print $6 }' "/proc/$pid/stat")"
cd "$T" || die "cd"
rm -r "$T/cwd"
check_eq "bytes, with the caller's directory gone" "$want" "$(sha256sum <"$T/mnt/lm_head.weight")"
check_eq "status names absolute paths" "$T/mnt" \
    "$("$SAFETENSORFS" status --json "$T/mnt" | jq -r .mountpoint)"
run "$SAFETENSORFS" umount "$T/mnt"
check_eq "umount ($err)" 0 "$rc"
check "umount has waited for the daemon" is_gone "$pid"

# umount(8), and a signal.
for how in unmount kill; do
    "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" || fail "mount"
    pid=$("$SAFETENSORFS" status --json "$T/mnt" | jq .pid)
    case $how in
    unmount) unmount "$T/mnt" ;;
    kill) kill -TERM "$pid" ;;
    esac
    check "$how: the daemon ends" wait_until is_gone "$pid"
    check "$how: unmounted" is_unmounted "$T/mnt"
done

# The exit status and the one line reach the caller, also where stdin and stdout are closed.
echo broken >"$T/bad.safetensors"
check_refused "a broken file" 'bad.safetensors' "$SAFETENSORFS" "$T/bad.safetensors" "$T/mnt"
run bash -c '"$1" "$2" "$3" <&- >&-' - "$SAFETENSORFS" "$T/a.safetensors" "$T/mnt"
check_eq "closed descriptors ($err)" 0 "$rc"
check_eq "closed descriptors: bytes" "$want" "$(sha256sum <"$T/mnt/lm_head.weight")"
check "closed descriptors: umount" "$SAFETENSORFS" umount "$T/mnt"

# What a caller in a pipeline waits for.
got=$("$SAFETENSORFS" "$T/a.safetensors" "$T/mnt" 2>&1 | cat && sha256sum <"$T/mnt/lm_head.weight")
check_eq "a pipe behind it ends" "$want" "$got"
check "umount" "$SAFETENSORFS" umount "$T/mnt"
finish
