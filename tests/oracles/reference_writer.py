#!/usr/bin/env python3
"""Write a checkpoint as the reference library does. Shares nothing with the C code.

usage: reference_writer.py OUTPUT < DESCRIPTION

DESCRIPTION is JSON: {"tensors": [{"name", "dtype", "shape", "hex"}, ...],
"metadata": null or [[key, value], ...]}. Where the `safetensors` package is installed, it writes the
same tensors too, and a difference is an error (exit 1).
"""
import json
import struct
import sys

# Descending, as in `enum Dtype` of the reference, which derives its order.
ORDER = """U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3
F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 F4 BOOL""".split()

# What the package calls those that it has had from the start.
PACKAGE = {"U64": "uint64", "I64": "int64", "F64": "float64", "F32": "float32", "U32": "uint32",
           "I32": "int32", "BF16": "bfloat16", "F16": "float16", "U16": "uint16", "I16": "int16",
           "I8": "int8", "U8": "uint8", "BOOL": "bool"}


def write(tensors, metadata):
    header, data, end = {}, [], 0
    if metadata is not None:
        header["__metadata__"] = dict(metadata)
    for t in sorted(tensors, key=lambda t: (ORDER.index(t["dtype"]), t["name"].encode())):
        raw = bytes.fromhex(t["hex"])
        header[t["name"]] = {"dtype": t["dtype"], "shape": t["shape"],
                             "data_offsets": [end, end + len(raw)]}
        data.append(raw)
        end += len(raw)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def package(tensors, metadata):
    """The same from the package, or None where it cannot be asked."""
    # It keeps metadata in a hash table, so the order of two keys is anybody's guess.
    if any(t["dtype"] not in PACKAGE for t in tensors) or (metadata and len(metadata) > 1):
        return None
    try:
        from safetensors import serialize
    except ImportError:
        return None
    return serialize({t["name"]: {"dtype": PACKAGE[t["dtype"]], "shape": t["shape"],
                                  "data": bytes.fromhex(t["hex"])} for t in tensors},
                     None if metadata is None else dict(metadata))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wanted = json.load(sys.stdin)
    written = write(wanted["tensors"], wanted["metadata"])
    other = package(wanted["tensors"], wanted["metadata"])
    if other is not None and other != written:
        sys.exit("the safetensors package writes these tensors differently")
    with open(sys.argv[1], "wb") as out:
        out.write(written)


if __name__ == "__main__":
    main()
