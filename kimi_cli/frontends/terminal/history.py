"""What was typed in a project, in this run and in others, for the arrow keys and Ctrl-R."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit.history import History

from kimi_cli.store.index import project_key
from kimi_cli.store.lock import acquire

KEPT = 2000
"""Messages of a project that are kept, the newest."""
KEPT_BYTES = 4 << 20
FOLDER = "history"


def history_file(home: Path, root: Path) -> Path:
    """KIMI_HOME/history/PROJECT.jsonl; PROJECT is named as the folder of its sessions."""
    return home / FOLDER / f"{project_key(root)}.jsonl"


class ProjectHistory(History):
    """The messages of a project in one file: a JSON string a line, appended by any number of
    processes. Where it can't be read or written, the history is that of this process alone.

    What other processes add after it was read is seen by the next run.
    """

    def __init__(self, path: Path, to_store: Callable[[str], str] = str) -> None:
        """``to_store`` makes of a message what another run of the program can use."""
        super().__init__()
        self._path = path
        self._to_store = to_store

    async def load(self) -> AsyncGenerator[str, None]:
        """All messages, newest first. The file is read once, in a thread."""
        if not self._loaded:
            stored = await asyncio.to_thread(lambda: list(self.load_history_strings()))
            # A second reader may have come first, and what was typed meanwhile is in the file too.
            if not self._loaded:
                for text in self._loaded_strings:
                    with suppress(ValueError):
                        stored.remove(self._to_store(text))
                self._loaded_strings += stored
                self._loaded = True
        for text in list(self._loaded_strings):
            yield text

    def load_history_strings(self) -> Iterable[str]:
        """The stored messages, newest first; identical neighbours once."""
        try:
            content = _tail(self._path)
            lines = content.count(b"\n")
            if lines > 2 * KEPT or len(content) > KEPT_BYTES:
                _trim(self._path)
        except OSError:
            return []
        return _parsed(content)[::-1]

    def append_string(self, string: str) -> None:
        """Add a message, unless it is the one before it again."""
        if self._loaded_strings[:1] != [string]:
            super().append_string(string)

    def store_string(self, string: str) -> None:
        """Append to the file; whatever is wrong with that, the message is in this process's
        history."""
        with suppress(OSError):
            _append(self._path, json.dumps(self._to_store(string)).encode() + b"\n")


def _parsed(content: bytes) -> list[str]:
    """The messages in the lines, oldest first; what is no whole line is passed over."""
    messages: list[str] = []
    for line in content.split(b"\n"):
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, str) and message and messages[-1:] != [message]:
            messages.append(message)
    return messages[-KEPT:]


def _tail(path: Path) -> bytes:
    """The end of the file: more than is kept, if there is more."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 2 * KEPT_BYTES, 0))
        return file.read()


def _append(path: Path, line: bytes) -> None:
    _make_private(path.parent)
    descriptor = _open_locked(path, os.O_CREAT)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" * torn + line)
    finally:
        os.close(descriptor)


def _trim(path: Path) -> None:
    """Keep the newest messages only; others may append meanwhile. Raises OSError."""
    descriptor = _open_locked(path)
    try:
        if not _is_locked(descriptor):
            return
        lines: list[bytes] = []
        room = KEPT_BYTES // 2
        for message in reversed(_parsed(_tail(path))):
            lines.append(json.dumps(message).encode() + b"\n")
            room -= len(lines[-1])
            if room <= 0:
                break
        number, name = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.writelines(reversed(lines))
            os.replace(name, path)
        except OSError:
            with suppress(OSError):
                os.unlink(name)
            raise
    finally:
        os.close(descriptor)


def _open_locked(path: Path, more_flags: int = 0) -> int:
    """Open the file for appending and lock it. Where that takes too long, or the file system has
    no locks, it is open all the same: one write is one line."""
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags | more_flags, 0o600)
        try:
            with suppress(OSError):
                acquire(descriptor)
            # Another process may have put a shorter file in its place while we waited.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _make_private(folder: Path) -> None:
    """Make the folder and those above it, each that is new for the owner only."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
