#!/usr/bin/env bash
# Writing a tensor's bytes: what is written is read back at once, and a commit changes those bytes only.
. "$(dirname "$0")/../lib_edit.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"

make_checkpoint "$T/a.safetensors" --odd --metadata k=v --tensor 'x:F16:[100000]' --tensor 'y:U8:[300001]' \
    --tensor 'z:F32:[7]' --tensor 'e:I8:[0]'
cp "$T/a.safetensors" "$T/before"
mkdir "$T/copy"
for name in x y z e; do
    reader cut "$T/a.safetensors" "$name" >"$T/copy/$name"
done
edit_start "$T/a.safetensors" "$T/mnt"

# both COMMAND FILE...: the same change to the tensor and to a copy of its bytes.
both() {
    local file=${*: -1} command=("${@:1:$#-1}") dir
    for dir in "$T/copy" "$T/mnt"; do
        "${command[@]}" "$dir/$file" || fail "${command[*]} $dir/$file"
    done
}

write_at() { dd if="$2" of="$3" bs=1M seek="$1" oflag=seek_bytes conv=notrunc status=none; }
append() { cat "$1" >>"$2"; }
memmap() {
    "$PYTHON" -c 'import numpy, sys
a = numpy.memmap(sys.argv[1], "<f2", "r+")
a[5:70000:1111] = 1.5
a[-1] = -2
a.flush()' "$1"
}
shared() {
    "$PYTHON" -c 'import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
with mmap.mmap(fd, 0) as m:
    m[65530:65550] = b"across two blocks..."
    m[len(m) - 1] = 7
os.close(fd)' "$1"
}

# read_back WHAT FILE: all ways of reading show what has been written.
read_back() {
    check "$1: read" cmp "$T/copy/$2" "$T/mnt/$2"
    check "$1: read without cache" cmp "$T/copy/$2" <(dd if="$T/mnt/$2" bs=1M iflag=direct status=none)
    check_eq "$1: size" "$(stat -c %s "$T/copy/$2")" "$(stat -c %s "$T/mnt/$2")"
    check "$1: mapped" "$PYTHON" -c 'import mmap, os, sys
a, b = (open(p, "rb") for p in sys.argv[1:])
wanted = a.read()
assert not wanted or mmap.mmap(b.fileno(), 0, prot=mmap.PROT_READ)[:] == wanted' "$T/copy/$2" "$T/mnt/$2"
    [ "${3:-}" ] || return 0
    check "$1: .npy" "$PYTHON" -c 'import numpy, sys
wanted = numpy.fromfile(sys.argv[1], sys.argv[3])
assert numpy.load(sys.argv[2] + ".npy").tobytes() == wanted.tobytes(), ".npy"
if sys.argv[3] == "<f2":
    assert numpy.array_equal(numpy.load(sys.argv[2] + ".f32.npy"), wanted.astype("<f4"), equal_nan=True)' \
        "$T/copy/$2" "$T/mnt/$2" "$3"
}

printf 'one line, twenty-two b' >"$T/small"
head -c 100000 /dev/urandom >"$T/large"
cat "$T/mnt/x" "$T/mnt/x.npy" "$T/mnt/x.f32.npy" >/dev/null # what the kernel has cached must not stay
for offset in 0 3 65530 100000 199978; do
    both write_at "$offset" "$T/small" x
    read_back "22 bytes at $offset" x '<f2'
done
both write_at 70001 "$T/large" x
read_back "100,000 bytes at 70,001" x '<f2'
both memmap x
read_back "np.memmap" x '<f2'
both shared x
read_back "mmap" x '<f2'
both shared y
read_back "mmap of an odd length" y '|u1'
check_eq "staged: the sidecar says so" true "$(jq .staged "$T/mnt/x.json")"
check_eq "staged: of those written only" null "$(jq .staged "$T/mnt/z.json")"
check_eq "staged: status" 2 "$(status_of "$T/mnt" .staged.tensors)"
check_eq "no problem" '[]' "$(status_of "$T/mnt" .problems)"

# A read-only mount beside it shows what was committed, and warns.
mount_start "$T/a.safetensors" "$T/ro"
expect_content "$T/before" "$T/expected"
check "read-only beside: the committed bytes" same_content "$T/ro" "$T/expected"
check_match "read-only beside: warns" 'safetensorfs: warning: .*staged' "$(mount_log "$T/ro")"
mount_stop "$T/ro"

# Exactly those bytes differ, at the places where they are in the file.
mount_stop "$T/mnt"
cp "$T/before" "$T/wanted"
reader list "$T/before" | jq -r '.[] | "\(.name) \(.offset)"' | while read -r name offset; do
    dd if="$T/copy/$name" of="$T/wanted" bs=1M seek="$offset" oflag=seek_bytes conv=notrunc status=none
done
check "committed: only what was written differs, the header is the same" cmp "$T/wanted" "$T/a.safetensors"
check "committed: valid" "$SAFETENSORFS" check -q "$T/a.safetensors"
check_eq "committed: no staging is left" "" "$(ls -A "$T" | grep '^\.')"

# Changes of length, which shape and dtype do not fit: a problem, until they do.
edit_start "$T/a.safetensors" "$T/mnt"
both append "$T/small" y
read_back "append" y
check_match "append: the sidecar has the problem" '300023' "$(jq -r .problem "$T/mnt/y.json")"
check_match "append: the bytes and what was declared" '300001' "$(jq -r .problem "$T/mnt/y.json")"
check_eq "append: status names the tensor" y "$(status_of "$T/mnt" '.problems[].tensor')"
both append "$T/large" y
read_back "append again" y
both truncate -s 65536 y
read_back "truncate to a block" y
both truncate -s 65530 y
both truncate -s 65550 y
read_back "what truncate adds is zero" y
both truncate -s 500000 y
read_back "truncate to more" y
both truncate -s 0 y
both truncate -s 300001 y
read_back "to nothing and back" y '|u1'
check_eq "the old length: no problem" null "$(jq .problem "$T/mnt/y.json")"
both cp "$T/large" y
read_back "cp of a shorter file" y
both truncate -s 300001 y
both cp "$T/small" z
read_back "cp" z
head -c 28 /dev/urandom >"$T/28"
both cp "$T/28" z
read_back "cp of a whole tensor" z '<f4'
both append /dev/null e
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "committed: lengths" "$T/a.safetensors" "$T/shown"

# Through direct_io, where nothing is cached.
edit_start "$T/a.safetensors" "$T/mnt" direct_io
for offset in 0 65530 199978; do
    both write_at "$offset" "$T/small" x
    check "direct_io: 22 bytes at $offset" cmp "$T/copy/x" "$T/mnt/x"
done
mount_stop "$T/mnt"
check "direct_io: committed" cmp "$T/copy/x" <(reader cut "$T/a.safetensors" x)
finish
