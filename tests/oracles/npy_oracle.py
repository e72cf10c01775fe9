#!/usr/bin/env python3
"""numpy's word on .npy files, for the unit tests.

usage: npy_oracle.py check DIR    load every DIR/DTYPE.DIMS.npy (DIMS such as 2x3, or scalar; an f32
                                  before DTYPE for a widened view) and compare type, shape, bytes
       npy_oracle.py make DIR     write arrays that a person may save, print what they are: file,
                                  then `bad`, or type, big-endian, Fortran, offset, bytes, dimensions
       npy_oracle.py half FILE    65536 float32 in FILE are all float16 in order
"""
import io
import os
import sys
import warnings

try:
    import numpy as np
    from numpy.lib import format as npy
except ImportError:
    sys.exit(77)

DTYPES = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4",
    "I64": "<i8", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8",
}
INSTEAD = {
    "BF16": "<u2", "F8_E5M2": "|u1", "F8_E4M3": "|u1", "F8_E8M0": "|u1", "F8_E4M3FNUZ": "|u1",
    "F8_E5M2FNUZ": "|u1", "F4": "|u1", "F6_E2M3": "|u1", "F6_E3M2": "|u1", "f32": "<f4",
}
# numpy has written the padding for growth since 1.24; before, its files are some bytes shorter.
SAME_PADDING = np.lib.NumpyVersion(np.__version__) >= "1.24.0"
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def written_header(descr, shape):
    """What numpy writes: the oldest version in which there is room."""
    out = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    try:
        npy.write_array_header_1_0(out, header)
    except ValueError:
        npy.write_array_header_2_0(out, header)
    return out.getvalue()


def read_header(file):
    reader = HEADERS[npy.read_magic(file)]
    try:
        return reader(file, max_header_size=1 << 20)
    except TypeError:  # before 1.24 there is no limit
        return reader(file)


def check_one(path, dtype, shape):
    with open(path, "rb") as file:
        whole = file.read()
    file = io.BytesIO(whole)
    descr = {**DTYPES, **INSTEAD}[dtype]
    found_shape, fortran, found = read_header(file)
    assert (found_shape, fortran, found) == (shape, False, np.dtype(descr)), path
    assert file.tell() % 64 == 0, path
    data = whole[file.tell():]
    if SAME_PADDING:
        assert written_header(descr, shape) == whole[:file.tell()], path
    if len(shape) <= 32:
        assert np.load(path).tobytes() == data, path
        if data:
            assert np.load(path, mmap_mode="r").tobytes() == data, path


def check(directory):
    names = sorted(os.listdir(directory))
    for name in names:
        dtype, dims, _ = name.split(".")
        if dims.startswith("ones"):
            shape = (1,) * int(dims[4:])
        else:
            shape = () if dims == "scalar" else tuple(int(dim) for dim in dims.split("x"))
        check_one(os.path.join(directory, name), dtype, shape)
    print(len(names))


def make_good(directory):
    shapes = [(), (1,), (3,), (2, 3), (4, 1, 5), (0,), (2, 0, 3), (2,) * 8]
    for sft, descr in DTYPES.items():
        for order in "<>":
            for shape in shapes:
                for memory in "CF":
                    for version in (1, 0), (2, 0), (3, 0):
                        dtype = np.dtype(descr).newbyteorder(order)
                        name = "-".join(
                            map(str, [sft, "LB"[order == ">"], memory, version[0], *shape]))
                        array = np.zeros(shape, dtype, order=memory)
                        with open(os.path.join(directory, name), "wb") as file:
                            npy.write_array(file, array, version)
                            end = file.tell()
                        fortran = memory == "F" and not array.flags.c_contiguous
                        big = dtype.itemsize > 1 and order == ">"
                        print(name, sft, int(big), int(fortran), end - array.nbytes, array.nbytes,
                              *shape)


def make_bad(directory):
    arrays = {
        "object": np.array([None, 1]), "bytes": np.array([b"abc"]), "text": np.array(["abc"]),
        "date": np.array(["2020-01-01"], "M8[D]"), "span": np.array([1], "m8[s]"),
        "record": np.zeros(2, [("a", "<f4")]), "raw": np.zeros(2, "V2"),
        "complex128": np.zeros(2, "c16"), "longdouble": np.zeros(2, np.longdouble),
    }
    for name, array in arrays.items():
        np.save(os.path.join(directory, name + ".npy"), array)
        print(name + ".npy", "bad")


def half(path):
    found = np.fromfile(path, "<f4")
    expected = np.arange(65536, dtype="<u2").view("<f2").astype("<f4")
    numbers = ~np.isnan(expected)
    assert (np.isnan(found) == ~numbers).all()
    assert (np.signbit(found) == np.signbit(expected)).all()
    assert (found[numbers] == expected[numbers]).all()


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in ("check", "make", "half"):
        sys.exit(__doc__.split("\n\n")[1])
    if arguments[0] == "check":
        check(arguments[1])
    elif arguments[0] == "half":
        half(arguments[1])
    else:
        warnings.simplefilter("ignore")  # version 2.0
        make_good(arguments[1])
        make_bad(arguments[1])


if __name__ == "__main__":
    main(sys.argv[1:])
