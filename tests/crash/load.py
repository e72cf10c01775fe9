"""Crashes under load: kill -9 of the daemon.

usage: load.py WORK OPTIONS SOURCE     CRASH_ROUNDS rounds in WORK

SOURCE is `file`, or `shards` for a directory of three with an index.

Writers put numbers, each one higher than the last, into slots of their tensors, and note what was
acknowledged; others rename, declare, sync and commit meanwhile. After the crash

- the source, before anything is recovered, is valid, and what one commit took: in each tensor the
  numbers up to some one, with nothing missing (unless it is written in place, which recovery redoes);
- after recovery, by a mount or by `recover`, every number that was acknowledged is there, and no number
  is there that was never written.
"""

import contextlib
import errno
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracles"))
import reader  # noqa: E402

BINARY = os.environ["SAFETENSORFS"]
SLOW = int(os.environ.get("SFT_SLOW", "1"))
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
ROUNDS = int(os.environ.get("CRASH_ROUNDS") or 48 // SLOW)
WRITERS = 2
SLOTS = 50_000  # of 8 bytes: several blocks
STRIDE = 7919  # from one number's slot to the next one's; prime to SLOTS
DEAD = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENOENT, errno.EROFS, errno.ESHUTDOWN,
        errno.ENODEV}


class Failed(Exception):
    """Something that has to hold after a crash does not."""


def expect(condition, *message):
    if not condition:
        raise Failed(" ".join(map(str, message)))


def run(*command, **options):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **options)


def umount(directory):
    """Somebody may be looking at it just now."""
    end = time.monotonic() + 60 * SLOW
    while subprocess.run(["umount", directory], check=False, stderr=subprocess.DEVNULL).returncode:
        expect(time.monotonic() < end, f"{directory} cannot be unmounted")
        time.sleep(0.01)


def prefix(count):
    """What a tensor holds after the numbers 1 to count."""
    slots = np.zeros(SLOTS, "<u8")
    first = max(count - SLOTS, 0) + 1
    numbers = np.arange(first, count + 1, dtype="u8")
    slots[numbers * STRIDE % SLOTS] = numbers
    return slots


def write_once(path, data):
    """Write a file anew. Where the write fails, that is the error, whatever close says then."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(fd, data)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise error
    os.close(fd)


class Writer:
    """One thread that writes numbers into one tensor."""

    def __init__(self, test, name):
        self.test, self.name = test, name
        self.issued = self.acknowledged = 0
        self.error = None

    def begin(self, count):
        self.issued = self.acknowledged = count

    def run(self):
        try:
            fd = os.open(os.path.join(self.test.mnt, self.name), os.O_WRONLY)
        except OSError as error:
            self.note(error)
            return
        rng = random.Random(self.issued)
        try:
            while not self.test.stopped:
                self.issued += 1
                slot = self.issued * STRIDE % SLOTS
                os.pwrite(fd, struct.pack("<Q", self.issued), slot * 8)
                self.acknowledged = self.issued
                if rng.random() < 0.01:
                    self.sync(fd, rng.choice(["tensor", "sidecar", "root"]))
        except OSError as error:
            self.note(error)
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)

    def sync(self, fd, what):
        """Each of them makes every edit durable that was made before."""
        if what == "tensor":
            os.fsync(fd)
            return
        path = self.test.mnt if what == "root" else os.path.join(self.test.mnt, self.name + ".json")
        other = os.open(path, os.O_RDONLY)
        try:
            os.fsync(other)
        finally:
            os.close(other)

    def note(self, error):
        if not self.test.expects(error):
            self.error = error

    def check(self, data, least):
        """The numbers are there, at least up to that one, and those that are were written."""
        slots = np.frombuffer(data, "<u8")
        top = int(slots.max())
        expect(least <= top <= self.issued, f"{self.name}: numbers up to {top}, expected {least} to "
               f"{self.issued}")
        holes = np.setdiff1d(prefix(top), slots)
        expect(np.array_equal(slots, prefix(top)), f"{self.name}: {len(holes)} holes below {top}, {least} "
               f"at least: {holes[:20].tolist()}")
        return top


class Changer:
    """A thread that renames a tensor there and back, or declares it now so, now so."""

    def __init__(self, test):
        self.test = test
        self.error = None
        self.states = [("r.a", "[64]"), ("r.b", "[64]"), ("r.b", "[8,8]"), ("r.a", "[8,8]")]
        self.at = self.issued = 0

    def run(self):
        try:
            while not self.test.stopped:
                self.issued = (self.at + 1) % len(self.states)
                (old, _), (new, shape) = self.states[self.at], self.states[self.issued]
                if old != new:
                    os.rename(os.path.join(self.test.mnt, old), os.path.join(self.test.mnt, new))
                else:
                    write_once(os.path.join(self.test.mnt, new + ".json"),
                               f'{{"dtype":"U8","shape":{shape}}}'.encode())
                self.at = self.issued
        except OSError as error:
            if not self.test.expects(error):
                self.error = error

    def check(self, name, shape):
        """The state is the one acknowledged or the one under way."""
        allowed = {self.at, self.issued}
        found = [i for i in allowed if self.states[i] == (name, shape)]
        expect(found, f"{name} {shape}, expected one of", [self.states[i] for i in allowed])
        self.at = self.issued = found[0]


class Test:
    def __init__(self, work, options, source):
        self.work, self.options = work, options
        self.mnt = os.path.join(work, "mnt")
        self.directory = os.path.join(work, "disk")
        self.shards = ["--shards", "3"] if source == "shards" else []
        self.source = os.path.join(self.directory, "source" + ("" if self.shards else ".safetensors"))
        self.rng = random.Random(SEED)
        self.writers = [Writer(self, f"w{i}") for i in range(WRITERS)]
        self.changer = Changer(self)
        self.stopped = False
        self.commits = 0
        self.committing = False
        self.met = 0  # crashes that met a commit
        self.daemon = None
        os.makedirs(self.mnt)
        os.makedirs(self.directory)
        self.log = open(os.path.join(work, "crash.log"), "wb")

    def expects(self, error):
        """Whether an operation may fail so."""
        return error.errno in DEAD

    def make_source(self):
        make = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "make-checkpoint")
        tensors = [f"w{i}:U64:[{SLOTS}]" for i in range(WRITERS)]
        arguments = [a for t in [*tensors, "r.a:U8:[64]"] for a in ("--tensor", t)]
        run(sys.executable, make, self.source, *arguments, *self.shards, "--sparse", "--odd",
            stdout=self.log)
        
    def said(self):
        with open(self.log.name, "rb") as file:
            return file.read()[-1500:].decode(errors="replace")

    def start(self):
        self.daemon = subprocess.Popen([BINARY, self.source, self.mnt, "-f", "-o", self.options],
                                       stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 60 * SLOW
        while not os.path.ismount(self.mnt):
            expect(self.daemon.poll() is None, "the mount failed:", self.said())
            expect(time.monotonic() < end, "mounting takes too long")
            time.sleep(0.002)

    def end(self):
        """The daemon is gone, and so is its mount."""
        self.daemon.kill()
        self.daemon.wait()
        subprocess.run(["umount", "-lq", self.mnt], check=False)

    def commit_until_dead(self):
        # Not all the time, so that crashes meet edits without a commit, too.
        while not self.stopped:
            time.sleep(self.rng.random() * 0.05)
            self.committing = True
            try:
                with open(os.path.join(self.mnt, ".safetensorfs/commit"), "wb", buffering=0) as file:
                    file.write(b"1")
            except OSError as error:
                if not self.expects(error):
                    self.changer.error = error
                return
            self.committing = False
            self.commits += 1

    def load(self, crash):
        """Run everything at once, and crash after a while."""
        self.stopped = False
        self.committing = False
        targets = [w.run for w in self.writers] + [self.changer.run, self.commit_until_dead]
        threads = [threading.Thread(target=t) for t in targets]
        for thread in threads:
            thread.start()
        time.sleep(self.rng.random() * 0.3 * SLOW)
        self.met += self.committing
        crash()
        for thread in threads:
            thread.join()
        for worker in [*self.writers, self.changer]:
            expect(worker.error is None, f"{type(worker).__name__}: {worker.error!r}")

    # ---- after the crash ----

    def check_source(self):
        """Old or new: whatever a commit was doing, what is there is one state."""
        if "inplace" in self.options:
            return
        try:
            tensors, _ = reader.read(self.source)
        except reader.Invalid as error:
            raise Failed(f"the source is not valid: {error}") from None
        for tensor, data in self.contents(tensors):
            for writer in self.writers:
                if tensor["name"] == writer.name:
                    writer.check(data, 0)

    def contents(self, tensors):
        for tensor in tensors:
            with open(tensor["path"], "rb") as file:
                yield tensor, b"".join(reader.pieces(tensor, file))

    def check_tensors(self, tensors):
        """Everything that has to be there is: (name, shape, bytes) of all tensors."""
        found = {name: data for name, _, data in tensors}
        for writer in self.writers:
            writer.begin(writer.check(found[writer.name], writer.acknowledged))
        for name, shape, _ in tensors:
            if name.startswith("r."):
                self.changer.check(name, shape.replace(" ", ""))
        expect(len(tensors) == WRITERS + 1, "tensors", [t[0] for t in tensors])

    def shown(self):
        tensors = []
        for name in os.listdir(self.mnt):
            if not name.endswith(".json"):
                with open(os.path.join(self.mnt, name), "rb") as file:
                    data = file.read()
                with open(os.path.join(self.mnt, name + ".json"), "rb") as file:
                    tensors.append((name, json.dumps(json.load(file)["shape"]), data))
        return tensors

    def committed(self):
        tensors, _ = reader.read(self.source)
        return [(t["name"], json.dumps(t["shape"]), data) for t, data in self.contents(tensors)]

    def recover(self):
        self.check_source()
        if self.rng.random() < 0.5:
            run(BINARY, "recover", self.source, stdout=self.log, stderr=self.log)
            self.check_tensors(self.committed())
            self.start()
        else:
            self.start()
            self.check_tensors(self.shown())
        # With nothing staged so far there is no staging directory either, or an empty one.
        directory = self.source if self.shards else self.directory
        files = [n for n in os.listdir(directory) if not n.endswith("safetensorfs")]
        expect(len(files) == (4 if self.shards else 1), "files left behind:", files)

    def finish(self):
        umount(self.mnt)
        expect(self.daemon.wait(60 * SLOW) == 0, "the last unmount:", self.said())
        self.check_tensors(self.committed())
        run(BINARY, "check", "-q", self.source)


def kill(test):
    test.make_source()
    test.start()
    for number in range(ROUNDS):
        try:
            test.load(test.daemon.kill)
            test.end()
            test.recover()
        except Failed as error:
            raise Failed(f"round {number}: {error}") from None
    test.finish()
    print(f"{ROUNDS} kills, {test.met} of them in a commit; {test.commits} commits, "
          f"{sum(w.issued for w in test.writers)} writes")


def main():
    work, options, source = sys.argv[1:]
    # A child that is stopped by SIGTERM is not to leave mounts behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    test = Test(work, options, source)
    print(f"CRASH_SEED={SEED}: {options}, {source}", flush=True)
    try:
        kill(test)
    except (Failed, OSError, subprocess.CalledProcessError) as error:
        print(f"FAILED: {error}\n{test.said()}")
        sys.exit(1)
    finally:
        if test.daemon:
            test.end()


main()
