"""A machine without a sandbox: runs a program with the system calls refused that one needs.

``python -m tests.support.crippled CALLS PROGRAM...``: CALLS are names in ``NUMBERS`` with commas.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

NUMBERS = {
    "x86_64": {"landlock": 444, "unshare": 272, "clone3": 435, "seccomp": 317},
    "aarch64": {"landlock": 444, "unshare": 97, "clone3": 435, "seccomp": 277},
}
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


def refuse(numbers: list[int], error: int) -> None:
    """Answer these system calls with an error from now on, in all descendants too."""
    steps = [struct.pack("=HBBI", 0x20, 0, 0, 0)]
    for number in numbers:
        steps.append(struct.pack("=HBBI", 0x15, 0, 1, number))
        steps.append(struct.pack("=HBBI", 0x06, 0, 0, REFUSE | error))
    steps.append(struct.pack("=HBBI", 0x06, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((38, 1, 0, 0, 0), (22, 2, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    known = NUMBERS[os.uname().machine]
    refuse([known[name] for name in sys.argv[1].split(",")], errno.EPERM)
    os.execvp(sys.argv[2], sys.argv[2:])
