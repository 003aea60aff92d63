"""The user's own commands, typed after ``!``: run as their own, offered to the model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean, clean_block, counted, fit, seconds
from kimi_cli.frontends.terminal.ink import Ink, Style, cells, wrapped
from kimi_cli.frontends.terminal.live import Running

if TYPE_CHECKING:
    from kimi_cli.agent import Session
    from kimi_cli.agent.user_command import UserCommand
    from kimi_cli.frontends.terminal.controller import Controller

CALL = "user"
"""The call id of the command's live output."""
SHOWN_LINES = 30


async def run_command(controller: Controller, session: Session, command: str) -> None:
    """Run a command as the user's own act; its output goes to the model with the next message,
    unless the user says otherwise."""
    desk = controller.desk
    desk.doing.tools[CALL] = Running("!", command, time.monotonic())
    try:
        done = await session.run_user_command(command, call_id=CALL)
    finally:
        desk.doing.tools.pop(CALL, None)
    if len(lines := _lines(done)) > SHOWN_LINES:
        desk.scribe.folds.add("output", f"! {command}", done.output, done.output_path)
    made = command_lines(done, lines, desk.ink, controller.width)
    controller.print(desk.scribe.own(made))
    if not done.stopped:
        desk.offers.append(done.words)


def command_lines(done: UserCommand, lines: list[str], ink: Ink, width: int) -> list[str]:
    """What stays of a command: its line, and its output, of much of it the end."""
    state, style = _state(done)
    taken = seconds(done.seconds)
    end = f" · {state}" * bool(state)
    after = f" · {taken}" * bool(taken)
    # The outcome stays, whatever the length of the command.
    what = fit(f"! {clean(done.command)}", max(width - 2 - cells(end + after), 12))
    pieces: list[tuple[str, Style]] = [
        (f"{ink.look.tool} ", style),
        (what, ""),
        (end, style),
        (after, "dim"),
    ]
    made = [ink.line(pieces, width)]
    if len(lines) > SHOWN_LINES:
        left = counted(len(lines) - SHOWN_LINES, "line")
        made.append(ink(f"    {ink.look.ellipsis} {left} · ctrl-o shows all", "dim"))
    for line in lines[-SHOWN_LINES:]:
        made += [f"    {piece}".rstrip() for piece in wrapped(line, width - 4)]
    return made


def _state(done: UserCommand) -> tuple[str, Style]:
    if done.stopped:
        return "stopped", "warn"
    if done.task and done.code is None:
        return f"still runs as {done.task}", "accent"
    return (done.outcome, "bad") if done.outcome else ("", "good")


def _lines(done: UserCommand) -> list[str]:
    text = clean_block(done.output.expandtabs(4)).strip("\n")
    return text.split("\n") if text else []
