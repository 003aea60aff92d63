"""The files of the workspace, for ``@``: listed in the background, found by some letters."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kimi_cli.frontends.terminal.fuzzy import Corpus

MAX_AGE = 5.0
"""Seconds after which the next search has the files listed anew."""
SHARE = 10
"""A listing is good for this many times of what it took, if that is longer."""
FIRST_WAIT = 1.0
"""Seconds that a search waits where no listing is ready yet."""
LISTING_SECONDS = 60.0
MOST_FILES = 500_000
MOST_ENTRIES = 200
# A name with these can't be shown as it is, or not typed, or is no text at all.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class FileIndex:
    """Paths of files and folders (these end with ``/``) that no ignore file leaves out.

    A path is relative to ``base`` where its folder holds ``base`` or lies in it, else absolute.
    Names that can't be shown (control characters, no text) are left out.
    """

    def __init__(self, base: Path, folders: Sequence[Path], max_age: float = MAX_AGE) -> None:
        self._base = base
        self._folders = folders
        self._max_age = max_age
        self._paths: Iterable[str] = ()
        self._corpus = Corpus(())
        self._lock = threading.Lock()
        self._listing: threading.Thread | None = None
        self._fresh_until = 0.0
        self._ready = threading.Event()
        self._newest: object = None

    def refresh(self) -> None:
        """Have the files listed in the background, unless that was done a moment ago; returns at
        once."""
        with self._lock:
            if self._listing is not None:
                return
            if self._ready.is_set() and time.monotonic() < self._fresh_until:
                return
            self._listing = threading.Thread(target=self._list, name="file index", daemon=True)
            self._listing.start()

    def wait(self, seconds: float) -> bool:
        """Wait until there is a first listing; False when there is none in time."""
        return self._ready.wait(seconds)

    def search(self, query: str, limit: int = 50) -> list[str]:
        """The paths that fit best, best first. To be called in a thread of its own: it waits
        ``FIRST_WAIT`` seconds for the first listing. A newer search ends this one, which then
        finds nothing."""
        ticket = self._newest = object()
        self.refresh()
        self._ready.wait(FIRST_WAIT)
        return self._corpus.search(query, limit, lambda: self._newest is not ticket)

    def _list(self) -> None:
        begun = time.monotonic()
        try:
            paths = _listed(self._base, self._folders).keys()
            if paths != self._paths:
                self._paths, self._corpus = paths, Corpus(paths)
        except Exception:
            # The former listing stays: nobody waits for a thread, and a menu is no place for this.
            pass
        finally:
            with self._lock:
                now = time.monotonic()
                # What takes long is done less often: it must not keep a core busy.
                self._fresh_until = now + max(self._max_age, SHARE * (now - begun))
                self._listing = None
            self._ready.set()


def _listed(base: Path, folders: Sequence[Path]) -> dict[str, None]:
    paths: dict[str, None] = {}
    for folder in folders:
        places = _places(base, folder)
        for name in _files(folder):
            if len(paths) >= MOST_FILES:
                return paths
            within, prefix = next(place for place in places if name.startswith(place[0]))
            path = prefix + name[len(within) :]
            paths[path] = None
            at = path.rfind("/")
            # Not the folder that is listed, nor those above it.
            while at > len(prefix) and (parent := path[: at + 1]) not in paths:
                paths[parent] = None
                at = path.rfind("/", 0, at)
    return paths


def _places(base: Path, folder: Path) -> list[tuple[str, str]]:
    """How names in the folder are shown: instead of the first text that they start with, the text
    beside it."""
    if folder.is_relative_to(base):
        inside = folder.relative_to(base).as_posix()
        return [("", "" if inside == "." else f"{inside}/")]
    if base.is_relative_to(folder):
        down = base.relative_to(folder).parts
        depths = range(len(down), -1, -1)
        return [("".join(f"{part}/" for part in down[:n]), "../" * (len(down) - n)) for n in depths]
    return [("", f"{folder.as_posix()}/")]


def _files(folder: Path) -> Iterator[str]:
    """Names of files relative to the folder, in no order."""
    from kimi_cli.tools.ripgrep import COMMON, find

    try:
        listed = subprocess.run(
            [find(), *COMMON, "--files", "--null"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LISTING_SECONDS,
            # What is typed at the terminal (Ctrl-C) is not for it.
            start_new_session=True,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as error:
        listed = error.stdout or b""
        listed = listed[: listed.rfind(b"\0") + 1]
    for name in listed.decode("utf-8", "surrogateescape").split("\0"):
        if name and not _UNSHOWABLE.search(name):
            yield name


def entries(base: Path, typed: str) -> list[str]:
    """What ``typed``, the beginning of a path, may go on to, each written like it; folders end
    with ``/``. Relative paths are relative to ``base``, ``~`` is the user's home."""
    head, slash, tail = typed.rpartition("/")
    found = []
    with (
        contextlib.suppress(OSError, ValueError),
        os.scandir(_folder(base, head + slash)) as listed,
    ):
        for entry in listed:
            name = entry.name
            hidden = name.startswith(".") and not tail.startswith(".")
            if name.startswith(tail) and not hidden and not _UNSHOWABLE.search(name):
                found.append(head + slash + name + "/" * entry.is_dir())
    return sorted(found)[:MOST_ENTRIES]


def _folder(base: Path, written: str) -> str:
    return os.path.join(base, os.path.expanduser(written))
