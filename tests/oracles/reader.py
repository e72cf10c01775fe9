#!/usr/bin/env python3
"""Read a safetensors checkpoint, strictly and slowly: what the tests compare the mount against.

Shares nothing with the C library or with scripts/make-checkpoint; only the format's rules
(docs/format.md). Never holds more than a header and one piece of data in memory.
"""

import argparse
import glob
import hashlib
import json
import os
import re
import sys

HEADER_MAX = 100_000_000
PIECE = 1 << 20
BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
    "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
    "U64": 64,
}
U64_MAX = (1 << 64) - 1


class Invalid(Exception):
    """The checkpoint breaks a rule of the format."""


class Number(str):
    """A number as it is written in the file."""


def unique(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        raise Invalid("duplicate key")
    return result


def no_constant(text):
    raise Invalid(f"{text} is not JSON")


def parse_json(text):
    """A JSON text in UTF-8, with numbers as they stand and without duplicate keys."""
    try:
        decoded = text.decode("utf-8")
        value = json.loads(decoded, object_pairs_hook=unique, parse_int=Number,
                           parse_float=Number, parse_constant=no_constant)
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise Invalid(f"not JSON: {error}") from None
    surrogate = re.compile(r"[\ud800-\udfff]")
    if "\\u" in decoded and surrogate.search(json.dumps(value, ensure_ascii=False)):
        raise Invalid("lone surrogate")
    return value


def u64(value, what):
    if not isinstance(value, Number) or not re.fullmatch(r"0|[1-9][0-9]*", value):
        raise Invalid(f"{what}: {value!r} is no plain non-negative integer")
    if len(value) > 20 or int(value) > U64_MAX:
        raise Invalid(f"{what}: {value} is above 64 bits")
    return int(value)


def parse_tensor(name, entry):
    if not isinstance(entry, dict):
        raise Invalid(f"tensor {name!r} is no object")
    for key in ("dtype", "shape", "data_offsets"):
        if key not in entry:
            raise Invalid(f"tensor {name!r} has no {key}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if isinstance(dtype, Number) or not isinstance(dtype, str) or dtype not in BITS:
        raise Invalid(f"tensor {name!r}: dtype {dtype!r}")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise Invalid(f"tensor {name!r}: shape or data_offsets is no such array")
    shape = [u64(d, name) for d in shape]
    begin, end = (u64(o, name) for o in offsets)
    bits = 1
    for factor in [*shape, BITS[dtype]]:
        bits *= factor
        if bits > U64_MAX:
            raise Invalid(f"tensor {name!r}: shape overflows")
    if bits % 8 or begin > end or end - begin != bits // 8:
        raise Invalid(f"tensor {name!r}: {bits} bits do not fit {begin}..{end}")
    return {"name": name, "dtype": dtype, "shape": shape, "nbytes": end - begin,
            "data_offsets": [begin, end]}


def parse_header(text, data_length):
    """The tensors and the metadata (None where there is none) of a header."""
    if not text.startswith(b"{"):
        raise Invalid("header does not begin with {")
    text = text.rstrip(b" ")
    if not text.endswith(b"}"):
        raise Invalid("header does not end with }")
    header = parse_json(text)
    metadata = None
    if "__metadata__" in header:
        metadata = header.pop("__metadata__")
        if not isinstance(metadata, dict) or any(
                isinstance(v, Number) or not isinstance(v, str) for v in metadata.values()):
            raise Invalid("__metadata__ is no object of strings")
    tensors = [parse_tensor(name, entry) for name, entry in header.items()]
    position = 0
    for tensor in sorted(tensors, key=lambda t: t["data_offsets"]):
        begin, end = tensor["data_offsets"]
        if begin != position:
            raise Invalid(f"tensor {tensor['name']!r} begins at {begin}, expected {position}")
        position = end
    if position != data_length:
        raise Invalid(f"tensors end at {position}, the file's data at {data_length}")
    return tensors, metadata


def read_file(path):
    """The tensors and the metadata of one file; each tensor knows its path and offset."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = file.read(8)
        if len(length) < 8:
            raise Invalid("shorter than 8 bytes")
        length = int.from_bytes(length, "little")
        if not 0 < length <= HEADER_MAX or length > size - 8:
            raise Invalid(f"header length {length}")
        tensors, metadata = parse_header(file.read(length), size - 8 - length)
    for tensor in tensors:
        tensor["path"] = path
        tensor["file"] = os.path.basename(path)
        tensor["offset"] = 8 + length + tensor["data_offsets"][0]
    return tensors, metadata


def shard_paths(source):
    """The files of a checkpoint, and its index's weight_map (None without an index)."""
    if source.endswith(".index.json"):
        index, directory = source, os.path.dirname(source) or "."
    elif not os.path.isdir(source):
        return [source], None
    else:
        directory = source
        found = glob.glob(os.path.join(glob.escape(directory), "*.safetensors.index.json"))
        if len(found) > 1:
            raise Invalid("two index files")
        index = found[0] if found else None
    if index is None:
        names = os.listdir(directory)
        return sorted(os.path.join(directory, n) for n in names if n.endswith(".safetensors")), None
    with open(index, "rb") as file:
        weight_map = parse_json(file.read())["weight_map"]
    for name in set(weight_map.values()):
        if "/" in name or name in ("", ".", ".."):
            raise Invalid(f"index names {name!r}")
    return [os.path.join(directory, n) for n in sorted(set(weight_map.values()))], weight_map


def read(source):
    """The tensors of a checkpoint in byte order of names, and the metadata of each file by name."""
    paths, weight_map = shard_paths(source)
    tensors, metadata = {}, {}
    for path in paths:
        try:
            found, meta = read_file(path)
        except Invalid as error:
            raise Invalid(f"{path}: {error}") from None
        if meta is not None:
            metadata[os.path.basename(path)] = meta
        for tensor in found:
            name = tensor["name"]
            if name in tensors:
                owner = (weight_map or {}).get(name)
                if owner not in (tensor["file"], tensors[name]["file"]):
                    raise Invalid(f"{name!r} is in {tensors[name]['file']} and {tensor['file']}")
                if owner != tensor["file"]:
                    continue
            tensors[name] = tensor
    return sorted(tensors.values(), key=lambda t: t["name"].encode()), metadata


def pieces(tensor, file):
    """The bytes of a tensor, a piece at a time; `file` is its file, open."""
    file.seek(tensor["offset"])
    left = tensor["nbytes"]
    while left:
        piece = file.read(min(left, PIECE))
        if not piece:
            raise Invalid(f"{tensor['path']}: ends inside {tensor['name']!r}")
        left -= len(piece)
        yield piece


def digests(tensors):
    """Name to SHA-256 of each tensor's bytes."""
    result = {}
    for path in sorted({t["path"] for t in tensors}):
        with open(path, "rb") as file:
            for tensor in (t for t in tensors if t["path"] == path):
                digest = hashlib.sha256()
                for piece in pieces(tensor, file):
                    digest.update(piece)
                result[tensor["name"]] = digest.hexdigest()
    return result


def sidecar(tensor):
    keys = ("name", "dtype", "shape", "nbytes", "file", "offset", "data_offsets")
    return {key: tensor[key] for key in keys}


def write_json(value, **options):
    text = json.dumps(value, ensure_ascii=False, **options) + "\n"
    sys.stdout.buffer.write(text.encode())


def main():
    p = argparse.ArgumentParser(prog="reader.py", description=__doc__.splitlines()[0])
    commands = p.add_subparsers(dest="command", required=True)
    for name, text in (("list", "an array of sidecars, in byte order of names"),
                       ("names", "the names, as JSON strings, one a line"),
                       ("sha256", "an object of name to SHA-256 of the bytes"),
                       ("metadata", "an object of file name to metadata"),
                       ("cut", "the bytes of one tensor")):
        command = commands.add_parser(name, help=text)
        command.add_argument("source")
        if name == "cut":
            command.add_argument("name")
    args = p.parse_args()
    try:
        tensors, metadata = read(args.source)
        if args.command == "list":
            write_json([sidecar(t) for t in tensors], indent=1)
        elif args.command == "names":
            for tensor in tensors:
                write_json(tensor["name"])
        elif args.command == "sha256":
            write_json(digests(tensors), indent=1)
        elif args.command == "metadata":
            write_json(metadata, indent=1)
        else:
            found = [t for t in tensors if t["name"] == args.name]
            if not found:
                sys.exit(f"reader.py: {args.source}: no tensor {args.name!r}")
            with open(found[0]["path"], "rb") as file:
                for piece in pieces(found[0], file):
                    sys.stdout.buffer.write(piece)
    except (Invalid, OSError) as error:
        sys.exit(f"reader.py: {args.source}: {error}")


if __name__ == "__main__":
    main()
