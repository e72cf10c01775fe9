# lib_edit.sh - what the tests of editing share, on top of lib.sh, which it sources
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

expect() {
    "$PYTHON" "$ROOT/tests/mount/expect.py" "$@"
}

# edit_start SOURCE MNT [OPTION...]: mount for editing; further options are words of -o.
edit_start() {
    local source=$1 mnt=$2 options
    shift 2
    printf -v options ',%s' "$@"
    mount_start "$source" "$mnt" -o "edit${options%,}"
}

# poke FILE OFFSET TEXT: overwrite bytes in the middle of a file.
poke() {
    printf %s "$3" | dd of="$1" bs=64K seek="$2" oflag=seek_bytes conv=notrunc status=none
}

# sidecar FILE DTYPE SHAPE: write the sidecar of a tensor's file.
sidecar() {
    printf '{"dtype":"%s","shape":%s}\n' "$2" "$3" >"$1.json"
}

# declared FILE: dtype and shape as its sidecar has them.
declared() {
    jq -c '[.dtype, .shape]' "$1.json"
}

# status_of MNT FILTER: a part of its status.
status_of() {
    "$SAFETENSORFS" status --json "$1" | jq -cr "$2"
}

# same_state WHAT SOURCE FILE: the committed tensors are those that `expect` has written to FILE.
same_state() {
    check_eq "$1" "$(cat "$3")" "$(expect committed "$2" 2>&1)"
}

# commits WHAT MNT SOURCE [OPTION]: a commit makes SOURCE what the mount shows, and valid.
commits() {
    expect shown "$2" >"$T/shown" || fail "$1: the mount cannot be read"
    check "$1: commit" "$SAFETENSORFS" commit ${4:+"$4"} "$2"
    same_state "$1: what was committed is what was shown" "$3" "$T/shown"
    check_eq "$1: what is shown is as before" "$(cat "$T/shown")" "$(expect shown "$2" 2>&1)"
    check "$1: valid" "$SAFETENSORFS" check -q "$3"
    check_eq "$1: nothing is staged" '{"tensors":0,"bytes":0}' "$(status_of "$2" .staged)"
}

# canonical WHAT FILE...: the files are, byte for byte, what the reference library writes.
canonical() {
    local what=$1
    shift
    check "$what: as the reference library writes it" expect canonical "$@"
}

# edit_kill MNT: kill the daemon and clear its mount away.
edit_kill() {
    kill -KILL "${daemon_pid[$1]}"
    mount_ended "$1" 137
    unmount -l "$1"
}

# The staging directory of a file.
staging_of() {
    echo "$(dirname "$1")/.$(basename "$1").safetensorfs"
}

# rename(2) as a command, since mv has words of its own for EINVAL.
rename=("$PYTHON" -c 'import os, sys; os.rename(sys.argv[1], sys.argv[2])')
