"""Random edits through a mount, by several threads, held against a model in memory.

usage: fsx.py WORK                   (edit_fsx.sh and crash_kill.sh run it)

From the environment: SAFETENSORFS (the binary), FSX_SEED (printed; the same seed makes the same edits),
FSX_ROUNDS, FSX_OPS (of each thread in a round), FSX_THREADS, FSX_KILL=1 (kill -9 in every round),
FSX_TRACE=FILE (print each change of that file).

Each thread has names of its own, so that the model knows what each of them holds. In a round the threads
edit; then all is compared, and the mount is committed, unmounted, killed, recovered, in turn.
Where the daemon is killed in the middle of an operation, that one may have been done or not.
"""

import errno
import io
import json
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import names  # noqa: E402
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
    """The daemon was killed under an operation; its message says which file was concerned."""


def expect(condition, *message):
    if not condition:
        raise Failed(" ".join(map(str, message)))


class Tensor:
    """What the model knows of a file: bytes, what a sidecar declared, what was committed with it."""

    def __init__(self, data=b"", declared=None, born=None):
        self.data, self.declared, self.born = bytearray(data), declared, born

    def copy(self):
        return Tensor(self.data, self.declared, self.born)


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
        make = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "make-checkpoint")
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
        subprocess.run(command, check=True)
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


# ---- one thread ----


class Worker:
    """The files of one thread: what it does to them, and what they have to be."""

    def __init__(self, mount, number):
        self.mount, self.number = mount, number
        self.rng = random.Random(f"{SEED} {number}")
        self.files = {}
        plain = [f"t{number}.{i}" for i in range(7)]
        self.names = [*plain, f"t{number}.%2Fx", f"t{number}.é"]
        self.scratch = [f".t{number}.s", f"t{number}.b~"]
        self.failure = None
        self.torn = None  # after a kill: file name -> the tensors that it may be; None is no file
        self.last = "nothing"
        self.about = ""  # more of it, for a trace

    def path(self, name):
        return os.path.join(self.mount.mnt, name)

    def effective(self, name):
        t = self.files[name]
        committed = self.mount.committed.get(names.decode(name.encode()))
        return t.declared or t.born or committed or ("U8", [len(t.data)])

    def problems(self):
        return {names.decode(n.encode()) for n, t in self.files.items() if not is_scratch(n)
                and nbytes_of(*self.effective(n)) != len(t.data)}

    # Steps: a change to the file system, and what it makes of the files concerned.

    def step(self, change, after):
        """Do it; `after` maps file names to the tensors that they are then (None: no file)."""
        if TRACE in after:
            sizes = {n: t and len(t.data) for n, t in after.items()}
            print(f"{self.last}{self.about}: {sizes}", flush=True)
        try:
            result = change()
        except OSError as error:
            if error.errno not in DEAD:
                raise
            self.torn = {n: [self.files.get(n), t] for n, t in after.items()}
            raise Killed from None
        for name, tensor in after.items():
            self.files.pop(name, None)
            if tensor is not None:
                self.files[name] = tensor
        return result

    def open(self, name, flags, after=None):
        return self.step(lambda: os.open(self.path(name), flags, 0o644), after or {})

    def close(self, fd, after=None):
        # A descriptor is closed whatever close(2) says.
        self.step(lambda: os.close(fd), after or {})

    def opened(self, name, flags, use):
        fd = self.open(name, flags)
        try:
            use(fd)
        except BaseException:
            try:
                os.close(fd)
            except OSError:
                pass
            raise
        self.close(fd)

    def some_bytes(self, most=LONGEST):
        n = self.rng.choice([0, 1, 7, PAGE, 65536, self.rng.randrange(200), self.rng.randrange(most + 1)])
        return self.rng.randbytes(min(n, most))

    def existing(self):
        return self.rng.choice(sorted(self.files)) if self.files else None

    def tensor(self):
        tensors = sorted(n for n in self.files if not is_scratch(n))
        return self.rng.choice(tensors) if tensors else None

    def patched(self, name, at, data):
        t = self.files[name].copy()
        t.data.extend(bytes(max(at + len(data) - len(t.data), 0)) if data else b"")
        t.data[at:at + len(data)] = data
        return t

    # Operations. Each picks its victim, and returns without a word where there is none.

    def op_write(self, within=False):
        name = self.existing()
        if name is None:
            return
        size = len(self.files[name].data)
        at = self.rng.randrange(size + 1 if within else min(size + 100_000, LONGEST))
        data = self.some_bytes(min(LONGEST - at, size - at if within else 70_000))
        self.about = f" {len(data)} at {at}"
        self.opened(name, os.O_WRONLY, lambda fd: self.step(
            lambda: put(fd, data, at), {name: self.patched(name, at, data)}))

    def op_append(self):
        name = self.existing()
        if name is None or len(self.files[name].data) > LONGEST:
            return
        data = self.some_bytes(5000)
        self.opened(name, os.O_WRONLY | os.O_APPEND, lambda fd: self.step(
            lambda: put(fd, data), {name: self.patched(name, len(self.files[name].data), data)}))

    def op_truncate(self):
        name = self.existing()
        if name is None:
            return
        t = self.files[name].copy()
        size = self.rng.choice([0, 65536, self.rng.randrange(LONGEST), len(t.data)])
        t.data = t.data[:size] + bytes(max(size - len(t.data), 0))
        self.step(lambda: os.truncate(self.path(name), size), {name: t})

    def op_map(self):
        name = self.existing()
        if name is None or not self.files[name].data or "direct_io" in self.mount.options:
            return
        t = self.files[name].copy()
        at = self.rng.randrange(len(t.data))
        data = self.some_bytes(min(len(t.data) - at, 10_000))
        t.data[at:at + len(data)] = data

        def write(fd):
            try:
                with mmap.mmap(fd, len(t.data)) as m:
                    m[at:at + len(data)] = data
                    m.flush()
            except ValueError:  # the daemon died, and the kernel shows a size of nothing
                raise OSError(errno.ENOTCONN, "no longer mapped") from None

        # A page that cannot be had is SIGBUS: only where nothing kills the daemon.
        if not KILL:
            self.opened(name, os.O_RDWR, lambda fd: self.step(lambda: write(fd), {name: t}))

    def op_unlink(self):
        name = self.existing()
        if name is not None and len(self.files) > 3:
            self.step(lambda: os.unlink(self.path(name)), {name: None})

    def op_create(self):
        name = self.rng.choice(self.names + self.scratch)
        data = self.some_bytes()
        if name in self.files:  # as programs do that save
            fd = self.open(name, os.O_WRONLY | os.O_TRUNC,
                           {name: Tensor(b"", self.files[name].declared, self.files[name].born)})
        else:
            fd = self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, {name: Tensor()})
        try:
            self.step(lambda: put(fd, data), {name: self.patched(name, 0, data)})
        finally:
            try:
                os.close(fd)
            except OSError:
                pass

    def op_rename(self):
        old = self.existing()
        new = self.rng.choice(self.names + self.scratch)
        if old is not None and old != new:
            self.step(lambda: os.rename(self.path(old), self.path(new)),
                      {old: None, new: self.files[old].copy()})

    def a_declaration(self, size):
        """A dtype and a shape of that many bytes; now and then of others."""
        dtype = self.rng.choice(["U8", "F32", "BF16", "I64", "F4", "F8_E4M3", "C64"])
        if self.rng.random() < 0.1:
            size = self.rng.randrange(1000)
        count, left = divmod(size * 8, reader.BITS[dtype])
        if left:
            dtype, count = "U8", size
        first = self.rng.choice([1, 2, 3, count or 1])
        return dtype, ([first, count // first] if count % first == 0 and first else [count])

    def write_sidecar(self, name, text, after):
        fd = self.open(name + ".json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self.step(lambda: put(fd, text), {})
        except BaseException:
            try:
                os.close(fd)
            except OSError:
                pass
            raise
        self.close(fd, after)

    def op_declare(self):
        name = self.tensor()
        if name is None:
            return
        t = self.files[name].copy()
        t.declared = self.a_declaration(len(t.data))
        text = json.dumps({"shape": t.declared[1], "dtype": t.declared[0]}).encode()
        if self.rng.random() < 0.5:
            self.write_sidecar(name, text, {name: t})
        else:
            temporary = f".t{self.number}.json"
            self.step(lambda: write_file(self.path(temporary), text), {})
            self.step(lambda: os.rename(self.path(temporary), self.path(name + ".json")), {name: t})

    def op_bad_sidecar(self):
        name = self.tensor()
        if name is None:
            return
        text = self.rng.choice([b"{", b"[]", b'{"dtype":"F99","shape":[1]}', b'{"dtype":"F32"}'])
        try:
            self.write_sidecar(name, text, {})
        except OSError as error:
            expect(error.errno == errno.EINVAL, "a bad sidecar:", error)
            return
        raise Failed("a bad sidecar was accepted")

    def op_new_sidecar(self):
        missing = [n for n in self.names if n not in self.files]
        if missing:
            name = self.rng.choice(missing)
            dtype, shape = self.a_declaration(self.rng.choice([0, 16, 70_000]))
            t = Tensor(bytes(nbytes_of(dtype, shape)), (dtype, shape))
            text = json.dumps({"dtype": dtype, "shape": shape}).encode()
            self.write_sidecar(name, text, {name: t})

    def op_save(self):
        """np.save, in C or Fortran order, little or big endian."""
        name = self.rng.choice(self.names)
        numpy_dtype = self.rng.choice(list(FROM_NUMPY))
        shape = self.rng.choice([(), (0,), (5,), (3, 4), (70, 150), (2, 3, 4)])
        count = int(np.prod(shape)) * np.dtype(numpy_dtype).itemsize
        raw = self.rng.randbytes(count)
        if numpy_dtype == "|b1":
            raw = bytes(b & 1 for b in raw)
        a = np.frombuffer(raw, numpy_dtype).reshape(shape)
        dtype = FROM_NUMPY[numpy_dtype]
        if name in self.files:
            old = self.effective(name)[0]
            if numpy_dtype in ("|u1", "<u2") and LACKED.get(old) == a.itemsize and old[1] not in "46":
                dtype = old
        expected = Tensor(a.tobytes(), (dtype, list(shape)))
        if self.rng.random() < 0.3 and a.dtype.kind != "b":
            a = a.astype(a.dtype.newbyteorder(">"))
        if self.rng.random() < 0.3 and a.ndim:  # numpy gives a scalar a dimension
            a = np.asfortranarray(a)
        text = io.BytesIO()
        np.lib.format.write_array(text, a)
        if name in self.files and self.effective(name)[0] in ("F4", "F6_E2M3") and dtype == "U8":
            return  # whether packed elements of one dimension stay is not for a model
        fd = self.open(name + ".npy", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for at in range(0, len(text.getvalue()), 60_000):
                self.step(lambda a=at: put(fd, text.getvalue()[a:a + 60_000]), {})
        except BaseException:
            try:
                os.close(fd)
            except OSError:
                pass
            raise
        self.close(fd, {name: expected})

    def op_save_by_rename(self):
        name, temporary = self.rng.choice(self.names), f".t{self.number}.tmp"
        data = self.some_bytes()
        self.step(lambda: write_file(self.path(temporary), data), {})
        self.step(lambda: os.rename(self.path(temporary), self.path(name)), {name: Tensor(data)})

    def op_sync(self):
        name = self.existing()
        if name is not None:
            self.opened(name, os.O_RDONLY, lambda fd: self.step(lambda: os.fsync(fd), {}))

    def op_read(self):
        name = self.existing()
        if name is None:
            return
        at = self.rng.randrange(LONGEST)
        fd = self.open(name, os.O_RDONLY)
        try:
            got = self.step(lambda: os.pread(fd, 20_000, at), {})
            expect(got == self.files[name].data[at:at + 20_000], f"{name}: bytes at {at}")
        finally:
            os.close(fd)

    def op_look(self):
        name = self.existing()
        if name is not None:
            self.step(lambda: self.compare(name), {})

    def op_list(self):
        listed = self.step(self.listed, {})
        expect(listed == set(self.files), "listed", listed, "expected", set(self.files))

    def listed(self):
        mine = (f"t{self.number}.", f".t{self.number}.")
        return {n for n in os.listdir(self.mount.mnt) if n.startswith(mine)
                and not n.endswith((".json", ".npy", ".tmp"))}

    def compare(self, name):
        t = self.files[name]
        with open(self.path(name), "rb") as file:
            data = file.read()
        if data != t.data:
            at = next((i for i, (a, b) in enumerate(zip(data, t.data)) if a != b), -1)
            raise Failed(f"{name}: {len(data)} bytes, expected {len(t.data)}; first difference at {at}")
        if is_scratch(name):
            return
        with open(self.path(name + ".json"), "rb") as file:
            about = json.load(file)
        dtype, shape = self.effective(name)
        expect((about["dtype"], about["shape"]) == (dtype, list(shape)), f"{name}: sidecar says",
               about["dtype"], about["shape"], "expected", dtype, shape)
        wrong = nbytes_of(dtype, shape) != len(data)
        expect(("problem" in about) == wrong, f"{name}: problem", about.get("problem"))
        if not wrong:
            with open(self.path(name + ".npy"), "rb") as file:
                whole = file.read()
            expect(whole.endswith(data) and whole.startswith(b"\x93NUMPY"), f"{name}.npy")

    # Rounds.

    MANY = ["write"] * 8 + ["append", "truncate", "map", "map", "read", "read", "look", "list", "sync"]
    NAMES = ["unlink", "create", "create", "rename", "rename", "rename", "declare", "declare",
             "bad_sidecar", "new_sidecar", "save", "save", "save_by_rename", "save_by_rename"]

    def run(self, kinds, ops):
        try:
            for _ in range(ops):
                self.last, self.about = self.rng.choice(kinds), ""
                if self.last == "within":
                    self.op_write(True)
                else:
                    getattr(self, "op_" + self.last)()
        except Killed:
            pass
        except BaseException as error:
            if not (KILL and isinstance(error, OSError) and error.errno in DEAD):
                line = error.__traceback__
                while line.tb_next:
                    line = line.tb_next
                self.failure = f"thread {self.number}, {self.last}, line {line.tb_lineno}: {error!r}"

    def mend(self):
        """Do away with what would block a commit."""
        for name in sorted(self.files):
            if not is_scratch(name) and nbytes_of(*self.effective(name)) != len(self.files[name].data):
                t = self.files[name].copy()
                t.declared = ("U8", [len(t.data)])
                self.write_sidecar(name, json.dumps({"dtype": "U8", "shape": t.declared[1]}).encode(),
                                   {name: t})

    def settle(self):
        """After a kill: what was under way has been done, or not, or in part; scratch is gone."""
        for name in [n for n in self.files if is_scratch(n)]:
            del self.files[name]
        for name in os.listdir(self.mount.mnt):
            if is_scratch(name):
                os.unlink(self.path(name))
        torn, self.torn = self.torn or {}, None
        there = self.listed()
        for name, candidates in torn.items():
            if is_scratch(name):
                continue
            if name not in there:
                expect(None in candidates, f"{name} is gone")
                self.files.pop(name, None)
                continue
            with open(self.path(name), "rb") as file:
                data = file.read()
            with open(self.path(name + ".json"), "rb") as file:
                about = json.load(file)
            expect(any(t is not None and mixes(data, t.data, candidates) for t in candidates),
                   f"{name}: neither what it was nor what it was to be")
            for t in candidates:
                if t is not None:
                    self.files[name] = Tensor(data, t.declared, t.born)
                    if self.effective(name) == (about["dtype"], about["shape"]):
                        break


def mixes(data, wanted, candidates):
    """Whether data is `wanted`, or the begin of it, but for pages that the other candidates have."""
    others = [t.data for t in candidates if t is not None]
    if not min(map(len, others)) <= len(data) <= len(wanted):
        return False
    return all(any(data[at:at + PAGE] == o[at:at + PAGE].ljust(PAGE, b"\0")[:len(data) - at]
                   for o in [wanted, *others]) for at in range(0, len(data), PAGE))


def write_file(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        put(fd, data)
    finally:
        os.close(fd)


# ---- the whole ----


class Test:
    def __init__(self, work):
        self.rng = random.Random(SEED)
        self.mount = Mount(work, self.rng)
        self.workers = [Worker(self.mount, i) for i in range(THREADS)]
        self.done = {}

    def take_committed(self):
        """The committed tensors, from the independent reader, are what the model says."""
        tensors, metadata = reader.read(self.mount.source)
        self.mount.committed = {t["name"]: (t["dtype"], t["shape"]) for t in tensors}
        self.mount.metadata = metadata
        return {t["name"]: t for t in tensors}

    def adopt(self):
        for worker in self.workers:
            for name, t in worker.files.items():
                if not is_scratch(name):
                    t.declared, t.born = None, self.mount.committed[names.decode(name.encode())]

    def verify_source(self):
        expected = {}
        for worker in self.workers:
            for name, t in worker.files.items():
                if not is_scratch(name):
                    expected[names.decode(name.encode())] = (worker.effective(name), bytes(t.data))
        expected_metadata = self.mount.metadata
        tensors = self.take_committed()
        expect(set(tensors) == set(expected), "committed", sorted(tensors), "expected", sorted(expected))
        for name, (about, data) in expected.items():
            t = tensors[name]
            expect((t["dtype"], t["shape"]) == (about[0], list(about[1])), f"{name}: committed as",
                   t["dtype"], t["shape"], "expected", about)
            with open(t["path"], "rb") as file:
                expect(b"".join(reader.pieces(t, file)) == data, f"{name}: committed bytes")
        expect(self.mount.metadata == expected_metadata, "metadata", self.mount.metadata,
               "expected", expected_metadata)
        self.adopt()

    def verify_mount(self):
        for worker in self.workers:
            listed = worker.listed()
            expect(listed == set(worker.files), "listed", listed, "expected", set(worker.files))
            for name in worker.files:
                worker.compare(name)
        problems = set().union(*(w.problems() for w in self.workers))
        said = {p["tensor"] for p in self.mount.status()["problems"]}
        expect(said == problems, "problems", said, "expected", problems)

    def parallel(self, kinds, ops, beside=None):
        threads = [threading.Thread(target=w.run, args=(kinds, ops)) for w in self.workers]
        for thread in threads:
            thread.start()
        while beside and any(t.is_alive() for t in threads):
            beside()
        for thread in threads:
            thread.join()
        failures = [w.failure for w in self.workers if w.failure]
        expect(not failures, "; ".join(failures))

    def edit_metadata(self):
        path = os.path.join(self.mount.mnt, "__metadata__.json")
        shards = [os.path.basename(p) for p in reader.shard_paths(self.mount.source)[0]]
        new = {}
        for shard in shards:
            if self.rng.random() < 0.7:
                new[shard] = {f"k{i}": f"\u00e9{self.rng.random()}" for i in range(self.rng.randrange(4))}
        if not new:
            if os.path.exists(path):
                os.unlink(path)
        elif os.path.isdir(self.mount.source):
            write_file(path, json.dumps(new).encode())
        else:
            write_file(path, json.dumps(new[shards[0]]).encode())
        self.mount.metadata = new

    def commit(self):
        problems = any(w.problems() for w in self.workers)
        code = self.mount.commit()
        expect(code == (errno.EINVAL if problems else 0), "commit:", code, self.mount.said())
        if not problems:
            self.verify_source()
            self.verify_mount()

    def remount(self):
        for worker in self.workers:
            worker.mend()
        self.mount.unmount()
        self.drop_scratch()
        self.verify_source()
        self.mount.start()

    def drop_scratch(self):
        for worker in self.workers:
            for name in [n for n in worker.files if is_scratch(n)]:
                del worker.files[name]

    def resume(self):
        self.mount.clear()
        self.mount.start()
        for worker in self.workers:
            worker.settle()

    def killed(self):
        """Resume, in a mount or by `recover`."""
        self.mount.kill()
        self.resume()
        self.verify_mount()
        if self.rng.random() < 0.5:
            for worker in self.workers:
                worker.mend()
            self.mount.kill()
            self.mount.clear()
            subprocess.run([BINARY, "recover", self.mount.source], check=True, stdout=self.mount.log,
                           stderr=self.mount.log)
            self.drop_scratch()
            self.verify_source()
            self.mount.start()

    def begin(self):
        tensors = self.take_committed()
        self.mount.start()
        for worker in self.workers:
            for name, t in tensors.items():
                if name.startswith(f"t{worker.number}."):
                    with open(t["path"], "rb") as file:
                        data = b"".join(reader.pieces(t, file))
                    worker.files[names.encode(name).decode()] = Tensor(data, None, (t["dtype"], t["shape"]))

    def round(self):
        """One round of edits, and what follows it."""
        if KILL:
            timer = threading.Timer(self.rng.random() * 0.4 * SLOW, self.mount.kill)
            timer.start()
            self.parallel(Worker.MANY + Worker.NAMES, 1_000_000)
            timer.join()
            self.resume()
        elif self.rng.random() < 0.3:
            # Commits beside writes: what they take nobody knows, but nothing may get lost.
            for worker in self.workers:
                worker.mend()
            self.parallel(["within", "within", "map", "read", "look", "list", "sync"], OPS,
                          lambda: expect(self.mount.commit() == 0, "commit:", self.mount.said()))
            self.commit()
        else:
            self.parallel(Worker.MANY + Worker.NAMES, OPS)
        self.verify_mount()
        if self.rng.random() < 0.5:
            self.edit_metadata()
        what = self.rng.choice([self.commit, self.commit, self.remount, self.killed])
        if TRACE:
            print(what.__name__)
        what()

    def run(self):
        self.begin()
        for number in range(ROUNDS):
            if TRACE:
                print("round", number + 1)
            self.done["rounds"] = number + 1
            self.round()
        self.remount()
        self.verify_mount()
        self.mount.unmount()
        subprocess.run([BINARY, "check", "-q", self.mount.source], check=True)


def main():
    test = Test(sys.argv[1])
    print(f"FSX_SEED={SEED}: {THREADS} threads, {ROUNDS} rounds, {test.mount.options}, "
          f"{os.path.basename(test.mount.source)}", flush=True)
    try:
        test.run()
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        line = error.__traceback__
        places = []
        while line:
            places.append(str(line.tb_lineno))
            line = line.tb_next
        print(f"FAILED in round {test.done.get('rounds')}, lines {' '.join(places)}: {error}")
        sys.exit(1)
    finally:
        if test.mount.daemon and test.mount.daemon.poll() is None:
            test.mount.kill()
            test.mount.daemon.wait()
        subprocess.run(["umount", "-lq", test.mount.mnt], check=False)


main()
