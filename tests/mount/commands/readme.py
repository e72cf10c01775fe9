"""Run the sessions of README.md in a directory of their own, and compare what they print.

usage: readme.py README DIR      (made by readme.sh)

A session is a ```console block: `$ ` begins a command of the shell, `>>> ` and `... ` one of the
python3 that the line before has started, and what follows is what it prints. Owner and date of a
listing are the reader's own. The sessions begin with a model.safetensors, which is made here.
"""

import json
import os
import re
import struct
import subprocess
import sys

import numpy as np


def bf16(array):
    return (array.astype("<f4").view("<u4") >> 16).astype("<u2")


def write_checkpoint(path):
    """What a small language model begins with: two tables in BF16, a norm in F32."""
    rng = np.random.default_rng(0)
    tensors = [
        ("model.norm.weight", "F32", (1 + 0.02 * rng.standard_normal(512)).astype("<f4")),
        ("lm_head.weight", "BF16", bf16(0.02 * rng.standard_normal((4096, 512)))),
        ("model.embed_tokens.weight", "BF16", bf16(0.02 * rng.standard_normal((4096, 512)))),
    ]
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, array in tensors:
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, array in tensors:
            file.write(array.tobytes())


def steps(session):
    """Pairs of a command and what it prints; python's commands together are one."""
    found = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append([line[2:], ""])
        elif found:
            found[-1][1] += line + "\n"
    return found


def mask(text):
    """A listing without whose and when."""
    return re.sub(r"^(total) \d+$|(?<= )\w+ +\w+ +(\d+) [A-Z][a-z]{2} +\d+ +[\d:]+(?= )", r"\1\2", text, flags=re.M)


def run_shell(command):
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    return done.stdout


def run_python(session):
    """The session with what it really prints, as python3 shows it: by doctest, which compares."""
    with open("session.txt", "w", encoding="utf-8") as file:
        file.write(session.replace(">>> exit()\n", ""))
    code = ("import doctest, sys; sys.exit(doctest.testfile('session.txt', module_relative=False,"
            " optionflags=doctest.REPORT_UDIFF)[0])")
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    os.unlink("session.txt")
    return done.returncode, done.stdout


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        sessions = re.findall(r"^```console\n(.*?)^```", file.read(), flags=re.M | re.S)
    os.chdir(sys.argv[2])
    write_checkpoint("model.safetensors")
    os.mkdir("mnt")
    ran = failed = 0
    for command, expected in (step for session in sessions for step in steps(session)):
        ran += 1
        if command == "python3":
            status, printed = run_python(expected)
            wrong = status != 0
        else:
            printed = run_shell(command)
            wrong = mask(printed) != mask(expected)
        if wrong:
            failed += 1
            print(f"$ {command}\n--- expected\n{expected}--- printed\n{printed}---")
    print(f"{len(sessions)} sessions, {ran} commands, {failed} failed")
    sys.exit(failed != 0 or ran < 10)


main()
