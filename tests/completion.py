#!/usr/bin/env python3
"""What an interactive bash completes: type words and tabs at one, and see what the command gets.

completion.py SAFETENSORFS COMPLETION: prints what is wrong, nothing where all is right.
"""

import json
import os
import pty
import select
import shlex
import subprocess
import sys
import tempfile
import time

BINARY, COMPLETION = map(os.path.realpath, sys.argv[1:3])
DEADLINE = 20 * float(os.environ.get("SFT_SLOW", "1"))

NAMES = ["model.layers.0.w", "model.layers.10.w", "model.norm", "two words", "tab\tname", 'say "hi"', "",
         "it's", "back\\slash", "x[0].w", "star*name", "q?a", "enc/w", "enc/v", "a:b:c", "a:b:d", "k=v", "$HOME", "-dash",
         "é1", "nul\0name", "none(1)",
         "Z1$(touch pwned)", "Z2`touch pwned`", "Z3;touch pwned", "Z4 $(touch pwned)", "Z5&&touch pwned|x>y<z", "Z6${HOME}", "Z7{a,b}", "Z8!!", "~root", "#hash", "Z9'$(touch pwned)'"]

# What is typed behind `safetensorfs ls SOURCE `, and the words that arrive behind the source.
CASES = [
    ("model.n\t", ["model.norm"]),
    ("mod\tl\t1\t", ["model.layers.10.w"]),
    ("-h mod\tn\t", ["-h", "model.norm"]),
    ("model.norm enc/w\t", ["model.norm", "enc/w"]),
    ("two\t", ["two words"]),
    ("'two\t", ["two words"]),
    ('"two\t', ["two words"]),
    ("'two w\t", ["two words"]),
    ("two\\ w\t", ["two words"]),
    ("'model.n\t", ["model.norm"]),
    ("say\t", ['say "hi"']),
    ("it\t", ["it's"]),
    ("back\t", ["back\\slash"]),
    ("x\t", ["x[0].w"]),
    ("x\\[0\t", ["x[0].w"]),
    ("star\t", ["star*name"]),
    ("'star*\t", ["star*name"]),
    ("q\t", ["q?a"]),
    ("\\$H\t", ["$HOME"]),
    ("none\t", ["none(1)"]),
    ("enc/v\t", ["enc/v"]),
    ("a\tc\t", ["a:b:c"]),
    ("a:b:d\t", ["a:b:d"]),
    ("k=\t", ["k=v"]),
    ("é\t", ["é1"]),
    ("nul\t", ["nul"]),  # what cannot be typed is not offered
    ("tab\t", ["tab"]),
    ("nothing\t", ["nothing"]),
    ("Z1\t", ["Z1$(touch pwned)"]),
    ("'Z1\t", ["Z1$(touch pwned)"]),
    ('"Z1\t', ["Z1$(touch pwned)"]),
    ("Z2\t", ["Z2`touch pwned`"]),
    ('"Z2\t', ["Z2`touch pwned`"]),
    ("Z3\t", ["Z3;touch pwned"]),
    ("Z4\t", ["Z4 $(touch pwned)"]),
    ('"Z4\t', ["Z4 $(touch pwned)"]),
    ("Z5\t", ["Z5&&touch pwned|x>y<z"]),
    ("Z6\t", ["Z6${HOME}"]),
    ('"Z6\t', ["Z6${HOME}"]),
    ("Z7\t", ["Z7{a,b}"]),
    ("Z8\t", ["Z8!!"]),
    ("Z9\t", ["Z9'$(touch pwned)'"]),
    ("'Z9\t'", ["Z9"]),  # no quote can stand in that quote
    ('"Z8\t"', ["Z8"]),
    ('"say\t"', ["say"]),
    ('"back\t', ["back\\slash"]),
    ('"Z9\t', ["Z9'$(touch pwned)'"]),
    ("\\~\t", ["~root"]),
    ("\\#\t", ["#hash"]),
]


def write(path, names):
    header = {name: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i, name in enumerate(names)}
    text = json.dumps(header, ensure_ascii=False).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + bytes(len(names)))


class Shell:
    """An interactive bash on a terminal of its own."""

    def __init__(self, directory):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.environ.update(TERM="dumb", INPUTRC="/dev/null", PS1="", LC_ALL="C.UTF-8", HISTFILE="", COLUMNS="2000",
                              PATH=os.path.dirname(BINARY) + ":" + os.environ["PATH"])
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.run("bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; bind 'set page-completions off'")
        self.run("bind 'set completion-query-items 0'; set +H; PS1=; PS2=; stty -echo; stty columns 2000")
        self.run(f". '{COMPLETION}'")
        # What the command gets; completion itself runs the binary, not a function.
        self.run('safetensorfs() { printf "%s\\0" "$@" >result; }')

    def run(self, line):
        """Type a line, and wait until it is done."""
        if os.path.exists("done"):
            os.unlink("done")
        os.write(self.terminal, line.encode() + b"\n")
        os.write(self.terminal, b": >done\n")
        end = time.monotonic() + DEADLINE
        while not os.path.exists("done"):
            if time.monotonic() > end:
                raise SystemExit(f"the shell does not come back from {line!r}: {self.output()}")
            self.output(0.02)

    def output(self, wait=0.0):
        text = b""
        while select.select([self.terminal], [], [], wait)[0]:
            wait = 0
            try:
                text += os.read(self.terminal, 65536)
            except OSError:
                break
        return text.decode(errors="replace")

    def close(self):
        os.write(self.terminal, b"exit\n")
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


def expect(shell, line, want):
    shell.run(line)
    got = None
    if os.path.exists("result"):
        with open("result", encoding="utf-8") as f:
            got = f.read().split("\0")[:-1]
        os.unlink("result")
    if got != want:
        print(f"{line!r}: the command got {got}, not {want}")
    if os.path.exists("pwned"):
        print(f"{line!r}: ran what a name says")
        os.unlink("pwned")


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        write("m.safetensors", NAMES)
        write("with space.safetensors", ["alpha", "beta"])
        write("many.safetensors", [f"t{i:06}" for i in range(20000)] + ["tail"])
        os.mkdir("home")
        write("home/h.safetensors", ["inhome"])
        shell = Shell(directory)
        for typed, want in CASES:
            expect(shell, "safetensorfs ls m.safetensors " + typed, ["ls", "m.safetensors"] + want)
        expect(shell, "safetensorfs ls m.s\t model.n\t", ["ls", "m.safetensors", "model.norm"])
        expect(shell, "safetensorfs ls with\t be\t", ["ls", "with space.safetensors", "beta"])
        expect(shell, "safetensorfs ls 'with space.safetensors' al\t", ["ls", "with space.safetensors", "alpha"])
        expect(shell, "safetensorfs ls --s\t m.safetensors model.n\t",
               ["ls", "--sort", "m.safetensors", "model.norm"])
        shell.run(f"HOME={shlex.quote(directory)}/home")
        expect(shell, "safetensorfs ls ~/h.safetensors in\t", ["ls", directory + "/home/h.safetensors", "inhome"])
        # Of many, what all begin with is right although not all are looked at.
        expect(shell, "safetensorfs ls many.safetensors t0\t", ["ls", "many.safetensors", "t0"])
        expect(shell, "safetensorfs ls many.safetensors ta\t", ["ls", "many.safetensors", "tail"])
        # A source that takes for ever does not take the shell with it.
        os.mkdir("slow")
        with open("slow/safetensorfs", "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\necho 'name  U8  [1]  1  file'\nexec sleep 1000\n")
        os.chmod("slow/safetensorfs", 0o755)
        start = time.monotonic()
        shell.run(f"PATH={directory}/slow:$PATH")
        expect(shell, "safetensorfs ls m.safetensors na\t", ["ls", "m.safetensors", "na"])
        if time.monotonic() - start > DEADLINE / 2:
            print("a slow source holds up the shell")
        shell.close()
        os.chdir("/")


if __name__ == "__main__":
    if subprocess.run(["bash", "-c", "complete -p >/dev/null; type -P timeout awk >/dev/null"], check=False).returncode:
        sys.exit("bash, timeout and awk are needed")
    main()
