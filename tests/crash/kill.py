"""kill -9 of the daemon at each of its system calls, on real mounts.

usage: kill.py WORK SCENARIO RUNS

Runs a scenario's edits with a daemon that dies at the k-th call that changes a file or makes it
durable (calls.c), for RUNS values of k, or for all of them if RUNS is 0: in front of the call, or with a
write torn between two sectors. `recover` is killed, too, at some call of its own. Then everything that
was acknowledged has to be there, what was under way as a whole or not at all, and the checkpoint valid.
The last line counts.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import edits
import recovery
from edits import BLOCK, Edit, reader
from recovery import BINARY, SLOW

SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
MAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "make-checkpoint")
SHOWN = 6
DEAD = {107, 103, 2, 5, 108}  # ENOTCONN, ECONNABORTED, ENOENT, EIO, ESHUTDOWN


def filled(n, size):
    return bytes([n]) * size


def write(name, offset, n, size):
    return Edit("write", name, (offset, filled(n, size)))


def tensors(*specifications):
    return [word for text in specifications for word in ("--tensor", text)]


SMALL = [*tensors("a:U8:[300]", "b:F32:[50]", "c:U8:[70000]"), "--metadata", "k=v"]
LARGE = tensors(f"a:U8:[{110 * BLOCK}]", f"b:U8:[{32 * BLOCK}]")
SPREAD = ["--shards", "3", *tensors("a:U8:[70000]", "b:F32:[17500]", "c:U8:[70000]")]
SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
EVERY = {shard: {"new": "value" * 30} for shard in SHARDS}
ONE_EACH = [write("a", 10, 1, 5), write("c", BLOCK, 2, 100), Edit("sync"), write("b", 0, 3, 4)]

# name: (what it does, arguments for make-checkpoint, options, edits)
SCENARIOS = {
    "blocks": ("file", LARGE, "", [
        write("a", 5 * BLOCK, 1, BLOCK), write("a", 20 * BLOCK, 2, BLOCK),
        Edit("truncate", "a", (5 * BLOCK + 100,)), write("b", 0, 3, BLOCK), Edit("truncate", "a", (110 * BLOCK,)),
        *(write("a", i * BLOCK + 4096, 10 + i, 2 * BLOCK) for i in range(0, 108, 9)),
        Edit("truncate", "a", (70 * BLOCK + 1,)), Edit("sync"), write("b", 9 * BLOCK - 8192, 4, 16384),
        Edit("truncate", "a", (110 * BLOCK,)), Edit("sync", "b"), write("a", 69 * BLOCK, 5, 3 * BLOCK)]),
    "over": ("file", SMALL, "", [
        Edit("create", "n"), write("n", 0, 1, BLOCK + 9), Edit("hold", "a"), Edit("rename", "n", ("a",)),
        Edit("declare", "a", ("U8", (BLOCK + 9,))), Edit("held"), Edit("hold", "b"), Edit("rename", "c", ("b",)),
        Edit("held"), Edit("hold", "b"), Edit("npy", "b", ((9,), filled(2, 9))), Edit("held"),
        Edit("hold", "b"), Edit("remove", "b"), Edit("held"), Edit("commit"), Edit("rename", "a", ("z",))]),
    "views": ("shards", SPREAD, "", [
        Edit("metadata", "", (EVERY,)), Edit("zeros", "z", ("F32", (5, 3))), Edit("metadata", "", ({},)),
        Edit("npy", "y", ((BLOCK + 1,), filled(7, BLOCK + 1))), Edit("sync"), Edit("metadata", "", (EVERY,)),
        Edit("declare", "z", ("U8", (60,)))]),
    "aside": ("file", SMALL, "", [
        write("a", 0, 1, 10), Edit("rename", "a", ("a~",)), Edit("create", "a"), write("a", 0, 2, 300),
        Edit("remove", "a~"), Edit("rename", "c", (".c.swp",)), Edit("rename", ".c.swp", ("c",)),
        Edit("rename", "b", ("b~",)), Edit("sync")]),
    "tree": ("file", ["--metadata", "k=v", *tensors(*(f"m.l.{i}:U8:[2]" for i in range(3000)))],
             ",layout=tree", [Edit("rename_all", "m.l", ("m.k",))]),
    "commit": ("file", SMALL, "", [*ONE_EACH, Edit("commit"), *ONE_EACH]),
    "inplace": ("inplace", SMALL, ",commit=inplace", [*ONE_EACH, Edit("commit"), *ONE_EACH]),
    "shards": ("shards", SPREAD, "", [
        *ONE_EACH, Edit("rename", "a", ("x",)), Edit("commit"), *(e for e in ONE_EACH if e.name != "a")]),
}


class Run:
    """One life of a daemon."""

    def __init__(self, work, name):
        self.how, self.arguments, self.options, self.edits = SCENARIOS[name]
        self.work, self.mnt = work, os.path.join(work, "mnt")
        self.calls = os.path.join(work, "calls")
        name = "dir" if self.how == "shards" else "model.safetensors"
        self.template = os.path.join(work, "template", name)
        self.source = os.path.join(work, "data", name)
        os.makedirs(self.mnt)
        os.makedirs(os.path.dirname(self.template))
        subprocess.run([sys.executable, MAKE, self.template, *self.arguments], check=True,
                       stdout=subprocess.DEVNULL)
        self.states = [edits.initial_state(self.template)]
        for edit in self.edits:
            state = self.states[-1]
            self.states.append(state if edit.what in ("hold", "held") else edit.apply(state))
        self.held = []

    def fresh(self):
        with open(self.calls, "wb"):
            pass
        shutil.rmtree(os.path.dirname(self.source), ignore_errors=True)
        shutil.copytree(os.path.dirname(self.template), os.path.dirname(self.source))

    def environment(self, at, how):
        return {**os.environ, "LD_PRELOAD": os.environ["CRASH_CALLS"], "CRASH_AT": str(at),
                "CRASH_HOW": how, "CRASH_COUNT": self.calls,
                "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}

    def live(self, at, how):
        """Run with a death at that call. (number of acknowledged edits, whether it died)."""
        self.fresh()
        with open(os.path.join(self.work, "daemon.log"), "wb") as log:
            daemon = recovery.start(self.source, self.mnt, "edit" + self.options, log,
                                    env=self.environment(at, how))
            done = 0
            try:
                # It may die before it has mounted.
                for edit in self.edits if os.path.ismount(self.mnt) else []:
                    self.make(edit)
                    done += 1
            except OSError as error:
                if error.errno not in DEAD or not self.is_dying(daemon):
                    raise recovery.Wrong(f"{edit}: {error}") from None
            finally:
                self.let_go()
                status = self.finish(daemon)
        if status not in (0, -signal.SIGKILL):
            raise recovery.Wrong(f"the daemon's exit status is {status}: {self.said()}")
        return done, status != 0

    def is_dying(self, daemon):
        try:
            daemon.wait(10 * SLOW)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self, daemon):
        try:
            # What was closed last may be in use for a moment yet.
            recovery.wait_for(lambda: daemon.poll() is not None or subprocess.run(
                ["umount", self.mnt], check=False, stderr=subprocess.DEVNULL).returncode == 0, "unmounting")
            return daemon.wait(60 * SLOW)
        except subprocess.TimeoutExpired:
            raise recovery.Wrong("the daemon does not end: " + self.said()) from None
        finally:
            recovery.end(daemon, self.mnt)

    def said(self):
        with open(os.path.join(self.work, "daemon.log"), errors="replace") as file:
            return file.read()[-1000:]

    # A tensor that is removed or replaced keeps its bytes for whoever has it or a view of it open.

    def make(self, edit):
        if edit.what == "hold":
            for suffix in ("", ".npy", ".f32.npy"):
                path = os.path.join(self.mnt, edit.name + suffix)
                if os.path.exists(path):
                    fd = os.open(path, os.O_RDONLY)
                    self.held.append((fd, edit.name + suffix, os.pread(fd, 1 << 20, 0)))
        elif edit.what == "held":
            for fd, name, data in self.held:
                found = os.pread(fd, 1 << 20, 0)
                if found != data or os.fstat(fd).st_size != len(data):
                    raise recovery.Wrong(f"{name}, held open: {len(found)} bytes that were {len(data)}, "
                                         "or others")
            self.let_go()
        else:
            edit.make(self.mnt)

    def let_go(self):
        for fd, _, _ in self.held:
            try:
                os.close(fd)
            except OSError:
                pass
        self.held = []

    def judge(self, done, recover_at):
        pending = self.edits[done:done + 1] or [Edit("commit")]
        if pending[0].what in ("hold", "held"):
            pending = []
        commits = [i for i, e in enumerate(self.edits[:done]) if e.what == "commit"]
        old = self.states[commits[-1] + 1 if commits else 0]
        crash = recovery.Crash(self.states[done], pending, self.mnt, self.how, old)
        if recover_at:
            crash.judge_source(self.source)
            recovery.run(BINARY, "recover", self.source, env=self.environment(recover_at, "before"))
            crash.pending, crash.recovering = [*pending, Edit("commit")], True
        crash.judge(self.source)


def main():
    work, name, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rng = random.Random(SEED)
    run = Run(work, name)
    begin = time.monotonic()
    tried = bad = 0
    try:
        run.live(0, "before")
        total = os.path.getsize(run.calls)
    except recovery.Wrong as error:
        print(f"BAD: {name}, without a death: {error}")
        total, bad = 60, 1
    turns = [(k, how) for how in ("before", "torn") for k in range(1, total + 1)]
    if runs and name in ("blocks", "tree"):
        runs = max(runs // 3, 1)  # they take so much longer
    if runs:
        turns = sorted(rng.sample(turns, min(runs, len(turns))))
    for at, how in turns:
        recover_at = rng.choice([0, rng.randrange(1, 12)])
        tried += 1
        try:
            done, died = run.live(at, how)
            run.judge(done, recover_at if died else 0)
        except (recovery.Wrong, OSError, reader.Invalid) as error:
            bad += 1
            if bad <= SHOWN:
                print(f"BAD: {name}, {how} call {at} of {total}, recover killed at {recover_at}: {error}",
                      flush=True)
    print(f"{name}: {tried} kills at {total} calls, {bad} bad; CRASH_SEED={SEED}; "
          f"{time.monotonic() - begin:.1f} s")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
