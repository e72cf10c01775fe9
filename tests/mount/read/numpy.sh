#!/usr/bin/env bash
# numpy reads tensors by np.fromfile and np.memmap, and the .npy views without being told a dtype.
. "$(dirname "$0")/../lib.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"

make_checkpoint "$T/mixed.safetensors" --tensors 44 --tensor-bytes 12000 --dtype all --odd \
    --tensor 'scalar:F32:[]' --tensor 'half:F16:[]' --tensor 'nothing:F32:[0,4]' \
    --tensor 'bits16:F16:[256,256]' --tensor 'bits16b:BF16:[65536]' \
    --tensor 'deep:U8:[1,2,1,3,1,2,1]' --tensor 'x:F16:[3]' --tensor 'x.f32:I32:[5]' \
    --tensor 'wide:BF16:[3,700001]' --tensor 'wide4:F4:[3,70002]' --tensor 'wide8:F8_E4M3:[70001]'
reader list "$T/mixed.safetensors" >"$T/list"
mount_start "$T/mixed.safetensors" "$T/mnt"
mount_start "$T/mixed.safetensors" "$T/npy" -o npy

check "arrays equal the bytes of the file" "$PYTHON" "$ROOT/tests/mount/read/arrays.py" \
    "$T/mixed.safetensors" "$T/mnt"
check_eq "views are not listed" "" "$(ls "$T/mnt" | grep '\.npy$')"
check_eq "with -o npy each tensor's plain view is listed" \
    "$(jq -r '.[].name + ".npy"' "$T/list" | sort)" "$(ls "$T/npy" | grep '\.npy$')"
check "data is 64-byte aligned" "$PYTHON" - "$T/npy" <<'PY'
import glob, sys, numpy
for path in glob.glob(sys.argv[1] + "/*.npy"):
    with open(path, "rb") as f:
        version = numpy.lib.format.read_magic(f)
        numpy.lib.format.read_array_header_1_0(f)
        assert version == (1, 0) and f.tell() % 64 == 0, (path, version, f.tell())
PY
while read -r name why; do
    check_errno "no $name: $why" ENOENT cat "$T/mnt/$name"
done <<'END'
scalar.f32.npy F32 needs no widening
deep.f32.npy an integer is not widened
none.npy there is no such tensor
none.f32.npy there is no such tensor
scalar.npy.npy a view has no view
END

for source in $(real_checkpoints); do
    mount_start "$source" "$T/real"
    check "arrays of $source" "$PYTHON" "$ROOT/tests/mount/read/arrays.py" "$source" "$T/real"
    mount_stop "$T/real"
done
finish
