#!/usr/bin/env bash
# Closed or full descriptors: no message lands in a file that took the number of a closed one, and what
# could not be printed is not passed off as printed.
. "$(dirname "$0")/../lib.sh"

make_checkpoint "$T/original.safetensors" --tensors 3
source=$T/a.safetensors
staging=$T/.a.safetensors.safetensorfs
first=$(reader list "$T/original.safetensors" | jq -r '.[0].name')

# with COMMANDLINE WORD...: the words are run with the descriptors that the command line gives them.
with() {
    local redirections=$1
    shift
    run bash -c "exec \"\$@\" $redirections" - "$@"
}

# Leave one changed byte staged, as a daemon that was killed does.
stage() {
    rm -rf "$staging"
    cp "$T/original.safetensors" "$source"
    mount_start "$source" "$T/mnt" -o edit
    printf X | dd of="$T/mnt/$first" conv=notrunc status=none
    cat "$T/mnt/$first" >"$T/want"
    kill -KILL "${daemon_pid[$T/mnt]}"
    wait "${daemon_pid[$T/mnt]}" 2>/dev/null
    unmount "$T/mnt"
    unset "daemon_pid[$T/mnt]"
}

for closed in '<&-' '>&-' '2>&-' '<&- >&-' '>&- 2>&-' '<&- >&- 2>&-'; do
    stage
    with "$closed" "$SAFETENSORFS" recover "$source"
    check_eq "recover $closed: exit status ($err)" 0 "$rc"
    check "recover $closed: bytes" cmp "$T/want" <(reader cut "$source" "$first")
done

# Edits are dropped after saying what they were, so not where that cannot be said.
if [ -c /dev/full ]; then
    stage
    for closed in '>/dev/full' '>&-'; do
        check_refused "discard $closed" 'stdout: ' \
            bash -c "exec \"\$@\" $closed" - "$SAFETENSORFS" discard "$source"
        check "discard $closed: still staged" test -e "$staging/journal"
    done
    for word in --help --version; do
        check_refused "$word to a full disk" 'stdout: ' \
            bash -c 'exec "$@" >/dev/full' - "$SAFETENSORFS" "$word"
    done
fi
for word in --help --version "ls $source" "check $source"; do
    read -r -a words <<<"$word"
    check_refused "$word to nowhere" 'stdout: ' bash -c 'exec "$@" >&-' - "$SAFETENSORFS" "${words[@]}"
done
finish
