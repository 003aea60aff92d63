"""Commands about what goes on beside the turns: questions, background tasks, checks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean, seconds
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import (
    in_its_turn,
    loaded_settings,
    noted,
    project_of,
    tell,
    words,
)

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller
    from kimi_cli.protocol.workspace import Task
    from kimi_cli.settings import Loaded, SettingsError

OUTPUT_LINES = 20
"""Of the output of a task."""
LAST_BYTES = 16_384
"""Of an output that are looked at for its last line."""


async def ask_beside(controller: Controller, argument: str) -> None:
    if not argument:
        raise CommandError("/btw QUESTION")
    await in_its_turn(controller, lambda: _ask(controller, argument))


async def _ask(controller: Controller, question: str) -> None:
    desk = controller.desk

    def show(text: str) -> None:
        lines = text.strip().splitlines()
        desk.note = f"btw: {words(lines[-1])}" if lines else asking
        controller.frame()

    asking = "btw: asking beside the work"
    with noted(controller, asking):
        # Its event tells the answer.
        await controller.need_session().aside(question, show)


async def tasks(controller: Controller, argument: str) -> None:
    known = controller.need_session().workspace.processes.tasks()
    what, _, name = argument.partition(" ")
    if what == "stop":
        await _stop(controller, known, name.strip())
    elif what:
        await _output(controller, _found(known, what))
    elif not known:
        controller.say("there are no background tasks")
    else:
        lasts = await asyncio.to_thread(lambda: [last_line(task.output_path) for task in known])
        for task, last in zip(known, lasts, strict=True):
            controller.say(task_line(task), "")
            if last:
                controller.say(f"  {last}")


async def _stop(controller: Controller, known: Sequence[Task], name: str) -> None:
    task = _found(known, name)
    if task.result is not None and not task.result.survivors:
        raise CommandError(f"{task.id} has ended already")
    await task.stop()
    controller.say(task_line(task), "")


async def _output(controller: Controller, task: Task) -> None:
    from kimi_cli.tools.shell_output import excerpt

    running = task.result is None
    output = await asyncio.to_thread(excerpt, task.output_path, 0, running)
    title = task_line(task)
    controller.say(title, "")
    lines = output.text.rstrip().splitlines() or ["(no output)"]
    more = len(lines) - OUTPUT_LINES
    if output.cut or more > 1:
        look = controller.desk.ink.look
        controller.desk.scribe.folds.add("output", title, output.text, str(task.output_path))
        lines = lines[-OUTPUT_LINES:]
        controller.say(f"  {look.ellipsis} its end {look.dot} ctrl-o shows all")
    tell(controller, lines, "dim")


def _found(known: Sequence[Task], name: str) -> Task:
    for task in known:
        if task.id == name or task.id == f"t{name}":
            return task
    there = ", ".join(task.id for task in known)
    raise CommandError(f"there is no task {name!r}" + (f": {there}" if there else ""))


def task_line(task: Task) -> str:
    """``t3 · running · 12 s · npm run dev``."""
    pieces = (task.id, _state(task), seconds(task.seconds), words(task.command))
    return " · ".join(piece for piece in pieces if piece)


def _state(task: Task) -> str:
    result = task.result
    if result is None:
        return "running"
    if result.survivors:
        return "ended, but some of what it started runs on"
    if result.reason:
        return clean(result.reason)
    return f"exit {result.code}" if result.code is not None else f"signal {result.signal}"


def last_line(path: Path) -> str:
    """The last line of an output that is not empty."""
    from kimi_cli.tools.shell_output import clean as shown

    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - LAST_BYTES, 0))
            text = file.read(LAST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in shown(text).splitlines() if line.strip()]
    return words(lines[-1]) if lines else ""


def task_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """The tasks, to be shown or stopped."""
    known = controller.need_session().workspace.processes.tasks()
    running = [task for task in known if task.result is None]
    return [
        *((task.id, words(task.command)) for task in known),
        *((f"stop {task.id}", words(task.command)) for task in running),
    ]


async def doctor(controller: Controller, argument: str) -> None:
    await in_its_turn(controller, lambda: _examine(controller))


async def _examine(controller: Controller) -> None:
    from kimi_cli.frontends.doctor.examine import examine
    from kimi_cli.settings import SettingsError

    setup, look = controller.setup, controller.desk.ink.look
    loaded: Loaded | SettingsError
    try:
        loaded = await loaded_settings(controller)
    except SettingsError as error:
        loaded = error
    styles = {"ok": "", "warn": look.warn, "fail": look.bad}
    findings = examine(setup.env, setup.home, project_of(controller), loaded)
    async with aclosing(findings):  # type: ignore[type-var]
        async for finding in findings:
            line = f"{finding.status:4}  {finding.name:10} {clean(finding.detail)}"
            controller.say(line, styles[finding.status])
            if finding.advice and finding.status != "ok":
                controller.say(f"      {clean(finding.advice)}")


COMMANDS = (
    Command(
        "btw",
        "ask beside the work; the answer is not remembered",
        ask_beside,
        "QUESTION",
        while_busy=True,
    ),
    Command(
        "tasks",
        "commands in the background: state and output",
        tasks,
        "[ID | stop ID]",
        while_busy=True,
        complete=task_choices,
    ),
    Command("doctor", "check settings, endpoint, sandbox", doctor, while_busy=True),
)
