"""The system calls that a confined command does without (seccomp(2)).

Refused: sockets of families other than unix, inet and netlink (vsock reaches the host of a virtual
machine, others only widen what can be attacked), io_uring (it would open sockets past this
filter), the kernel's keyrings (no namespace separates them). Calls of a 32-bit program that make
sockets are refused whole: their arguments lie in memory, which a filter can't read.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kimi_cli.workspace.helper_kernel import prctl
else:
    from helper_kernel import prctl

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16

_IO_URING = (425, 426, 427)
# machine: (its AUDIT_ARCH, socket, keyring calls)
_NATIVE = {
    "x86_64": (0xC000003E, 41, (248, 249, 250)),
    "aarch64": (0xC00000B7, 198, (217, 218, 219)),
    "riscv64": (0xC00000F3, 198, (217, 218, 219)),
}
# The 32-bit programs of a machine: (AUDIT_ARCH, calls that make sockets, keyring calls)
_SMALL = {
    "x86_64": (0x40000003, (102, 359), (286, 287, 288)),
    "aarch64": (0x40000028, (102, 281), (309, 310, 311)),
}
# x86_64 programs of the x32 ABI use the same AUDIT_ARCH and numbers from here on.
_X32 = 0x40000000

_ALLOW = 0x7FFF0000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# Offsets in struct seccomp_data; of an argument the low half is what the kernel looks at.
_CALL, _ARCH, _FIRST_ARGUMENT = 0, 4, 16


def supported() -> bool:
    """Whether there is a filter for this machine's architecture."""
    return sys.maxsize > 2**32 and os.uname().machine in _NATIVE


def program(machine: str, *, inet: bool) -> bytes:
    """The filter for a machine of ``_NATIVE``, an array of struct sock_filter; without ``inet``
    sockets of IPv4 and IPv6 are refused too, in the words of a machine with no network."""
    arch, socket, keys = _NATIVE[machine]
    families = (AF_UNIX, AF_NETLINK, *((AF_INET, AF_INET6) if inet else ()))
    domain = _load(_FIRST_ARGUMENT) + b"".join(_on(family, _ALLOW) for family in families)
    if not inet:
        domain += _on(AF_INET, _error(errno.ENETUNREACH)) + _on(AF_INET6, _error(errno.ENETUNREACH))
    domain += _give(_error(errno.EAFNOSUPPORT))
    native = _load(_CALL)
    if machine == "x86_64":
        native += _step(_IF_AT_LEAST, _X32, 0, 1) + _give(_error(errno.ENOSYS))
    native += _refuse(keys, errno.EPERM) + _refuse(_IO_URING, errno.ENOSYS)
    native += _step(_IF_EQUAL, socket, 0, len(domain) // 8) + domain + _give(_ALLOW)
    small = b""
    if machine in _SMALL:
        small_arch, sockets, small_keys = _SMALL[machine]
        body = _load(_CALL) + _refuse(small_keys, errno.EPERM) + _refuse(_IO_URING, errno.ENOSYS)
        body += _refuse(sockets, errno.EAFNOSUPPORT) + _give(_ALLOW)
        small = _step(_IF_EQUAL, small_arch, 0, len(body) // 8) + body
    return (
        _load(_ARCH)
        + _step(_IF_EQUAL, arch, 0, len(native) // 8)
        + native
        + small
        + _give(_error(errno.ENOSYS))
    )


def install(*, inet: bool) -> None:
    """Put the filter on this process and all it starts, for good; it needs ``no_new_privs``.
    Raises OSError."""
    code = program(os.uname().machine, inet=inet)
    held = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count, padding, a pointer.
    fprog = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    prctl("seccomp", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, fprog)


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _load(offset: int) -> bytes:
    return _step(_LOAD, offset)


def _give(action: int) -> bytes:
    return _step(_RETURN, action)


def _on(value: int, action: int) -> bytes:
    return _step(_IF_EQUAL, value, 0, 1) + _give(action)


def _refuse(calls: tuple[int, ...], number: int) -> bytes:
    return b"".join(_on(call, _error(number)) for call in calls)


def _error(number: int) -> int:
    return 0x00050000 | number
