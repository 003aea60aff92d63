"""Commands about what the session uses: the context window, tokens, money."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean, counted, money, share, short, tokens_cached
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import (
    is_kept,
    project_of,
    room,
    stored_events,
    tell,
)
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Aside, ToolResult
from kimi_cli.protocol.messages import Usage, added

if TYPE_CHECKING:
    from kimi_cli.agent import Session
    from kimi_cli.agent.budget import Axis
    from kimi_cli.frontends.terminal.controller import Controller

TURNS = 10
"""The last turns that /usage shows."""
NAME = 10


async def compact(controller: Controller, argument: str) -> None:
    from kimi_cli.protocol.operations import Compact

    session = controller.need_session()
    if controller.desk.doing.busy:
        session.send(Compact(focus=argument))
        controller.say("the context is compacted after the running step")
        return

    async def work(session: Session) -> None:
        if await session.compact(argument) is None:
            controller.say("nothing was compacted")

    controller.work.do(work)


async def show_context(controller: Controller, argument: str) -> None:
    from kimi_cli.agent.context_report import stored_report
    from kimi_cli.frontends.context_lines import context_lines

    session, setup = controller.need_session(), controller.setup
    if not is_kept(controller):
        full = session.fullness()
        used = share(full, 1) if full is not None else "an unknown share"
        raise CommandError(f"the context is {used} full; more is known of sessions that are kept")
    report = await asyncio.to_thread(
        stored_report, setup.env, setup.home, project_of(controller), session.id
    )
    bars = controller.desk.ink.look.full == "█"
    lines = list(context_lines(report, width=room(controller), bars=bars))
    controller.say(lines[0], "bold")
    tell(controller, lines[1:])


async def show_usage(controller: Controller, argument: str) -> None:
    session = controller.need_session()
    events = await stored_events(controller) if is_kept(controller) else []
    tell(controller, usage_lines(session, events, room(controller)))


def usage_lines(session: Session, events: Sequence[Event], width: int) -> Iterator[str]:
    """What the session used in all, what is left of the limits, and the last turns."""
    from kimi_cli.frontends.session_details import account_of, turn_line, turn_state

    account, gone = account_of(events)
    currency = session.currency
    usage = session.past + session.budget.usage
    spent = session.budget.cost if session.price else None
    yield _row("tokens", _tokens(usage))
    yield _row("cost", money(added(session.past_cost, spent), currency) or "no price is known")
    yield _row("limits", " · ".join(_limits(session)) or "none")
    calls = Counter(event.name for event in events if isinstance(event, ToolResult))
    if calls:
        listed = " · ".join(f"{clean(name)} {count}" for name, count in calls.most_common())
        yield _row("calls", f"{calls.total()}: {listed}")
    asides = [event for event in events if isinstance(event, Aside)]
    if asides:
        used = sum((event.usage or Usage() for event in asides), Usage())
        yield _row("btw", f"{counted(len(asides), 'question')} · {tokens_cached(used)}")
    before = len(account.turns) - TURNS
    if account.turns:
        yield ""
    if before > 0:
        yield f"      {counted(before, 'turn')} before"
    for turn in account.turns[-TURNS:]:
        state = "taken back" if turn.turn in gone else turn_state(turn, session.busy)
        yield turn_line(turn, state, currency, width)


def _row(name: str, text: str) -> str:
    return f"{name:<{NAME}}{text}"


def _tokens(usage: Usage) -> str:
    if not usage.total_tokens:
        return "none yet"
    cached = share(usage.cached_tokens, usage.input_tokens) if usage.input_tokens else "0 %"
    return f"{short(usage.input_tokens)} in, {cached} cached · {short(usage.output_tokens)} out"


def _limits(session: Session) -> Iterator[str]:
    """What is left of each limit."""
    budget = session.budget
    axes: tuple[Axis, ...] = ("steps", "tokens", "cost", "seconds")
    for axis in axes:
        if getattr(budget.limits, axis) is None:
            continue
        used, limit = budget.state(axis)
        left = max(limit - used, 0)
        match axis:
            case "cost":
                yield f"{money(left, session.currency)} of {money(limit, session.currency)} left"
            case "seconds":
                yield f"{left:.0f} of {limit:.0f} s left"
            case _:
                yield f"{left:,.0f} of {limit:,.0f} {axis} left"


COMMANDS = (
    Command(
        "compact",
        "make room in the context; FOCUS is what to keep above all",
        compact,
        "[FOCUS]",
        while_busy=True,
    ),
    Command("context", "what fills the context window", show_context, while_busy=True),
    Command("usage", "tokens and money, of each turn and in all", show_usage, while_busy=True),
)
