"""A stored session with all its turns, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kimi_cli.agent.undo import history
from kimi_cli.frontends.account import Account, TurnAccount
from kimi_cli.frontends.plain import (
    clean,
    compacted,
    counted,
    fit,
    moment,
    money,
    pad,
    spent,
    tokens_cached,
    usage_fields,
    when,
)
from kimi_cli.frontends.sessions import fields, home_short, unended
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Compaction, ToolResult

if TYPE_CHECKING:
    from kimi_cli.store.summary import Summary

WORDS = 300
"""Of a message, on the line of its turn, where nothing else limits it."""


def all_fields(session: Summary, events: Sequence[Event]) -> dict[str, Any]:
    """The summary with the session's turns, compactions and changed files."""
    account, gone = account_of(events)
    compactions = [event for event in events if isinstance(event, Compaction)]
    return {
        **fields(session),
        "turns": [
            {**turn.result(), "text": turn.text, "taken_back": turn.turn in gone}
            for turn in account.turns
        ],
        "compacted": [
            event.model_dump(
                mode="json",
                include={
                    *("turn", "time", "reason", "focus", "mechanical", "failure", "kept"),
                    *("tokens_before", "tokens_after", "window", "cost", "seconds"),
                },
            )
            | {"usage": usage_fields(event.usage) if event.usage else None}
            for event in compactions
        ],
        "changed_files": account.changed_files(),
    }


def details(
    session: Summary, events: Sequence[Event], *, width: int | None, now: float
) -> Iterator[str]:
    """The lines of all that is known of a session. A turn is one line, at most ``width`` columns
    wide (None: with more of its message)."""
    account, gone = account_of(events)
    total = spent(session.steps, session.usage, session.cost, session.currency, account.seconds)
    rows = {
        "folder": home_short(session.cwd),
        "model": session.model,
        "begun": f"{moment(session.created) or '?'} · last used {when(session.updated, now)}",
        "forked from": session.forked_from or "",
        "total": f"{counted(session.turns, 'turn')} · {total}",
        "problem": session.problem,
    }
    yield f"{session.id} · {clean(session.title)}"
    for name, value in rows.items():
        if value:
            yield f"  {name:<11}  {clean(value)}"
    yield ""
    yield from _turns(account, gone, session, width)
    changed = account.changed_files()
    if changed:
        yield ""
    for file in changed:
        yield f"  {file['action']:<8}  {clean(_inside(file['path'], session.cwd))}"


def account_of(events: Sequence[Event]) -> tuple[Account, set[int]]:
    """The account, and the numbers of the turns that were taken back. What these used was used;
    what they changed counts only as far as it is still there."""
    known = history(events)
    account = Account()
    for event in events:
        if not (isinstance(event, ToolResult) and event.turn in known.reverted):
            account(event)
    left = {turn.number for turn in known.turns}
    return account, {turn.turn for turn in account.turns} - left


def _turns(account: Account, gone: set[int], session: Summary, width: int | None) -> Iterator[str]:
    currency = session.currency
    aside = list(account.aside)
    for turn in account.turns:
        while aside and aside[0].turn < turn.turn:
            yield f"      {compacted(aside.pop(0), currency)}"
        running = session.running and turn is account.turns[-1]
        state = "taken back" if turn.turn in gone else turn_state(turn, running)
        yield turn_line(turn, state, currency, width)
        for compaction in turn.compactions:
            yield f"      {compacted(compaction, currency)}"
    for compaction in aside:
        yield f"      {compacted(compaction, currency)}"


def turn_state(turn: TurnAccount, running: bool) -> str:
    """How a turn ended; ``running``: one without an end may still get one."""
    return turn.ended.reason.value.replace("_", " ") if turn.ended else unended(running)


def turn_line(turn: TurnAccount, state: str, currency: str | None, width: int | None) -> str:
    """A turn with what it took, at most ``width`` columns wide (None: with more of its message)."""
    pieces = (
        state,
        counted(turn.steps, "step"),
        tokens_cached(turn.usage),
        money(turn.cost, currency),
    )
    figures = " · ".join(piece for piece in pieces if piece)
    words = " ".join(clean(turn.text.strip()[: 4 * WORDS].replace("\n", " ")).split())
    room = max(width - 8 - len(figures), 10) if width else WORDS
    words = fit(words, room)
    if width:
        words = pad(words, room)
    return f"{turn.turn:>4}  {words}  {figures}"


def _inside(path: str, folder: str) -> str:
    try:
        return str(Path(path).relative_to(folder))
    except ValueError:
        return home_short(path)
