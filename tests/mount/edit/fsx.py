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
import json
import os
import random
import subprocess
import sys
import threading

from fsx_mount import (BINARY, KILL, OPS, ROUNDS, SEED, SLOW, THREADS, TRACE, Failed, Mount, Tensor,
                       expect, is_scratch, write_file)
from fsx_worker import Worker
import names
import reader


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
                t.origin = None if is_scratch(name) else name
                if not is_scratch(name):
                    t.declared, t.born = None, self.mount.committed[names.decode(name.encode())]

    def verify_source(self):
        expected = {}
        for worker in self.workers:
            for name, t in worker.files.items():
                if not is_scratch(name):
                    expected[names.decode(name.encode())] = (worker.effective(name), bytes(t.data))
        # A shard in which no tensor is left is in the index no more.
        expected_metadata = {shard: pairs for shard, pairs in self.mount.metadata.items()
                             if shard in self.shards()}
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

    def shards(self):
        return [os.path.basename(p) for p in reader.shard_paths(self.mount.source)[0]]

    def edit_metadata(self):
        path = os.path.join(self.mount.mnt, "__metadata__.json")
        shards = self.shards()
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
                    file_name = names.encode(name).decode()
                    worker.files[file_name] = Tensor(data, None, (t["dtype"], t["shape"]), file_name)

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
