"""The process runner: implements ``Processes`` of the protocol through the helper process."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kimi_cli.protocol.sandbox import NOTHING, UNCONFINED, Denial, Grant, SandboxState
from kimi_cli.protocol.workspace import ProcessResult, Task
from kimi_cli.workspace.box import Box, Confinement, Probe
from kimi_cli.workspace.helper_wire import Frames, pack
from kimi_cli.workspace.launch import Helper, has_subreaper, launch_helper
from kimi_cli.workspace.tasks import Command, command_environment, encode

# Linux refuses a single argument of 128 KiB and more (MAX_ARG_STRLEN); longer commands go by file.
_LONGEST_ARGUMENT = 100_000
# A probe takes milliseconds; its parts have their own time limits.
_PROBE_PATIENCE = 20.0
# Numbers of programs of our own choosing, out of the way of those that tasks are named by.
_ASIDE = 1_000_000


class ProcessRunner:
    """Runs commands for one session and leaves none behind.

    ``outputs`` is the folder for their output files, made at the first command. ``env`` is what
    commands inherit. ``helper`` is a helper started earlier by ``launch_helper``; without one it
    is started now. ``output_limit`` stops a command that writes more bytes. ``confinement`` makes
    the box of each command; without it they run unconfined. Belongs to the event loop of its first
    command. Raises OSError when the helper can't be started.
    """

    def __init__(
        self,
        outputs: Path,
        *,
        env: Mapping[str, str],
        helper: Helper | None = None,
        output_limit: int = 1 << 30,
        confinement: Confinement | None = None,
    ) -> None:
        self._outputs = outputs
        self._confinement = confinement
        environment = command_environment(env)
        self._env = _encode_all(environment)
        self._shell = _find_shell(environment)
        self._helper = helper or launch_helper()
        self._output_limit = output_limit
        self._link: _Link | None = None
        self._attaching = asyncio.Lock()
        self._commands: dict[int, Command] = {}
        self._probes: list[asyncio.Future[dict[str, Any]]] = []
        self._last_number = -1
        self._last_aside = _ASIDE
        self._closed = False

    @staticmethod
    def limits_note() -> str | None:
        """What this system does not let the runner catch, for people; None when nothing."""
        if has_subreaper():
            return None
        return (
            "This system has no child subreaper: a command that detaches itself from its process "
            "group at once (a daemon) may go on running after it is stopped or kimi ends."
        )

    async def start(
        self,
        command: str,
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        background: bool = False,
        grant: Grant = NOTHING,
    ) -> Command:
        script = encode(command)
        confinement = self._confinement
        box = confinement.box(cwd, grant) if confinement is not None else None
        number, path = self._new_output()
        argv = [self._shell, "-c", command]
        if len(script) > _LONGEST_ARGUMENT:
            file = path.with_suffix(".sh")
            with file.open("xb") as stream:
                stream.write(script)
            argv = [self._shell, str(file)]
        task = Command(number, command, path, background, self._order_stop)
        variables = dict(env or {})
        task.box = box
        try:
            if confinement is not None and box is not None:
                variables |= confinement.environment(grant)
                confinement.before(number, box)
            await self._start(task, argv, cwd, variables, None, self._output_limit)
        except (asyncio.CancelledError, OSError):
            # A start that is called off may still happen: then the end of the command follows.
            if number not in self._commands or task.over:
                self._open_box(task)
                path.unlink(missing_ok=True)
            raise
        return task

    @property
    def confinement(self) -> Confinement | None:
        """What makes the boxes of the commands."""
        return self._confinement

    def confine(self, confinement: Confinement) -> None:
        """From the next command on, confine them."""
        self._confinement = confinement

    @property
    def sandbox(self) -> SandboxState:
        if self._confinement is None:
            return UNCONFINED
        return self._confinement.state

    def denial(self, task: Task, output: str) -> Denial | None:
        box = task.box if isinstance(task, Command) else None
        if self._confinement is None or box is None:
            return None
        return self._confinement.denial(task, box, output)

    async def probe(self, folder: Path | None = None) -> Probe:
        """Find out what the sandbox can hold here, by trying it in ``folder`` (the usual one for
        temporary files): what works depends on the filesystem. Raises OSError when the helper is
        gone; a probe that gets stuck finds nothing."""
        link = await self._attach()
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._probes.append(answer)
        link.send(pack("probe", encode(str(folder)) if folder else b""))
        try:
            return Probe(**await asyncio.wait_for(answer, _PROBE_PATIENCE))
        except TimeoutError:
            return Probe("none", why="trying it out took too long")

    async def run(
        self, argv: Sequence[str], *, cwd: Path, timeout: float, limit: int
    ) -> tuple[int, bytes, bytes]:
        """As the protocol says; a program that was stopped or killed has the negative number of
        its signal as its status, as in ``subprocess``. It sees what commands see, and writes
        nothing: its folder may be another by now, or the program itself."""
        number, path = self._aside_output()
        errors = path.with_suffix(".err")
        task = Command(number, argv[0], path, False, self._order_stop)
        try:
            task.box, task.box_opened = self._reading_box(cwd), True
            await self._start(task, argv, cwd, {}, errors, limit)
            result = await task.wait(timeout)
            if result is None:
                raise TimeoutError(f"{argv[0]} took longer than {timeout:g} s")
            status = result.code if result.code is not None else -(result.signal or 9)
            return status, _head(path, limit), _head(errors, limit)
        finally:
            if not task.over:
                await task.stop(0.0)
            path.unlink(missing_ok=True)
            errors.unlink(missing_ok=True)

    def _reading_box(self, cwd: Path) -> Box | None:
        """What is hidden is seen only by what works in it: that was allowed by name."""
        if self._confinement is None:
            return None
        named = any(cwd.is_relative_to(hidden) for hidden in self._confinement.hidden())
        grant = Grant(read=(str(cwd),)) if named else NOTHING
        box = self._confinement.box(cwd, grant)
        return box and replace(box, network=False, write=(), pinned=(), read_only=(), overlays=())

    def move_to_background(self) -> Sequence[Command]:
        running = [task for task in self._commands.values() if task.result is None]
        moved = [task for task in running if task.movable and not task.background]
        for task in moved:
            task.to_background()
        return moved

    def task(self, task_id: str) -> Command | None:
        """A background task, or a command that still runs."""
        return next((task for task in self._commands.values() if task.id == task_id), None)

    def tasks(self) -> Sequence[Command]:
        return [task for task in self._commands.values() if task.background]

    async def close(self, grace: float = 0.3, patience: float = 0.45) -> bool:
        """End every command (TERM, KILL after ``grace`` seconds) and the helper. Returns True when
        no descendant is left, False when that was not certain ``patience`` seconds after the
        grace; the sweep then goes on without us. No command can be started any more."""
        self._closed = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace + patience
        link = self._link
        if link is not None:
            link.send(pack("close", grace))
            # Its end is read after the last report, so that every task knows how it ended.
            await asyncio.wait([link.ended], timeout=grace + patience)
            link.close()
        # Blocks for the millisecond between the end of the helper's socket and its own, or, when
        # it was never used, until it has started.
        gone = self._helper.cut(max(0.0, until - loop.time()))
        self._helper.socket.close()
        return gone

    def kill_now(self, patience: float = 0.7) -> bool:
        """For an exit in a hurry, without the event loop: cut the connection and wait up to
        ``patience`` seconds until everything is swept. True when it was."""
        self._closed = True
        return self._helper.cut(patience)

    def _new_output(self) -> tuple[int, Path]:
        """A new number and its output file. Numbers go on after those of an earlier run in the
        same folder, so that a task's id in a resumed session never means two commands."""
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "kimi is ending")
        if self._last_number < 0:
            self._outputs.mkdir(parents=True, exist_ok=True)
            stems = [path.name.split(".")[0] for path in self._outputs.glob("t*.txt")]
            self._last_number = max((int(s[1:]) for s in stems if s[1:].isdigit()), default=0)
        while True:
            self._last_number += 1
            path = os.path.join(self._outputs, f"t{self._last_number}.txt")
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                continue
            return self._last_number, Path(path)

    def _aside_output(self) -> tuple[int, Path]:
        """The same for a program of our own choosing: it leaves no gap between the tasks' ids."""
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "kimi is ending")
        self._outputs.mkdir(parents=True, exist_ok=True)
        self._last_aside += 1
        descriptor, path = tempfile.mkstemp(".out", "aside-", self._outputs)
        os.close(descriptor)
        return self._last_aside, Path(path)

    async def _start(
        self,
        task: Command,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        errors: Path | None,
        limit: int,
    ) -> None:
        box = task.box
        if box is not None and box.way == "seatbelt":
            from kimi_cli.workspace import seatbelt

            argv, box = [seatbelt.PROGRAM, "-p", seatbelt.profile(box), *argv], None
        words = [encode(word) for word in argv]
        folder = encode(str(cwd))
        # PWD as we name the folder, so that symlinks in its path stay as the user knows them.
        variables = self._env | {b"PWD": folder} | _encode_all(env)
        order = pack(
            "start",
            task.number,
            words,
            folder,
            variables,
            encode(str(task.output_path)),
            encode(str(errors)) if errors else b"",
            limit,
            box.as_dict() if box is not None else None,
        )
        link = await self._attach()
        self._commands[task.number] = task
        try:
            link.send(order)
            await asyncio.shield(task.started)
        except (asyncio.CancelledError, OSError):
            self._order_stop(task.number, 0.0)
            task.output_path.unlink(missing_ok=True)
            raise

    async def _attach(self) -> _Link:
        """The connection to the helper, made at the first use and again after it was killed."""
        async with self._attaching:
            if self._closed:
                raise OSError(errno.ESHUTDOWN, "kimi is ending")
            if self._link is None:
                if self._helper.process.poll() is not None:
                    self._helper.socket.close()
                    self._helper = launch_helper(groups=self._helper.groups, best=self._helper.best)
                link = _Link(self)
                loop = asyncio.get_running_loop()
                await loop.create_unix_connection(lambda: link, sock=self._helper.socket)
                self._link = link
            return self._link

    def _order_stop(self, number: int, grace: float) -> None:
        if self._link is not None:
            self._link.send(pack("stop", number, grace))

    def hear(self, name: str, number: int, *values: Any) -> None:
        """Take a report of the helper about a command."""
        task = self._commands.get(number)
        if task is None:
            return
        match name, values:
            case "started", _:
                task.note_started()
            case "failed", [code, what, path]:
                task.note_failed(OSError(code, what, path) if path else OSError(code, what))
            case "exit", [code, signal, seconds, reason, left]:
                code = None if reason else code
                task.note_exit(ProcessResult(code, signal, seconds, tuple(left), reason))
            case "swept", [left]:
                task.note_swept(left)
            case "lost", _:
                task.note_lost()
        self._forget(task)

    def _forget(self, task: Command) -> None:
        """Once nothing is left of a command, only a background task is still asked for."""
        if task.over:
            self._open_box(task)
            task.output_path.with_suffix(".sh").unlink(missing_ok=True)
            if not task.background:
                self._commands.pop(task.number, None)

    def _open_box(self, task: Command) -> None:
        """Once for each command: let what was kept while it ran be put right."""
        if self._confinement is not None and task.box is not None and not task.box_opened:
            task.box_opened = True
            task.put_back = tuple(self._confinement.after(task.number))

    def hear_probe(self, facts: dict[str, Any]) -> None:
        """Take the answer to the oldest probe."""
        answer = self._probes.pop(0)
        if not answer.done():
            answer.set_result(facts)

    def lost(self) -> None:
        """The helper is gone; its supervisors end what they started."""
        self._link = None
        for answer in self._probes:
            if not answer.done():
                answer.set_exception(OSError("the helper process was killed"))
        self._probes.clear()
        for task in list(self._commands.values()):
            if not task.over:
                task.note_lost()
                self._forget(task)


class _Link(asyncio.Protocol):
    """Our end of the helper's socket, on the event loop."""

    def __init__(self, runner: ProcessRunner) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = runner
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            if message[0] == "probed":
                self._runner.hear_probe(message[1])
            else:
                self._runner.hear(*message)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._runner.lost()


def _encode_all(env: Mapping[str, str]) -> dict[bytes, bytes]:
    return {encode(name): encode(value) for name, value in env.items()}


def _find_shell(env: Mapping[str, str]) -> str:
    if os.access("/bin/bash", os.X_OK):
        return "/bin/bash"
    return shutil.which("bash", path=env.get("PATH")) or "/bin/sh"


def _head(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except FileNotFoundError:
        return b""
