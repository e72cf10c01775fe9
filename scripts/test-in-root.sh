#!/usr/bin/env bash
# Build, show and test in a fresh root of a Debian release: quickstart.sh and test.sh, warnings are errors.
# usage: scripts/test-in-root.sh [--user] SUITE [DIR [COMMAND...]]
#
# SUITE is trixie, sid or the like, from the mirror that apt uses here. The root is made in DIR/root
# (of build-SUITE) and removed at the end; the build and its logs stay in DIR/build. A COMMAND is run
# instead, in a copy of the source, where the build is /build. --user: by an ordinary user with sudo.
# Needs root and debootstrap, and ends with the status of the command.
set -eu -o pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

user=root
if [ "${1:-}" = --user ]; then
    user=tester
    shift
fi
case $#:${1:-} in
1:-h | 1:--help)
    sed -n 's/^# \{0,1\}//; 2,9p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
0:* | *:-*)
    echo "usage: ${0##*/} [--user] SUITE [DIR [COMMAND...]]" >&2
    exit 2
    ;;
esac
suite=$1
dir=$(realpath -m "${2:-$ROOT/build-$suite}")
shift $(($# > 1 ? 2 : 1))
[ $# -gt 0 ] || set -- sh -c 'scripts/quickstart.sh && scripts/test.sh /build -Dwerror=true'
[ "$(id -u)" -eq 0 ] || die "only root can make another root"
install_packages debootstrap util-linux procps

# What is mounted and whatever still runs is in namespaces, and gone with the first process in them.
root=$dir/root
inside=
finish() {
    trap '' INT TERM HUP
    [ -z "$inside" ] || pkill -KILL -P "$inside" || kill -KILL "$inside" || true
    wait
    rm -rf --one-file-system "$root"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# fetch: the root, by the mirror and the proxy of apt here.
fetch() {
    local mirror=
    read -r mirror < <(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian') || true
    [ -n "$mirror" ] || die "apt has no source of Debian here"
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    [ -z "${http_proxy:-}" ] || export http_proxy
    rm -rf --one-file-system "$root"
    mkdir -p "$root" "$dir/build"
    chmod 755 "$root"
    quietly debootstrap --variant=minbase "$suite" "$root" "$mirror" || die "debootstrap failed"
    apt-config dump | grep -i '^Acquire::.*proxy' >"$root/etc/apt/apt.conf.d/01proxy" || true
    # The mirror may be a snapshot.
    echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/02snapshot"
    cp /etc/resolv.conf /etc/hosts "$root/etc"
    mkdir "$root/build" "$root/src"
    tar -C "$ROOT" --exclude='./build*' --exclude="./${dir#"$ROOT/"}" --exclude=./.git -c . | tar -C "$root/src" --no-same-owner -x
}

# enter ROOT BUILD USER COMMAND...: in namespaces of our own, make ROOT the root and run the command.
enter() {
    local root=$1 build=$2 user=$3
    shift 3
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount --rbind /dev dev
    mount --rbind /sys sys
    mount --bind "$build" build
    pivot_root . mnt
    exec </dev/null
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    umount -l /mnt
    if [ "$user" != root ]; then
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq --no-install-recommends install sudo >/dev/null 2>&1
        useradd --create-home "$user"
        echo "$user ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$user"
        chown -R "$user:" /src /build
    fi
    cd /src
    if [ "$user" = root ]; then
        "$@"
    else
        sudo -H -u "$user" "$@"
    fi
}

say "making a root of $suite"
fetch
say "in it: $*"
status=0
env -i PATH="$PATH" TERM=dumb unshare --mount --pid --fork --kill-child --propagation private \
    bash -eu -c "$(declare -f enter); enter \"\$@\"" - "$root" "$dir/build" "$user" "$@" &
inside=$!
wait "$inside" || status=$?
inside=
exit "$status"
