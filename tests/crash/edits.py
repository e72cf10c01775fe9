"""Edits of a mounted checkpoint, and a model of what they mean: for the tests of crashes.

A State is what a mount shows. An Edit changes a mount (`make`) and a State (`apply`); each is one
request of the kernel as far as it changes anything, and so is there as a whole or not at all. A crash
leaves the last state that is certain, and any of the edits made since.
"""

import json
import os
import struct
import sys
from typing import NamedTuple, Optional

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracles"))
import reader  # noqa: E402

BLOCK = 65536
PAGE = 4096
UNSYNCED = 6  # edits without an fsync: what may be there after a crash grows with two to the power of it


class Tensor(NamedTuple):
    data: bytes
    dtype: Optional[str] = None  # None: nobody has declared one
    shape: Optional[tuple] = None
    home: Optional[str] = None  # the committed name, of one that had been committed


class State(NamedTuple):
    tensors: dict
    types: dict  # dtype and shape by name, of the committed tensors
    metadata: dict  # by the shard's file name

    def type_of(self, name):
        tensor = self.tensors[name]
        if tensor.dtype:
            return tensor.dtype, tensor.shape
        return self.types.get(name, ("U8", (len(tensor.data),)))

    def is_problem(self, name):
        dtype, shape = self.type_of(name)
        bits = reader.BITS[dtype]
        for n in shape:
            bits *= n
        return bits != len(self.tensors[name].data) * 8

    def problems(self):
        return [n for n in self.tensors if not is_scratch(n) and self.is_problem(n)]

    def put(self, **tensors):
        return self._replace(tensors={**self.tensors, **tensors})

    def drop(self, *names):
        return self._replace(tensors={n: t for n, t in self.tensors.items() if n not in names})

    def content(self):
        """What a checkpoint with these tensors reads as."""
        return ({n: (*self.type_of(n), t.data) for n, t in self.tensors.items() if not is_scratch(n)},
                self.metadata)

    def committed(self):
        """After a commit, which this mount goes on from."""
        tensors = {n: t if is_scratch(n) else Tensor(t.data, *self.type_of(n), n)
                   for n, t in self.tensors.items()}
        types = {n: (t.dtype, t.shape) for n, t in tensors.items() if not is_scratch(n)}
        return State({n: t._replace(home=n if n in types else None) for n, t in tensors.items()},
                     types, self.metadata)

    def after_death(self):
        """Scratch is gone, but a committed tensor that was put aside is back if its name is free."""
        state = self
        for name, tensor in self.tensors.items():
            if is_scratch(name):
                state = state.drop(name)
                if tensor.home and tensor.home not in self.tensors:
                    state = state.put(**{tensor.home: tensor})
        return state


def is_scratch(name):
    return name.startswith(".") or name.endswith("~")


def read_source(source):
    tensors, metadata = reader.read(source)
    found = {}
    for tensor in tensors:
        with open(tensor["path"], "rb") as file:
            data = b"".join(reader.pieces(tensor, file))
        found[tensor["name"]] = (tensor["dtype"], tuple(int(n) for n in tensor["shape"]), data)
    return found, {os.path.basename(k): v for k, v in metadata.items() if v is not None}


def read_mount(mnt, single=None):
    """The same, of what a mount shows; `single` is the file's name where it is one."""
    found, metadata = {}, {}
    for directory, _, names in os.walk(mnt):
        for name in names:
            path = os.path.join(directory, name)
            if name == "__metadata__.json":
                with open(path, "rb") as file:
                    metadata = json.load(file)
            elif not is_scratch(name) and not name.endswith((".json", ".npy")):
                with open(path, "rb") as file:
                    data = file.read()
                with open(path + ".json", "rb") as file:
                    about = json.load(file)
                if "name" not in about:
                    raise reader.Invalid(f"{path}.json: {about}")
                found[about["name"]] = (about["dtype"], tuple(about["shape"]), data)
    if single:
        metadata = {single: metadata} if os.path.exists(os.path.join(mnt, "__metadata__.json")) else {}
    return found, metadata


def initial_state(source):
    tensors, metadata = read_source(source)
    return State({n: Tensor(d, t, s, n) for n, (t, s, d) in tensors.items()},
                 {n: (t, s) for n, (t, s, _) in tensors.items()}, metadata)


# ---- edits ----


def write_once(path, data, flags=os.O_WRONLY | os.O_TRUNC | os.O_CREAT):
    """All of it in one write; the error is the write's, or close's."""
    fd = os.open(path, flags, 0o644)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(5, "short write", path)
    except OSError:
        os.close(fd)
        raise
    os.close(fd)


class Edit(NamedTuple):
    what: str
    name: str = ""
    arguments: tuple = ()

    def __str__(self):
        short = [f"{len(a)} bytes" if isinstance(a, bytes) else str(a) for a in self.arguments]
        return " ".join([self.what, self.name, *short])

    def apply(self, state):
        """The state after it, or None if it cannot be made there."""
        return getattr(self, "apply_" + self.what)(state, *self.arguments)

    def make(self, mnt):
        getattr(self, "make_" + self.what)(mnt, os.path.join(mnt, self.name), *self.arguments)

    def apply_create(self, state):
        return None if self.name in state.tensors else state.put(**{self.name: Tensor(b"")})

    def make_create(self, mnt, path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))

    def apply_write(self, state, offset, data):
        tensor = state.tensors.get(self.name)
        if not tensor:
            return None
        old = tensor.data.ljust(offset, b"\0")
        data = old[:offset] + data + old[offset + len(data):]
        return state.put(**{self.name: tensor._replace(data=data)})

    def make_write(self, mnt, path, offset, data):
        fd = os.open(path, os.O_WRONLY)
        try:
            if os.pwrite(fd, data, offset) != len(data):
                raise OSError(5, "short write", path)
        finally:
            os.close(fd)

    def apply_truncate(self, state, size):
        tensor = state.tensors.get(self.name)
        if not tensor:
            return None
        return state.put(**{self.name: tensor._replace(data=tensor.data[:size].ljust(size, b"\0"))})

    def make_truncate(self, mnt, path, size):
        os.truncate(path, size)

    def apply_declare(self, state, dtype, shape):
        tensor = state.tensors.get(self.name)
        return tensor and state.put(**{self.name: tensor._replace(dtype=dtype, shape=shape)})

    def make_declare(self, mnt, path, dtype, shape):
        write_once(path + ".json", json.dumps({"dtype": dtype, "shape": shape}).encode())

    def apply_zeros(self, state, dtype, shape):
        if self.name in state.tensors:
            return None
        size = reader.BITS[dtype] // 8
        for n in shape:
            size *= n
        return state.put(**{self.name: Tensor(bytes(size), dtype, shape)})

    make_zeros = make_declare

    def apply_npy(self, state, shape, data):
        """A U8 array that is written complete."""
        home = state.tensors[self.name].home if self.name in state.tensors else None
        return state.put(**{self.name: Tensor(data, "U8", shape, home)})

    def make_npy(self, mnt, path, shape, data):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape!r}, }}"
        header = header.ljust(117) + "\n"
        write_once(path + ".npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode() + data)

    def apply_rename(self, state, to):
        tensor = state.tensors.get(self.name)
        return tensor and state.drop(self.name).put(**{to: tensor})

    def make_rename(self, mnt, path, to):
        os.rename(path, os.path.join(mnt, to))

    def apply_rename_all(self, state, to):
        """A directory of layout=tree."""
        moved = {n: t for n, t in state.tensors.items() if n.startswith(self.name + ".")}
        new = {to + n[len(self.name):]: t for n, t in moved.items()}
        return state.drop(*moved).put(**new) if moved else None

    def make_rename_all(self, mnt, path, to):
        os.rename(os.path.join(mnt, *self.name.split(".")), os.path.join(mnt, *to.split(".")))

    def apply_remove(self, state):
        return state.drop(self.name) if self.name in state.tensors else None

    def make_remove(self, mnt, path):
        os.unlink(path)

    def apply_metadata(self, state, metadata):
        return state._replace(metadata=metadata)

    def make_metadata(self, mnt, path, metadata):
        text = metadata
        if list(metadata) == [self.name]:  # a file's is an object of strings
            text = metadata[self.name]
        write_once(os.path.join(mnt, "__metadata__.json"), json.dumps(text).encode())

    # What makes everything durable, and a commit.

    def apply_sync(self, state):
        return state

    def make_sync(self, mnt, path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def apply_commit(self, state):
        return state.committed()

    def make_commit(self, mnt, path):
        fd = os.open(os.path.join(mnt, ".safetensorfs", "commit"), os.O_WRONLY)
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)

    def is_barrier(self):
        return self.what in ("sync", "commit")


def prefixes(pending):
    """The edits up to each one, the longest first; a write may be several requests of the kernel, each of
    which ends with a page."""
    for n in range(len(pending), 0, -1):
        edit = pending[n - 1]
        yield pending[:n]
        if edit.what != "write":
            continue
        offset, data = edit.arguments
        for at in range((offset // PAGE + 1) * PAGE, offset + len(data), PAGE):
            yield [*pending[:n - 1], edit._replace(arguments=(offset, data[:at - offset]))]
    yield []


def outcomes(certain, pending, found=None):
    """The states that may be there after a crash: the certain one, and after it the edits up to some one.
    They end with the one that recovery makes what was `found`, if there is one."""
    pending = [e for e in pending if not e.is_barrier() or e.what == "commit"]
    for made in prefixes(pending):
        state = certain
        for edit in made:
            state = state and edit.apply(state)
        if not state:
            continue
        yield state
        if found and state.after_death().content() == found:
            return


def differs(wanted, found):
    """In words, for a report."""
    (tensors, metadata), (have, other) = wanted, found
    says = [f"{n}: missing" for n in tensors if n not in have]
    says += [f"{n}: not expected" for n in have if n not in tensors]
    for name in tensors:
        if name not in have or tensors[name] == have[name]:
            continue
        (dtype, shape, data), (d, s, b) = tensors[name], have[name]
        if (dtype, shape) != (d, s) or len(data) != len(b):
            says.append(f"{name}: {d} {s} of {len(b)} bytes, expected {dtype} {shape} of {len(data)}")
        else:
            at = len(os.path.commonprefix([data, b]))
            says.append(f"{name}: differs from byte {at} on (block {at // BLOCK})")
    if metadata != other:
        says.append(f"metadata {other}, expected {metadata}"[:300])
    return "; ".join(says[:6]) + (f"; and {len(says) - 6} more" if len(says) > 6 else "")


# ---- random scripts ----


class Script:
    """Random edits of a state, so that what is to be committed has no problems."""

    def __init__(self, rng, state, anchors, sizes):
        """`anchors`: a tensor by shard, which stays so that the shard is one of the checkpoint's."""
        self.rng, self.state, self.anchors, self.sizes = rng, state, anchors, sizes
        self.number = 0
        self.edits = []

    def add(self, *edit):
        edit = Edit(*edit)
        state = edit.apply(self.state)
        if state is not None:
            self.state = state
            self.edits.append(edit)

    def bytes(self, size):
        """Not random: a block that is found elsewhere should tell where it is from."""
        self.number += 1
        return (struct.pack("<HH", self.number, size & 0xffff) * (size // 4 + 1))[:size]

    def any(self):
        return self.rng.choice([n for n in self.state.tensors if not is_scratch(n)])

    def step(self):
        rng = self.rng
        if not any(e.is_barrier() for e in self.edits[-UNSYNCED:]):
            self.add("sync")
        what = rng.choices(["write", "truncate", "new", "npy", "zeros", "rename", "over", "remove",
                            "metadata", "declare", "sync"], [12, 5, 2, 2, 1, 1, 2, 1, 2, 2, 4])[0]
        name = self.any()
        size = len(self.state.tensors[name].data)
        fresh = f"n{len(self.edits)}"
        if what == "write":
            # One request: the kernel goes on with another after a page that was not written from its start.
            length = rng.choice([1, 100, 4096, BLOCK, BLOCK + 1, 2 * BLOCK])
            offset = rng.randrange(max(size, 1))
            offset -= offset % (PAGE if length > 1 else 1)
            self.add("write", name, (offset, self.bytes(max(1, min(length, size - offset)))))
        elif what == "truncate":
            self.add("truncate", name, (rng.choice([0, rng.randrange(self.sizes),
                                                    min(size, 5 * BLOCK + 100)]),))
        elif what == "new":
            self.add("create", fresh)
            self.add("write", fresh, (rng.choice([0, 3 * BLOCK + PAGE]), self.bytes(rng.randrange(1, BLOCK))))
        elif what == "npy":
            data = self.bytes(rng.randrange(1, 2 * BLOCK))
            self.add("npy", rng.choice([name, fresh]), ((len(data),), data))
        elif what == "zeros":
            self.add("zeros", fresh, ("F32", (rng.randrange(1, 100),)))
        elif what == "rename":
            if name not in self.anchors.values():
                self.add("rename", name, (fresh,))
        elif what == "over":
            other = self.any()
            if other != name and not {name, other} & set(self.anchors.values()):
                self.add("rename", name, (other,))
        elif what == "remove":
            if name not in self.anchors.values():
                self.add("remove", name)
        elif what == "metadata":
            name = next(iter(self.anchors)) if len(self.anchors) == 1 else ""
            self.add("metadata", name, ({shard: {"k": fresh} for shard in self.anchors},))
        elif what == "declare":
            if not self.state.is_problem(name):
                self.add("declare", name, ("U8", (1, size)))
        else:
            self.add("sync", rng.choice(["", name, name + ".json"]))

    def commit(self):
        for name in self.state.problems():
            self.add("declare", name, ("U8", (len(self.state.tensors[name].data),)))
        self.add("commit")
