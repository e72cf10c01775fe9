"""Compare what numpy reads from a mount with the bytes of the source: arrays.py SOURCE MNT"""

import math
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "oracles"))
import reader  # noqa: E402

# numpy's own dtypes; where it has none, the unsigned integer of that width.
NUMPY = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "I16": "<i2", "U16": "<u2", "F16": "<f2",
    "I32": "<i4", "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8",
    "C64": "<c8", "BF16": "<u2", "F8_E5M2": "|u1", "F8_E4M3": "|u1", "F8_E8M0": "|u1",
    "F8_E4M3FNUZ": "|u1", "F8_E5M2FNUZ": "|u1",
}
# Bits of exponent and mantissa, bias; then the patterns without sign that are infinite or NaN.
F8 = {
    "F8_E5M2": (5, 2, 15, {0x7C: math.inf, 0x7D: math.nan, 0x7E: math.nan, 0x7F: math.nan}),
    "F8_E4M3": (4, 3, 7, {0x7F: math.nan}),
    "F8_E4M3FNUZ": (4, 3, 8, {}),
    "F8_E5M2FNUZ": (5, 2, 16, {}),
}


def f8_value(dtype, byte):
    """The value of one 8-bit float, from its definition."""
    if dtype == "F8_E8M0":
        return math.nan if byte == 0xFF else math.ldexp(1.0, byte - 127)
    if dtype.endswith("FNUZ") and byte == 0x80:
        return math.nan
    exponent_bits, mantissa_bits, bias, special = F8[dtype]
    sign = -1.0 if byte & 0x80 else 1.0
    if byte & 0x7F in special:
        return sign * special[byte & 0x7F]
    exponent = byte >> mantissa_bits & ((1 << exponent_bits) - 1)
    mantissa = byte & ((1 << mantissa_bits) - 1)
    if exponent:
        mantissa += 1 << mantissa_bits
    return sign * math.ldexp(mantissa, max(exponent, 1) - bias - mantissa_bits)


def widened(dtype, data):
    """float32 of a tensor's bytes, or None where there is no such view."""
    if dtype == "F16":
        with np.errstate(invalid="ignore"):
            return np.frombuffer(data, "<f2").astype("<f4")
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    if dtype.startswith("F8_"):
        table = np.array([f8_value(dtype, b) for b in range(256)], "<f4")
        return table[np.frombuffer(data, "u1")]
    if dtype == "F4":
        table = np.array([0, .5, 1, 1.5, 2, 3, 4, 6], "<f4")
        table = np.concatenate([table, -table])
        packed = np.frombuffer(data, "u1")
        return np.stack([table[packed & 15], table[packed >> 4]], 1).reshape(-1)
    return None


def same_floats(a, b):
    """Equal bit for bit, but for the payload of a NaN."""
    nan = np.isnan(a)
    return np.array_equal(nan, np.isnan(b)) and a[~nan].tobytes() == b[~nan].tobytes()


def compare(tensor, mnt):
    with open(tensor["path"], "rb") as file:
        data = b"".join(reader.pieces(tensor, file))
    path = os.path.join(mnt, tensor["name"])
    shape, dtype = tuple(tensor["shape"]), tensor["dtype"]
    as_numpy = NUMPY.get(dtype, "|u1")
    if dtype not in NUMPY:  # several elements a byte
        shape = (tensor["nbytes"],)
    assert np.fromfile(path, as_numpy).tobytes() == data, "fromfile"
    assert np.fromfile(path, "u1", offset=len(data) // 3).tobytes() == data[len(data) // 3:]
    if data:
        assert np.memmap(path, as_numpy, mode="r").tobytes() == data, "memmap"
    for mode in (None, "r") if data else (None,):
        array = np.load(path + ".npy", mmap_mode=mode)
        assert array.dtype.str == as_numpy, f"npy is {array.dtype.str}, expected {as_numpy}"
        assert array.shape == shape, f"npy is {array.shape}, expected {shape}"
        assert array.tobytes() == data, f"npy, mmap_mode={mode}"
    expected = widened(dtype, data)
    f32 = path + ".f32.npy"
    if expected is None or os.path.exists(os.path.join(mnt, tensor["name"] + ".f32")):
        return
    for mode in (None, "r") if data else (None,):
        array = np.load(f32, mmap_mode=mode)
        assert array.dtype.str == "<f4" and array.shape == tuple(tensor["shape"]), f"f32 is {array.dtype} {array.shape}"
        assert same_floats(np.asarray(array).reshape(-1), expected), f"f32, mmap_mode={mode}"
    # From the middle, in an order that no sequential converter expects.
    whole = np.load(f32).reshape(-1).tobytes()
    with open(f32, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        begin = size - len(whole)
        for at in range(size - 1, -1, -max(size // 7, 1)):
            for piece in 1001, 3, 5:
                got = os.pread(file.fileno(), piece, at)
                if at >= begin:
                    assert got == whole[at - begin:at - begin + piece], f"f32 at {at}"


def main():
    tensors, _ = reader.read(sys.argv[1])
    for tensor in tensors:
        try:
            compare(tensor, sys.argv[2])
        except (AssertionError, OSError, ValueError) as error:
            sys.exit(f"{tensor['name']} ({tensor['dtype']} {tensor['shape']}): {error}")


main()
