"""What is open keeps its bytes: edit_views.py MNT; a line a check, "ok" or what is wrong.

In MNT are, for each CASE below, a tensor CASE of F16 [100000], and `with` of the same kind. It is replaced or removed
while its file and its views are open and mapped, by descriptors and by np.load.
"""
import io
import mmap
import os
import sys
import tempfile

import numpy as np

MNT = sys.argv[1]
COUNT = 100000
FRESH = np.arange(7, dtype="<f4")


def as_file(array):  # np.save to an open file closes a copy of it, which counts
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def by_rename(name):
    os.rename(f"{MNT}/with", f"{MNT}/{name}")


def by_npy(name):
    np.save(f"{MNT}/{name}.npy", FRESH)


def by_npy_renamed(name):
    np.save(f"{MNT}/.tmp.npy", FRESH)
    os.rename(f"{MNT}/.tmp.npy", f"{MNT}/{name}.npy")


def by_unlink(name):
    os.unlink(f"{MNT}/{name}")


CASES = {"rename": by_rename, "npy": by_npy, "npyrename": by_npy_renamed, "unlink": by_unlink}


def check(what, good):
    print("ok" if good else "wrong", what)


def read_all(fd):
    data = b""
    while piece := os.pread(fd, 1 << 20, len(data)):
        data += piece
    return data


def case(how, replace):
    suffixes = ["", ".npy", ".f32.npy"]
    old = {s: open(f"{MNT}/{how}{s}", "rb").read() for s in suffixes}
    fds = {s: os.open(f"{MNT}/{how}{s}", os.O_RDONLY) for s in suffixes}
    ids = {s: os.fstat(fds[s]).st_ino for s in suffixes}
    maps = {s: mmap.mmap(fds[s], 0, prot=mmap.PROT_READ) for s in suffixes}
    loaded = np.load(f"{MNT}/{how}.npy", mmap_mode="r")
    for s in suffixes:  # so that the bytes have to be asked for again
        os.posix_fadvise(fds[s], 0, 0, os.POSIX_FADV_DONTNEED)
    replace(how)
    with open(f"{MNT}/.safetensorfs/commit", "w") as f:
        f.write("now")
    for s in suffixes:
        check(f"{how}: {s or 'the file'} is read as it was", read_all(fds[s]) == old[s])
        check(f"{how}: {s or 'the file'} is mapped as it was", maps[s][:] == old[s])
        check(f"{how}: {s or 'the file'} has its size", os.fstat(fds[s]).st_size == len(old[s]))
    check(f"{how}: np.load's map is as it was", loaded.tobytes() == old[""])
    if how == "unlink":
        check(f"{how}: it is gone", not any(os.path.exists(f"{MNT}/{how}{s}") for s in suffixes))
    else:
        st = os.stat(f"{MNT}/{how}")
        check(f"{how}: another file", st.st_ino != ids[""])
        check(f"{how}: with its own size", st.st_size == len(open(f"{MNT}/{how}", "rb").read()) != len(old[""]))
        now = np.load(f"{MNT}/{how}.npy", mmap_mode="r")
        check(f"{how}: and its own view", np.array_equal(now, FRESH if how != "rename" else np.zeros(3, now.dtype)))
        with open(f"{MNT}/{how}", "ab") as f:
            f.write(b"1234")
        check(f"{how}: appended to its end", os.stat(f"{MNT}/{how}").st_size == st.st_size + 4)
        os.truncate(f"{MNT}/{how}", st.st_size)
        check(f"{how}: cut again", open(f"{MNT}/{how}", "rb").read() == now.tobytes())
    for s in suffixes:
        maps[s].close()
        os.close(fds[s])


def two_writers():
    """The last close wins, whatever had been made of the tensor when it was opened."""
    os.chmod(f"{MNT}/both", 0o600)
    first, second = open(f"{MNT}/both.npy", "wb"), open(f"{MNT}/both.npy", "wb")
    first.write(as_file(FRESH))
    second.write(as_file(FRESH[:3]))
    first.close()
    check("two writers: the first", os.stat(f"{MNT}/both").st_size == FRESH.nbytes)
    second.close()
    check("two writers: the second", os.stat(f"{MNT}/both").st_size == 12)
    check("two writers: the bytes", np.array_equal(np.load(f"{MNT}/both.npy"), FRESH[:3]))
    check("two writers: the mode is what it was", os.stat(f"{MNT}/both").st_mode & 0o777 == 0o600)


def map_is(mapped, data):
    """Whether it can be read through: by the kernel, to whom what is missing is an error and not SIGBUS."""
    with tempfile.TemporaryFile(buffering=0) as file, memoryview(mapped) as view:
        try:
            file.write(view)
        except OSError:
            return False
        file.seek(0)
        return file.read() == data


def while_saved():
    """Whoever saves a view empties it first. Nobody else sees that until it is complete."""
    path = f"{MNT}/saved.npy"
    old = open(path, "rb").read()
    before = os.open(path, os.O_RDONLY)
    before_map = mmap.mmap(before, 0, prot=mmap.PROT_READ)
    writer = os.open(path, os.O_WRONLY | os.O_TRUNC)
    check("while saved: a map is as it was", map_is(before_map, old))
    during = os.open(path, os.O_RDONLY)
    during_map = mmap.mmap(during, 0, prot=mmap.PROT_READ)
    os.write(writer, as_file(FRESH))
    check("while saved: a later map is as it was", map_is(during_map, old))
    check("while saved: it reads as it was", open(path, "rb").read() == old)
    os.close(writer)
    check("when saved: it is new", np.array_equal(np.load(path), FRESH))
    check("when saved: maps are as they were", map_is(before_map, old) and map_is(during_map, old))
    os.close(before)
    os.close(during)


def a_listing():
    with os.scandir(MNT) as entries:
        names = [next(entries).name]
        np.save(f"{MNT}/both.npy", FRESH)
        names += [e.name for e in entries]
    check("a listing that is under way shows it once", names.count("both") == 1)


for how, replace in CASES.items():
    case(how, replace)
two_writers()
while_saved()
a_listing()
