"""Servers as `kimi serve` leaves them on disk, with a process that holds the lock like a keeper."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from kimi_cli.serve import state
from kimi_cli.serve.facts import NodeCommand
from kimi_cli.serve.running import Launch, Progress, Request, ServerState, Stage

REPO = "Tiny/Tiny-Coder"
KEY = "kimi-a-key-of-the-local-server"
_HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class LocalServer:
    """The folder of a server on `port`, and its keeper, which `die` kills. `launch` are more fields
    of the Launch."""

    def __init__(
        self,
        home: Path,
        port: int,
        name: str = "tiny",
        *,
        key: str = KEY,
        stage: Stage = "ready",
        context: int = 40_960,
        started: float | None = None,
        launch: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        self.folder = state.servers_folder(home) / name
        self.folder.mkdir(parents=True, mode=0o700)
        more = {"served_name": name, "repo": REPO, "context": context, **(launch or {})}
        self.launch = Launch(
            name=name,
            request=Request(more["repo"]),
            commands=(NodeCommand("", 0, ("vllm", "serve", REPO), ()),),
            host="127.0.0.1",
            port=port,
            **more,
        )
        self._context, self._started = context, started or time.time()
        self.put(stage, **fields)
        (self.folder / state.KEY).write_text(key)
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(self.folder / state.LOCK)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout and self._keeper.stdout.readline() == b"held\n"

    def put(self, stage: Stage, *, identity: str = "0123456789abcdef", **fields: Any) -> None:
        """Write the state as the keeper would."""
        progress = Progress(stage, self._started)
        written = ServerState(
            identity, self.launch, 1, self._started, progress, context=self._context, **fields
        )
        state.write(self.folder, written)

    def die(self) -> None:
        """End the keeper, as when it is killed."""
        self._keeper.kill()
        self._keeper.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.die()
        for stream in (self._keeper.stdin, self._keeper.stdout):
            assert stream
            stream.close()
