#!/usr/bin/env bash
# As umount(8) calls it, umount.fuse.safetensorfs commits, waits and tells how that ended; -l and -f
# do what they do everywhere, and a mount that cannot be asked is unmounted all the same.
. "$(dirname "$0")/../lib_edit.sh"

source=$T/a.safetensors
stage=$(staging_of "$source")
make_checkpoint "$source" --tensor 'a:F32:[1000]' --tensor 'b:U8:[400000]'
mkdir "$T/mnt"
for name in umount.safetensorfs umount.fuse.safetensorfs; do
    ln -s "$SAFETENSORFS" "$T/$name"
done
helper=$T/umount.fuse.safetensorfs

# the words | what is named, where they are wrong
while IFS='|' read -r words named; do
    read -r -a words <<<"$words"
    run "$helper" "${words[@]}"
    check_eq "wrong usage: ${words[*]} ($err)" 1 "$rc"
    check_match "wrong usage: ${words[*]}: message" "^safetensorfs: $named: " "$err"
done <<'END'
|MOUNTPOINT
-n|MOUNTPOINT
mnt other|other
mnt -x|-x
mnt -lx|-lx
mnt -t|-t
mnt -N|-N
END
run "$helper" "$T"
check_eq "no mount ($err)" 32 "$rc"
check_match "no mount: message" "$T: is not a safetensorfs mount" "$err"
run "$helper" "$T/nowhere"
check_eq "no directory ($err)" 32 "$rc"

# Commits, and returns once the daemon is gone; with all that umount(8) may add.
while read -r name words; do
    read -r -a words <<<"$words"
    check "mount" "$SAFETENSORFS" "$source" "$T/mnt" -o edit
    pid=$(status_of "$T/mnt" .pid)
    poke "$T/mnt/b" 7 "$name"
    run "$T/$name" "$T/mnt" "${words[@]}"
    check_eq "$name ${words[*]} ($err)" "0 " "$rc $out$err"
    check "$name ${words[*]}: the daemon is gone" is_gone "$pid"
    check_eq "$name ${words[*]}: committed" "$name" \
        "$(reader cut "$source" b | tail -c +8 | head -c "${#name}")"
done <<'END'
umount.safetensorfs
umount.fuse.safetensorfs -n -v -r -t fuse.safetensorfs
umount.safetensorfs -nv
END

# A refused commit and a busy mount: it says so, and stays mounted.
edit_start "$source" "$T/mnt"
printf x >>"$T/mnt/b"
run "$helper" "$T/mnt"
check_eq "refused: exit status" 32 "$rc"
check_match "refused: which tensor" 'tensor "b": ' "$err"
check_match "refused: message" "$T/mnt: not committed: " "$err"
check "refused: still mounted" is_mounted "$T/mnt"
truncate -s 400000 "$T/mnt/b"
exec {open}<"$T/mnt/b"
run "$helper" "$T/mnt"
check_eq "busy: exit status" 32 "$rc"
check_match "busy: message" "$T/mnt: is in use" "$err"
check "busy: still mounted" is_mounted "$T/mnt"
exec {open}<&-
run "$helper" "$T/mnt"
check_eq "mended ($err)" 0 "$rc"
mount_ended "$T/mnt"

# Dead: there is nobody to ask.
check "mount" "$SAFETENSORFS" "$source" "$T/mnt" -o edit
pid=$(status_of "$T/mnt" .pid)
kill -KILL "$pid"
wait_until is_gone "$pid"
run "$helper" "$T/mnt"
check_eq "dead ($err)" 0 "$rc"
check "dead: unmounted" is_unmounted "$T/mnt"

# Lazy: detached at once, under an open file; the daemon commits when that is closed.
edit_start "$source" "$T/mnt"
exec {open}<>"$T/mnt/b"
printf lazy >&"$open"
run "$helper" "$T/mnt" -l
check_eq "-l ($err)" "0 " "$rc $out$err"
check "-l: detached" is_unmounted "$T/mnt"
check "-l: the daemon still serves" kill -0 "${daemon_pid[$T/mnt]}"
exec {open}>&-
mount_ended "$T/mnt"
check_eq "-l: committed in the end" lazy "$(reader cut "$source" b | head -c 4)"

[ "$(id -u)" -eq 0 ] || finish

# Forced: the connection is aborted. Under an open writer nothing is committed.
edit_start "$source" "$T/mnt"
exec {open}<>"$T/mnt/b"
printf force >&"$open"
run "$helper" "$T/mnt" -f
check_eq "-f, in use ($err)" 32 "$rc"
check_match "-f, in use: message" 'is in use' "$err"
mount_ended "$T/mnt" 3
run "$helper" "$T/mnt" -f -l
check_eq "-f -l, of what is left ($err)" 0 "$rc"
check "-f -l: detached" is_unmounted "$T/mnt"
exec {open}>&-
check_eq "-f: not committed" lazy "$(reader cut "$source" b | head -c 4)"
check "-f: kept" test -s "$stage/journal"
check "discard" "$SAFETENSORFS" discard "$source"

# Mounted in a second place: the first umount leaves the daemon serving, and must not wait for it.
for verb in '' umount; do
    program=("$helper")
    [ -z "$verb" ] || program=("$SAFETENSORFS" "$verb")
    edit_start "$source" "$T/mnt"
    mkdir -p "$T/second"
    mount --bind "$T/mnt" "$T/second"
    poke "$T/mnt/b" 0 twice
    run "${program[@]}" "$T/second"
    check_eq "a second place ($err)" 0 "$rc"
    check_eq "a second place: committed" twice "$(reader cut "$source" b | head -c 5)"
    check "a second place: the first still serves" cmp <(reader cut "$source" b) "$T/mnt/b"
    run "${program[@]}" "$T/mnt"
    check_eq "the last place ($err)" 0 "$rc"
    mount_ended "$T/mnt"
done

# A namespace that has a copy and soon ends is waited for; one that stays is not.
if unshare --mount --propagation private true 2>/dev/null; then
    for seconds in 2 1000; do
        check "mount" "$SAFETENSORFS" "$source" "$T/mnt" -o edit
        pid=$(status_of "$T/mnt" .pid)
        coproc unshare --mount --propagation private sh -c 'echo; exec sleep "$1"' - "$seconds"
        other=$COPROC_PID
        read -r -u "${COPROC[0]}"
        poke "$T/mnt/b" 0 "copy $seconds"
        run "$helper" "$T/mnt"
        check_eq "a copy for $seconds s ($err)" 0 "$rc"
        check_eq "a copy for $seconds s: committed" "copy $seconds" \
            "$(reader cut "$source" b | head -c $((5 + ${#seconds})))"
        check_eq "a copy for $seconds s: the daemon is gone" "$((seconds == 2))" "$(is_gone "$pid" && echo 1 || echo 0)"
        kill "$other" 2>/dev/null
        wait "$other"
        check "a copy for $seconds s: the daemon ends" wait_until is_gone "$pid"
    done
fi

# In the namespace that is named, not in ours. Who enters one also gets its root: in a chroot that is
# another one, in which our paths mean nothing.
if unshare --mount --propagation private true 2>/dev/null &&
    nsenter --mount=/proc/self/ns/mnt test -d "$T/mnt" 2>/dev/null; then
    edit_start "$source" "$T/mnt"
    coproc unshare --mount --propagation private sh -c 'echo; exec cat'
    other=$COPROC_PID
    read -r -u "${COPROC[0]}"
    run "$helper" "$T/mnt" -N "/proc/$other/ns/mnt"
    check_eq "-N ($err)" 0 "$rc"
    check "-N: ours is still there" is_mounted "$T/mnt"
    check_eq "-N: the other is not" "" "$(grep -F "$T/mnt" "/proc/$other/mountinfo")"
    eval "exec ${COPROC[1]}>&-"
    wait "$other"
    mount_stop "$T/mnt"
fi

# A daemon in a pid namespace of its own, a container's: its number is somebody else's here.
if unshare --pid --fork true 2>/dev/null; then
    for options in ro edit; do
        unshare --pid --fork "$SAFETENSORFS" "$source" "$T/mnt" -f -o "$options" 2>"$T/container.log" &
        container=$!
        wait_until is_mounted "$T/mnt" || die "not mounted in a pid namespace"
        [ "$options" = ro ] || poke "$T/mnt/b" 0 "contained"
        run "$SAFETENSORFS" umount "$T/mnt"
        check_eq "a pid namespace, $options ($err)" "0 " "$rc $err"
        check "a pid namespace, $options: the daemon ends" wait_until is_gone "$container"
        wait "$container"
        check_eq "a pid namespace, $options: its exit status" 0 "$?"
    done
    check_eq "a pid namespace: committed" contained "$(reader cut "$source" b | head -c 9)"
fi
finish
