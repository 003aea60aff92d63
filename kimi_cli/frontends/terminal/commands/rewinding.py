"""Commands that take turns back and bring them back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import counted
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.sessions import turn_choices
from kimi_cli.frontends.terminal.commands.support import (
    LOOKING,
    choose,
    confirmed,
    noted,
    number_of,
    project_of,
    room,
    tell,
    words,
)
from kimi_cli.frontends.terminal.menu import Item

if TYPE_CHECKING:
    from kimi_cli.agent.rewinding import Done, Preview, Rewinder
    from kimi_cli.agent.undo import Goal
    from kimi_cli.frontends.terminal.controller import Controller

NOTHING = "nothing was changed"
BOTH, TALK, FILES = "both", "conversation", "files"
WHAT = (
    Item(BOTH, "files and conversation"),
    Item(TALK, "the conversation alone", "the files stay as they are"),
    Item(FILES, "the files alone", "the conversation stays as it is"),
)


async def undo(controller: Controller, argument: str) -> None:
    from kimi_cli.agent.undo import undo as last_turn

    rewinder = await controller.need_session().rewinder()
    await _carry_out(controller, rewinder, last_turn(rewinder.history))


async def redo(controller: Controller, argument: str) -> None:
    from kimi_cli.agent.undo import redo as last_undone

    rewinder = await controller.need_session().rewinder()
    await _carry_out(controller, rewinder, last_undone(rewinder.history))


async def rewind(controller: Controller, argument: str) -> None:
    from kimi_cli.agent.undo import rewind as before_turn

    rewinder = await controller.need_session().rewinder()
    turn = number_of(argument, "turn") if argument else await _chosen_turn(controller, rewinder)
    if turn is None:
        return
    before_turn(rewinder.history, turn)
    what = await choose(controller, f"back to before turn {turn}", WHAT)
    if what is None:
        return
    goal = before_turn(rewinder.history, turn, files=what != TALK, conversation=what != FILES)
    if await _carry_out(controller, rewinder, goal) and goal.conversation:
        # It may be said in other words now.
        controller.give_back(goal.turns[0].text)


async def _chosen_turn(controller: Controller, rewinder: Rewinder) -> int | None:
    from kimi_cli.frontends.plain import ago, moment

    turns, now = rewinder.history.turns, time.time()
    if not turns:
        raise CommandError("there is no turn to go back to")
    items = []
    for turn in reversed(turns):
        files = len(await rewinder.files_of(turn))
        pieces = (ago(now - turn.time) or moment(turn.time), counted(files, "file") * bool(files))
        about = " · ".join(piece for piece in pieces if piece)
        items.append(Item(str(turn.number), f"{turn.number:>3}  {words(turn.text)[:60]}", about))
    chosen = await choose(controller, "back to before which turn?", items)
    return int(chosen) if chosen else None


async def _carry_out(controller: Controller, rewinder: Rewinder, goal: Goal) -> bool:
    """Show what would happen, ask, and do it; whether it was done."""
    from kimi_cli.agent.rewinding import EditedSince
    from kimi_cli.frontends.undo import preview_lines

    with noted(controller, LOOKING):
        preview = await rewinder.preview(goal)
    folder, width = project_of(controller), room(controller)
    session = controller.need_session().id
    tell(controller, preview_lines(session, preview, folder, width=width))
    if preview.problem:
        more = f"; /rewind {goal.target} can leave the files alone" * (goal.what != "redo")
        raise CommandError(f"{NOTHING}{more}")
    yes = "bring it back" if goal.what == "redo" else "take it back"
    if not await confirmed(controller, _question(preview), yes):
        controller.say(NOTHING)
        return False
    if preview.edited and not await _lose_edits(controller, len(preview.edited)):
        controller.say(NOTHING)
        return False
    try:
        done = await _to_its_end(rewinder, goal, force=bool(preview.edited))
    except EditedSince as error:
        raise CommandError(f"edited just now: {_names(error.paths)}; {NOTHING}") from None
    # The event itself tells what was done.
    for path, why in done.failed:
        controller.say(f"not restored: {path}: {why}", controller.desk.ink.look.warn)
    return True


async def _to_its_end(rewinder: Rewinder, goal: Goal, *, force: bool) -> Done:
    """Half a rewind is worse than one that can't be stopped."""
    work = asyncio.ensure_future(rewinder.carry_out(goal, force=force))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await work
        raise


async def _lose_edits(controller: Controller, count: int) -> bool:
    question = f"edits by others in {counted(count, 'file')} would be lost: go on?"
    items = [Item("no", "no, leave everything as it is"), Item("yes", "write over them")]
    return await controller.choose(question, items, sure=True) == "yes"


def _question(preview: Preview) -> str:
    files = counted(len(preview.changes), "file") if preview.changes else "no file"
    if preview.goal.what == "redo":
        return f"bring it back? {files} would change"
    what = "" if preview.goal.conversation else ", the conversation stays"
    return f"take it back? {files} would change{what}"


def _names(paths: Sequence[object]) -> str:
    return ", ".join(words(str(path)) for path in paths)


COMMANDS = (
    Command("undo", "take the last turn back, files and conversation", undo),
    Command("redo", "bring back what was taken back last", redo),
    Command(
        "rewind",
        "go back to before a turn",
        rewind,
        "[TURN]",
        complete=turn_choices,
    ),
)
