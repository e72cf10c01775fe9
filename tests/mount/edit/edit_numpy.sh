#!/usr/bin/env bash
# np.save onto NAME.npy makes or replaces a tensor, of every dtype, order and endianness; broken ones are EINVAL.
. "$(dirname "$0")/../lib_edit.sh"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "$PYTHON has no numpy"

for options in edit edit,npy; do
    make_checkpoint "$T/a.safetensors" --tensor 'bf16:BF16:[2,5]' --tensor 'f8:F8_E4M3:[6]' \
        --tensor 'e8:F8_E8M0:[2,2]' --tensor 'f16:F16:[3]' --tensor 'half:F16:[4]'
    mount_start "$T/a.safetensors" "$T/mnt" -o "$options"
    "$PYTHON" "$ROOT/tests/mount/edit/edit_numpy.py" "$T/mnt" >"$T/report"
    while read -r word what; do
        check_eq "$options: $what" ok "$word"
    done <"$T/report"
    check_eq "$options: every part ran" 10 "$(wc -l <"$T/report")"
    check_eq "$options: no problem" '[]' "$(status_of "$T/mnt" .problems)"
    commits "$options" "$T/mnt" "$T/a.safetensors"
    canonical "$options" "$T/a.safetensors"
    mount_stop "$T/mnt"
done

# What else a tensor's header entry has stays with its name: who saves an array means to change its bytes.
"$PYTHON" - "$T/k.safetensors" <<'END'
import struct, sys
header = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16], "qtype" : "Q4_0"}}'
open(sys.argv[1], "wb").write(struct.pack("<Q", len(header)) + header + bytes(16))
END
edit_start "$T/k.safetensors" "$T/mnt"
"$PYTHON" -c 'import numpy, sys; numpy.save(sys.argv[1], numpy.ones((2, 3), "<f4"))' "$T/mnt/a.npy"
mount_stop "$T/mnt"
check_eq "other keys of a tensor that an array replaces" \
    '{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24],"qtype":"Q4_0"}}' \
    "$(tail -c +9 "$T/k.safetensors" | head -c 72)"
finish
