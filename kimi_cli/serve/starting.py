"""Starting a keeper, which starts a server."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from kimi_cli.serve import sweep
from kimi_cli.serve.running import Launch, Progress, ServerState
from kimi_cli.serve.state import (
    KEEPER_LOG,
    KEY,
    LOCK,
    LOG,
    PROCESSES,
    Server,
    put,
    servers_folder,
    write,
    write_launch,
)

KEEPER = "kimi_cli.agent.keeping"


class ServerExists(Exception):
    """A server of this name runs; the message is for people."""


def start(
    launch: Launch,
    home: Path,
    env: Mapping[str, str],
    *,
    port_lock: int | None = None,
    attached: bool = False,
) -> tuple[Server, int | None]:
    """Start a keeper, which starts the server: the server, and with `attached` a descriptor: when
    its last copy is closed, the keeper stops everything. `port_lock` is an open, locked file that
    the keeper holds as long as it lives; the caller closes its own. Raises ServerExists, OSError.
    """
    folder = servers_folder(home) / launch.name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _take(folder, launch.name)
    ends = os.pipe() if attached else None
    keeper = None
    try:
        state = _begin(folder, launch)
        passed = [lock] if port_lock is None else [lock, port_lock]
        if ends:
            passed.append(ends[0])
        (folder / KEEPER_LOG).touch(mode=0o600)
        with open(folder / KEEPER_LOG, "wb") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-P", "-m", KEEPER, str(folder), str(ends[0] if ends else -1)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**env, sweep.MARK: state.id},
                pass_fds=passed,
                start_new_session=True,
            )
        os.pwrite(lock, f"{keeper.pid}\n".encode(), 0)
    except BaseException:
        if keeper:
            # Nobody could stop it by its number.
            keeper.kill()
        if ends:
            os.close(ends[1])
        raise
    finally:
        os.close(lock)
        if ends:
            os.close(ends[0])
    return Server(folder, state, alive=True), ends[1] if ends else None


def _begin(folder: Path, launch: Launch) -> ServerState:
    now = time.time()
    write_launch(folder, launch)
    put(folder / KEY, _key(folder).encode() if launch.request.key else b"")
    # One that was stopped before vLLM said a word does not push the last log away.
    if (folder / LOG).is_file() and (folder / LOG).stat().st_size:
        os.replace(folder / LOG, folder / f"{LOG}.1")
    (folder / LOG).touch(mode=0o600)
    (folder / PROCESSES).unlink(missing_ok=True)
    state = ServerState(secrets.token_hex(8), launch, 0, now, Progress("starting", now))
    write(folder, state)
    return state


def _key(folder: Path) -> str:
    """The key that a server of this name had, which its users may have kept, or a new one."""
    with contextlib.suppress(OSError):
        if former := (folder / KEY).read_text().strip():
            return former
    return f"kimi-{secrets.token_urlsafe(24)}"


def _take(folder: Path, name: str) -> int:
    """The folder's lock. Somebody who looks holds it for a moment, hence the tries."""
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(20):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            return handle
        except BlockingIOError:
            time.sleep(0.02)
    os.close(handle)
    raise ServerExists(f"a server called {name} runs already: `kimi serve ps` shows it")
