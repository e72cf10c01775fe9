"""fsx.py: one thread, what it does to its files, and what they have to be then."""

import errno
import io
import json
import mmap
import os
import random

import numpy as np

from fsx_mount import (DEAD, FROM_NUMPY, KILL, LACKED, LONGEST, PAGE, SEED, TRACE, Failed, Killed,
                       Tensor, expect, is_scratch, nbytes_of, put, write_file)
import names
import reader

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
        # Appends may have made it longer than the longest.
        data = self.some_bytes(max(0, min(LONGEST - at, size - at if within else 70_000)))
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
                           {name: Tensor(b"", self.files[name].declared, self.files[name].born,
                                          self.files[name].origin)})
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
        """After a kill: what was under way has been done, or not, or in part. Scratch is gone, but a committed
        tensor that was scratch is back under its name, if that is free."""
        torn, self.torn = self.torn or {}, None
        aside = [(t, []) for name, t in self.files.items() if is_scratch(name) and name not in torn]
        aside += [(t, [None]) for name in torn if is_scratch(name) for t in torn[name] if t]
        for name in [n for n in self.files if is_scratch(n)]:
            del self.files[name]
        for name in os.listdir(self.mount.mnt):
            expect(not is_scratch(name) or not name.startswith(f".t{self.number}."), f"{name} is there")
        there = self.listed()
        for t, otherwise in aside:
            if t.origin and t.origin not in self.files:
                torn.setdefault(t.origin, otherwise).append(t)
        for name, candidates in torn.items():
            if not is_scratch(name):
                self.settle_one(name, candidates, there)

    def settle_one(self, name, candidates, there):
        if name not in there:
            expect(None in candidates, f"{name} is gone")
            self.files.pop(name, None)
            return
        with open(self.path(name), "rb") as file:
            data = file.read()
        with open(self.path(name + ".json"), "rb") as file:
            about = json.load(file)
        expect(any(t is not None and mixes(data, t.data, candidates) for t in candidates),
               f"{name}: neither what it was nor what it was to be")
        for t in candidates:
            if t is not None:
                self.files[name] = Tensor(data, t.declared, t.born, t.origin)
                if self.effective(name) == (about["dtype"], about["shape"]):
                    break


def mixes(data, wanted, candidates):
    """Whether data is `wanted`, or the begin of it, but for pages that the other candidates have."""
    others = [t.data for t in candidates if t is not None]
    if not min(map(len, others)) <= len(data) <= len(wanted):
        return False
    return all(any(data[at:at + PAGE] == o[at:at + PAGE].ljust(PAGE, b"\0")[:len(data) - at]
                   for o in [wanted, *others]) for at in range(0, len(data), PAGE))
