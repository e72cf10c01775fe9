# setup.sh - what the scripts share: packages, builds, privileges; sourced, not run

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DEBIAN_FRONTEND=noninteractive

packages_build=(gcc libc6-dev meson ninja-build pkg-config libfuse3-dev fuse3 libjsmn-dev python3)
packages_test=(libcmocka-dev python3-numpy attr jq rsync mount util-linux procps mandoc vim moreutils
    xfsprogs e2fsprogs systemd man-db bash-completion btrfs-progs squashfs-tools bindfs sshfs
    openssh-sftp-server)
packages_ci=(clang)

say() {
    printf '==> %s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# as_mounter COMMAND...: run it as somebody who may mount: ourselves, where /dev/fuse lets us.
as_mounter() {
    if [ -r /dev/fuse ] && [ -w /dev/fuse ]; then
        "$@"
    else
        as_root "$@"
    fi
}

# install_packages PACKAGE...: those that are missing.
install_packages() {
    local package missing=()
    type -P dpkg-query apt-get >/dev/null || {
        say "no apt-get here; needed: $* (by their Debian names)"
        return
    }
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || type -P sudo >/dev/null ||
        die "these packages are missing, and there is no sudo to install them: ${missing[*]}"
    say "installing ${missing[*]}"
    quietly as_root apt-get -q update || say "apt-get update failed; trying with the lists that are here"
    quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y --no-install-recommends install "${missing[@]}" ||
        die "the packages could not be installed"
}

# quietly COMMAND...: show what it printed only where it fails.
quietly() {
    local output status=0
    output=$("$@" 2>&1 </dev/null) || status=$?
    [ "$status" -eq 0 ] || printf '%s\n' "$output" >&2
    return "$status"
}

# build DIR [MESON OPTION...]: configure where that is needed, and compile.
build() {
    local dir=$1
    shift
    if ! [ -f "$dir/meson-private/coredata.dat" ]; then
        quietly meson setup "$dir" "$ROOT" "$@" || return
    elif ! quietly meson setup --reconfigure "$dir" "$ROOT" "$@" 2>/dev/null; then
        # Of another place or another version of meson.
        say "$dir is of no use any more: making it anew"
        quietly meson setup --wipe "$dir" "$ROOT" "$@" || return
    fi
    quietly meson compile -C "$dir"
}

# run_tests DIR LOGBASE [OPTION OF meson test...]: failures are for count_results to see. In
# TEST_PREFIX there may be a command to run meson by.
run_tests() {
    local dir=$1 log=$2
    shift 2
    rm -f "$dir/meson-logs/$log.json"
    ${TEST_PREFIX:-} meson test -C "$dir" --logbase "$log" --no-rebuild --print-errorlogs "$@" </dev/null || true
    [ -s "$dir/meson-logs/$log.json" ] || die "no test was run in $dir"
}

# count_results FILE...: "passed failed skipped" over meson's logs.
count_results() {
    jq -rs '
        map(.result) as $all
        | ($all | map(select(. == "OK" or . == "EXPECTEDFAIL")) | length) as $passed
        | ($all | map(select(. == "SKIP")) | length) as $skipped
        | "\($passed) \(($all | length) - $passed - $skipped) \($skipped)"' "$@"
}
