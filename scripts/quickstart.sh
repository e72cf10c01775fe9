#!/usr/bin/env bash
# Build safetensorfs and show it at work.
# usage: scripts/quickstart.sh               a tour on a small checkpoint made for it
#        scripts/quickstart.sh SOURCE MNT    mount this one, and leave it mounted
#
# Needs root or sudo where packages are missing or /dev/fuse is root's.
set -eu -o pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

case $#:${1:-} in
1:-h | 1:--help)
    sed -n 's/^# \{0,1\}//; 2,6p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
0: | 2:*) ;;
*)
    echo "usage: ${0##*/} [SOURCE MNT]" >&2
    exit 2
    ;;
esac

install_packages "${packages_build[@]}"
dir=$ROOT/build
say "building in $dir"
build "$dir" || die "the build failed"
safetensorfs=$dir/fs/safetensorfs
[ -c /dev/fuse ] || die "there is no /dev/fuse here: load the fuse module, or let the container have it"

# What root mounts for us, we want to read.
options=()
[ -w /dev/fuse ] || [ "$(id -u)" -eq 0 ] || options=(-o allow_other)

if [ $# -eq 2 ]; then
    mkdir -p "$2"
    as_mounter "$safetensorfs" "$1" "$2" "${options[@]}"
    say "$1 is mounted on $2:"
    ls "$2" | sed -n '1,10p'
    say "to unmount it: ${options:+sudo }$safetensorfs umount $(realpath "$2")"
    exit 0
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/safetensorfs.XXXXXX")
chmod 755 "$work"
finish() {
    as_mounter "$safetensorfs" umount "$work/mnt" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT

# show COMMAND: print it as one would type it, and run it.
show() {
    printf '\n$ %s\n' "$1"
    (cd "$work" && PATH=$dir/fs:$ROOT/scripts:$path bash -c "$1")
}

# The python3 that has numpy, where one has it.
path=$PATH
has_numpy() {
    PATH=$path python3 -c 'import numpy' 2>/dev/null
}
has_numpy || path=/usr/bin:$PATH

mkdir "$work/mnt"
say "a small checkpoint"
show 'make-checkpoint model.safetensors --tensors 12 --tensor-bytes 24K --dtype BF16,F32 --metadata format=pt'
say "mounted: each tensor is a file with its bytes, and has a sidecar"
printf '\n$ safetensorfs model.safetensors mnt\n'
as_mounter "$safetensorfs" "$work/model.safetensors" "$work/mnt" "${options[@]}"
show 'ls -l mnt | head -n 8'
show 'cat mnt/model.norm.weight.json'
show 'dd if=mnt/model.norm.weight bs=32 count=1 status=none | od -An -tx2'
show 'sha256sum mnt/lm_head.weight mnt/model.norm.weight'
if has_numpy; then
    show "python3 -c '
import numpy as np
w = np.load(\"mnt/model.norm.weight.npy\", mmap_mode=\"r\")
print(w.dtype, w.shape, w[:4])'"
fi
show 'cat mnt/__metadata__.json'
show 'findmnt -no SOURCE,FSTYPE,SIZE mnt'
printf '\n$ safetensorfs umount mnt\n'
as_mounter "$safetensorfs" umount "$work/mnt"
say "unmounted. Yours next: $safetensorfs YOUR.safetensors DIRECTORY"
