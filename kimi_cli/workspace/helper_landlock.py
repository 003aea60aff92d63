"""Landlock: limits that a process puts on itself without any privilege (landlock(7)).

It grants only downward: what lies inside a folder that is granted can't be taken away again. Calls
that change modes, owners, times and extended attributes are not its business.
"""

from __future__ import annotations

import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kimi_cli.workspace.helper_kernel import call
else:
    from helper_kernel import call

_SYS_CREATE, _SYS_ADD, _SYS_RESTRICT = 444, 445, 446
_VERSION = 1

WRITE_FILE, READ_FILE = 1 << 1, 1 << 2
_REMOVE_DIR, _REMOVE_FILE, _MAKE_CHAR, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
_MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = 1 << 9, 1 << 10, 1 << 11, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_CHANGE = (
    WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_CHAR | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK
    | _MAKE_FIFO | _MAKE_BLOCK | _MAKE_SYM
)  # fmt: skip
# What a rule for a single file may hold.
_OF_FILES = WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEV
_NEVER = _MAKE_CHAR | _MAKE_BLOCK
_SCOPES = 1 | 2  # abstract unix sockets, signals


def abi() -> int:
    """The version of the kernel's Landlock, 0 when it has none."""
    try:
        return call("landlock", _SYS_CREATE, None, 0, _VERSION)
    except OSError:
        return 0


def changes(version: int) -> int:
    """The rights to change something that a version knows."""
    later = ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
    return _CHANGE | sum(right for since, right in later if version >= since)


def restrict(version: int, handled: int, rules: Iterable[tuple[int, int]]) -> None:
    """Refuse this process and all it starts the ``handled`` rights but for ``rules``, pairs of a
    handle and the rights below it; and from version 6 on the signals and abstract sockets of
    processes outside. It needs ``no_new_privs``. Raises OSError."""
    scopes = _SCOPES if version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, 0, scopes)
    ruleset = call("landlock", _SYS_CREATE, attributes, len(attributes), 0)
    try:
        for fd, rights in rules:
            rights &= handled & ~_NEVER
            if rights & ~_OF_FILES and not stat.S_ISDIR(os.fstat(fd).st_mode):
                rights &= _OF_FILES
            if rights:
                rule = struct.pack("=Qi", rights, fd)
                call("landlock_add_rule", _SYS_ADD, ruleset, 1, rule, 0)
        call("landlock_restrict_self", _SYS_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def around(root: bytes, hidden: Iterable[bytes]) -> Iterator[bytes]:
    """The paths that together are all there is below ``root`` now but the ``hidden`` ones: those
    beside each step of the way to one. ``root`` itself when nothing below it is hidden; the
    folders on the way are not among them, as a rule for one would hold for all that is in it."""
    below = [path for path in hidden if inside(path, root)]
    if not below:
        yield root
    elif root not in below:
        try:
            entries = list(os.scandir(root))
        except OSError:
            return
        on_the_way = {path[len(root.rstrip(b"/")) + 1 :].split(b"/")[0] for path in below}
        for entry in entries:
            if entry.name in on_the_way:
                yield from around(entry.path, below)
            elif not entry.is_symlink():
                yield entry.path


def inside(path: bytes, folder: bytes) -> bool:
    """Whether ``path`` is ``folder`` or lies below it; both absolute."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
