"""Looking at this machine for what a failed command's output can't tell."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from kimi_cli.workspace.box import Box
from kimi_cli.workspace.denials import Scene

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_LOCAL_PROXY = re.compile(r"(?:127\.\d+\.\d+\.\d+|localhost|\[::1\]):(\d+)")
_ENTERS = re.compile(r"""(?:\b(?:cd|pushd)|\s-C)\s+(['"]?)([^\s;&|'"()]+)\1""")
_LISTEN = "0A"
_SHORTENED = re.compile(r"\|\s*(?:tail|head|tee)\b[^|;&\n]*$")
_FIRST_WORD = re.compile(r"\s*([\w.+/-]+)")
_SHOWING = frozenset(
    {
        *("cat", "tac", "grep", "rg", "egrep", "head", "tail", "less", "sed", "awk", "jq", "diff"),
        *("echo", "printf", "journalctl", "strings", "find", "ls"),
    }
)


def hides_status(command: str) -> bool:
    """Whether the command ends in a pipe that only shortens: its status is not that of the program
    before it. One that shows files may well show words of a failure of long ago."""
    first = _FIRST_WORD.match(command)
    return _SHORTENED.search(command) is not None and (first is None or first[1] not in _SHOWING)


def scene_of(
    command: str,
    code: int | None,
    box: Box,
    *,
    cwd: Path | None,
    env: Mapping[str, str],
    home: Path,
    user_home: Path,
    folders: Sequence[Path],
) -> Scene:
    """The scene of a command that ran in ``cwd`` (None: not known) and ``box``, and failed with the
    exit status ``code``; ``home`` is KIMI_HOME."""
    write = [os.fsdecode(path) for path in box.write]
    write += [os.fsdecode(target) for target, _, _ in box.overlays]
    write += ["/dev/shm", "/dev/null", "/proc"]
    read_only = [os.fsdecode(path) for path in (*box.read_only, *box.pinned)]
    hidden = [os.fsdecode(path) for path in box.hidden]
    own = [str(folder) for folder in folders]
    # git names paths relative to the work tree's top.
    tops = [folder for folder in own if cwd is not None and cwd.is_relative_to(folder)]
    start = [str(cwd)] if cwd else []
    bases = tuple(dict.fromkeys((*start, *tops, *_entered(command, start, str(user_home)))))

    def deepest(path: str, places: Sequence[str]) -> str:
        real = os.path.realpath(path)
        held = [p for p in places if real == p or real.startswith(p.rstrip("/") + "/")]
        return max(held, key=len, default="")

    def guarded(path: str) -> str:
        holder = deepest(path, read_only)
        # The folder of a repository may be changed, not replaced.
        if os.fsencode(holder) in box.pinned and os.path.realpath(path) != holder:
            holder = deepest(path, [os.fsdecode(p) for p in box.read_only])
        return holder if len(holder) > len(deepest(path, hidden)) else ""

    def writable(path: str) -> bool:
        held = deepest(path, write)
        return bool(held) and not guarded(path) and len(held) >= len(deepest(path, hidden))

    def concealed(path: str) -> str:
        place = deepest(path, hidden)
        shown = deepest(path, [os.fsdecode(p) for p in box.shown] + write)
        return place if len(place) > len(shown) else ""

    def forbidden(path: str) -> bool:
        return bool(deepest(path, [str(home)])) and not deepest(path, own + write)

    return Scene(
        command=command,
        code=code,
        network=box.network,
        home=str(user_home),
        bases=bases,
        hidden_places=tuple(hidden),
        writable=writable,
        ours=changeable,
        hidden=concealed,
        guarded=guarded,
        forbidden=forbidden,
        listening=listening,
        is_socket=_is_socket,
        proxies=_proxies(env),
    )


def changeable(path: str) -> bool:
    """Whether this process could change or make the file: the rights say so, and its filesystem is
    not read-only. The folder it would be in need not be there."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    folder = path if os.path.isdir(path) else os.path.dirname(path)
    try:
        if os.statvfs(folder).f_flag & os.ST_RDONLY or folder.startswith(("/proc", "/sys")):
            return False
    except OSError:
        return False
    return os.access(path, os.W_OK) or os.access(os.path.dirname(path), os.W_OK)


def listening(port: int) -> bool:
    """Whether a program on this machine waits for TCP connections there (proc_pid_net(5))."""
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        if any(row[3] == _LISTEN and int(row[1].rsplit(":", 1)[1], 16) == port for row in rows):
            return True
    return False


def _entered(command: str, start: Sequence[str], home: str) -> list[str]:
    """The folders that a command names as the ones to work in."""
    found = []
    for _, named in _ENTERS.findall(command):
        path = named.replace("~", home, 1) if named.startswith("~") else named
        found += [os.path.normpath(os.path.join(folder, path)) for folder in start]
    return [path for path in found if os.path.isdir(path)]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _proxies(env: Mapping[str, str]) -> frozenset[int]:
    named = [value for name, value in env.items() if name.lower() in _PROXY_VARIABLES]
    return frozenset(int(port) for value in named for port in _LOCAL_PROXY.findall(value))
