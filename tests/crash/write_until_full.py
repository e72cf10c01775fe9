"""Write a view until nothing more can be staged; print what write, fsync, fsync and close say.

write_until_full.py FILE [again]: with `again` it is emptied and written anew, small, before the close.
"""

import errno
import os
import sys


def call(function, *args):
    try:
        function(*args)
    except OSError as e:
        return errno.errorcode[e.errno]
    return "0"


def fill(fd, head):
    """Write `head` and then spaces, to the last byte that there is room for."""
    piece = head.ljust(1 << 16)
    for _ in range(256):
        said = call(os.write, fd, piece)
        if said != "0":
            return said
        piece = b" " * (1 << 16)
    return "0"


def npy(count, data):
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % count
    head = head.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + data


path = sys.argv[1]
if path.endswith(".npy"):
    large, small = npy(16 << 20, b""), npy(3, b"abc")
elif path.endswith("__metadata__.json"):
    large = small = b'{"k":"w"}'
else:
    large = small = b'{"dtype":"U8","shape":[3]}'
fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
said = [fill(fd, large), call(os.fsync, fd), call(os.fsync, fd)]
if len(sys.argv) > 2:
    os.ftruncate(fd, 0)
    os.pwrite(fd, small, 0)
said.append(call(os.close, fd))
print(*said)
