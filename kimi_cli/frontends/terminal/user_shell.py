"""The user's own commands, typed after ``!``: run as their own, offered to the model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean, clean_block, counted, fit, seconds
from kimi_cli.frontends.terminal.blocks import end_words
from kimi_cli.frontends.terminal.ink import Ink, Style, cells, wrapped
from kimi_cli.frontends.terminal.live import Running
from kimi_cli.frontends.terminal.tool_words import after_cut, size_words

if TYPE_CHECKING:
    from kimi_cli.agent import Session
    from kimi_cli.agent.user_command import UserCommand
    from kimi_cli.frontends.terminal.controller import Controller

CALL = "user"
"""The call id of the command's live output."""
SHOWN_ROWS = 30


async def run_command(controller: Controller, session: Session, command: str) -> None:
    """Run a command as the user's own act; its output goes to the model with the next message,
    unless the user says otherwise."""
    desk = controller.desk
    desk.doing.tools[CALL] = Running("!", command, time.monotonic())
    try:
        done = await session.run_user_command(command, call_id=CALL)
    finally:
        desk.doing.tools.pop(CALL, None)
    rows, left_out = output_rows(done, controller.width - 4, desk.ink.look.ellipsis)
    if left_out:
        desk.scribe.folds.add("output", f"! {command}", done.output, done.output_path)
    made = command_lines(done, rows, left_out, desk.ink, controller.width)
    if not done.stopped:
        desk.offers.append(done.words)
    controller.print(desk.scribe.own(made))


def command_lines(
    done: UserCommand, rows: Sequence[str], left_out: str, ink: Ink, width: int
) -> list[str]:
    """What stays of a command: its line, and the rows of its output that are shown."""
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
    if left_out:
        made.append(ink(f"    {left_out} · ctrl-o shows all", "dim"))
    return made + [f"    {row}".rstrip() for row in rows]


def output_rows(done: UserCommand, width: int, ellipsis: str) -> tuple[list[str], str]:
    """The end of a command's output in rows of the terminal, and what to say of the rest, ""
    where there is none."""
    lines: Sequence[str] = _lines(done)
    end = after_cut(lines, done.output_path)
    shown = lines if end is None else end
    rows: list[str] = []
    place = len(shown)
    while place and len(rows) < SHOWN_ROWS:
        place -= 1
        rows = wrapped(shown[place], width) + rows
    whole = len(rows) <= SHOWN_ROWS
    rows = rows[-SHOWN_ROWS:]
    if end is not None and done.output_path:
        return rows, end_words(done.output_path, ellipsis)
    if not whole:
        return rows, f"{ellipsis} the end of {size_words(len(done.output.encode()))}"
    return rows, f"{ellipsis} {counted(place, 'line')}" if place else ""


def _state(done: UserCommand) -> tuple[str, Style]:
    if done.stopped:
        return "stopped", "warn"
    if done.task and done.code is None:
        return f"still runs as {done.task}", "accent"
    return (done.outcome, "bad") if done.outcome else ("", "good")


def _lines(done: UserCommand) -> list[str]:
    text = clean_block(done.output.expandtabs(4)).strip("\n")
    return text.split("\n") if text else []
