"""Save arrays through a mount and compare: edit_numpy.py MNT (made by edit_numpy.sh)"""

import errno
import io
import json
import os
import sys

import numpy as np

RNG = np.random.default_rng(1)
# What becomes of numpy's dtypes.
DTYPES = {
    "|b1": "BOOL", "|u1": "U8", "|i1": "I8", "<i2": "I16", "<u2": "U16", "<f2": "F16", "<i4": "I32",
    "<u4": "U32", "<f4": "F32", "<f8": "F64", "<i8": "I64", "<u8": "U64", "<c8": "C64",
    ">i2": "I16", ">u2": "U16", ">f2": "F16", ">i4": "I32", ">u4": "U32", ">f4": "F32",
    ">f8": "F64", ">i8": "I64", ">u8": "U64", ">c8": "C64",
}


def array(dtype, shape):
    dtype = np.dtype(dtype)
    n = int(np.prod(shape))
    raw = RNG.integers(0, 256 if dtype.kind != "b" else 2, n * dtype.itemsize, "u1").tobytes()
    return np.frombuffer(raw, dtype).reshape(shape)


def sidecar(name):
    with open(name + ".json", encoding="utf-8") as file:
        about = json.load(file)
    return about["dtype"], about["shape"]


def content(name):
    with open(name, "rb") as file:
        return file.read()


def expect(name, dtype, shape, wanted):
    """The tensor is that array, whatever way it is looked at."""
    assert sidecar(name) == (dtype, list(shape)), f"{name}: {sidecar(name)}, not {dtype} {shape}"
    little = np.ascontiguousarray(wanted).astype(wanted.dtype.newbyteorder("<"))
    assert content(name) == little.tobytes(), f"{name}: bytes"
    assert np.load(name + ".npy").tobytes() == little.tobytes(), f"{name}.npy"


def fails(code, what, change):
    try:
        change()
    except OSError as error:
        assert error.errno == code, f"{what}: {error}"
        return
    raise AssertionError(f"{what}: succeeded")


def write(path, data, piece=None):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for at in range(0, len(data), piece or max(len(data), 1)):
            os.write(fd, data[at:at + (piece or len(data))])
    finally:
        os.close(fd)


def npy_bytes(value, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, value, **options)
    return file.getvalue()


def every_dtype():
    for i, (numpy_dtype, dtype) in enumerate(DTYPES.items()):
        for shape in ((), (0,), (3,), (2, 3), (3, 4, 5), (2, 0, 3)):
            a = array(numpy_dtype, shape)
            name = f"new.{i}.{len(shape)}.{a.size}"
            np.save(name + ".npy", a)
            expect(name, dtype, shape, a)
            np.save("again.npy", a)
            expect("again", dtype, shape, a)


def fortran():
    for numpy_dtype in ("<f4", ">i2", "|u1", ">c8"):
        for shape in ((5, 7), (2, 3, 4), (1, 9), (70, 1001), (2, 3, 4, 5, 6)):
            a = np.asfortranarray(array(numpy_dtype, shape))
            np.save("fortran.npy", a)
            expect("fortran", DTYPES[numpy_dtype], shape, a)


def versions_and_sizes():
    a = array("<f4", (300_000, 3))
    for version in ((1, 0), (2, 0), (3, 0)):
        write("version.npy", npy_bytes(a, version=version))
        expect("version", "F32", a.shape, a)
    write("pieces.npy", npy_bytes(a), 4097)
    expect("pieces", "F32", a.shape, a)
    deep = array("|u1", (1,) * 30 + (2,))
    np.save("deep.npy", deep)
    expect("deep", "U8", deep.shape, deep)


def keeps_dtype():
    """An unsigned array of the same width over a tensor whose type numpy lacks keeps that type."""
    for name, dtype, view, shape in (("bf16", "BF16", "<u2", (2, 5)), ("f8", "F8_E4M3", "|u1", (6,)),
                                     ("e8", "F8_E8M0", "|u1", (2, 2))):
        a = np.load(name + ".npy")
        assert a.dtype.str == view and a.shape == shape, (name, a.dtype, a.shape)
        np.save(name + ".npy", a[::-1])
        expect(name, dtype, shape, a[::-1])
        bigger = array(view, (3, 4))
        np.save(name + ".npy", bigger)
        expect(name, dtype, (3, 4), bigger)
    big = array(">u2", (4,))
    np.save("bf16.npy", big)
    expect("bf16", "BF16", (4,), big)
    # Another type, or another width, is what it says.
    np.save("bf16.npy", array("<i2", (4,)))
    assert sidecar("bf16") == ("I16", [4]), sidecar("bf16")
    np.save("f8.npy", array("<u2", (4,)))
    assert sidecar("f8") == ("U16", [4]), sidecar("f8")
    a = array("<u2", (4,))
    np.save("f16.npy", a)
    expect("f16", "U16", (4,), a)


def bad_ones():
    good = npy_bytes(array("<f4", (2, 3)))
    np.save("victim.npy", array("<i4", (5,)))
    before = content("victim"), sidecar("victim"), content("victim.npy")

    def with_header(text):
        text = text.encode() + b"\n"
        return good[:8] + len(text).to_bytes(2, "little") + text

    bad = {
        "objects": npy_bytes(np.array([None, "x"], object), allow_pickle=True),
        "strings": npy_bytes(np.array(["abc"])),
        "structures": npy_bytes(np.zeros(2, [("a", "<i4"), ("b", "<f4")])),
        "dates": npy_bytes(np.zeros(2, "M8[s]")),
        "long complex": npy_bytes(np.zeros(2, "<c16")),
        "no magic": b"x" + good[1:],
        "text": b"hello, world\n",
        "only magic": good[:6],
        "half a header": good[:40],
        "no data": good[:128],
        "a byte too few": good[:-1],
        "a byte too many": good + b"x",
        "version 9": good[:6] + b"\x09" + good[7:],
        "a negative dimension": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        "a huge shape": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2), }"),
        "no shape": with_header("{'descr': '<f4', 'fortran_order': False, }"),
        "code": with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (exit(1),), }"),
    }
    for what, data in bad.items():
        for name in ("victim", "none"):
            fails(errno.EINVAL, f"{what} to {name}", lambda d=data, n=name: write(n + ".npy", d))
        write(".tmp", data)
        fails(errno.EINVAL, f"{what}, renamed", lambda: os.rename(".tmp", "victim.npy"))
        os.unlink(".tmp")
        after = content("victim"), sidecar("victim"), content("victim.npy")
        assert after == before, f"{what}: the old content is gone"
        for suffix in ("", ".npy", ".json"):
            assert not os.path.exists("none" + suffix), f"{what}: left none{suffix}"
    # Emptied and closed: nothing was written, so nothing is said, and nothing is changed.
    os.close(os.open("victim.npy", os.O_WRONLY | os.O_TRUNC))
    assert content("victim") == before[0], "emptied"


def by_rename():
    a, b = array("<f4", (2, 3)), array(">i2", (70_000,))
    for value, dtype in ((a, "F32"), (b, "I16")):
        write(".tmp.npy", npy_bytes(value))
        os.rename(".tmp.npy", "renamed.npy")
        expect("renamed", dtype, value.shape, value)
        assert not os.path.exists(".tmp.npy")


def f32_is_read_only():
    def numbers(path):
        with open(path, "rb") as file:
            return file.read()

    before = numbers("half.f32.npy")
    fails(errno.EROFS, "open half.f32.npy", lambda: os.open("half.f32.npy", os.O_WRONLY))
    fails(errno.EROFS, "truncate half.f32.npy", lambda: os.truncate("half.f32.npy", 0))
    write(".tmp", b"x")
    fails(errno.EROFS, "rename onto half.f32.npy", lambda: os.rename(".tmp", "half.f32.npy"))
    os.unlink(".tmp")
    assert numbers("half.f32.npy") == before
    # It is the plain view where a tensor is called so.
    np.save("half.npy", array("<f2", (4,)))
    a = array("<i4", (3,))
    write("half.f32", a.tobytes())
    with open("half.f32.json", "w", encoding="utf-8") as file:
        file.write('{"dtype": "I32", "shape": [3]}')
    expect("half.f32", "I32", (3,), a)
    np.save("half.f32.npy", a[::-1])
    expect("half.f32", "I32", (3,), a[::-1])
    os.unlink("half.f32")


def map_and_replace():
    """Who has a tensor mapped sees what np.save made of it; views follow."""
    a = array("<f4", (50_000,))
    np.save("mapped.npy", a)
    view = np.memmap("mapped", "<f4", "r")
    loaded = np.load("mapped.npy", mmap_mode="r")
    assert np.array_equal(view, a, equal_nan=True) and loaded.tobytes() == a.tobytes()
    b = array("<f4", (50_000,))
    np.save("mapped.npy", b)
    assert np.memmap("mapped", "<f4", "r").tobytes() == b.tobytes()
    assert np.load("mapped.npy", mmap_mode="r").tobytes() == b.tobytes()
    with open("mapped", "r+b") as file:
        file.seek(65_534)
        file.write(b"changed")
    assert np.load("mapped.npy").tobytes()[65_534:65_541] == b"changed"


def append_after_saving():
    """The kernel has to learn of the new length, or it would append at the old end."""
    for shape in ((50,), (5000,), (7,)):
        a = array("|u1", shape)
        write(".tmp", npy_bytes(a))
        os.rename(".tmp", "grown.npy") if len(a) == 5000 else np.save("grown.npy", a)
        fd = os.open("grown", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"behind")
        os.close(fd)
        assert content("grown") == a.tobytes() + b"behind", f"appended to {shape}"
    os.truncate("grown", 7)


def removed_before_saving():
    a = array("<i8", (4,))
    np.save("gone.npy", a)
    os.unlink("gone")
    for suffix in ("", ".npy", ".json"):
        assert not os.path.exists("gone" + suffix)
    np.save("gone.npy", a)
    expect("gone", "I64", (4,), a)


def main():
    os.chdir(sys.argv[1])
    for test in (every_dtype, fortran, versions_and_sizes, keeps_dtype, bad_ones, by_rename,
                 append_after_saving, f32_is_read_only, map_and_replace, removed_before_saving):
        try:
            test()
            print(f"ok {test.__name__}")
        except (AssertionError, OSError, ValueError) as error:
            line = error.__traceback__.tb_next or error.__traceback__
            print(f"FAILED {test.__name__}, line {line.tb_lineno}: {error!r}")


main()
