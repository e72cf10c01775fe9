"""A disk that is full at each byte of what a request appends to the journal.

usage: full.py WORK REQUEST TRIES

WORK is a file system in memory that nobody else uses. A request of several changes is made TRIES times, or
once for each byte that it appends if TRIES is 0, with just so much room for the staging that it ends there:
the request is refused as a whole, or made. What the mount shows then is what is there after a death and a recovery, or
what a commit takes once there is room. The last line counts.
"""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import edits
import recovery
from edits import Edit
from recovery import BINARY

SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
MAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "make-checkpoint")
SHOWN = 6
PAGE = os.sysconf("SC_PAGESIZE")
SCARCE = 12  # pages
FILE = ["--tensor", "a:U8:[300]", "--tensor", "b:F32:[50]", "--tensor", "c:U8:[70]", "--metadata", "k=v"]
SHARDS = ["--shards", "3", *(a for t in "abc" for a in ("--tensor", f"{t}:U8:[7000]"))]
SHARD_NAMES = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
NEW = [Edit("create", "n"), Edit("write", "n", (0, b"new" * 100)), Edit("declare", "n", ("U8", (300,)))]

# name: (arguments for make-checkpoint, options, what comes first, the tensor that is open, the request)
REQUESTS = {
    "over": (FILE, "", NEW, "a", Edit("rename", "n", ("a",))),
    "committed-over": (FILE, "", [], "a", Edit("rename", "c", ("a",))),
    "aside": (FILE, "", [], None, Edit("rename", "a", ("a~",))),
    "remove": (FILE, "", NEW, "a", Edit("remove", "a")),
    "npy": (FILE, "", [], "c", Edit("npy", "c", ((9,), b"9 bytes, "))),
    "zeros": (FILE, "", [], None, Edit("zeros", "z", ("F32", (3, 5)))),
    "shards": (SHARDS, "", [], None, Edit("metadata", "", ({s: {"a": "b" * 50} for s in SHARD_NAMES},))),
    "tree": (["--metadata", "k=v", *(a for i in range(400) for a in ("--tensor", f"m.l.{i}:U8:[2]"))],
             ",layout=tree", [], None, Edit("rename_all", "m.l", ("m.k",))),
}


class Disk:
    """The file system of the staging, full up to so many bytes."""

    def __init__(self, work):
        self.ballast = os.path.join(work, "ballast")

    def fill(self, pages):
        """Leave so many pages free."""
        page, size = bytes(PAGE), 0
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while True:
                    size += file.write(page)
            except OSError:
                file.truncate(max(size - pages * PAGE, 0))

    def free(self):
        if os.path.exists(self.ballast):
            os.unlink(self.ballast)


class Try:
    def __init__(self, work, name):
        arguments, self.options, self.first, self.open, self.request = REQUESTS[name]
        self.work = work
        self.how = "shards" if "--shards" in arguments else "file"
        self.small = os.path.join(work, "small")
        self.staging, self.mnt = os.path.join(self.small, "stage"), os.path.join(work, "mnt")
        self.source = os.path.join(work, "data", "dir" if self.how == "shards" else "model.safetensors")
        self.template = os.path.join(work, "template")
        for directory in (self.small, self.mnt, os.path.dirname(self.source)):
            os.makedirs(directory)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", self.small], check=True)
        self.disk = Disk(self.small)
        subprocess.run([sys.executable, MAKE, self.source, *arguments], check=True, stdout=subprocess.DEVNULL)
        shutil.copytree(os.path.dirname(self.source), self.template)
        self.initial = edits.initial_state(self.source)
        self.room = self.append = 0
        # Without a limit: where the journal ends, and how much the request appends.
        self.once(0, None, "commit")

    def pad(self, size):
        """An edit whose record is so much longer."""
        shard = SHARD_NAMES[0] if self.how == "shards" else "model.safetensors"
        name = "" if self.how == "shards" else shard
        return Edit("metadata", name, ({shard: {"pad": "p" * size}},))

    def journal(self):
        return os.path.getsize(os.path.join(self.staging, "journal"))

    def once(self, pad, pages, way):
        """Whether it was refused. Raises what is wrong."""
        self.disk.free()
        shutil.rmtree(self.staging, ignore_errors=True)
        shutil.rmtree(os.path.dirname(self.source))
        shutil.copytree(self.template, os.path.dirname(self.source))
        with open(os.path.join(self.work, "daemon.log"), "wb") as log:
            daemon = recovery.start(self.source, self.mnt, f"edit,staging={self.staging}{self.options}", log)
        held = None
        # So little that the journal is not given room in advance.
        if pages is not None:
            self.disk.fill(SCARCE)
        try:
            state = self.initial
            for edit in [*self.first, self.pad(pad)]:
                edit.make(self.mnt)
                state = edit.apply(state)
            if self.open:
                held = os.open(os.path.join(self.mnt, self.open), os.O_RDONLY)
            self.end = self.journal()
            state, refused = self.ask(state, pages)
            if pages is None:
                self.append = self.journal() - self.end
            self.shown(state)
            self.disk.free()
            if held is not None:
                os.close(held)
                held = None
            self.settle(daemon, state, way)
        finally:
            if held is not None:
                os.close(held)
            recovery.end(daemon, self.mnt)
        return refused

    def ask(self, state, pages):
        if pages is not None:
            self.disk.fill(pages)
        try:
            self.request.make(self.mnt)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise recovery.Wrong(f"the request: {error}") from None
            return state, True
        return self.request.apply(state), False

    def shown(self, state):
        name = os.path.basename(self.source) if self.how == "file" else None
        found = edits.read_mount(self.mnt, name)
        if state.content() != found:
            raise recovery.Wrong("shown: " + edits.differs(state.content(), found))

    def settle(self, daemon, state, way):
        """With room again: a commit, or a death and a recovery."""
        if way == "commit":
            status, said = recovery.run(BINARY, "commit", self.mnt)
            if status:
                raise recovery.Wrong(f"commit: exit status {status}: {said}")
        else:
            recovery.end(daemon, self.mnt)
            state = state.after_death()
            status, said = recovery.run(BINARY, "recover", self.source, "-o", "staging=" + self.staging)
            if status:
                raise recovery.Wrong(f"recover: exit status {status}: {said}")
        found = edits.read_source(self.source)
        if state.content() != found:
            raise recovery.Wrong(f"{way}: " + edits.differs(state.content(), found))


def main():
    work, name, tries = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rng = random.Random(SEED)
    begin = time.monotonic()
    attempt = Try(work, name)
    rooms = range(attempt.append)
    if tries and tries < len(rooms):
        rooms = sorted(rng.sample(rooms, tries))
    bad = refused = 0
    base = attempt.end % PAGE
    for room in rooms:
        # The journal ends so many bytes in front of the end of its page, and so many pages are free.
        pages, rest = divmod(room, PAGE)
        pad, way = (PAGE - rest - base) % PAGE, rng.choice(["commit", "recover"])
        try:
            refused += attempt.once(pad, pages, way)
        except (recovery.Wrong, OSError, edits.reader.Invalid) as error:
            bad += 1
            if bad <= SHOWN:
                print(f"BAD: {name}, room for {room} of {attempt.append} bytes: {error}", flush=True)
    attempt.disk.free()
    print(f"{name}: {len(rooms)} tries of {attempt.append} bytes, {refused} refused, {bad} bad; "
          f"CRASH_SEED={SEED}; {time.monotonic() - begin:.1f} s")
    subprocess.run(["umount", attempt.small], check=False)
    # What is never refused was no test.
    sys.exit(1 if bad or not refused else 0)


if __name__ == "__main__":
    main()
