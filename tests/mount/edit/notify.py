"""Readers, writers of arrays and commits at once, and the daemon's death among them: nothing hangs.

usage: notify.py MNT PID SECONDS     the file system at MNT, served by PID, has tensors a and b

A `.npy` that is written over a tensor makes the kernel forget what it has of the tensor's file, while a
reader may hold the very pages. After that many seconds PID is killed; then everybody has to be done soon.
"""

import os
import random
import signal
import struct
import sys
import threading
import time

SLOW = int(os.environ.get("SFT_SLOW", "1"))
SIZE = 1 << 20


def npy(value):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({SIZE},), }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode() + bytes([value]) * SIZE


def reader(path, stop):
    """Each read is of one array, never half of one and half of another within a page."""
    while not stop.is_set():
        with open(path, "rb") as file:
            data = file.read()
        for at in range(0, len(data), 4096):
            page = data[at:at + 4096]
            if page.count(page[:1]) != len(page):
                raise AssertionError(f"{path}: a page of two arrays at {at}")


def writer(path, stop):
    while not stop.is_set():
        with open(path + ".npy", "wb", buffering=0) as file:
            file.write(npy(random.randrange(256)))


def committer(mnt, stop):
    while not stop.is_set():
        with open(os.path.join(mnt, ".safetensorfs/commit"), "wb", buffering=0) as file:
            file.write(b"1")
        time.sleep(0.01)


def main():
    mnt, pid, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    stop, killed, failed, rounds = threading.Event(), threading.Event(), [], [0]

    def run(work, *arguments):
        def loop(single):
            try:
                work(*arguments, single)
            except OSError as error:
                if not killed.is_set():
                    failed.append(f"{work.__name__}: {error!r}")
            except AssertionError as error:
                failed.append(str(error))
            rounds[0] += 1
        thread = threading.Thread(target=loop, args=(stop,), daemon=True)
        thread.start()
        return thread

    threads = [run(committer, mnt)]
    for name in ("a", "b"):
        path = os.path.join(mnt, name)
        threads += [run(reader, path), run(reader, path), run(writer, path)]
    time.sleep(seconds)
    killed.set()
    os.kill(pid, signal.SIGKILL)
    stop.set()
    end = time.monotonic() + 10 * SLOW
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    if any(thread.is_alive() for thread in threads):
        print("somebody hangs", flush=True)
        os._exit(1)
    if failed:
        sys.exit("\n".join(failed))


main()
