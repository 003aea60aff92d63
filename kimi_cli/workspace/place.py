"""The workspace a session works on: a root, more folders, their files and processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kimi_cli.workspace.files import WorkspaceFiles
from kimi_cli.workspace.processes import ProcessRunner
from kimi_cli.workspace.roots import project_root


class LocalWorkspace:
    """A folder on this machine. ``root`` is where commands run and what relative paths are
    relative to; the project around it and ``add_dirs`` belong to the workspace too."""

    def __init__(
        self,
        root: Path,
        *,
        outputs: Path,
        blobs: Path | None,
        runner: ProcessRunner,
        add_dirs: Sequence[Path] = (),
    ) -> None:
        self.root = root.resolve()
        own = project_root(self.root)
        self.folders = [own, *(d.resolve() for d in add_dirs)]
        self.files = WorkspaceFiles(self.root, blobs)
        self.processes = runner
        self.outputs = outputs

    def spill(self, name: str, content: bytes) -> Path:
        """Keep a long output; raises OSError when it can't be written."""
        self.outputs.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1_000_000):
            path = self.outputs / f"{name}-{number}.txt"
            try:
                with path.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                continue
            return path
        raise OSError(f"no free name for {name} in {self.outputs}")

    async def close(self) -> list[str]:
        """End every command; returns a line for each background task that was still running."""
        left = [
            f"stopped background task {task.id}: {task.command}"
            for task in self.processes.tasks()
            if task.result is None or task.result.survivors
        ]
        await self.processes.close()
        if self.processes.confinement is not None:
            self.processes.confinement.close()
        return left
