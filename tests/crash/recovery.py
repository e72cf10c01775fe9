"""What has to be there after a crash, once `safetensorfs recover` has run: for the tests of crashes."""

import os
import shutil
import subprocess
import time

import edits
from edits import reader

BINARY = os.environ["SAFETENSORFS"]
SLOW = int(os.environ.get("SFT_SLOW", "1"))


class Wrong(Exception):
    """What is wrong after a crash."""


def run(*command, **options):
    """(exit status, what it said); one that hangs is killed, and that is status 124."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, timeout=60 * SLOW, **options)
    except subprocess.TimeoutExpired:
        return 124, "no answer"
    return done.returncode, done.stdout.decode(errors="replace").strip()


def wait_for(condition, what):
    end = time.monotonic() + 60 * SLOW
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} takes too long")
        time.sleep(0.002)


def unmount(directory):
    """Somebody may be looking at it just now."""
    wait_for(lambda: subprocess.run(["umount", directory], check=False,
                                    stderr=subprocess.DEVNULL).returncode == 0, f"unmounting {directory}")


def start(source, mnt, options, log, **more):
    """A daemon in the foreground, once its mount is there; the caller sees to one that has ended instead."""
    daemon = subprocess.Popen([BINARY, source, mnt, "-f", "-o", options], stdin=subprocess.DEVNULL,
                              stdout=log, stderr=log, **more)
    wait_for(lambda: os.path.ismount(mnt) or daemon.poll() is not None, "the mount")
    return daemon


def end(daemon, mnt):
    daemon.kill()
    daemon.wait()
    subprocess.run(["umount", "-lq", mnt], check=False)


def renumber(top):
    """Give each file another inode number, as some file systems do at each mount."""
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.join(directory, name)
            shutil.copy2(path, path + "~")
            os.rename(path + "~", path)


class Crash:
    """A crash after the state `certain`, while the edits `pending` were being made."""

    def __init__(self, certain, pending, mnt, how, old):
        self.certain, self.pending, self.mnt, self.how, self.old = certain, pending, mnt, how, old
        self.recovering = False  # the commit is one that `recover` made, with what it found, after a death

    def judge(self, source):
        """Recover, and compare; raises Wrong."""
        self.judge_source(source)
        status, said = run(BINARY, "recover", source)
        if status == 1 and "bytes" in said and any(s.problems() for s in self.outcomes()):
            self.judge_mount(source)
            return
        if status:
            raise Wrong(f"recover: exit status {status}: {said}")
        self.compare("recovered", edits.read_source(source))
        files = self.files(source)
        status, said = run(BINARY, "recover", source)
        if status or self.files(source) != files:
            raise Wrong(f"recovered again: exit status {status}, {self.files(source)}: {said}")
        status, said = run(BINARY, "check", "-q", source)
        if status:
            raise Wrong(f"check: {said}")
        left = [f for f in files if "safetensorfs" in f]
        if left:
            raise Wrong(f"left behind: {left}")

    def outcomes(self, found=None):
        return edits.outcomes(self.certain, self.pending, found)

    def judge_source(self, source):
        """Before anything is recovered: old or new, if it is one file; else each file by itself."""
        if self.how == "shards":
            for name in os.listdir(source):
                if name.endswith(".safetensors") and not name.startswith("."):
                    reader.read_file(os.path.join(source, name))
        if self.how != "file":
            return
        wanted = [self.old]
        if self.pending and self.pending[-1].what == "commit":
            wanted += list(self.outcomes())[:1]
        wanted = [w.content() for w in wanted]
        if self.recovering:
            wanted += [s.after_death().content() for s in edits.outcomes(self.certain, self.pending[:-1])]
        found = edits.read_source(source)
        if found not in wanted:
            raise Wrong("the source before recovery is neither old nor new: " +
                        min((edits.differs(w, found) for w in wanted), key=len))

    def compare(self, what, found):
        nearest = None
        for state in self.outcomes(found):
            says = edits.differs(state.after_death().content(), found)
            if not says:
                return
            nearest = min(nearest or says, says, key=len)
        raise Wrong(f"{what}: {nearest}")

    def files(self, source):
        top = os.path.dirname(source)
        return sorted(f"{os.path.relpath(d, top)}/{n} {os.stat(os.path.join(d, n)).st_ino}"
                      for d, directories, names in os.walk(top) for n in names + directories)

    def judge_mount(self, source):
        """If a tensor's bytes do not fit its shape, nothing can be committed, but shown."""
        daemon = start(source, self.mnt, "edit", subprocess.PIPE)
        try:
            if daemon.poll() is not None:
                raise Wrong(f"resumed: exit status {daemon.returncode}: {daemon.stdout.read().decode()}")
            single = os.path.basename(source) if os.path.isfile(source) else None
            self.compare("resumed", edits.read_mount(self.mnt, single))
        finally:
            end(daemon, self.mnt)
