"""What bench.sh measures. Every value stands beside its target; ratios are against native reads of
the same bytes in the same run: medians of pairs that alternate, since machines are noisy."""

import argparse
import contextlib
import json
import mmap
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
AGAIN = 3  # pairs of reads from the page cache in each round
MAKE_CHECKPOINT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "make-checkpoint")

PAGES = """
The native rate depends on the pages that hold the source in memory: on Linux 6.18 it was 20 GB/s
from ext4 and 9 GB/s from /dev/shm, with the mount at about the same rate on both. So ratios of
different machines and directories do not compare.
"""

SECTIONS = {}  # name -> function of a Bench, in the order of the report


def section(function):
    SECTIONS[function.__name__] = function
    return function


def size(text):
    shift = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
    return int(text[:-1] if shift else text) << shift


def seconds(value):
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def gigabytes(nbytes, took):
    return f"{nbytes / took / 1e9:.2f} GB/s"


def megabytes(nbytes):
    return f"{nbytes / 1e6:.1f} MB"


def below(value, target, show):
    """Target and verdict of a row whose value is to be below the target, where it has one."""
    return ("", None) if target is None else (f"< {show(target)}", value < target)


def drop(*paths):
    """Make files cold: written out, and out of the page cache."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


class Bench:
    """Options, a place to work in, and the rows of the report."""

    def __init__(self, options, work):
        self.options = options
        self.work = work
        self.mnt = os.path.join(work, "mnt")
        os.mkdir(self.mnt)
        self.rows = []
        self.checkpoints = {}

    def row(self, what, value, target="", met=None):
        verdict = "" if met is None else "ok" if met else "MISSED"
        self.rows.append((what, value, target, verdict))
        print(f"  {what:<52} {value:>26}  {target:>10}  {verdict}", flush=True)

    def ratio(self, what, pairs, nbytes, target=None):
        """A row: our rate as a part of the native one, from pairs of native and our seconds."""
        value = statistics.median(native / ours for native, ours in pairs)
        rate = gigabytes(nbytes, statistics.median(ours for _, ours in pairs))
        goal = ("", None) if target is None else (f">= {target}", value >= target)
        self.row(what, f"{value:.2f}  ({rate})", *goal)

    def checkpoint(self, *arguments):
        """A checkpoint made with these arguments, once."""
        if arguments not in self.checkpoints:
            path = os.path.join(self.work, f"{len(self.checkpoints)}.safetensors")
            subprocess.run([sys.executable, MAKE_CHECKPOINT, path, *arguments], check=True,
                           stdout=subprocess.DEVNULL)
            self.checkpoints[arguments] = path
        return self.checkpoints[arguments]

    def tensors(self, count):
        return self.checkpoint("--tensors", str(count), "--tensor-bytes", "16", "--short-names")

    def counts(self, targets):
        """Pairs of a number of tensors and its target, of those numbers that are asked for."""
        asked = self.options.tensors
        numbers = [int(n) for n in asked.split(",")] if asked else targets
        return [(n, targets.get(n)) for n in numbers]

    def start(self, source, *options):
        """Mount; returns the seconds until the first stat was answered."""
        begin = time.perf_counter()
        subprocess.run([self.options.binary, source, self.mnt, *options], check=True)
        os.stat(self.mnt)
        return time.perf_counter() - begin

    def stop(self):
        subprocess.run([self.options.binary, "umount", self.mnt], check=True)

    @contextlib.contextmanager
    def mounted(self, source, *options):
        took = self.start(source, *options)
        try:
            yield took
        finally:
            self.stop()

    def status(self):
        command = [self.options.binary, "status", "--json", self.mnt]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    def anonymous_memory(self):
        """RssAnon of the daemon, in bytes."""
        pid = self.status()["pid"]
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024


# ---- reads ----


class Reads:
    """One large tensor that begins at an odd offset, and the ways to read its bytes."""

    def __init__(self, bench):
        self.bench = bench
        self.nbytes = bench.options.size // MIB * MIB
        self.source = self.in_single_pages(
            bench.checkpoint("--tensor", f"x:U8:[{self.nbytes}]", "--odd"))
        self.offset = os.stat(self.source).st_size - self.nbytes
        self.path = os.path.join(bench.mnt, "x")

    @staticmethod
    def in_single_pages(path):
        """The same file, written a page at a time. What is written in large pieces lies in the page
        cache in large folios, and is read natively at twice the rate; FUSE has none of those, so
        that would compare kinds of page cache. docs/performance.md has both numbers."""
        paged = path + ".paged"
        if not os.path.exists(paged):
            with open(path, "rb") as old, open(paged, "wb", buffering=0) as new:
                while piece := old.read(4096):
                    new.write(piece)
        return paged

    def read(self, path, offset=0, piece=MIB, flags=0):
        """Seconds to read the bytes from `offset` on, with one thread."""
        buffer = mmap.mmap(-1, piece)  # aligned, as O_DIRECT wants it
        fd = os.open(path, os.O_RDONLY | flags)
        try:
            begin = time.perf_counter()
            os.lseek(fd, offset, os.SEEK_SET)
            total = 0
            while n := os.readv(fd, [buffer]):
                total += n
            took = time.perf_counter() - begin
        finally:
            os.close(fd)
        if total != self.nbytes:
            sys.exit(f"bench: {path}: read {total} of {self.nbytes} bytes")
        return took

    def native(self):
        return self.read(self.source, self.offset)

    def native_large(self):
        """The same from the file as it was first written."""
        large = self.source.removesuffix(".paged")
        return statistics.median(self.read(large, self.offset) for _ in range(3))

    def fromfile(self, path, offset=0):
        import numpy

        begin = time.perf_counter()
        array = numpy.fromfile(path, "u1", count=self.nbytes, offset=offset)
        took = time.perf_counter() - begin
        assert array.nbytes == self.nbytes
        return took

    def read_uncached(self):
        """Read the tensor through the mount; the kernel has nothing of it cached."""
        fd = os.open(self.path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        return self.read(self.path)

    def drop(self):
        drop(self.source)


@section
def read(bench):
    """Reads of one tensor, the source in the page cache, as ratios to native reads of 1 MiB."""
    reads = Reads(bench)
    reads.native()  # into the page cache
    firsts, second, agains, directs, direct_agains = [], [], [], [], []

    def direct():
        return reads.native(), reads.read(reads.path, 0, 16 * MIB, os.O_DIRECT)

    for _ in range(bench.options.rounds):
        # A mount of its own each time, so that the first read finds nothing cached.
        with bench.mounted(reads.source):
            firsts.append((reads.native(), reads.read(reads.path)))
            # Slower than what follows: the kernel moves each page to the list of active ones.
            second.append((reads.native(), reads.read(reads.path)))
            for _ in range(AGAIN):
                agains.append((reads.native(), reads.read(reads.path)))
        with bench.mounted(reads.source):
            # Slower than what follows: the daemon's mapping has none of its pages yet.
            directs.append(direct())
            direct_agains += [direct() for _ in range(AGAIN)]
    natives = [pair[0] for pair in firsts + second + agains + directs + direct_agains]
    bench.row("native, 1 MiB", gigabytes(reads.nbytes, statistics.median(natives)))
    bench.row("native, 1 MiB, large folios", gigabytes(reads.nbytes, reads.native_large()))
    bench.ratio("first read, 1 MiB", firsts, reads.nbytes, 0.35)
    bench.ratio("re-read, 1 MiB", second + agains, reads.nbytes, 0.85)
    bench.ratio("re-read, the second read alone", second, reads.nbytes)
    bench.ratio("O_DIRECT, 16 MiB", directs + direct_agains, reads.nbytes, 0.9)
    bench.ratio("O_DIRECT, the first read alone", directs, reads.nbytes)


@section
def fromfile(bench):
    """np.fromfile of one tensor, the source in the page cache, as ratios to native np.fromfile."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        bench.row("np.fromfile", "no numpy here")
        return
    reads = Reads(bench)

    def native():
        return reads.fromfile(reads.source, reads.offset)

    native()  # into the page cache
    firsts, second, agains = [], [], []
    for _ in range(bench.options.rounds):
        with bench.mounted(reads.source):
            firsts.append((native(), reads.fromfile(reads.path)))
            second.append((native(), reads.fromfile(reads.path)))
            for _ in range(AGAIN):
                agains.append((native(), reads.fromfile(reads.path)))
    natives = [pair[0] for pair in firsts + second + agains]
    bench.row("native np.fromfile", gigabytes(reads.nbytes, statistics.median(natives)))
    bench.ratio("np.fromfile, first", firsts, reads.nbytes, 0.55)
    bench.ratio("np.fromfile, again", second + agains, reads.nbytes, 0.9)
    bench.ratio("np.fromfile, the second alone", second, reads.nbytes)


@section
def cold(bench):
    """Reads of one tensor from a cold disk, 1 MiB at a time, as a ratio to native."""
    reads = Reads(bench)
    pairs = []
    for _ in range(bench.options.rounds):
        reads.drop()
        native = reads.native()
        with bench.mounted(reads.source):
            reads.drop()
            pairs.append((native, reads.read(reads.path)))
    natives = [pair[0] for pair in pairs]
    bench.row("native, cold", gigabytes(reads.nbytes, statistics.median(natives)))
    bench.ratio("cold disk, 1 MiB", pairs, reads.nbytes, 0.9)


@section
def widen(bench):
    """Small floats to float32, as GB/s of output: on one core; and np.load of the views, mounted."""
    program = os.path.join(os.path.dirname(bench.options.binary), "..", "tests", "bench-widen")
    if os.path.exists(program):
        out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        for dtype, rate in map(str.split, out.splitlines()):
            bench.row(f"{dtype} to float32, one core", f"{rate} GB/s", ">= 1.5 GB/s", float(rate) >= 1.5)
    try:
        import numpy
    except ImportError:
        return
    count = bench.options.size // 4
    for dtype in ("BF16", "F8_E4M3"):
        times = []
        for _ in range(bench.options.rounds):
            with bench.mounted(bench.checkpoint("--tensor", f"x:{dtype}:[{count}]")):
                begin = time.perf_counter()
                assert numpy.load(os.path.join(bench.mnt, "x.f32.npy")).nbytes == 4 * count
                times.append(time.perf_counter() - begin)
        bench.row(f"np.load of a {dtype} tensor as float32", gigabytes(4 * count, statistics.median(times)))


# ---- many tensors ----


@section
def mount(bench):
    """From the start of the mount command to the first answer of stat."""
    for count, target in bench.counts({1000: 0.05, 100_000: 0.4, 1_000_000: 4.0}):
        source = bench.tensors(count)
        times = []
        for _ in range(bench.options.rounds):
            with bench.mounted(source) as took:
                times.append(took)
        value = statistics.median(times)
        bench.row(f"mount of {count:,} tensors", seconds(value),
                  *below(value, target, seconds))


@section
def listing(bench):
    """ls -l of tensors and their sidecars, first and again, and the daemon's anonymous memory."""
    for count, targets in bench.counts({10_000: None, 100_000: (1.5, 1.0, 40e6), 1_000_000: None}):
        source = bench.tensors(count)
        firsts, agains, memory = [], [], []
        for _ in range(min(bench.options.rounds, 3)):
            with bench.mounted(source):
                memory.append([bench.anonymous_memory()])
                for times in (firsts, agains):
                    begin = time.perf_counter()
                    with open(os.devnull, "w", encoding="ascii") as null:
                        subprocess.run(["ls", "-l", bench.mnt], check=True, stdout=null,
                                       env={**os.environ, "LC_ALL": "C"})
                    times.append(time.perf_counter() - begin)
                memory[-1].append(bench.anonymous_memory())
        first_target, again_target, memory_target = targets or (None, None, None)
        for what, times, target in (("first", firsts, first_target), ("again", agains, again_target)):
            value = statistics.median(times)
            bench.row(f"ls -l of {count:,} tensors ({2 * count:,} files), {what}", seconds(value),
                      *below(value, target, seconds))
        for i, what in enumerate(("mounted", "listed")):
            value = statistics.median(m[i] for m in memory)
            bench.row(f"RssAnon, {count:,} tensors, {what}", megabytes(value),
                      *below(value, memory_target, megabytes))


# ---- edits ----


def poke(path, offset, data=b"xy"):
    """Seconds to open a file, write into the middle of it, and close it."""
    begin = time.perf_counter()
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, data, offset)
    os.close(fd)
    return time.perf_counter() - begin


@section
def edit(bench):
    """Small writes to large tensors: how long one takes, what it stages, reads after many of them."""
    source = bench.checkpoint("--tensor", f"x:U8:[{4 << 30}]", "--sparse")
    path, times = os.path.join(bench.mnt, "x"), []
    with bench.mounted(source, "-o", "edit,commit=inplace"):
        for i in range(bench.options.rounds):
            times.append(poke(path, (i << 28) + 12345))
            staged = bench.status()["staged"]["bytes"] // (i + 1)
    value = statistics.median(times)
    bench.row("2 bytes into a tensor of 4 GiB", seconds(value), *below(value, 0.005, seconds))
    bench.row("staged by it", megabytes(staged), *below(staged, MIB + 1, megabytes))
    reads, writes = Reads(bench), 100_000
    random.seed(1)
    bench.start(reads.source, "-o", "edit,commit=inplace")
    reads.native()  # into the page cache
    untouched = statistics.median(reads.read_uncached() for _ in range(bench.options.rounds))
    fd = os.open(reads.path, os.O_WRONLY)
    begin = time.perf_counter()
    for _ in range(writes):
        os.pwrite(fd, b"xy", random.randrange(reads.nbytes - 2))
    took = time.perf_counter() - begin
    os.close(fd)
    pairs = [(untouched, reads.read_uncached()) for _ in range(bench.options.rounds)]
    bench.row(f"{writes:,} writes of 2 bytes, each", f"{took / writes * 1e6:.0f} us")
    bench.ratio("read after them, as a part of untouched", pairs, reads.nbytes, 0.33)
    bench.stop()


def copy(source):
    """Seconds for a plain copy of a file to be made and to be on the disk."""
    target = source + ".copy"
    begin = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", source, target], check=True)
    subprocess.run(["sync", target], check=True)
    took = time.perf_counter() - begin
    os.unlink(target)
    return took


def commit_times(bench, source, options, copies):
    """Pairs of seconds: a plain copy (where `copies`), and the commit of two bytes changed."""
    pairs = []
    with bench.mounted(source, "-o", options):
        name = next(n for n in os.listdir(bench.mnt) if not n.endswith(".json"))
        for i in range(bench.options.rounds):
            copied = copy(source) if copies else 0
            os.sync()
            poke(os.path.join(bench.mnt, name), 1000 + i, b"%02d" % (i % 100))
            begin = time.perf_counter()
            subprocess.run([bench.options.binary, "commit", bench.mnt], check=True)
            pairs.append((copied, time.perf_counter() - begin))
    return pairs


def commit_row(bench, what, pairs, target):
    value = statistics.median(ours / copied for copied, ours in pairs)
    took = seconds(statistics.median(ours for _, ours in pairs))
    bench.row(what, f"{value:.3f}  ({took})", f"<= {target}", value <= target)


@contextlib.contextmanager
def xfs(bench, nbytes):
    """A directory on an XFS of its own, or None where there can be none."""
    image, directory = os.path.join(bench.work, "image"), os.path.join(bench.work, "xfs")
    os.mkdir(directory)
    with open(image, "wb") as file:
        file.truncate(nbytes)
    try:
        for command in (["mkfs.xfs", "-q", image], ["mount", "-o", "loop", image, directory]):
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)
        os.unlink(image)


@section
def commit(bench):
    """Commits of 2 bytes changed, against cp and sync of the same file (2 GiB unless --size says)."""
    nbytes = 2 * bench.options.size
    source = bench.checkpoint("--tensors", "100", "--bytes", str(nbytes))
    pairs = commit_times(bench, source, "edit", True)
    bench.row("cp and sync", seconds(statistics.median(copied for copied, _ in pairs)))
    commit_row(bench, "commit, as a part of it", pairs, 1.15)
    value = statistics.median(took for _, took in
                              commit_times(bench, source, "edit,commit=inplace", False))
    bench.row("commit=inplace", seconds(value), *below(value, 0.05, seconds))
    with xfs(bench, 3 * nbytes + (1 << 30)) as directory:
        if directory is None:
            bench.row("commit on XFS", "none can be mounted")
            return
        moved = shutil.copy(source, directory)
        commit_row(bench, "commit on XFS, as a part of cp and sync there",
                   commit_times(bench, moved, "edit", True), 0.1)


# ---- diff ----


def run(command, status):
    """Seconds for a command that ends with this exit status."""
    begin = time.perf_counter()
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if done.returncode != status:
        sys.exit(f"bench: {command}: exit status {done.returncode}")
    return time.perf_counter() - begin


def change(path, share):
    """Make the last byte of every n-th tensor another one, where n is 1 / share."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(length))
        tensors.pop("__metadata__", None)
        ends = sorted(t["data_offsets"][1] for t in tensors.values())
        for end in ends[::round(1 / share)]:
            file.seek(8 + length + end - 1)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))


@section
def diff(bench):
    """diff of two checkpoints, against cmp of two equal files (2 GiB each unless --size says)."""
    nbytes = 2 * bench.options.size
    common = ("--tensors", "100", "--bytes", str(nbytes))
    source = bench.checkpoint(*common)
    other = bench.checkpoint(*common, "--seed", "1")  # every tensor, nearly every element
    equal, some = shutil.copy(source, source + ".equal"), shutil.copy(source, source + ".some")
    change(some, 0.1)
    try:
        for what, b, status, cold, target in (("equal", equal, 0, False, 1.3),
                                              ("1 tensor of 10 differs", some, 1, False, 1.3),
                                              ("equal, cold", equal, 0, True, 1.3),
                                              ("all differs", other, 1, False, None)):
            pairs = []
            for _ in range(bench.options.rounds):
                times = []
                for command, files, code in ((["cmp"], (source, equal), 0),
                                             ([bench.options.binary, "diff"], (source, b), status)):
                    if cold:
                        drop(*files)
                    times.append(run([*command, *files], code))
                pairs.append(times)
            diff_row(bench, what, pairs, nbytes, target)
    finally:
        os.unlink(equal)
        os.unlink(some)


def diff_row(bench, what, pairs, nbytes, target):
    value = statistics.median(ours / cmp for cmp, ours in pairs)
    rates = [gigabytes(nbytes, statistics.median(times)) for times in zip(*pairs)]
    bench.row(f"diff, {what}, as a part of cmp ({rates[0]})", f"{value:.2f}  ({rates[1]})",
              *(("", None) if target is None else (f"<= {target}", value <= target)))


def parse_arguments():
    p = argparse.ArgumentParser(
        prog="bench.sh", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure reads, mounting, listing and memory.",
        epilog="sections:\n" + "".join(f"  {n:<8} {f.__doc__}\n" for n, f in SECTIONS.items())
        + PAGES)
    p.add_argument("sections", nargs="*", metavar="SECTION", help="what to measure (everything)")
    p.add_argument("--binary", required=True, help=argparse.SUPPRESS)
    p.add_argument("--size", type=size, default=MIB << 10, help="bytes of the tensor read (1G)")
    p.add_argument("--rounds", type=int, default=5, help="pairs to take the median of (5)")
    p.add_argument("--tensors", help="numbers of tensors, instead of each section's own: N,N,...")
    p.add_argument("--directory", help="where to make the checkpoints (TMPDIR)")
    p.add_argument("--markdown", metavar="FILE", help="write the table there, too")
    options = p.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            p.error(f"{name!r} is none of the sections: {' '.join(SECTIONS)}")
    return options


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (f"{os.cpu_count()} x {models[0] if models else os.uname().machine}, "
            f"{pages >> 30} GiB, Linux {os.uname().release}, "
            f"{'root' if os.getuid() == 0 else 'not root'}, load {os.getloadavg()[0]:.1f}")


def markdown(path, bench, titles):
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{machine()}; medians of {bench.options.rounds} rounds.\n\n")
        file.write("| what | value | target | |\n| --- | --- | --- | --- |\n")
        for i, row in enumerate(bench.rows):
            if i in titles:
                file.write(f"| **{titles[i]}** | | | |\n")
            file.write("| " + " | ".join(row) + " |\n")


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is mounted goes
    work = tempfile.mkdtemp(prefix="safetensorfs-bench.", dir=options.directory)
    bench, titles = Bench(options, work), {}
    print(machine())
    try:
        for name in options.sections or SECTIONS:
            titles[len(bench.rows)] = SECTIONS[name].__doc__
            print(SECTIONS[name].__doc__)
            SECTIONS[name](bench)
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench: {error}")
    finally:
        if os.path.ismount(bench.mnt):
            subprocess.run(["umount", "-l", bench.mnt], check=False)
        shutil.rmtree(work)
    if options.markdown:
        markdown(options.markdown, bench, titles)
    missed = sum(row[3] == "MISSED" for row in bench.rows)
    print(f"{missed} targets missed" if missed else "every target met")


if __name__ == "__main__":
    main()
