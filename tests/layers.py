#!/usr/bin/env python3
"""
layers.py - the folders of src/ and fs/ see only those that they may use

usage: layers.py BUILD FOLDER=ALLOWED,ALLOWED... ...

Each rule names a folder and those that it may use, or a header of another, as meson.build has them.
For each a file of it is compiled, with the flags that the build has for it: as it is, which works,
and once for each folder that it may not use with a header of that one included, which does not.
What headers alone cannot forbid is looked up in the objects: sft.h declares functions of many
layers, and within a folder every file sees all of its headers.
"""
import collections
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(sys.argv[1])
RULES = {}
for rule in sys.argv[2:]:
    name, allowed = rule.split("=")
    RULES.setdefault(name, {name}).update(allowed.split(","))
TREES = {folder.split("/")[0] for folder in RULES}
failures = []


def fail(text):
    failures.append(text)
    print("FAIL:", text)


def folder_of(path):
    return str(path.parent.relative_to(ROOT))


def sources(pattern):
    return sorted(path for tree in ("src", "fs") for path in (ROOT / tree).rglob(pattern))


class Command:
    """How a file is compiled, without what only matters to ninja."""

    def __init__(self, entry):
        words = shlex.split(entry["command"])
        self.directory = entry["directory"]
        self.file = (pathlib.Path(self.directory) / entry["file"]).resolve()
        self.object = pathlib.Path(self.directory) / entry["output"]
        self.words = []
        while words:
            word = words.pop(0)
            if word in ("-o", "-MF", "-MQ"):
                words.pop(0)
            elif word not in ("-c", "-MD", entry["file"]):
                self.words.append(word)
        self.includes = sum(word.startswith("-I") for word in self.words)

    def compile(self, path):
        done = subprocess.run([*self.words, "-fsyntax-only", str(path)], cwd=self.directory,
                              capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        return done.returncode, done.stderr


def commands():
    """One for each file: the one with the fewest folders, where fuzzing has another that sees all."""
    found = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        command = Command(entry)
        if ROOT in command.file.parents and command.object.exists():
            old = found.get(command.file)
            if not old or command.includes < old.includes:
                found[command.file] = command
    return found


def check_folder(folder, command, headers, scratch):
    """Compile the file as it is, and with each folder's header that is forbidden."""
    text = command.file.read_text()
    copy = scratch / command.file.name
    copy.write_text(text)
    status, error = command.compile(copy)
    if status:
        fail(f"{folder}: {command.file.name} does not compile as it is:\n{error}")
    for other, header in headers.items():
        if other in RULES[folder] or header in RULES[folder]:
            continue
        copy.write_text(f'#include "{header}"\n{text}')
        status, error = command.compile(copy)
        if status == 0:
            fail(f"{folder} can include {header} of {other}")
        elif header not in error.splitlines()[0] or "file" not in error:
            fail(f"{folder} with {header} fails for another reason:\n{error}")


def symbols(command):
    """What an object defines for others, and what it wants of them."""
    out = subprocess.run(["nm", "-P", "-g", str(command.object)], capture_output=True, text=True, check=True)
    defined, wanted = set(), set()
    for line in out.stdout.splitlines():
        name, kind = line.split()[:2]
        (wanted if kind in "Uw" else defined).add(name)
    return defined, wanted


def is_named(symbol, file):
    """Functions of the library begin with sft_, or say which module they are of."""
    return symbol.startswith(("sft_", file.parent.name + "_", file.stem.split("_")[0] + "_")) or symbol == file.stem


def check_symbols(known):
    """Calls lead to folders that may be used, and within one they do not lead in a circle."""
    of = {file: symbols(command) for file, command in known.items()}
    home = {symbol: file for file, (defined, _) in of.items() for symbol in defined}
    calls = collections.defaultdict(set)
    for file, (defined, wanted) in of.items():
        folder = folder_of(file)
        for symbol in sorted(defined):
            if folder.startswith("src") and not symbol.startswith("__") and not is_named(symbol, file):
                fail(f"{file.relative_to(ROOT)}: {symbol} does not say where it belongs")
        for symbol in sorted(wanted & home.keys()):
            to = home[symbol]
            public = symbol.startswith("sft_") and not folder.startswith("src")
            if folder_of(to) not in RULES[folder] and not public:
                fail(f"{file.relative_to(ROOT)} calls {symbol} of {to.relative_to(ROOT)}")
            if to != file and folder_of(to) == folder:
                calls[file].add(to)
    check_circles(calls)
    return len(of)


def check_circles(calls):
    """Take away what calls nobody until nothing is left; a circle stays."""
    left = {file: set(to) for file, to in calls.items()}
    while left:
        leaves = [file for file, to in left.items() if not to & left.keys()]
        if not leaves:
            fail("files that call each other in a circle, or call such: "
                 + " ".join(sorted(str(file.relative_to(ROOT)) for file in left)))
            return
        for file in leaves:
            del left[file]


def main():
    names = collections.defaultdict(list)
    for path in sources("*.[ch]"):
        names[path.name].append(str(path.relative_to(ROOT)))
    for paths in names.values():
        if len(paths) > 1:
            fail("two files have one name: " + " ".join(paths))

    headers = {}
    for path in sources("*.h"):
        headers.setdefault(folder_of(path), path.name)
    for folder in {folder_of(path) for path in sources("*.c")} - RULES.keys():
        if folder.split("/")[0] in TREES:
            fail(f"{folder} has no rule")

    known = {file: command for file, command in commands().items() if folder_of(file) in RULES}
    with tempfile.TemporaryDirectory() as scratch:
        for folder in RULES:
            files = sorted(file for file in known if folder_of(file) == folder)
            if files:
                check_folder(folder, known[files[0]], headers, pathlib.Path(scratch))
            else:
                fail(f"{folder}: nothing of it is compiled")
    objects = check_symbols(known)
    print(f"{len(RULES)} folders, {objects} objects, {len(failures)} failures")
    return bool(failures)


sys.exit(main())
