"""fsx.py: its options, and the mount that it edits."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "oracles"))
import reader  # noqa: E402

BINARY = os.environ["SAFETENSORFS"]
SLOW = int(os.environ.get("SFT_SLOW", "1"))
SEED = int(os.environ.get("FSX_SEED") or random.SystemRandom().randrange(1 << 32))
ROUNDS = int(os.environ.get("FSX_ROUNDS") or 16 // SLOW)
OPS = int(os.environ.get("FSX_OPS") or 120)
THREADS = int(os.environ.get("FSX_THREADS") or 3)
KILL = os.environ.get("FSX_KILL") == "1"
TRACE = os.environ.get("FSX_TRACE")

PAGE = 4096
LONGEST = 300_000  # bytes of a tensor: several blocks
DEAD = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ECONNREFUSED}
LACKED = {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F4": 1, "F6_E2M3": 1}  # by numpy; and the width
FROM_NUMPY = {"<f4": "F32", "<i2": "I16", "|u1": "U8", "<u2": "U16", "<f8": "F64", "|b1": "BOOL"}


class Failed(Exception):
    """The mount and the model disagree."""


class Killed(Exception):
    """The daemon was killed under an operation."""


def expect(condition, *message):
    if not condition:
        raise Failed(" ".join(map(str, message)))


class Tensor:
    """What the model knows of a file: bytes, what a sidecar declared, what was committed with it, and the
    file name of the committed tensor that it is."""

    def __init__(self, data=b"", declared=None, born=None, origin=None):
        self.data, self.declared, self.born, self.origin = bytearray(data), declared, born, origin

    def copy(self):
        return Tensor(self.data, self.declared, self.born, self.origin)


def nbytes_of(dtype, shape):
    bits = reader.BITS[dtype]
    for dimension in shape:
        bits *= dimension
    return bits // 8


def put(fd, data, at=None):
    """Write all of it. Where the daemon dies under it, the kernel says how much it got rid of."""
    done = os.write(fd, data) if at is None else os.pwrite(fd, data, at)
    if done != len(data):
        raise OSError(errno.ENOTCONN, f"{done} of {len(data)} bytes")


def write_file(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        put(fd, data)
    finally:
        os.close(fd)


def is_scratch(name):
    return name.startswith(".") or name.endswith("~")


# ---- the mount ----


class Mount:
    """The daemon, and what is committed as far as the model knows."""

    def __init__(self, work, rng):
        self.work, self.rng = work, rng
        self.mnt = os.path.join(work, "mnt")
        os.makedirs(self.mnt, exist_ok=True)
        self.log = open(os.path.join(work, "fsx.log"), "wb")
        self.options = "edit" + rng.choice(["", ",commit=inplace", ",direct_io"])
        if KILL:
            self.options = "edit" + rng.choice(["", ",commit=inplace"])
        self.source = self.make_source()
        self.daemon = None
        self.committed = {}  # name -> (dtype, shape)
        self.metadata = {}

    def make_source(self):
        path = os.path.join(self.work, "source")
        arguments = ["--shards", "2"] if self.rng.random() < 0.4 else []
        if arguments and self.rng.random() < 0.5:
            arguments.append("--no-index")
        path += "" if arguments else ".safetensors"
        for thread in range(THREADS):
            for i, (dtype, shape) in enumerate((("F32", "[300,7]"), ("BF16", "[70000]"),
                                                ("U8", "[0]"), ("I64", "[]"), ("F4", "[4,6]"))):
                arguments += ["--tensor", f"t{thread}.{i}:{dtype}:{shape}"]
        make = os.path.join(os.path.dirname(__file__), "..", "..", "..", "scripts", "make-checkpoint")
        subprocess.run([sys.executable, make, path, *arguments, "--order", "random", "--seed",
                        str(SEED)], check=True, stdout=subprocess.DEVNULL)
        return path

    def start(self):
        self.daemon = subprocess.Popen([BINARY, self.source, self.mnt, "-f", "-o", self.options],
                                       stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 60 * SLOW
        while not os.path.ismount(self.mnt):
            expect(self.daemon.poll() is None, "the mount failed:", self.said())
            expect(time.monotonic() < end, "mounting takes too long")
            time.sleep(0.002)
        os.stat(self.mnt)

    def said(self):
        with open(self.log.name, "rb") as file:
            return file.read()[-2000:].decode(errors="replace")

    def ended(self, status):
        got = self.daemon.wait(60 * SLOW)
        expect(got == status, f"the daemon ended with {got}, not {status}:", self.said())

    def unmount(self):
        command = [BINARY, "umount", self.mnt] if self.rng.random() < 0.5 else ["umount", self.mnt]
        # The kernel lets go of a file a little after the close(2) of a thread that has ended.
        end = time.monotonic() + 60 * SLOW
        while subprocess.run(command, check=False, stderr=subprocess.PIPE).returncode:
            expect(time.monotonic() < end, "unmounting takes too long")
            time.sleep(0.002)
        self.ended(0)

    def kill(self):
        self.daemon.kill()

    def clear(self):
        self.ended(-signal.SIGKILL)
        subprocess.run(["umount", "-l", self.mnt], check=True)

    def status(self):
        with open(os.path.join(self.mnt, ".safetensorfs/status"), "rb") as file:
            return json.load(file)

    def commit(self):
        """0, or the errno that the writer gets."""
        try:
            with open(os.path.join(self.mnt, ".safetensorfs/commit"), "wb", buffering=0) as file:
                file.write(b"1")
        except OSError as error:
            return error.errno
        return 0
