"""What the screen shows of a session that was just opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import counted
from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.header import branch_of, header, sandbox_mark
from kimi_cli.frontends.terminal.paint import clip
from kimi_cli.frontends.terminal.past import cut_short, last_turns
from kimi_cli.frontends.terminal.status_line import Status

if TYPE_CHECKING:
    from kimi_cli.agent import Opened


def fill_status(status: Status, opened: Opened) -> None:
    """Make the status that of this session."""
    session = opened.session
    status.model, status.thinking = session.model, session.thinking
    status.mode, status.session = session.mode, session.id
    status.sandbox = sandbox_mark(opened.sandbox)
    status.branch = branch_of(session.workspace.root)
    status.window, status.fullness = session.provider.window or 0, session.fullness()
    status.usage, status.cost = session.past, session.past_cost
    status.currency = session.price.currency if session.price else None


def opened_lines(desk: Desk, opened: Opened, width: int, env: Mapping[str, str]) -> list[str]:
    """The header, warnings, and of a stored session its last turns."""
    session, scribe = opened.session, desk.scribe
    lines = scribe.own(
        header(
            desk.ink,
            width,
            model=session.model,
            cwd=session.workspace.root,
            sandbox=opened.sandbox,
            env=env,
        ),
        "summary",
    )
    for warning in opened.warnings:
        lines += scribe.notice(warning, "warn")
    earlier, events = last_turns(opened.history)
    if earlier:
        before = f"{counted(earlier, 'turn')} before: kimi sessions show {session.id}"
        lines += scribe.notice(before)
    lines += [line for event in events for line in scribe.feed(event)]
    return lines + scribe.notice(clip(cut_short(events), width - 2, desk.ink.look.ellipsis))
