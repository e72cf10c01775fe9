"""Power cuts, by block: what a disk may hold after any write, mounted, recovered and compared.

usage: power.py WORK KIND HOW STATES

KIND is ext4 or xfs; HOW is file, inplace or shards; STATES how many crash states to try at least.
An edit mount with staging and source on a logging disk (disk.c) is driven through a random script of
edits, fsyncs and commits. From the log come disks as a power cut may leave them: everything up to a flush, and
of what was written since any part, blocks and sectors torn. On each the file system recovers, then
`safetensorfs recover` runs, twice; what an fsync had acknowledged has to be there, each later edit
as a whole or not at all, and the checkpoint before it has to be the old one or the new one.

It is mounted where it was, or elsewhere, or its files have got other inode numbers meanwhile. From the
environment: CRASH_SEED repeats a script. The last line counts.
"""

import ctypes
import os
import random
import signal
import struct
import subprocess
import sys
import time

import edits
import recovery
from edits import BLOCK, reader
from recovery import SLOW, BINARY, unmount, wait_for

SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
SIZES = {"ext4": 64 << 20, "xfs": 300 << 20}  # XFS is never smaller
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E",
                 "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
        "xfs": ["mkfs.xfs", "-q", "-f", "-K"]}
WITHIN = 40  # crash states of one script
SHOWN = 6  # bad states that are reported with all that they are
libc = ctypes.CDLL(None, use_errno=True)


def call(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Unreadable(Exception):
    """The file system itself has not survived."""


def copy_sparse(source, target):
    with open(source, "rb") as a, open(target, "wb") as b:
        size, at = os.fstat(a.fileno()).st_size, 0
        b.truncate(size)
        while at < size:
            try:
                at = os.lseek(a.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(a.fileno(), at, os.SEEK_HOLE)
            b.seek(at)
            while at < end:
                n = os.sendfile(b.fileno(), a.fileno(), at, min(end - at, 1 << 30))
                at += n


def read_log(path):
    """(kind, offset, data) of each event."""
    with open(path, "rb") as file:
        while head := file.read(16):
            kind, length, offset = struct.unpack("<IIQ", head)
            yield chr(kind), offset, file.read(length) if kind != ord("f") else b""


class Recording:
    """One script of edits, as the disk saw it."""

    def __init__(self, work, kind, how, seed):
        self.work, self.kind, self.how = work, kind, how
        self.rng = random.Random(seed)
        self.base, self.log = os.path.join(work, "base"), os.path.join(work, "log")
        self.place = os.path.join(work, "disk")  # where the file system is mounted
        self.name = "dir" if how == "shards" else "model.safetensors"
        self.device, self.helpers, self.states = None, [], []
        os.makedirs(self.place, exist_ok=True)

    def source(self, place):
        return os.path.join(place, "data", self.name)

    def make_base(self):
        with open(self.base, "wb") as file:
            file.truncate(SIZES[self.kind])
        call(*MKFS[self.kind], self.base)
        call("mount", "-o", "loop", self.base, self.place)
        try:
            os.makedirs(os.path.join(self.place, "data"))
            make = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "make-checkpoint")
            tensors = {"a": 20 * BLOCK + 77, "b": 12 * BLOCK, "c": 300, "d": BLOCK}
            call(sys.executable, make, self.source(self.place), "--odd", "--metadata", "k=v",
                 *(a for n, size in tensors.items() for a in ("--tensor", f"{n}:U8:[{size}]")),
                 *(["--shards", "2"] if self.how == "shards" else []))
            self.state = edits.initial_state(self.source(self.place))
            tensors, _ = reader.read(self.source(self.place))
            self.anchors = {os.path.basename(t["file"]): t["name"] for t in tensors}
        finally:
            unmount(self.place)

    def script(self):
        script = edits.Script(self.rng, self.state, self.anchors, 24 * BLOCK)
        for part in range(3):
            for _ in range(self.rng.randrange(4, 14)):
                if self.how == "inplace" and part == 0:
                    name = script.any()
                    offset = self.rng.randrange(len(script.state.tensors[name].data))
                    script.add("write", name, (offset, script.bytes(1)))
                    if self.rng.random() < 0.3:
                        script.add("sync")
                else:
                    script.step()
            if part < 2:
                script.commit()
        return script.edits

    def run(self):
        self.make_base()
        disk, mnt = os.path.join(self.work, "fuse"), os.path.join(self.work, "mnt")
        image = os.path.join(self.work, "image")
        copy_sparse(self.base, image)
        os.makedirs(disk, exist_ok=True)
        os.makedirs(mnt, exist_ok=True)
        report = open(os.path.join(self.work, "daemon.log"), "ab")
        try:
            self.helpers.append(subprocess.Popen([os.environ["CRASH_DISK"], image, self.log, disk],
                                                 stdout=report, stderr=report))
            wait_for(lambda: os.path.ismount(disk), "the logging disk")
            self.device = subprocess.run(
                ["losetup", "--show", "-f", "--direct-io=on", os.path.join(disk, "disk")],
                check=True, capture_output=True, text=True).stdout.strip()
            call("mount", "-t", self.kind, self.device, self.place)
            options = "edit" + (",commit=inplace" if self.how == "inplace" else "")
            self.helpers.append(subprocess.Popen([BINARY, self.source(self.place), mnt, "-f", "-o", options],
                                                 stdout=report, stderr=report))
            wait_for(lambda: os.path.ismount(mnt) or self.helpers[1].poll() is not None, "the mount")
            self.edits = self.script()
            for number, edit in enumerate(self.edits):
                self.mark(disk, f"begin {number}")
                edit.make(mnt)
                self.mark(disk, f"end {number}")
                if self.rng.random() < 0.3:
                    self.write_back()
            self.mark(disk, "over")
        finally:
            self.stop(mnt, disk)
            report.close()
        self.states = [self.state]
        for edit in self.edits:
            self.states.append(edit.apply(self.states[-1]))

    def mark(self, disk, text):
        with open(os.path.join(disk, "mark"), "wb", buffering=0) as file:
            file.write(text.encode())

    def write_back(self):
        """What the kernel does by itself after a while: write, but flush nothing."""
        for directory, _, names in os.walk(os.path.join(self.place, "data")):
            for name in names if "safetensorfs" in directory else []:
                fd = os.open(os.path.join(directory, name), os.O_RDONLY)
                if self.rng.random() < 0.7:
                    libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), 7)
                os.close(fd)

    def stop(self, mnt, disk):
        if len(self.helpers) > 1:
            self.helpers[1].kill()
            self.helpers[1].wait()
            subprocess.run(["umount", "-lq", mnt], check=False)
        if os.path.ismount(self.place):
            unmount(self.place)
        if self.device:
            call("losetup", "-d", self.device)
        if self.helpers:
            # The loop device lets go of its file a little later.
            unmount(disk)
            self.helpers[0].wait()
        self.helpers, self.device = [], None


class Cuts:
    """The crash states of a recording."""

    def __init__(self, recording, rng):
        self.recording, self.rng = recording, rng
        self.durable = os.path.join(recording.work, "durable")
        self.image = os.path.join(recording.work, "state")
        self.begun, self.ended = -1, -1
        self.extra = []

    def each(self, count):
        """Yield (what it is, certain edits, begun edits); then self.image is the disk."""
        events = list(read_log(self.recording.log))
        # From where the mount was there on.
        first = next(i for i, e in enumerate(events) if e[0] == "m")
        last = max(i for i, e in enumerate(events) if e == ("m", 0, b"over"))
        flushes = [i for i, e in enumerate(events) if e[0] == "f" and first < i < last]
        at_flush = set(self.rng.sample(flushes, min(len(flushes), count // 3)))
        writes = [i for i, e in enumerate(events) if e[0] == "w" and first < i < last]
        between = set(self.rng.sample(writes, min(len(writes), count - len(at_flush))))
        pending, synced = [], 0
        copy_sparse(self.recording.base, self.durable)
        for number, (kind, offset, data) in enumerate(events[:last + 1]):
            if kind == "w":
                pending.append((offset, data))
                if number in between:
                    tear = self.rng.choice([0, 512, 4096])
                    self.build(self.subset(pending, tear))
                    yield f"event {number}, torn at {tear}" if tear else f"event {number}", synced
            elif kind == "f":
                with open(self.durable, "r+b") as file:
                    self.write(file, pending)
                pending = []
                if number in at_flush:
                    self.build([])
                    yield f"event {number}, a flush", synced
            else:
                synced = self.note(data.decode().split(), synced)

    def note(self, mark, synced):
        if mark[0] == "begin":
            self.begun = int(mark[1])
        elif mark[0] == "end":
            self.ended = int(mark[1])
            if self.recording.edits[self.ended].is_barrier():
                return self.ended + 1
        return synced

    def subset(self, pending, tear):
        keep = self.rng.choice([0.1, 0.5, 0.9])
        for offset, data in pending:
            step = tear or len(data)
            for at in range(0, len(data), step):
                if self.rng.random() < keep:
                    yield offset + at, data[at:at + step]

    def build(self, extra):
        self.extra = list(extra)
        self.rebuild()

    def rebuild(self):
        """The same disk once more."""
        copy_sparse(self.durable, self.image)
        with open(self.image, "r+b") as file:
            self.write(file, self.extra)

    @staticmethod
    def write(file, writes):
        for offset, data in writes:
            file.seek(offset)
            file.write(data)


class Judge:
    """Mounts a crash state's file system, and has the checkpoint on it recovered."""

    def __init__(self, recording, rng):
        self.recording, self.rng = recording, rng
        self.elsewhere = os.path.join(recording.work, "else", "where")
        self.mnt = os.path.join(recording.work, "mnt")
        os.makedirs(self.elsewhere, exist_ok=True)

    def judge(self, image, synced, begun):
        """(None or what is wrong, how it was mounted); Unreadable if the file system cannot be mounted."""
        ways = ["at the same path", "elsewhere"]
        edits_since = self.recording.edits[synced:begun + 1]
        # A file that is half written in place is known by its inode alone.
        if self.recording.how != "inplace" or all(e.what != "commit" for e in edits_since):
            ways.append("with other inode numbers")
        way = self.rng.choice(ways)
        place = self.elsewhere if way == "elsewhere" else self.recording.place
        status, said = recovery.run("mount", "-o", "loop", image, place)
        if status:
            raise Unreadable(said)
        try:
            source = self.recording.source(place)
            if way == "with other inode numbers":
                recovery.renumber(os.path.dirname(source))
            recovery.Crash(self.recording.states[synced], edits_since, self.mnt,
                           self.recording.how, self.old(synced)).judge(source)
            return None, way
        except (recovery.Wrong, OSError, reader.Invalid) as error:
            return str(error), way
        finally:
            recovery.unmount(place)

    def is_damaged(self, image):
        """Whether the file system itself has not survived, although it can be mounted: half a block of its own
        may be more than its journal makes up for. Mounting it replays that."""
        place = self.recording.place
        if recovery.run("mount", "-o", "loop", image, place)[0]:
            return True
        recovery.unmount(place)
        check = ["e2fsck", "-fn"] if self.recording.kind == "ext4" else ["xfs_repair", "-n"]
        return recovery.run(*check, image)[0] != 0

    def old(self, synced):
        """What was committed last."""
        commits = [i for i, e in enumerate(self.recording.edits[:synced]) if e.what == "commit"]
        return self.recording.states[commits[-1] + 1 if commits else 0]


def main():
    work, kind, how, wanted = sys.argv[1:4] + [int(sys.argv[4])]
    # What is stopped by SIGTERM is not to leave mounts behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    tried = bad = unreadable = 0
    seed = SEED
    begin = time.monotonic()
    while tried < wanted:
        recording = Recording(work, kind, how, seed)
        recording.run()
        rng = random.Random(seed)
        cuts, judge = Cuts(recording, rng), Judge(recording, rng)
        for what, synced in cuts.each(min(WITHIN, wanted - tried)):
            try:
                wrong, way = judge.judge(cuts.image, synced, cuts.begun)
            except Unreadable:
                unreadable += 1
                continue
            if wrong:
                cuts.rebuild()
                if judge.is_damaged(cuts.image):
                    unreadable += 1
                    continue
            tried += 1
            bad += wrong is not None
            if wrong and bad <= SHOWN:
                print(f"BAD: CRASH_SEED={seed}, {kind}, {how}, {what}, mounted {way}, edits up to "
                      f"{synced} of {cuts.begun + 1} are certain\n    {wrong}\n    since then: " +
                      "; ".join(map(str, recording.edits[synced:cuts.begun + 1])), flush=True)
        seed += 1
    # Torn sectors may be too much for the file system itself; that must stay the exception.
    print(f"{kind}, {how}: {tried} crash states of {seed - SEED} scripts, {bad} bad, {unreadable} that "
          f"{kind} cannot mount; CRASH_SEED={SEED}; {time.monotonic() - begin:.1f} s")
    sys.exit(1 if bad or unreadable > tried // 10 else 0)


if __name__ == "__main__":
    main()
