"""What a list of sessions shows of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.protocol.event import SCHEMA_VERSION
from kimi_cli.protocol.messages import Usage
from kimi_cli.store.errors import SessionNotFound, StoreError
from kimi_cli.store.events_file import EVENTS, too_new
from kimi_cli.store.fold import Fold
from kimi_cli.store.index import find, project_folder, projects, sessions_in
from kimi_cli.store.lock import is_held
from kimi_cli.store.summary_cache import SummaryCache
from kimi_cli.store.titles import title_of as title_of


@dataclass(frozen=True, slots=True)
class Summary:
    """A session at a glance.

    ``project`` is the name of its project's folder, ``path`` its own. ``created`` is when it was
    begun (a fork: when its original was), ``updated`` when it was last written to, in seconds
    since the epoch. ``steps``, ``usage`` and ``cost`` are those of all turns and of the
    compactions between them; a fork has those that it copied too. ``cost`` None: no price was
    known. ``last_reason`` is why the last turn ended, "" while it has not; ``running``: that
    turn may still end, because a process has the session open. ``size`` is that of the log in
    bytes, ``version`` the newest schema in it. ``problem`` says why the session can't be used.
    """

    id: str
    project: str
    path: Path
    cwd: str
    title: str
    model: str
    created: float
    updated: float
    turns: int
    steps: int
    usage: Usage
    cost: float | None
    currency: str | None
    last_reason: str
    compactions: int
    forked_from: str | None
    size: int
    version: int
    problem: str = ""
    running: bool = False

    @property
    def broken_off(self) -> bool:
        """Whether the last turn has no end and will get none."""
        return self.turns > 0 and not (self.last_reason or self.running)


def summaries(home: Path, root: Path | None) -> list[Summary]:
    """The sessions of the project at ``root``, or of all, the last written first; those without
    a message of the user are left out. Raises StoreError when the sessions can't be listed."""
    if root is not None:
        found = list(_of_project(project_folder(home, root)))
    else:
        found = [summary for project in projects(home) for summary in _readable(project)]
    return sorted(found, key=lambda summary: (summary.updated, summary.id), reverse=True)


def summary_of(home: Path, id_or_prefix: str, root: Path | None) -> Summary:
    """One session. Raises SessionNotFound, AmbiguousSession, StoreError."""
    folder = find(home, id_or_prefix, root)
    cache = SummaryCache.load(folder.parent)
    try:
        return _summary(cache, folder)
    except FileNotFoundError:
        raise SessionNotFound(f"session {folder.name} was deleted") from None
    except OSError as error:
        raise StoreError.of(f"{folder / EVENTS} cannot be read", error) from error
    finally:
        cache.save()


def _readable(project: Path) -> Iterable[Summary]:
    # A project that belongs to somebody else must not hide all the others.
    return _of_project(project) if os.access(project, os.R_OK | os.X_OK) else ()


def _of_project(project: Path) -> Iterator[Summary]:
    cache = SummaryCache.load(project)
    names = set()
    for folder in sessions_in(project):
        try:
            summary = _summary(cache, folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield _unreadable(folder, error)
            continue
        names.add(summary.id)
        if summary.problem or cache.entries[summary.id].fold.spoken:
            yield summary
    cache.forget_others(names)
    cache.save()


def _summary(cache: SummaryCache, folder: Path) -> Summary:
    name = folder.name
    entry = cache.refresh(name)
    running = _unfinished(entry.fold) and is_held(folder / EVENTS)
    if not running and _unfinished(entry.fold):
        # It may have ended since it was read; now nobody changes it any more.
        entry = cache.refresh(name)
    fold = entry.fold
    return Summary(
        id=name,
        project=cache.project.name,
        path=folder,
        cwd=fold.cwd,
        title=fold.title or fold.said,
        model=fold.model,
        created=fold.created,
        updated=entry.mtime_ns / 1e9,
        turns=fold.turns,
        steps=fold.steps,
        usage=Usage(
            input_tokens=fold.input_tokens,
            output_tokens=fold.output_tokens,
            cached_tokens=fold.cached_tokens,
        ),
        cost=fold.cost,
        currency=fold.currency,
        last_reason=fold.last_reason,
        compactions=fold.compactions,
        forked_from=fold.forked_from,
        size=entry.size,
        version=fold.version,
        problem=_problem(name, fold),
        running=running,
    )


def _unfinished(fold: Fold) -> bool:
    return fold.turns > 0 and not fold.last_reason


def _problem(name: str, fold: Fold) -> str:
    if fold.version > SCHEMA_VERSION:
        return str(too_new(name, fold.version))
    if fold.spoken and not fold.begun:
        return f"session {name} has no beginning and can't be continued"
    return ""


def _unreadable(folder: Path, error: OSError) -> Summary:
    return Summary(
        id=folder.name,
        project=folder.parent.name,
        path=folder,
        cwd="",
        title="",
        model="",
        created=0.0,
        updated=0.0,
        turns=0,
        steps=0,
        usage=Usage(),
        cost=None,
        currency=None,
        last_reason="",
        compactions=0,
        forked_from=None,
        size=0,
        version=0,
        problem=str(StoreError.of(f"{folder / EVENTS} cannot be read", error)),
    )
