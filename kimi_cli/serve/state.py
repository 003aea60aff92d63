"""The servers of a user as they are on disk: KIMI_HOME/servers/NAME.

A server lives as long as its keeper, and the keeper as long as it holds the lock of its folder:
the kernel frees that whatever ends the keeper, a loss of power too, so that no process number has
to be trusted. Only the keeper writes `state.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.serve import sweep
from kimi_cli.serve.running import OVER, Launch, ServerState, Trouble
from kimi_cli.serve.sweep import Proc

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LOG, KEEPER_LOG = "vllm.log", "keeper.log"
STATE, LAUNCH, KEY, LOCK, PROCESSES = "state.json", "launch.json", "key", "lock", "processes"
_LOST = Trouble(
    "lost",
    "kimi's keeper of this server was killed, or the computer went down",
    "`kimi serve stop` ends what may be left of it, `kimi serve restart` starts it again",
)


class NoServer(Exception):
    """No server is meant by that; the message is for people."""


@dataclass(frozen=True, slots=True)
class Server:
    """One server as read just now. `alive`: its keeper is there."""

    folder: Path
    state: ServerState
    alive: bool

    @property
    def name(self) -> str:
        return self.state.launch.name

    @property
    def key(self) -> str:
        """Its API key; "" where it has none. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / KEY).read_text().strip()
        return ""

    @property
    def log(self) -> Path:
        """All that vLLM printed."""
        return self.folder / LOG

    @property
    def former_log(self) -> Path:
        """What it printed at the start before, or before the log became too long."""
        return self.folder / f"{LOG}.1"


def servers_folder(home: Path) -> Path:
    """Where the servers are kept."""
    return home / "servers"


def list_servers(home: Path) -> list[Server]:
    """All servers that are known, the newest first. Where the keeper is gone without a word, the
    state says that it is lost."""
    try:
        folders = list(servers_folder(home).iterdir())
    except OSError:
        return []
    found = [server for folder in folders if (server := look(folder))]
    return sorted(found, key=lambda server: server.state.started, reverse=True)


def look(folder: Path) -> Server | None:
    """The server of a folder; None where there is none that can be read."""
    alive = locked(folder)
    try:
        state = read(folder)
    except (OSError, ValueError):
        return None
    if not alive and state.progress.stage not in OVER:
        # It may have ended between the two looks.
        with contextlib.suppress(OSError, ValueError):
            state = read(folder)
        if state.progress.stage not in OVER:
            progress = replace(state.progress, stage="failed")
            state = replace(state, progress=progress, trouble=_LOST)
    return Server(folder, state, alive)


def find_server(home: Path, name: str = "") -> Server:
    """The server that is meant: by its own name, its port, or the name of its model; without a
    name the only one that runs, or where none does the last one. Raises NoServer."""
    servers = list_servers(home)
    if not servers:
        raise NoServer("no server was started yet: `kimi serve MODEL` starts one")
    if name:
        found = [server for server in servers if means(server, name)]
    else:
        found = [server for server in servers if server.alive] or servers
    alive = [server for server in found if server.alive] or found
    exact = [server for server in alive if server.name == name] or alive
    if len(exact) == 1 or (exact and not exact[0].alive):
        # Of those that are over, the last one.
        return exact[0]
    names = ", ".join(server.name for server in exact or servers)
    if exact:
        raise NoServer(f"which one? there are {names}")
    raise NoServer(f"no server is called {name!r}; there are {names}")


def means(server: Server, name: str) -> bool:
    """Whether a word is its name, its port, or a name of its model, also one of the catalogue's."""
    from kimi_cli.serve.catalogue import UnknownModel, find_model

    launch = server.state.launch
    names = (launch.name, launch.served_name, launch.repo, launch.request.model, str(launch.port))
    if name.lower() in (one.lower() for one in names):
        return True
    if os.path.isabs(launch.repo) and os.path.realpath(name) == os.path.realpath(launch.repo):
        return True
    try:
        return bool(launch.repo) and find_model(launch.repo).id == find_model(name).id
    except UnknownModel:
        return False


def read(folder: Path) -> ServerState:
    """What the keeper last wrote. Raises OSError, ValueError."""
    return _states().validate_json((folder / STATE).read_bytes())


def write(folder: Path, state: ServerState) -> None:
    """Replace what is written, in one piece. Raises OSError."""
    put(folder / STATE, _states().dump_json(state))


def read_launch(folder: Path) -> Launch:
    """What is to be started, or was. Raises OSError, ValueError."""
    return _launches().validate_json((folder / LAUNCH).read_bytes())


def write_launch(folder: Path, launch: Launch) -> None:
    """Note what is to be started. Raises OSError."""
    put(folder / LAUNCH, _launches().dump_json(launch))


def write_processes(folder: Path, processes: Sequence[Proc]) -> None:
    """Note which processes there are, for whoever has to end them without the keeper."""
    lines = [sweep.boot_id(), *(f"{proc.pid} {proc.started}" for proc in processes)]
    put(folder / PROCESSES, "\n".join(lines).encode())


def read_processes(folder: Path) -> list[Proc]:
    """Those noted, as far as they run still; none of an earlier boot."""
    try:
        boot, *lines = (folder / PROCESSES).read_text().splitlines()
        noted = [Proc(*map(int, line.split())) for line in lines]
    except (OSError, ValueError, TypeError):
        return []
    return [proc for proc in noted if sweep.runs(proc)] if boot == sweep.boot_id() else []


def ask_stop(server: Server, *, now: bool = False) -> None:
    """Ask the keeper to stop the server; `now`: without waiting for requests in flight. Returns
    at once, and does nothing where the keeper is gone."""
    import signal

    _send(server, signal.SIGQUIT if now else signal.SIGTERM)


def kill_keeper(server: Server) -> None:
    """End a keeper that hears nothing; `sweep_dead` ends what it leaves."""
    import signal

    _send(server, signal.SIGKILL)


def _send(server: Server, number: int) -> None:
    # Whoever holds the lock is the keeper, and has this number as long as it does.
    if locked(server.folder):
        with contextlib.suppress(OSError, ValueError):
            pid = int((server.folder / LOCK).read_text().strip())
            os.kill(pid, number)


def stopped(server: Server, seconds: float) -> bool:
    """Wait up to `seconds` until the keeper is gone; whether it is."""
    deadline = time.monotonic() + seconds
    while locked(server.folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def sweep_dead(server: Server) -> list[Proc]:
    """End whatever is left of a server whose keeper is gone; what could not be ended. Blocks for
    seconds. Processes on other computers end by themselves with their connection."""

    def left() -> list[Proc]:
        # By now another server may run under this name.
        if locked(server.folder):
            return []
        noted = read_processes(server.folder)
        below = [below for proc in noted for below in sweep.descendants(proc.pid)]
        return list(dict.fromkeys([*noted, *below, *sweep.marked(server.state.id)]))

    return sweep.end(left)


def locked(folder: Path) -> bool:
    """Whether a keeper holds the lock of this server's folder."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        # Shared, so that those who look don't take each other for the keeper.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def put(path: Path, content: bytes) -> None:
    """Replace a private file in one piece. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@cache
def _states() -> TypeAdapter[ServerState]:
    from pydantic import TypeAdapter

    return TypeAdapter(ServerState)


@cache
def _launches() -> TypeAdapter[Launch]:
    from pydantic import TypeAdapter

    return TypeAdapter(Launch)
