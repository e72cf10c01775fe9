#!/usr/bin/env python3
"""Tensor names to file names and back, written from docs/names.md alone: an oracle for tests.

usage: names.py encode|decode [--layout flat|tree]

Reads JSON strings, one a line, and prints one JSON string for each. With --layout tree the input
as a whole is one checkpoint: `encode` takes all of its tensor names and prints paths, `decode` takes
all of its paths. `decode` prints null for what is no valid file name, cut names among them.
"""
import json
import sys

ENCODED_MAX = 246
CUT_MAX = 228


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def encode(name):
    """The file name (bytes) of a name (str)."""
    if name == "":
        return b"%"
    special = {i for i, c in enumerate(name) if c in "%/" or ord(c) < 0x20 or ord(c) == 0x7F}
    if name.startswith("."):
        special.add(0)
    if name.endswith("~"):
        special.add(len(name) - 1)
    if name.endswith((".json", ".npy")):
        special.add(name.rindex("."))
    pieces = [b"%%%02X" % ord(c) if i in special else c.encode() for i, c in enumerate(name)]
    if sum(map(len, pieces)) <= ENCODED_MAX:
        return b"".join(pieces)
    kept = b""
    for piece in pieces:
        if len(kept) + len(piece) > CUT_MAX:
            break
        kept += piece
    return kept + b"%%~%016x" % fnv1a(name.encode())


def decode(file_name):
    """The name (str) of a file name (bytes), None where no name has it."""
    raw = bytearray()
    at = 0
    while at < len(file_name):
        digits = file_name[at + 1 : at + 3]
        if file_name[at] != ord("%"):
            raw.append(file_name[at])
        elif len(digits) == 2 and all(d in b"0123456789ABCDEF" for d in digits):
            raw.append(int(digits, 16))
            at += 2
        at += 1
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None
    return name if encode(name) == bytes(file_name) else None


def encode_tree(names):
    """The path (bytes) of each name of one checkpoint."""
    paths = [[encode(part) for part in name.split(".")] for name in names]
    directories = {tuple(path[:n]) for path in paths for n in range(1, len(path))}
    for path in paths:
        if tuple(path) in directories:
            path[-1] += b"%"
    return [b"/".join(path) for path in paths]


def decode_tree(paths):
    """The name of each path of one tree, None where it has none."""
    split = [path.split(b"/") for path in paths]
    directories = {tuple(path[:n]) for path in split for n in range(1, len(path))}
    names = []
    for path in split:
        last = path[-1]
        if last.endswith(b"%") and (*path[:-1], last[:-1]) in directories:
            last = last[:-1]
        parts = [decode(part) for part in (*path[:-1], last)]
        valid = all(part is not None and "." not in part for part in parts)
        names.append(".".join(parts) if valid else None)
    return names


def main(arguments):
    tree = arguments[1:] == ["--layout", "tree"]
    if arguments[:1] not in (["encode"], ["decode"]) or not (
        tree or arguments[1:] in ([], ["--layout", "flat"])
    ):
        sys.exit(__doc__.split("\n\n")[1])
    # Not splitlines(): a name may hold U+2028 and the like.
    lines = sys.stdin.buffer.read().decode().split("\n")
    texts = [json.loads(line) for line in lines if line]
    if arguments[0] == "encode":
        results = encode_tree(texts) if tree else [encode(name) for name in texts]
        results = [result.decode() for result in results]
    else:
        paths = [text.encode() for text in texts]
        results = decode_tree(paths) if tree else [decode(path) for path in paths]
    for result in results:
        sys.stdout.buffer.write(json.dumps(result, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
