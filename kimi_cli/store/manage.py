"""What is done to whole sessions: fork, rename, delete."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from kimi_cli.protocol.events import Title
from kimi_cli.store.errors import SessionNotFound, StoreError
from kimi_cli.store.events_file import EVENTS, read_tail
from kimi_cli.store.expire import DELETED
from kimi_cli.store.fork import fork as fork
from kimi_cli.store.index import find
from kimi_cli.store.lock import held
from kimi_cli.store.log import SessionLog
from kimi_cli.store.titles import one_line


def rename(home: Path, id_or_prefix: str, title: str, root: Path | None) -> None:
    """Give a session a title; an empty one brings back that of its first message. The session
    does not count as worked on. Raises SessionNotFound, AmbiguousSession, SessionBusy,
    SessionTooNew, StoreError."""
    log = SessionLog.open(home, id_or_prefix, root)
    path = log.path / EVENTS
    try:
        status = path.stat()
        with path.open("rb") as file:
            last = read_tail(file, status.st_size)
        log.append(
            Title(
                text=one_line(title),
                session=log.id,
                turn=last.turn,
                step=last.step,
                seq=last.seq + 1,
                parent=last.seq,
                time=round(time.time(), 3),
            )
        )
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:
        raise StoreError.of(f"{path} cannot be written", error) from error
    finally:
        log.close()


def delete(home: Path, id_or_prefix: str, root: Path | None) -> None:
    """Remove a session for good, with its blobs and outputs; forks of it keep theirs. Raises
    SessionNotFound, AmbiguousSession, SessionBusy, StoreError."""
    folder = find(home, id_or_prefix, root)
    doomed = folder.with_name(DELETED + folder.name)
    try:
        with held(folder / EVENTS):
            # Under the other name it is no session any more, whatever happens now.
            folder.rename(doomed)
            shutil.rmtree(doomed)
    except FileNotFoundError as error:
        raise SessionNotFound(f"session {folder.name} was deleted") from error
    except OSError as error:
        raise StoreError.of(f"{folder} cannot be removed", error) from error
