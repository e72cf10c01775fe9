# lib.sh - what the mount tests share; each of them sources it first
#
# A test is one script for one behaviour, on real mounts. It makes checks, all of which run, and ends
# with `finish`. Exit status 0: passed. 1: a check failed. 77: something that it needs is not here.
#
# From the environment (meson sets the first):
#   SAFETENSORFS              the binary to test (build/fs/safetensorfs)
#   SAFETENSORFS_CHECKPOINTS  a directory of real checkpoints, to be tried as well
#   SFT_SLOW                  a slow build (sanitizers): deadlines times this, big sizes divided by it
#   PYTHON                    a python3, with numpy for the numpy tests
#
# What is mounted is unmounted and what was started is ended when the test exits, however it does.

set -u -o pipefail
export LC_ALL=C
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SLOW=${SFT_SLOW:-1}
PYTHON=${PYTHON:-$([ -x /usr/bin/python3 ] && echo /usr/bin/python3 || echo python3)}
CHECKPOINTS=${SAFETENSORFS_CHECKPOINTS:-$ROOT/../shared/checkpoints}
DEADLINE=$((60 * SLOW)) # seconds that anything which normally takes none may take

# A misspelt function is no check that passed.
command_not_found_handle() {
    echo "no such command: $1" >&2
    kill -TERM $$
}

failures=0
checks=0
declare -A daemon_pid daemon_log # by mountpoint

skip() {
    echo "SKIP: $*"
    exit 77
}

# need TOOL...: skip the test where one is not here.
need() {
    local tool
    for tool; do
        type -P "$tool" >/dev/null || skip "no $tool"
    done
}

need jq findmnt "$PYTHON"
SAFETENSORFS=$(realpath "${SAFETENSORFS:-$ROOT/build/fs/safetensorfs}")
[ -x "$SAFETENSORFS" ] || {
    echo "no binary $SAFETENSORFS"
    exit 1
}
[ -c /dev/fuse ] && [ -r /dev/fuse ] && [ -w /dev/fuse ] || skip "/dev/fuse cannot be opened"
[ "$(id -u)" -eq 0 ] || need fusermount3

# Some of what root tests is done by nobody, who has to get there.
if [ "$(id -u)" -eq 0 ] && ! setpriv --reuid nobody --clear-groups test -x "${TMPDIR:-/tmp}" 2>/dev/null; then
    export TMPDIR=/tmp
fi
T=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/safetensorfs-test.XXXXXX")")
# A daemonized process has no stderr: what a sanitizer has to say goes to a file, which fails the test.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$T/sanitizer"
export TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$T/sanitizer"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}halt_on_error=1:print_stacktrace=1:log_path=$T/sanitizer"

cleanup() {
    local status=$? mnt pid
    trap - EXIT
    for mnt in $(NAME=$(escaped "$T/") awk 'index($5, ENVIRON["NAME"]) == 1 { print $5 }' /proc/self/mountinfo | tac); do
        # Names with spaces or so are escaped there.
        unmount -l "$(printf '%b' "${mnt//\\/\\0}")"
    done
    for pid in "${daemon_pid[@]}"; do
        kill -KILL "$pid" 2>/dev/null
    done
    wait 2>/dev/null
    rm -rf --one-file-system "$T"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# ---- waiting ----

# A descriptor that nobody ever writes to: a read from it with a timeout is a short pause without a process.
exec {never}<> <(:)
pause() {
    read -r -t 0.01 -u "$never" || true
}

# wait_until COMMAND...: poll until it succeeds; fails when the deadline passes.
wait_until() {
    local end=$((SECONDS + DEADLINE))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        pause
    done
}

# Whether a process has ended; nobody need have waited for it yet, or somebody does just now.
is_gone() {
    case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | head -c 1) in
    Z | X) true ;;
    *) ! kill -0 "$1" 2>/dev/null ;;
    esac
}

# A name as mountinfo has it.
escaped() {
    local name=${1//\\/\\134}
    name=${name// /\\040}
    name=${name//$'\t'/\\011}
    printf '%s' "${name//$'\n'/\\012}"
}

is_mounted() {
    NAME=$(escaped "$1") awk '$5 == ENVIRON["NAME"] { found = 1 } END { exit !found }' /proc/self/mountinfo
}

is_unmounted() {
    ! is_mounted "$1"
}

# ---- checks ----

fail() {
    failures=$((failures + 1))
    printf 'FAIL: %s\n' "$*"
}

# For what the rest of the test cannot do without.
die() {
    fail "$@"
    exit 1
}

# check WHAT COMMAND...: the command succeeds; what it printed is shown where it does not.
check() {
    local what=$1 output
    shift
    checks=$((checks + 1))
    if ! output=$("$@" 2>&1); then
        fail "$what"
        printf '    %s\n' "$*" "${output:0:2000}"
    fi
}

# check_not WHAT COMMAND...: the command fails.
check_not() {
    local what=$1
    shift
    checks=$((checks + 1))
    ! "$@" >/dev/null 2>&1 || fail "$what: succeeded: $*"
}

# check_eq WHAT EXPECTED ACTUAL
check_eq() {
    checks=$((checks + 1))
    if [ "$2" != "$3" ]; then
        fail "$1"
        printf '    expected: %s\n    actual:   %s\n' "${2:0:1000}" "${3:0:1000}"
    fi
}

# check_match WHAT REGEX ACTUAL
check_match() {
    checks=$((checks + 1))
    if ! [[ $3 =~ $2 ]]; then
        fail "$1"
        printf '    expected a match of: %s\n    actual: %s\n' "$2" "${3:0:1000}"
    fi
}

# run COMMAND...: sets `rc`, `out` and `err`.
run() {
    rc=0
    timeout -k 5 "$DEADLINE" "$@" >"$T/out" 2>"$T/err" </dev/null || rc=$?
    out=$(cat "$T/out")
    err=$(cat "$T/err")
}

# check_refused WHAT REGEX COMMAND...: exit status 1, nothing on stdout, one error line that matches.
check_refused() {
    local what=$1 regex=$2
    shift 2
    run "$@"
    check_eq "$what: exit status ($err)" 1 "$rc"
    check_eq "$what: stdout" "" "$out"
    check_eq "$what: lines on stderr ($err)" 1 "$(wc -l <"$T/err")"
    check_match "$what: message" '^safetensorfs: .+: .+' "$err"
    check_match "$what: message" "$regex" "$err"
}

# check_errno WHAT ERRNO COMMAND...: the command fails with the message of that errno.
check_errno() {
    local what=$1 text
    case $2 in
    EIO) text='Input/output error' ;;
    EINVAL) text='Invalid argument' ;;
    EPERM) text='Operation not permitted' ;;
    EACCES) text='Permission denied' ;;
    EEXIST) text='File exists' ;;
    EBUSY) text='resource busy' ;;
    EISDIR) text='Is a directory' ;;
    ENOTDIR) text='Not a directory' ;;
    ENAMETOOLONG) text='File name too long' ;;
    EOPNOTSUPP) text='Operation not supported' ;;
    ENOTEMPTY) text='Directory not empty' ;;
    ENOSPC) text='No space left on device' ;;
    EROFS) text='Read-only file system' ;;
    ENOENT) text='No such file or directory' ;;
    ENOTCONN) text='Transport endpoint is not connected' ;;
    ENOTSUP) text='Operation not supported' ;;
    ENODEV) text='No such device' ;;
    EFBIG) text='File too large' ;;
    ENODATA) text='No such attribute|No data available' ;;
    *) die "check_errno does not know $2" ;;
    esac
    shift 2
    run "$@"
    checks=$((checks + 1))
    if [ "$rc" -eq 0 ] || ! [[ $err$out =~ $text ]]; then
        fail "$what: expected $text"
        printf '    exit status %s: %s\n' "$rc" "$err$out"
    fi
}

# The end of each test.
finish() {
    local mnt file
    for mnt in "${!daemon_pid[@]}"; do
        mount_stop "$mnt"
    done
    for file in "$T"/sanitizer.*; do
        [ -e "$file" ] || continue
        fail "a sanitizer found something"
        head -n 60 "$file"
    done
    [ "$checks" -gt 0 ] || fail "the test checked nothing"
    echo "$checks checks, $failures failed"
    [ "$failures" -eq 0 ]
    exit
}

# ---- mounting ----

unmount() {
    if [ "$(id -u)" -eq 0 ]; then
        umount "$@"
    else
        fusermount3 -u ${2:+-z} "${@: -1}"
    fi
}

# mount_try SOURCE MNT [OPTION...]: run the driver in the foreground, as a child, and wait until the
# mount answers. Fails where the driver ends instead; its stderr is then in ${daemon_log[MNT]}.
mount_try() {
    local source=$1 mnt=$2 log
    shift 2
    [ -e "$mnt" ] || mkdir -p "$mnt"
    log=$(mktemp "$T/log.XXXXXX")
    daemon_log[$mnt]=$log
    # Ignored signals are inherited: SIGINT by what runs in the background, SIGHUP from nohup.
    env --default-signal=HUP,INT,TERM "$SAFETENSORFS" "$source" "$mnt" -f "$@" >"$log.out" 2>"$log" </dev/null &
    daemon_pid[$mnt]=$!
    wait_until mount_settled "$mnt" || {
        kill -KILL "${daemon_pid[$mnt]}"
        fail "mounting $source on $mnt takes too long"
    }
    if is_gone "${daemon_pid[$mnt]}"; then
        wait "${daemon_pid[$mnt]}"
        mount_status=$?
        unset "daemon_pid[$mnt]"
        return 1
    fi
    timeout "$DEADLINE" stat "$mnt" >/dev/null
}

mount_settled() {
    is_gone "${daemon_pid[$1]}" || is_mounted "$1"
}

# The same, for a mount that has to succeed.
mount_start() {
    mount_try "$@" || die "mounting $* failed with ${mount_status:-no answer}: $(cat "${daemon_log[$2]}")"
}

# mount_ended MNT [STATUS]: wait for the driver to end, with that exit status (0).
mount_ended() {
    local mnt=$1 expected=${2:-0} pid=${daemon_pid[$1]} status=0
    if ! wait_until is_gone "$pid"; then
        kill -KILL "$pid"
        fail "the daemon of $mnt does not end"
    fi
    wait "$pid" 2>/dev/null || status=$?
    unset "daemon_pid[$mnt]"
    check_eq "exit status of the daemon of $mnt ($(head -c 2000 "${daemon_log[$mnt]}"))" \
        "$expected" "$status"
}

# mount_stop MNT: unmount, and demand that the driver ends with 0.
mount_stop() {
    check "unmount $1" unmount "$1"
    mount_ended "$1"
}

# What the driver has written to stderr so far.
mount_log() {
    cat "${daemon_log[$1]}"
}

# ---- checkpoints ----

make_checkpoint() {
    "$PYTHON" "$ROOT/scripts/make-checkpoint" "$@" >"$T/made" || die "make-checkpoint $* failed"
}

# The independent reader, the tests' oracle.
reader() {
    "$PYTHON" "$ROOT/tests/oracles/reader.py" "$@"
}

# expect_content SOURCE FILE: write what `sha256sum -c` needs to check a directory of the tensors' files.
expect_content() {
    reader sha256 "$1" | jq -r 'to_entries[] | "\(.value)  \(.key)"' >"$2"
    [ -s "$2" ] || die "no tensors in $1"
}

# same_content DIR FILE: the files of DIR are what expect_content wrote.
same_content() {
    (cd "$1" && sha256sum --check --quiet --strict "$2")
}

# real_checkpoints: the paths of the real ones, none where there are none.
real_checkpoints() {
    local file
    for file in "$CHECKPOINTS"/*.safetensors; do
        [ ! -e "$file" ] || echo "$file"
    done
}
