"""A list of stored sessions, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kimi_cli.frontends.plain import (
    clean,
    counted,
    fit,
    money,
    pad,
    rounded,
    short,
    usage_fields,
    when,
)

if TYPE_CHECKING:
    from kimi_cli.store.summary import Summary

TITLE_WIDTH = 24
"""Columns that a title needs to be of use: other columns give way to it."""


class Column(NamedTuple):
    """``give_way``: the higher, the sooner it is left out; 0 stays."""

    name: str
    cells: list[str]
    right: bool = False
    give_way: int = 0


def table(
    sessions: Sequence[Summary], *, width: int | None, now: float, folders: bool = False
) -> list[str]:
    """A line for each session, below a line of headings, at most ``width`` columns wide (None:
    nothing is cut or left out). ``folders``: say where each one worked."""
    columns = [
        Column("id", [s.id for s in sessions]),
        Column("when", [when(s.updated, now) for s in sessions]),
        *_state(sessions),
        Column("title", [_title(s) for s in sessions]),
        Column("turns/steps", [f"{s.turns}/{s.steps}" for s in sessions], True, 2),
        Column("tokens", [short(s.usage.total_tokens) for s in sessions], True, 3),
        Column("cost", [money(s.cost, s.currency) for s in sessions], True, 1),
        Column("model", [clean(s.model) for s in sessions], give_way=4),
    ]
    if folders:
        columns.append(Column("folder", [clean(home_short(s.cwd)) for s in sessions], give_way=5))
    return list(_lines(columns, width))


def choices(sessions: Sequence[Summary], width: int, now: float) -> list[str]:
    """A numbered line for each session, to choose from."""
    columns = [
        Column("", [str(number) for number in range(1, len(sessions) + 1)], True),
        Column("", [s.id for s in sessions]),
        Column("", [when(s.updated, now) for s in sessions]),
        *_state(sessions),
        Column("title", [_title(s) for s in sessions]),
        Column("", [counted(s.turns, "turn") for s in sessions], True, 1),
    ]
    return list(_lines(columns, width - 2))[1:]


def fields(session: Summary) -> dict[str, Any]:
    """A summary as JSON; times are seconds since the epoch."""
    return {
        "id": session.id,
        "title": session.title,
        "folder": session.cwd,
        "model": session.model,
        "created": session.created,
        "updated": session.updated,
        "turn_count": session.turns,
        "steps": session.steps,
        "usage": usage_fields(session.usage),
        "cost": rounded(session.cost),
        "currency": session.currency,
        "stop_reason": session.last_reason or None,
        "running": session.running,
        "compactions": session.compactions,
        "forked_from": session.forked_from,
        "bytes": session.size,
        "path": str(session.path),
        "problem": session.problem,
    }


def home_short(folder: str) -> str:
    """A path with ``~`` for the user's home folder."""
    try:
        return str("~" / Path(folder).relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return folder


def _lines(columns: list[Column], width: int | None) -> Iterator[str]:
    widths = {id(c): max(_cells(cell) for cell in (c.name, *c.cells)) for c in columns}

    def rest() -> int:
        fixed = sum(widths[id(c)] + 2 for c in columns if c.name != "title")
        return (width or 0) - fixed

    if width is not None:
        while rest() < TITLE_WIDTH and any(c.give_way for c in columns):
            columns.remove(max(columns, key=lambda c: c.give_way))
        title = next(c for c in columns if c.name == "title")
        widths[id(title)] = max(min(widths[id(title)], rest()), 1)
    for row in zip(*((c.name, *c.cells) for c in columns), strict=True):
        cells = []
        for column, cell in zip(columns, row, strict=True):
            room = widths[id(column)]
            cells.append(cell.rjust(room) if column.right else pad(fit(cell, room), room))
        yield "  ".join(cells).rstrip()


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _state(sessions: Sequence[Summary]) -> Iterator[Column]:
    """How it stands with those whose last turn has no end, where there are any."""
    cells = [unended(s.running) if s.running or s.broken_off else "" for s in sessions]
    if any(cells):
        yield Column("state", cells)


def unended(running: bool) -> str:
    """What to call a turn without an end."""
    return "running" if running else "not ended"


def _title(session: Summary) -> str:
    if session.problem:
        return f"! {clean(session.problem)}"
    return (clean(session.title) or "(no message)") + " (fork)" * bool(session.forked_from)
