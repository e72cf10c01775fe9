"""Size and content of tensors a and b are right as soon as arrays that were written over them are closed.

usage: notify_stat.py MNT ROUNDS
"""

import os
import struct
import sys
import threading


def npy(path, value, size):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}".ljust(117) + "\n"
    file = open(path, "wb")
    file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode() + bytes([value]) * size)
    return file


def read(path, stop):
    """Again and again from where the kernel has nothing, so that requests are under way."""
    while not stop.is_set():
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while file.read(1 << 20):
                pass


def main():
    mnt, rounds = sys.argv[1], int(sys.argv[2])
    paths = [os.path.join(mnt, name) for name in "ab"]
    for number in range(rounds):
        sizes = [4000000 + number * 1000, 3000000 + number * 999]
        held = [open(path, "rb") for path in paths]  # the kernel knows size and content
        for file in held:
            file.read()
        stop = threading.Event()
        readers = [threading.Thread(target=read, args=(path, stop)) for path in paths * 2]
        for reader in readers:
            reader.start()
        files = [npy(path + ".npy", number + 1, size) for path, size in zip(paths, sizes)]
        closers = [threading.Thread(target=file.close) for file in files]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()
        found = [os.stat(path).st_size for path in paths]
        stop.set()
        for reader in readers:
            reader.join()
        found += [os.stat(path).st_size for path in paths]
        for file in held:
            file.close()
        for path, size in zip(paths, sizes):
            with open(path, "rb") as file:
                data = file.read()
            if data != bytes([number + 1]) * size:
                sys.exit(f"round {number}: {path}: {len(data)} bytes, or others than were written")
        if found != sizes * 2:
            sys.exit(f"round {number}: stat says {found}, not {sizes}")


main()
