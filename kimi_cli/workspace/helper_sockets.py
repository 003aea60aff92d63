"""Unix sockets of other programs: what listens there does not share a command's limits.

A read-only mount does not keep anybody from connecting, so each socket is covered. Those that are
made after a command started are not, other than in folders that are covered whole.
"""

from __future__ import annotations

import contextlib
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from kimi_cli.workspace.helper_landlock import inside
else:
    from helper_landlock import inside

# Folders of sockets: of the user's session, of D-Bus, of the host under WSL.
_FOLDERS = (b"/run/user", b"/run/dbus", b"/run/WSL", b"/tmp/.X11-unix", b"/tmp/.ICE-unix")
_FOLDERS_IN_TMP = (b"tmux-", b"ssh-")
# Whoever can talk to one of these can start a container with the machine's files in it.
_ENGINES = (
    b"/run/docker.sock", b"/run/podman/podman.sock", b"/run/containerd/containerd.sock",
    b"/run/crio/crio.sock", b"/run/buildkit/buildkitd.sock",
)  # fmt: skip


def foreign(box: dict[str, Any]) -> tuple[list[bytes], list[bytes]]:
    """What to cover for ``box``, and which folders must keep their names so that it stays covered.

    Covered are folders and sockets: all that this process's network namespace and mount table tell
    of, but those in a folder the command works in; shared temp folders are not one. A socket is
    known by the path it was made with, so the folders on the way to it, as far as the command could
    rename them, are to be pinned.
    """
    folders = {path for path in _FOLDERS if stat.S_ISDIR(_mode(path))}
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(b"/tmp") if name.startswith(_FOLDERS_IN_TMP)]
        folders |= {b"/tmp/" + name for name in names if stat.S_ISDIR(_mode(b"/tmp/" + name))}
    folders -= {*box["write"], *box["shown"]}
    covered = [*folders, *box["hidden"]]
    single = set()
    for path in {*_listening(), *_ENGINES, *_mounted()}:
        real = os.path.realpath(path)
        if stat.S_ISSOCK(_mode(real)) and not any(inside(real, folder) for folder in covered):
            single.add(real)
    single = {path for path in single if not _works_in(path, box)}
    pinned = {folder for path in single for folder in _way_to(path, box["write"])}
    return sorted(folders | single), sorted(pinned)


def _works_in(path: bytes, box: dict[str, Any]) -> bool:
    """Whether the most specific folder that may be written around a path is one to work in."""
    around = [folder for folder in box["write"] if folder != b"/" and inside(path, folder)]
    return bool(around) and max(around, key=len) not in box["temp"]


def _way_to(path: bytes, write: Iterable[bytes]) -> Iterator[bytes]:
    for root in write:
        above = os.path.dirname(path)
        while inside(path, root) and above != root and inside(above, root):
            yield above
            above = os.path.dirname(above)


def _mode(path: bytes) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _listening() -> list[bytes]:
    """The sockets with a path in this process's network namespace (``Num RefCount Protocol Flags
    Type St Inode Path``); a path that was given relative to some folder can't be found."""
    with open("/proc/net/unix", "rb") as file:
        rows = [line.rstrip(b"\n").split(None, 7) for line in file]
    return [row[7] for row in rows if len(row) == 8 and row[7].startswith(b"/")]


def _mounted() -> list[bytes]:
    """Mount points that may be sockets: so containers are given those of the machine outside."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = [line.split()[4] for line in file]
    return [point.replace(b"\\040", b" ") for point in points]
