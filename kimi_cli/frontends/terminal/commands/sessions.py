"""Commands about sessions: a new one, an older one, a copy, a name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kimi_cli.frontends.plain import clean, counted, when
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import (
    choose,
    is_kept,
    need_opened,
    number_of,
    project_of,
    read_stored,
    room,
    tell,
    words,
)
from kimi_cli.frontends.terminal.menu import Item

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller
    from kimi_cli.store.summary import Summary

LISTED = 20
OFFERED = 200


async def clear(controller: Controller, argument: str) -> None:
    opened = need_opened(controller)
    former, settings = opened.session, opened.settings
    changes: dict[str, Any] = {"place": former.place}
    if (former.model, former.thinking) != (settings.model, settings.thinking):
        # What was chosen in the terminal holds on.
        chosen = {"model": former.model, "thinking": former.thinking}
        changes["flags"] = {**controller.setup.flags, **chosen}
    await controller.reopen(cwd=former.workspace.root, **_mode(controller), **changes)
    if any(summary.id == former.id for summary in await _summaries(controller)):
        controller.say(f"a new session; the former one is kept: /resume {former.id}")
    else:
        controller.say("a new session")


async def resume(controller: Controller, argument: str) -> None:
    session = controller.need_session()
    wanted = argument
    if not wanted:
        found = [s for s in await _summaries(controller) if s.id != session.id and not s.problem]
        if not found:
            raise CommandError("there is no other session of this project")
        chosen = await choose(controller, "go on with", _items(found[:OFFERED]))
        if chosen is None:
            return
        wanted = chosen
    await _go_on_with(controller, wanted)


async def list_sessions(controller: Controller, argument: str) -> None:
    from kimi_cli.frontends.sessions import table

    found = await _summaries(controller)
    if not found:
        controller.say("there is no stored session of this project")
        return
    head, *rows = table(found[:LISTED], width=room(controller), now=time.time())
    controller.say(head)
    tell(controller, rows)
    more = f"{counted(len(found) - LISTED, 'older one')} · " if len(found) > LISTED else ""
    controller.say(f"{more}/resume goes on with one")


async def fork(controller: Controller, argument: str) -> None:
    from kimi_cli.store import manage

    former = controller.need_session()
    if not is_kept(controller):
        raise CommandError("this session is not kept, so it can't be copied")
    turn = number_of(argument, "turn") if argument else None
    copy = await asyncio.to_thread(
        manage.fork,
        controller.setup.home,
        former.id,
        project_of(controller),
        upto_turn=turn,
    )
    try:
        await _go_on_with(controller, copy)
    except BaseException:
        await asyncio.to_thread(manage.delete, controller.setup.home, copy, None)
        raise
    upto = f" up to turn {turn}" if turn is not None else ""
    controller.say(f"a copy of {former.id}{upto}; /resume {former.id} goes back to that")


async def rename(controller: Controller, argument: str) -> None:
    from kimi_cli.store.titles import one_line

    title = one_line(argument)
    if not title:
        raise CommandError("/rename TITLE")
    controller.need_session().rename(title)
    controller.say(f"this session is called {title!r}")


async def _go_on_with(controller: Controller, wanted: str) -> None:
    """Open a stored session, which keeps its own model; but where this one uses a local server, it
    does too."""
    from kimi_cli.store.index import find

    root, setup = project_of(controller), controller.setup
    folder = await asyncio.to_thread(find, setup.home, wanted, root)
    if folder.name == controller.need_session().id:
        raise CommandError(f"this is session {folder.name}")
    flags = {key: value for key, value in setup.flags.items() if key not in ("model", "thinking")}
    place = controller.need_session().place
    await controller.reopen(resume=folder.name, flags=flags, place=place, **_mode(controller))


def _mode(controller: Controller) -> dict[str, Any]:
    """The mode that the user works in, for another session."""
    return {"mode": controller.need_session().mode, "yolo": False}


async def _summaries(controller: Controller) -> list[Summary]:
    return await asyncio.to_thread(_read_summaries, controller)


def _read_summaries(controller: Controller) -> list[Summary]:
    from kimi_cli.store.summary import summaries

    return summaries(controller.setup.home, project_of(controller))


def _items(found: list[Summary]) -> list[Item]:
    now = time.time()
    return [Item(s.id, _title(s), f"{_age(s, now)} · {s.id}") for s in found]


def _title(summary: Summary) -> str:
    return clean(summary.title) or "(no message)"


def _age(summary: Summary, now: float) -> str:
    return f"{when(summary.updated, now)} · {counted(summary.turns, 'turn')}"


def session_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """The other sessions of the project."""
    own, now = controller.need_session().id, time.time()
    return [
        (summary.id, f"{_title(summary)} · {_age(summary, now)}")
        for summary in _read_summaries(controller)[:OFFERED]
        if summary.id != own and not summary.problem
    ]


def turn_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """The turns of this session, the newest first."""
    from kimi_cli.agent.undo import history

    turns = history(read_stored(controller)).turns
    return [(str(turn.number), words(turn.text)) for turn in reversed(turns)]


COMMANDS = (
    Command("clear", "begin anew; this session is kept", clear, aliases=("new",)),
    Command("resume", "go on with another session", resume, "[ID]", complete=session_choices),
    Command("sessions", "the sessions of this project", list_sessions, while_busy=True),
    Command(
        "fork",
        "go on with a copy, of all or of the turns up to TURN",
        fork,
        "[TURN]",
        complete=turn_choices,
    ),
    Command("rename", "give this session a title", rename, "TITLE", while_busy=True),
)
