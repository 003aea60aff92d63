"""Bubblewrap: the program that may make namespaces where other programs may not (AppArmor).

Its network is each command's own, Landlock is not among its means, and it follows paths by name.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kimi_cli.workspace import helper_seccomp as seccomp
    from kimi_cli.workspace.helper_landlock import inside
else:
    import helper_seccomp as seccomp
    from helper_landlock import inside

_CAPABILITIES = {
    0: b"CAP_CHOWN", 1: b"CAP_DAC_OVERRIDE", 3: b"CAP_FOWNER", 4: b"CAP_FSETID", 6: b"CAP_SETGID",
    7: b"CAP_SETUID", 10: b"CAP_NET_BIND_SERVICE",
}  # fmt: skip


def find() -> bytes:
    """The program in the PATH of this process; empty when there is none."""
    for folder in os.environb.get(b"PATH", b"").split(b":"):
        path = os.path.join(folder, b"bwrap")
        if folder.startswith(b"/") and os.access(path, os.X_OK):
            return path
    return b""


def wrap(
    box: dict[str, Any], sockets: list[bytes], ways: list[bytes], argv: list[bytes], kept: int
) -> list[bytes]:
    """The words that execute ``argv`` in ``box`` with ``sockets`` covered, the folders ``ways``
    pinned, and only the capabilities ``kept``. What they need to be inherited is opened in this
    process. Raises OSError."""
    program = find()
    if not program:
        raise OSError(errno.ENOENT, "the sandbox can't be set up: bwrap is not there", "bwrap")
    words = [program, b"--die-with-parent", b"--unshare-ipc", b"--ro-bind", b"/", b"/"]
    words += [] if box["network"] else [b"--unshare-net"]
    words += [b"--dev", b"/dev"]
    for _, more in sorted(_layers(box, sockets, ways), key=lambda layer: layer[0].count(b"/")):
        words += more
    words += [b"--cap-drop", b"ALL"]
    for number, name in _CAPABILITIES.items():
        words += [b"--cap-add", name] if kept >> number & 1 else []
    if seccomp.supported():
        words += [b"--seccomp", _handed(seccomp.program(os.uname().machine, inet=True))]
    return [*words, b"--chdir", os.getcwdb(), b"--", *argv]


def _layers(
    box: dict[str, Any], sockets: list[bytes], ways: list[bytes]
) -> list[tuple[bytes, list[bytes]]]:
    """Paths, and the words that lay something there, as in ``helper_mounts``."""
    devices = [p for p in box["write"] if inside(p, b"/dev")]
    gpus = [b"/dev/" + n for n in os.listdir(b"/dev") if n.startswith(b"nvidia") or n == b"dri"]
    found = {path: [b"--dev-bind-try", path, path] for path in (*gpus, *devices)}
    for path in (*sockets, *box["hidden"]):
        try:
            folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError:
            continue
        cover = [b"--tmpfs", path] if folder else [b"--ro-bind-data", _handed(b""), path]
        found[path] = cover
    for path in (*box["write"], *box["pinned"], *ways):
        if path in devices:
            continue
        found[path] = [b"--bind-try", path, path]
    for path in (*box["shown"], *box["read_only"]):
        found[path] = [b"--ro-bind-try", path, path]
    return list(found.items())


def _handed(content: bytes) -> bytes:
    """The number of an inheritable descriptor with this content to read."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    os.set_inheritable(reading, True)
    return b"%d" % reading
