"""The system calls of Linux that a sandbox is made of, for a single-threaded process.

Numbers and structures are those of the kernel's user space headers; calls from 424 on have the same
number on every architecture. Every function raises OSError that says what failed.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
_MS_PRIVATE = 1 << 18

AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_EMPTY = 0x4 | 0x40
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_VERSION = 0x20080522
CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 6, 7, 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(what: str, number: int, *words: int | bytes | None) -> int:
    """A system call by its number; ``what`` names it in an error. Returns its result."""
    values = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    return _check(what, _libc.syscall(ctypes.c_long(number), *values))


def _check(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the sandbox can't be set up: {what}: {os.strerror(number)}")
    return result


def prctl(what: str, option: int, *words: int | bytes) -> int:
    values = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in words]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    return _check(what, _libc.prctl(option, *values))


def unshare(flags: int) -> None:
    _check("unshare", _libc.unshare(flags))


def setns(fd: int, kind: int) -> None:
    _check("setns", _libc.setns(fd, kind))


def open_path(path: bytes) -> int:
    """The file or folder ``path`` as a handle (O_PATH). A symlink anywhere in it is refused, so
    that what another command does to the path meanwhile can't lead elsewhere (openat2(2))."""
    how = struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    try:
        return call("openat2", _SYS_OPENAT2, AT_FDCWD, path, how, len(how))
    except OSError as error:
        error.filename = path
        raise


def clone_tree(at: int, name: bytes = b"") -> int:
    """A detached copy of the mount of ``at`` (or of ``name`` in it) with all mounts below it."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE | (0 if name else _AT_EMPTY_PATH)
    return call("open_tree", _SYS_OPEN_TREE, at, name, flags)


def attach(tree: int, target: int) -> None:
    """Mount the detached ``tree`` on the file or folder ``target``, both handles."""
    call("move_mount", _SYS_MOVE_MOUNT, tree, b"", target, b"", _MOVE_MOUNT_EMPTY)


def new_mount(kind: bytes, options: dict[bytes, bytes], attributes: int = 0) -> int:
    """A detached mount of a new filesystem; an option with an empty value is a flag."""
    context = call("fsopen", _SYS_FSOPEN, kind, 1)
    try:
        for name, value in options.items():
            setting, text = (1, value) if value else (0, None)
            call(f"fsconfig {name.decode()}", _SYS_FSCONFIG, context, setting, name, text, 0)
        call(f"mount of a {kind.decode()}", _SYS_FSCONFIG, context, 6, None, None, 0)
        return call("fsmount", _SYS_FSMOUNT, context, 1, attributes)
    finally:
        os.close(context)


def set_attributes(mount: int, attributes: int, *, private: bool = False) -> None:
    """Add attributes to a mount and all mounts below it, and let it take no part in what other
    namespaces mount. ``mount`` is a handle."""
    what = struct.pack("=QQQQ", attributes, 0, _MS_PRIVATE if private else 0, 0)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    call("mount_setattr", _SYS_MOUNT_SETATTR, mount, b"", flags, what, len(what))


def close_at_exec() -> None:
    """No descriptor but 0, 1 and 2 outlives the exec (close_range(2), Linux 5.11)."""
    try:
        call("close_range", _SYS_CLOSE_RANGE, 3, 0xFFFFFFFF, 4)
    except OSError:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                try:
                    os.set_inheritable(int(name), False)
                except OSError:
                    continue


def capabilities() -> int:
    """The effective capabilities of this process, a bit for each (capabilities(7))."""
    head = struct.pack("=Ii", _CAP_VERSION, 0)
    data = ctypes.create_string_buffer(24)
    _check("capget", _libc.capget(head, data))
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)


def limit_capabilities(kept: int) -> None:
    """Leave this process and all it will execute no other capabilities than ``kept``, and no way
    to gain any: ``no_new_privs`` takes its power from a setuid program."""
    held = capabilities()
    prctl("clearing ambient capabilities", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    if held >> CAP_SETPCAP & 1:
        number = 0
        while _libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
            if not kept >> number & 1:
                prctl("limiting capabilities", _PR_CAPBSET_DROP, number)
            number += 1
    left = held & kept
    low, high = left & 0xFFFFFFFF, left >> 32
    head = struct.pack("=Ii", _CAP_VERSION, 0)
    _check("capset", _libc.capset(head, struct.pack("=6I", low, low, 0, high, high, 0)))
    prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
