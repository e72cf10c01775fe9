"""What `safetensorfs diff --json` has to print, worked out element by element. Shares nothing with the C code.

usage: diff.py make DIR              write pairs of checkpoints, DIR/NAME.a and DIR/NAME.b
       diff.py expect A B            print the object for two checkpoints
       diff.py same FILE FILE        exit 1 where two such objects differ
"""

import json
import math
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "oracles"))
import reader  # noqa: E402

# Bits of exponent and mantissa, bias, and what is special.
SMALL = {"BF16": (8, 7, 127, "ieee"), "F8_E5M2": (5, 2, 15, "ieee"), "F8_E4M3": (4, 3, 7, "fn"),
         "F8_E4M3FNUZ": (4, 3, 8, "fnuz"), "F8_E5M2FNUZ": (5, 2, 16, "fnuz"),
         "F4": (2, 1, 1, "finite")}
STRUCT = {"F64": "<d", "F32": "<f", "F16": "<e"}


def small(pattern, exponent_bits, mantissa_bits, bias, special):
    exponent = pattern >> mantissa_bits & (1 << exponent_bits) - 1
    mantissa = pattern & (1 << mantissa_bits) - 1
    sign = -1.0 if pattern >> (exponent_bits + mantissa_bits) else 1.0
    top = exponent == (1 << exponent_bits) - 1
    if special == "ieee" and top:
        return math.nan if mantissa else sign * math.inf
    if special == "fn" and top and mantissa == (1 << mantissa_bits) - 1:
        return math.nan
    if special == "fnuz" and sign < 0 and exponent == 0 and mantissa == 0:
        return math.nan
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - mantissa_bits)
    return sign * math.ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)


def value(dtype, pattern):
    """The numbers that a pattern stands for (two of C64), or None of what is no float."""
    if dtype in STRUCT:
        return list(struct.unpack(STRUCT[dtype], pattern.to_bytes(reader.BITS[dtype] // 8, "little")))
    if dtype == "C64":
        return list(struct.unpack("<ff", pattern.to_bytes(8, "little")))
    if dtype == "F8_E8M0":
        return [math.nan if pattern == 255 else math.ldexp(1, pattern - 127)]
    return [small(pattern, *SMALL[dtype])]


def is_float(dtype):
    return dtype in STRUCT or dtype in ("C64", "F8_E8M0") or dtype in SMALL


def limited(number):
    return min(number, sys.float_info.max)


def distance(a, b):
    """Absolute and relative, None where there is none."""
    if not all(map(math.isfinite, a + b)):
        return None, None
    parts, size = [x - y for x, y in zip(a, b)], math.hypot(*a)
    absolute = math.hypot(*parts)
    if size == 0:
        return limited(absolute), None
    if math.isinf(absolute):  # of halves it is not
        return limited(absolute), abs(a[0] / 2 - b[0] / 2) / (size / 2)
    # A quotient of Python's overflows to infinity, too.
    return absolute, limited(absolute / size)


def elements(dtype, data):
    bits = reader.BITS[dtype]
    step = 3 if bits == 6 else max(bits // 8, 1)
    groups = (int.from_bytes(data[i:i + step], "little") for i in range(0, len(data), step))
    if bits >= 8:
        return list(groups)
    return [group >> i & (1 << bits) - 1 for group in groups for i in range(0, 8 * step, bits)]


CHUNK = 2400  # bytes: whole elements of every type, and whole groups


def differing(dtype, a, b):
    """Which elements differ: number, pattern, pattern. Equal stretches are not taken apart."""
    for at in range(0, len(a), CHUNK):
        if a[at:at + CHUNK] != b[at:at + CHUNK]:
            pairs = zip(elements(dtype, a[at:at + CHUNK]), elements(dtype, b[at:at + CHUNK]))
            for i, (x, y) in enumerate(pairs, at * 8 // reader.BITS[dtype]):
                if x != y:
                    yield i, x, y


def compare(tensor, a, b):
    found = list(differing(tensor["dtype"], a, b))
    which = [i for i, _, _ in found]
    first, index = which[0], []
    for size in reversed(tensor["shape"]):
        index.insert(0, first % size)
        first //= size
    result = {"elements": len(which), "of": len(a) * 8 // reader.BITS[tensor["dtype"]], "first": which[0], "index": index}
    if not is_float(tensor["dtype"]):
        return result
    pairs = [distance(value(tensor["dtype"], x), value(tensor["dtype"], y)) for _, x, y in found]
    absolute = [p[0] for p in pairs if p[0] is not None]
    relative = [p[1] for p in pairs if p[1] is not None]
    return {**result, "max_abs": max(absolute, default=None), "max_rel": max(relative, default=None),
            "nonfinite": len(pairs) - len(absolute)}


def bytes_of(tensor):
    with open(tensor["path"], "rb") as file:
        file.seek(tensor["offset"])
        return file.read(tensor["nbytes"])


def expect(a, b):
    sides = [{t["name"]: t for t in reader.read(path)[0]} for path in (a, b)]
    result = {"a": a, "b": b, "same": 0, "differences": []}
    for name in sorted(set(sides[0]) | set(sides[1]), key=str.encode):
        x, y = (side.get(name) for side in sides)
        declared = [t and {k: t[k] for k in ("dtype", "shape", "nbytes")} for t in (x, y)]
        item = {"name": name, "a": declared[0], "b": declared[1]}
        if x is None or y is None:
            item["kind"] = "only_in_b" if x is None else "only_in_a"
        elif declared[0] != declared[1]:
            item["kind"] = "declared"
        else:
            data = bytes_of(x), bytes_of(y)
            if data[0] == data[1]:
                result["same"] += 1
                continue
            item.update(kind="bytes", **compare(x, *data))
        result["differences"].append(item)
    return result


def near(a, b):
    """Equal, but for the last digits of what is no whole number."""
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-14, abs_tol=0)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(near(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(near, a, b))
    return a == b


def no_constant(text):
    sys.exit(f"{text} is not JSON")


def same(one, other):
    a, b = (json.load(open(path, encoding="utf-8"), parse_constant=no_constant) for path in (one, other))
    if near(a, b):
        return
    for x, y in zip(a["differences"], b["differences"]):
        if not near(x, y):
            sys.exit(f"{x}\n{y}")
    sys.exit(f"{a}\n{b}")


# ---- checkpoints ----


def write(path, tensors, order=None):
    """Tensors are (name, dtype, shape, bytes), in the order of the file."""
    header, data, end = {}, [], 0
    for name, dtype, shape, raw in order(tensors) if order else tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(raw)]}
        data.append(raw)
        end += len(raw)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def changed(raw, share):
    other = bytearray(raw)
    for _ in range(math.ceil(share * len(raw))):
        other[random.randrange(len(raw))] = random.randrange(256)
    return bytes(other)


def make(directory):
    random.seed(3)
    for name, counts, shares in (("dtypes", range(1, 90), (0, 0.001, 0.2, 3)),
                                 ("large", range(300_000, 310_000), (0.00002,))):
        a, b = [], []
        for dtype, bits in reader.BITS.items():
            for share in shares:
                count = random.choice(counts) * 4
                raw, label = random.randbytes(count * bits // 8), f"{dtype}.{share}"
                a.append((label, dtype, [2, count // 4, 2], raw))
                b.append((label, dtype, [2, count // 4, 2], changed(raw, share)))
        write(f"{directory}/{name}.a", a, lambda t: random.sample(t, len(t)))
        write(f"{directory}/{name}.b", b, lambda t: random.sample(t, len(t)))
    # One tensor of many pieces: the first element, the last, and around places where reading is cut.
    raw = random.randbytes(1_300_000)
    places = {0, 1, 1_299_996 // 4}
    for piece in (262144, 294912, 524288, 589824, 1048576):
        places |= {piece // 4 - 1, piece // 4, piece // 4 + 1}
    for i, place in enumerate(sorted(places)):
        other = bytearray(raw)
        other[4 * place] ^= 1
        for side, data in (("a", raw), ("b", bytes(other))):
            write(f"{directory}/place{i}.{side}",
                  [("before", "U8", [7], b"1234567"), ("x", "U32", [1300, 250], data)])
    common = [("same", "F32", [3], bytes(12)), ("none", "F32", [0, 5], b"")]
    write(f"{directory}/kinds.a", common + [
        ("scalar", "F64", [], struct.pack("<d", 1.5)), ("w", "F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4)),
        ("gone", "U8", [5], b"12345"), ("dtype", "I32", [2], bytes(8)), ("shape", "U8", [2, 3], bytes(6)),
        ("empty", "U8", [0, 1], b""), ("sign", "F32", [1], struct.pack("<f", 0.0))])
    write(f"{directory}/kinds.b", common + [
        ("scalar", "F64", [], struct.pack("<d", 1.0)), ("w", "F32", [2, 2], struct.pack("<4f", 1, 2, 9, math.inf)),
        ("new", "U8", [5], b"12345"), ("dtype", "F32", [2], bytes(8)), ("shape", "U8", [3, 2], bytes(6)),
        ("empty", "U8", [1, 0], b""), ("sign", "F32", [1], struct.pack("<f", -0.0))])


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    elif sys.argv[1] == "expect":
        print(json.dumps(expect(sys.argv[2], sys.argv[3])))
    else:
        same(sys.argv[2], sys.argv[3])
