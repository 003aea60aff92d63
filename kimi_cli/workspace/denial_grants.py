"""The smallest grant that lets a refused change happen, and is not asked for again at once."""

from __future__ import annotations

import os
import re

from kimi_cli.protocol.sandbox import Grant

_ENVIRONMENT = re.compile(r"(.+)/lib(?:64)?/python\d[\w.]*/(?:site|dist)-packages(?:/|$)")
_PACKAGES = re.compile(r"(.+/(?:node_modules|site-packages|dist-packages))(?:/|$)")
_PACKAGE_MANAGER = re.compile(
    r"/(var/(lib|cache)/(dpkg|apt|rpm|pacman|apk|dnf|yum)|usr|lib(64)?|s?bin|boot|var/log/apt)(/|$)"
)
# Tools keep several folders in these, so one of them is too much to give.
_SHARED = (".config", ".local", ".local/share", ".local/state", ".cache", "Library")


def grant_folder(path: str, home: str, *, itself: bool = False) -> Grant:
    """What would have let a command change ``path`` (absolute): mostly writing to its folder, or to
    the folder ``itself``. A tool's folder in the home folder ``home`` is given as a whole, as is a
    Python environment; what the system's package manager writes can only be left to no sandbox."""
    if _PACKAGE_MANAGER.match(path):
        return Grant(unconfined=True)
    for pattern in (_ENVIRONMENT, _PACKAGES):
        found = pattern.match(path)
        if found:
            return Grant(write=(found[1],))
    folder = path if itself else os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    tool = _tool_folder(folder, home)
    if tool:
        return Grant(write=(tool,))
    if folder in (home, "/", "/home", "/root", "/Users") and os.path.isfile(path):
        # As much as the folder holds, the file alone will do where it is not replaced.
        return Grant(write=(path,))
    return Grant(unconfined=True) if folder == "/" else Grant(write=(folder,))


def _tool_folder(folder: str, home: str) -> str:
    """The part of ``folder`` that belongs to one tool in the home folder, "" when none does."""
    inner = os.path.relpath(folder, home)
    if inner == "." or inner.startswith(".."):
        return ""
    parts = inner.split(os.sep)
    if not parts[0].startswith(".") and parts[0] != "Library":
        return ""
    for count in range(1, len(parts) + 1):
        if os.path.join(*parts[:count]) not in _SHARED:
            return os.path.join(home, *parts[:count])
    return ""
