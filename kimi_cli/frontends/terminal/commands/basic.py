"""Commands about the terminal itself, and how freely the session works."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import fit
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import room, tell

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller

NARROW = 70
"""Columns below which the list of commands leaves out what may follow them."""
USAGE_WIDTH = 24
"""Columns that a command with what may follow it takes in the list; longer ones are shortened."""
MODE_WORDS = {
    "ask": "every change asks",
    "auto": "free inside the sandbox",
    "plan": "only reads, ends in a plan",
    "yolo": "asks nothing; the sandbox stays",
}


async def show_help(controller: Controller, argument: str) -> None:
    from kimi_cli.frontends.terminal.commands.table import all_commands, find_command

    commands = all_commands()
    if argument:
        command = find_command(commands, argument.removeprefix("/"))
        also = ", ".join(f"/{alias}" for alias in command.aliases)
        lines = [f"/{command.name} {command.usage}".rstrip(), command.help]
        lines += [f"also {also}"] if also else []
        lines.append("runs at once" if command.while_busy else "waits for the running turn")
        tell(controller, lines)
        return
    width = room(controller)
    names = [short_usage(one, width) for one in commands]
    wide = max(map(len, names))
    pairs = zip(names, commands, strict=True)
    tell(controller, [fit(f"{name:<{wide}}  {command.help}", width) for name, command in pairs])
    controller.say("? on an empty line shows the keys")


def short_usage(command: Command, width: int) -> str:
    """The command as the list has it."""
    whole = f"/{command.name} {command.usage}".rstrip()
    if width < NARROW:
        return f"/{command.name}"
    return whole if len(whole) <= USAGE_WIDTH else f"/{command.name} …"


def help_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    from kimi_cli.frontends.terminal.commands.table import all_commands

    return [(one.name, one.help) for one in all_commands()]


async def leave(controller: Controller, argument: str) -> None:
    controller.leave()


async def set_mode(controller: Controller, argument: str) -> None:
    from kimi_cli.protocol.modes import MODES

    session = controller.need_session()
    if not argument:
        controller.say(f"mode {session.mode}: {MODE_WORDS[session.mode]}", "")
        controller.say(f"/mode {'|'.join(MODES)}, or shift-tab")
        return
    if argument not in MODES:
        raise CommandError(f"there is no mode {argument!r}: {', '.join(MODES)}")
    if argument == session.mode:
        controller.say(f"mode {argument} already")
    session.set_mode(argument)


async def plan(controller: Controller, argument: str) -> None:
    controller.need_session().set_mode("plan")
    if argument:
        say_next(controller, argument)


async def edit(controller: Controller, argument: str) -> None:
    controller.edit()


def say_next(controller: Controller, text: str) -> None:
    """Send a message before everything that waits."""
    controller.desk.queued.insert(0, text)
    controller.work.wake()


COMMANDS = (
    Command(
        "help",
        "the commands, or one of them",
        show_help,
        "[COMMAND]",
        while_busy=True,
        complete=help_choices,
    ),
    Command(
        "mode",
        "what happens without asking: ask, auto, plan or yolo",
        set_mode,
        "[MODE]",
        while_busy=True,
        complete=lambda controller, typed: list(MODE_WORDS.items()),
    ),
    Command("plan", "only look and plan, from now on or for a task", plan, "[TASK]"),
    Command("editor", "write the message in $EDITOR", edit, while_busy=True),
    Command("exit", "leave", leave, aliases=("quit", "q"), while_busy=True),
)
