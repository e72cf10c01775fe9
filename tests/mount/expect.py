"""What tensors a checkpoint has, or a mount shows, in one form; and how the reference would write them.

usage: expect.py committed SOURCE    a line for each tensor: name, dtype, shape, SHA-256 of its bytes
       expect.py shown MNT           the same of what a mount shows
       expect.py canonical FILE...   exit 1 where the reference would write a file's tensors differently
"""

import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracles"))
import reader  # noqa: E402
import reference_writer  # noqa: E402

METADATA = "__metadata__.json"


def line(name, dtype, shape, digest):
    return f"{json.dumps(name)} {dtype} {json.dumps(shape, separators=(',', ':'))} {digest[:16]}"


def committed(source):
    tensors, metadata = reader.read(source)
    digests = reader.digests(tensors)
    lines = [line(t["name"], t["dtype"], t["shape"], digests[t["name"]]) for t in tensors]
    return lines, list(metadata.values())


def is_tensor(name):
    return not (name.startswith(".") or name.endswith(("~", ".json", ".npy")))


def shown(mnt):
    lines, metadata = [], []
    for directory, _, names in os.walk(mnt):
        for name in names:
            path = os.path.join(directory, name)
            if name == METADATA:
                with open(path, "rb") as file:
                    metadata.append(json.load(file))
            if not is_tensor(name):
                continue
            with open(path, "rb") as file:
                data = file.read()
            with open(path + ".json", "rb") as file:
                about = json.load(file)
            if "problem" in about:
                sys.exit(f"{path}: {about['problem']}")
            if about["nbytes"] != len(data):
                sys.exit(f"{path}: {len(data)} bytes, its sidecar says {about['nbytes']}")
            lines.append((about["name"], line(about["name"], about["dtype"], about["shape"],
                                              hashlib.sha256(data).hexdigest())))
    lines.sort(key=lambda pair: pair[0].encode())
    return [text for _, text in lines], metadata


def canonical(path):
    tensors, metadata = reader.read_file(path)
    with open(path, "rb") as file:
        whole = file.read()
    for tensor in tensors:
        tensor["hex"] = whole[tensor["offset"]:tensor["offset"] + tensor["nbytes"]].hex()
    wanted = reference_writer.write(tensors, None if metadata is None else list(metadata.items()))
    if whole != wanted:
        at = next((i for i, (a, b) in enumerate(zip(whole, wanted)) if a != b), len(wanted))
        sys.exit(f"{path}: differs from the reference at byte {at}:\n"
                 f"{whole[max(at - 60, 0):at + 60]!r}\n{wanted[max(at - 60, 0):at + 60]!r}")


def main():
    command, *paths = sys.argv[1:]
    if command == "canonical":
        for path in paths:
            canonical(path)
        return
    lines, metadata = {"committed": committed, "shown": shown}[command](paths[0])
    # Metadata of a directory is shown by shard, in one object.
    flat = {}
    for m in metadata:
        for key, value in m.items():
            flat.update(value if isinstance(value, dict) else {key: value})
    print("\n".join([*lines, f"metadata {json.dumps(flat, sort_keys=True)}"]))


main()
