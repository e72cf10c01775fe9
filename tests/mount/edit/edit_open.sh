#!/usr/bin/env bash
# Open files: removed or replaced under their readers, several writers at once, very many small writes.
. "$(dirname "$0")/../lib_edit.sh"

fresh() {
    make_checkpoint "$T/a.safetensors" --tensor 'a:U8:[200000]' --tensor 'b:U8:[200000]' --tensor 'c:F32:[2]'
    cp "$T/a.safetensors" "$T/before"
    edit_start "$T/a.safetensors" "$T/mnt"
    cp "$T/mnt/a" "$T/copy.a"
    cp "$T/mnt/b" "$T/copy.b"
}

# Removed while open: its bytes are there until it is closed, and never committed.
fresh
exec {open}<>"$T/mnt/a"
check "removed while open" rm "$T/mnt/a"
check_errno "removed while open: gone" ENOENT cat "$T/mnt/a"
check "removed while open: read" cmp "$T/copy.a" "/proc/self/fd/$open"
printf 'written' >&"$open"
check_eq "removed while open: written" written "$("$PYTHON" -c 'import os, sys; print(os.pread(int(sys.argv[1]), 7, 0).decode())' "$open")"
check "removed while open: one of its name" cp "$T/mnt/b" "$T/mnt/a"
check "removed while open: that is another" cmp "$T/copy.b" "$T/mnt/a"
check_eq "removed while open: the old one is as it was" written "$("$PYTHON" -c 'import os, sys; print(os.pread(int(sys.argv[1]), 7, 0).decode())' "$open")"
check "removed while open: commit" "$SAFETENSORFS" commit "$T/mnt"
check_eq "removed while open: after a commit too" written "$("$PYTHON" -c 'import os, sys; print(os.pread(int(sys.argv[1]), 7, 0).decode())' "$open")"
exec {open}>&-
mount_stop "$T/mnt"
check_eq "removed while open: committed" "$(sha256sum <"$T/copy.b" | head -c 16)" "$(expect committed "$T/a.safetensors" | sed -n 1p | cut -d' ' -f4)"

# Replaced while open, by mv and by a new .npy.
fresh
exec {open}<"$T/mnt/a"
check "replaced while open" mv "$T/mnt/b" "$T/mnt/a"
check "replaced while open: the new one" cmp "$T/copy.b" "$T/mnt/a"
check "replaced while open: the old one is read" cmp "$T/copy.a" "/dev/fd/$open"
exec {open}<&-
check "replaced by a .npy" cp "$T/mnt/c.npy" "$T/mnt/a.npy"
check "replaced by a .npy: the new one" cmp "$T/mnt/c" "$T/mnt/a"
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "replaced while open: committed" "$T/a.safetensors" "$T/shown"

# A temporary file, as tempfile makes it: created, unlinked, used.
fresh
check "an unlinked temporary file" "$PYTHON" -c 'import os, sys, tempfile
with tempfile.TemporaryFile(dir=sys.argv[1]) as f:
    f.write(b"x" * 100_000)
    f.seek(50_000)
    assert f.read() == b"x" * 50_000' "$T/mnt"
check_eq "an unlinked temporary file: nothing is left" 6 "$(ls -A "$T/mnt" | wc -l)"
check_eq "an unlinked temporary file: nothing is staged" '{"tensors":0,"bytes":0}' "$(status_of "$T/mnt" .staged)"

# Renamed while open: the handle goes along.
exec {open}<>"$T/mnt/a"
check "renamed while open" mv "$T/mnt/a" "$T/mnt/z"
printf 'along' >&"$open"
exec {open}>&-
check_eq "renamed while open: it went along" along "$(head -c 5 "$T/mnt/z")"

# Two writers, each in its places, and two that append whole lines.
check "two writers" "$PYTHON" -c 'import os, sys, threading
path = sys.argv[1]
size = os.stat(path).st_size
def write(k):
    fd = os.open(path, os.O_WRONLY)
    for at in range(k * 10, size - 10, 20):
        os.pwrite(fd, b"%d" % k * 10, at)
    os.close(fd)
threads = [threading.Thread(target=write, args=(k,)) for k in (0, 1)]
for t in threads: t.start()
for t in threads: t.join()
wanted = (b"0" * 10 + b"1" * 10) * (size // 20)
assert open(path, "rb").read()[:size - 20] == wanted[:size - 20]' "$T/mnt/b"
for i in 1 2; do
    (for ((n = 0; n < 200; n++)); do echo "writer $i line $n"; done >>"$T/mnt/lines") &
    writers+=($!)
done
wait "${writers[@]}"
check_eq "two that append: each line is there" 400 "$(sort -u "$T/mnt/lines" | grep -c '^writer [12] line [0-9]*$')"
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "writers: committed" "$T/a.safetensors" "$T/shown"

# Very many small writes: the staging grows by blocks, not by writes, and reading is not slowed down.
count=$((100000 / SLOW / SLOW))
make_checkpoint "$T/a.safetensors" --tensor 'a:U8:[8000000]'
edit_start "$T/a.safetensors" "$T/mnt"
check "$count small writes" "$PYTHON" - "$T/mnt/a" "$count" <<'PY'
import os, random, sys
path, count = sys.argv[1], int(sys.argv[2])
rng = random.Random(1)
with open(path, "rb") as f:
    data = bytearray(f.read())
fd = os.open(path, os.O_RDWR)
for _ in range(count):
    at, piece = rng.randrange(len(data) - 8), rng.randbytes(rng.randint(1, 8))
    data[at:at + len(piece)] = piece
    os.pwrite(fd, piece, at)
os.fsync(fd)
assert os.pread(fd, len(data), 0) == data
os.close(fd)
open(path + "~", "wb").write(data)
PY
cp "$T/mnt/a~" "$T/wanted"
check "small writes: staged bytes are the blocks" test "$(status_of "$T/mnt" .staged.bytes)" -le 24000000
check "small writes: so is the disk" test "$(du -s --block-size=1 "$(staging_of "$T/a.safetensors")" | cut -f1)" -le 64000000
edit_kill "$T/mnt"
edit_start "$T/a.safetensors" "$T/mnt"
check "small writes: resumed" cmp "$T/wanted" "$T/mnt/a"
mount_stop "$T/mnt"
check "small writes: committed" cmp "$T/wanted" <(reader cut "$T/a.safetensors" a)

# Too many open files to be held in the usual limit: mapped, and written through the maps.
make_checkpoint "$T/a.safetensors" --tensors 300 --tensor-bytes 5000
edit_start "$T/a.safetensors" "$T/mnt"
check "many at once" "$PYTHON" - "$T/mnt" <<'PY'
import mmap, os, sys
maps = []
for i, name in enumerate(sorted(n for n in os.listdir(sys.argv[1]) if not n.endswith("json"))):
    fd = os.open(os.path.join(sys.argv[1], name), os.O_RDWR)
    maps.append(mmap.mmap(fd, 0))
    maps[-1][4000:4003] = b"%03d" % i
    os.close(fd)
PY
expect shown "$T/mnt" >"$T/shown"
mount_stop "$T/mnt"
same_state "many at once: committed" "$T/a.safetensors" "$T/shown"
check_eq "many at once: each" "007" "$(reader cut "$T/a.safetensors" "$(reader names "$T/a.safetensors" | sed -n 8p | jq -r .)" | tail -c +4001 | head -c 3)"
finish
