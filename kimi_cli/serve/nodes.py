"""The process of one node of a server: on this computer, or an ssh that holds one elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.serve import sweep
from kimi_cli.serve.facts import NodeCommand

SWEEP_SECONDS = 30.0
_OURS = ("KIMI_API_KEY", "MOONSHOT_API_KEY", "OPENAI_API_KEY")
"""Keys of other endpoints, which vLLM has no use for."""


@dataclass(slots=True)
class Node:
    """A node's process. `ended` holds its exit code, negative for a signal, once it has ended."""

    command: NodeCommand
    process: asyncio.subprocess.Process
    ended: asyncio.Future[int]
    remote: bool

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(ProcessLookupError):
            if self.remote and self.process.stdin:
                # The far end ends its server when nobody holds it any more.
                self.process.stdin.close()
            else:
                self.process.send_signal(signal.SIGTERM)

    async def close(self) -> None:
        """Take leave of a process that has been ended."""
        if self.process.stdin:
            self.process.stdin.close()
        self.ended.cancel()


async def start_node(command: NodeCommand, server_id: str, key: str, log: Path) -> Node:
    """Start a node's command; what it prints goes to the end of the file `log`, whose folder it
    runs in. Only the head gets the key. Raises OSError."""
    from kimi_cli.serve.remote import is_here, ssh_argv

    key = "" if command.rank else key
    remote = not is_here(command.host)
    argv: Sequence[str] = command.argv
    env, given = node_environment(command, server_id, key, os.environ), b""
    if remote:
        argv, given = ssh_argv(command, server_id, key or None)
        env = dict(os.environ)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if remote else asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=env,
            start_new_session=True,
            preexec_fn=sweep.dies_with_parent(),
        )
    finally:
        os.close(output)
    if process.stdin and given:
        process.stdin.write(given)
    return Node(command, process, asyncio.ensure_future(process.wait()), remote)


async def sweep_node(command: NodeCommand, server_id: str, seconds: float = SWEEP_SECONDS) -> None:
    """End what is left of the server on another computer, in `seconds` at most. Never raises: it
    may be out of reach."""
    from kimi_cli.serve.remote import sweep_argv

    with contextlib.suppress(OSError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            *sweep_argv(command.host, server_id),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def node_environment(
    command: NodeCommand, server_id: str, key: str, env: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a node on this computer."""
    kept = {name: value for name, value in env.items() if name not in _OURS}
    kept.update((one.name, one.value) for one in command.environment if not one.secret)
    kept.pop("VLLM_API_KEY", None)
    if key:
        kept["VLLM_API_KEY"] = key
    program = Path(command.argv[0]) if command.argv else Path()
    if program.is_absolute():
        # What was installed beside vLLM is what it calls: ninja, ray.
        places = (str(program.parent), kept.get("PATH", os.defpath))
        kept["PATH"] = os.pathsep.join(places)
    kept[sweep.MARK] = server_id
    kept["PYTHONUNBUFFERED"] = "1"
    return kept
