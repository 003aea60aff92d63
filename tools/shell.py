"""Run a command; poll or stop one that runs in the background."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.tools import Intent, Params, ToolContext, ToolError, ToolOutput
from kimi_cli.protocol.workspace import ProcessResult, Task, Workspace
from kimi_cli.tools.shell_output import Excerpt, LiveTail, clean, excerpt
from kimi_cli.tools.wording import counted

# Long enough to see a background command fail at once: not found, port in use.
_FIRST_LOOK = 0.3
_TICK = 0.1
# An interrupt takes effect within a second whatever the command does.
_CANCEL_GRACE = 0.3
_CANCEL_PATIENCE = 0.8
# Output up to this size stands in the result; its file is not kept.
_TINY = 4096
_SUMMARY_WIDTH = 100


class ShellParams(Params):
    command: str = ""
    cwd: str = Field("", description="Folder to run in, default the root")
    timeout: float = Field(
        0, description="Seconds to wait for the end; default 2 minutes for a command, 0 for a task"
    )
    background: bool = Field(False, description="Return at once, for servers and watchers")
    task: str = Field("", description="Instead of command: id of a background task to look at")
    stop: bool = Field(False, description="Stop that task")


class ShellTool:
    """``timeout`` is how many seconds a command gets in the foreground when the model does not
    say, ``max_timeout`` the most it may ask for."""

    name = "shell"
    params = ShellParams
    read_only = False

    def __init__(self, timeout: float = 120.0, max_timeout: float = 600.0) -> None:
        self._timeout = timeout
        self._max_timeout = max_timeout

    @property
    def description(self) -> str:
        return load("tools/shell")

    def intents(self, params: ShellParams, workspace: Workspace) -> Sequence[Intent]:
        return [Intent("execute", params.command)] if params.command else []

    def summary(self, params: ShellParams) -> str:
        if not params.command:
            return f"{'stop' if params.stop else 'look at'} {params.task}"
        lines = clean(params.command).strip().splitlines() or [""]
        cut = len(lines) > 1 or len(lines[0]) > _SUMMARY_WIDTH
        return lines[0][:_SUMMARY_WIDTH] + (" …" if cut else "")

    def preview(self, params: ShellParams, workspace: Workspace) -> str:
        return params.command

    async def run(self, params: ShellParams, context: ToolContext) -> ToolOutput:
        if bool(params.command.strip()) == bool(params.task) or (params.stop and not params.task):
            raise ToolError(
                "Give either command, to run one, or task, to look at a background task "
                "(with stop=true to end it)."
            )
        asked = min(params.timeout, self._max_timeout) if params.timeout > 0 else 0.0
        if params.task:
            return await _look_at(params, asked, context)
        return await _run_command(params, asked or self._timeout, context)


async def _run_command(params: ShellParams, timeout: float, context: ToolContext) -> ToolOutput:
    workspace = context.workspace
    cwd = workspace.files.resolve(params.cwd) if params.cwd else workspace.root
    try:
        task = await workspace.processes.start(params.command, cwd=cwd, grant=context.grant)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise ToolError(f"The command was not started: {error.strerror or error}{where}") from None
    wait = _FIRST_LOOK if params.background else timeout
    try:
        result = await follow(task, wait, context.progress)
    except asyncio.CancelledError:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(task.stop(_CANCEL_GRACE), _CANCEL_PATIENCE)
        raise
    moved = result is None and task.background
    if result is None or result.survivors:
        task.to_background()
    if result is not None:
        output = await _ended(task, result)
        return replace(output, denial=workspace.processes.denial(task, output.text))
    why = "Running" if params.background else f"Still running after {wait:g} s, and goes on"
    if moved:
        why = "Still running: the user moved it, and it goes on"
    note = (
        f'[{why} in the background as task {task.id}. See its new output with task="{task.id}" '
        "(timeout=N waits up to N s for its end), end it with stop=true.]"
    )
    return await _running(task, note)


async def _look_at(params: ShellParams, patience: float, context: ToolContext) -> ToolOutput:
    processes = context.workspace.processes
    task = processes.task(params.task)
    if task is None:
        known = ", ".join(task.id for task in processes.tasks())
        there = f"The tasks are: {known}." if known else "There are no background tasks."
        raise ToolError(f"There is no task {params.task!r}. {there}")
    if params.stop:
        ran = task.result is None
        result = await task.stop()
        output = await _ended(task, result)
        return ToolOutput(
            output.text if ran else f"{output.text}[it had ended before; nothing of it is left]",
            display=f"stopped {task.id}",
            data=output.data,
            output_path=output.output_path,
        )
    ended = await task.wait(patience)
    if ended is not None:
        return await _ended(task, ended)
    return await _running(task, f"[task {task.id} still runs, {task.seconds:.0f} s so far]")


async def follow(
    task: Task, timeout: float | None, show: Callable[[str], None]
) -> ProcessResult | None:
    """Wait up to ``timeout`` seconds for the end of a command, while ``show`` gets the output as it
    grows; None when it still runs then, or was moved to the background."""
    loop = asyncio.get_running_loop()
    until = math.inf if timeout is None else loop.time() + timeout
    tail = LiveTail(task.output_path)
    task.movable = True
    try:
        while True:
            left = until - loop.time()
            result = await task.wait(max(0.0, min(_TICK, left)))
            over = result is not None or left <= _TICK or task.background
            news = tail.news(final=over)
            if news:
                show(news)
            if over:
                return result
    finally:
        task.movable = False


async def _new_output(task: Task) -> Excerpt:
    """What the model has not been shown yet; notes that it is shown now."""
    running = task.result is None
    # Reading and cleaning a large output takes a while: not on the event loop.
    size = task.output_path.stat().st_size if task.output_path.exists() else 0
    if size - task.shown > 1 << 16:
        new = await asyncio.to_thread(excerpt, task.output_path, task.shown, running)
    else:
        new = excerpt(task.output_path, task.shown, running)
    task.shown = new.end
    return new


async def _running(task: Task, note: str) -> ToolOutput:
    new = await _new_output(task)
    return ToolOutput(
        _lines(new.text or "(no new output)") + note,
        display=f"running as {task.id}",
        data={"exit_code": None, "task": task.id, "background": True},
        output_path=str(task.output_path),
    )


async def _ended(task: Task, result: ProcessResult) -> ToolOutput:
    first = task.shown == 0
    new = await _new_output(task)
    kept = task.background or new.cut or new.end > _TINY
    if not kept:
        task.output_path.unlink(missing_ok=True)
    outcome = outcome_of(result)
    text = _lines(new.text or ("(no output)" if first else "(no new output)"))
    if outcome:
        text += f"[{outcome}]\n"
    if result.survivors:
        shown = "; ".join(result.survivors[:5])
        more = f" and {len(result.survivors) - 5} more" if len(result.survivors) > 5 else ""
        text += f"[Left running as task {task.id}, stop=true ends it: {clean(shown)}{more}]\n"
    for done in task.put_back:
        text += f"[{done}]\n"
    changed = counted(len(task.put_back), "change") + " put back" if task.put_back else ""
    return ToolOutput(
        text,
        display="; ".join(filter(None, (outcome, changed))),
        failed=result.code != 0,
        data={
            "exit_code": result.code,
            "task": task.id if task.background else None,
            "background": task.background,
        },
        output_path=str(task.output_path) if kept else None,
    )


def outcome_of(result: ProcessResult) -> str:
    """How it ended, in words; empty for success."""
    if result.reason == "output limit":
        return "stopped: its output grew past the limit"
    if result.reason == "lost":
        return "killed: the process that watched over it was killed"
    if result.reason:
        return result.reason
    if result.signal is not None:
        try:
            return f"killed by {signal.Signals(result.signal).name}"
        except ValueError:
            return f"killed by signal {result.signal}"
    return f"exit status {result.code}" if result.code else ""


def _lines(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
