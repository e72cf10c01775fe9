#!/usr/bin/env bash
# Every way to read a tensor gives the bytes that the independent reader finds in the file.
. "$(dirname "$0")/../lib.sh"
need dd tar rsync

# Each copies the tensors of the mount $1 to the directory $2, by its own way of reading.
by_cat() { for_each "$@" cat_one; }
by_cp() { cp -r "$1/." "$2"; }
by_tar() { tar -C "$1" -cf - . | tar -C "$2" -xf -; }
by_rsync() { rsync -a "$1/" "$2/"; }
by_dd_large() { for_each "$@" dd_one bs=1M; }
by_dd_odd() { for_each "$@" dd_one bs=4097; }
by_dd_direct() { for_each "$@" dd_one bs=16M iflag=direct; }
by_dd_direct_small() { for_each "$@" dd_one bs=64K iflag=direct; }
by_mmap() { "$PYTHON" "$T/copy.py" mmap "$1" "$2"; }
by_backwards() { "$PYTHON" "$T/copy.py" backwards "$1" "$2"; }
by_readv() { "$PYTHON" "$T/copy.py" readv "$1" "$2"; }

# for_each MNT DIR FUNCTION [ARGUMENT...]
for_each() {
    local mnt=$1 dir=$2 file
    shift 2
    for file in "$mnt"/*; do
        "$1" "$file" "$dir/${file##*/}" "${@:2}" || return
    done
}
cat_one() { cat "$1" >"$2"; }
dd_one() { dd if="$1" of="$2" "${@:3}" status=none; }

cat >"$T/copy.py" <<'PY'
import mmap, os, sys

def by_mmap(fd, size, out):
    if size:
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as m:
            out.write(m)

def by_backwards(fd, size, out):
    for begin in range((size - 1) // 10007 * 10007, -1, -10007):
        out.seek(begin)
        out.write(os.pread(fd, 10007, begin))

def by_readv(fd, size, out):
    buffers = [bytearray(13), bytearray(4096), bytearray(100001)]
    while n := os.readv(fd, buffers):
        out.write(b"".join(buffers)[:n])

how = globals()["by_" + sys.argv[1]]
for name in os.listdir(sys.argv[2]):
    fd = os.open(os.path.join(sys.argv[2], name), os.O_RDONLY)
    with open(os.path.join(sys.argv[3], name), "wb") as out:
        how(fd, os.fstat(fd).st_size, out)
    os.close(fd)
PY

# try SOURCE WAY [OPTION...]: a fresh mount each time, so that no way reads what another has cached.
try() {
    local source=$1 way=$2
    shift 2
    mount_start "$source" "$T/mnt" "$@"
    mkdir "$T/copy"
    check "$way of $source $*: reads" "by_$way" "$T/mnt" "$T/copy"
    check "$way of $source $*: bytes" same_content "$T/copy" "$T/expected"
    rm -rf "$T/copy"
    # Once more, now from the page cache.
    check "$way of $source $*: bytes, read again" same_content "$T/mnt" "$T/expected"
    mount_stop "$T/mnt"
}

ways="cat cp tar rsync dd_large dd_odd dd_direct dd_direct_small mmap backwards readv"

# Every dtype, sizes from nothing to more than a request, data that begins at an odd offset.
make_checkpoint "$T/mixed.safetensors" --tensors 24 --tensor-bytes 100003 --dtype all --odd \
    --tensor 'scalar:F64:[]' --tensor 'nothing:F32:[0,4]' --tensor 'byte:U8:[1]' \
    --tensor "large:U8:[$((9000001 / SLOW))]"
make_checkpoint "$T/shards" --shards 3 --tensors 30 --bytes 9M --dtype BF16,F32
make_checkpoint "$T/aligned.safetensors" --tensors 5 --bytes 5M --align 4096 --order random

expect_content "$T/mixed.safetensors" "$T/expected"
for way in $ways; do
    try "$T/mixed.safetensors" "$way"
done
for way in cp dd_direct readv; do
    try "$T/mixed.safetensors" "$way" -o direct_io
    try "$T/mixed.safetensors" "$way" -s
done
for source in "$T/shards" "$T/aligned.safetensors" $(real_checkpoints); do
    expect_content "$source" "$T/expected"
    for way in cat dd_direct mmap; do
        try "$source" "$way"
    done
done
finish
