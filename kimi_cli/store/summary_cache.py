"""What the logs of a project add up to, kept in a file so that a list need not read them all.

The file is derived: without it, or with a damaged one, the logs are read again. Nobody locks it;
of two writers the last one wins, and both are right.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path

from kimi_cli.store.blobs import write_whole
from kimi_cli.store.events_file import EVENTS
from kimi_cli.store.fold import Fold

NAME = ".summaries"
VERSION = 2
"""To be raised when a fold holds the same fields but counts in another way."""


@dataclass(slots=True)
class Entry:
    """The sum of a log that had this size and this time of its last change."""

    size: int
    mtime_ns: int
    fold: Fold


@dataclass(slots=True)
class SummaryCache:
    """The entries of a project's sessions, by their ids."""

    project: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    changed: bool = False

    @classmethod
    def load(cls, project: Path) -> SummaryCache:
        with suppress(OSError):
            head, _, body = (project / NAME).read_bytes().partition(b"\n")
            # The digest vouches for the form too: nobody but this program writes it.
            if head == _head(body):
                return cls(
                    project,
                    {
                        name: Entry(size, mtime_ns, Fold(**fold))
                        for name, (size, mtime_ns, fold) in json.loads(body).items()
                    },
                )
        return cls(project)

    def refresh(self, name: str) -> Entry:
        """The entry of the session with this id, as its log is now. Raises OSError."""
        path = f"{self.project}/{name}/{EVENTS}"
        status = os.stat(path)
        entry = self.entries.get(name)
        if entry and (entry.size, entry.mtime_ns) == (status.st_size, status.st_mtime_ns):
            return entry
        with open(path, "rb") as file:
            fold = entry.fold if entry else Fold()
            if not fold.continues(file, status.st_size):
                fold = Fold()
            fold.read(file, status.st_size)
        self.changed = True
        entry = Entry(status.st_size, status.st_mtime_ns, fold)
        self.entries[name] = entry
        return entry

    def forget_others(self, names: set[str]) -> None:
        """Keep only the entries with these names."""
        for name in self.entries.keys() - names:
            del self.entries[name]
            self.changed = True

    def save(self) -> None:
        """Write what changed; where nothing can be written, the next list is slower."""
        if not self.changed:
            return
        plain = {name: (e.size, e.mtime_ns, asdict(e.fold)) for name, e in self.entries.items()}
        body = json.dumps(plain, separators=(",", ":")).encode()
        with suppress(OSError):
            write_whole(self.project / NAME, _head(body) + b"\n" + body)


def _head(body: bytes) -> bytes:
    form = ",".join(field.name for field in fields(Fold))
    return sha256(f"{VERSION} {form} ".encode() + body).hexdigest().encode()
