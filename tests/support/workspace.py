"""A workspace for tests of single tools: the real files, and ripgrep as a plain subprocess."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kimi_cli.protocol.sandbox import NOTHING, Denial, Grant, SandboxState
from kimi_cli.protocol.workspace import Task
from kimi_cli.workspace.files import WorkspaceFiles


class PlainProcesses:
    """Runs programs to their end; knows no shell commands and no background tasks."""

    async def run(
        self, argv: Sequence[str], *, cwd: Path, timeout: float, limit: int
    ) -> tuple[int, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout and process.stderr
        errors = asyncio.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(timeout):
                output = b""
                while len(output) < limit and (more := await process.stdout.read(65536)):
                    output += more
                if len(output) >= limit:
                    process.kill()
                return await process.wait(), output[:limit], await errors
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # The timeout may have struck while the errors were waited for, and cancelled them.
            await asyncio.gather(process.wait(), errors, return_exceptions=True)

    async def start(
        self,
        command: str,
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        background: bool = False,
        grant: Grant = NOTHING,
    ) -> Task:
        raise OSError("no shell commands in this workspace")

    @property
    def sandbox(self) -> SandboxState:
        return SandboxState("off", "none")

    def denial(self, task: Task, output: str) -> Denial | None:
        return None

    def move_to_background(self) -> Sequence[Task]:
        return ()

    def task(self, task_id: str) -> Task | None:
        return None

    def tasks(self) -> Sequence[Task]:
        return ()


class PlainWorkspace:
    """``root`` and nothing else; pre-images and spilled outputs go to ``session`` if given."""

    def __init__(self, root: Path, session: Path | None = None) -> None:
        self.root = root
        self.folders = (root,)
        self.session = session or root
        self.files = WorkspaceFiles(root, session / "blobs" if session else None)
        self.processes = PlainProcesses()

    def spill(self, name: str, content: bytes) -> Path:
        path = self.session / f"{name}-output.txt"
        path.write_bytes(content)
        return path


@dataclass(frozen=True)
class PlainContext:
    """What a running tool gets; ``shown`` collects its live output."""

    workspace: PlainWorkspace
    media_kinds: frozenset[str] = frozenset()
    call_id: str = "functions.test:0"
    shown: list[str] = field(default_factory=list)
    grant: Grant = NOTHING

    def progress(self, text: str) -> None:
        self.shown.append(text)
