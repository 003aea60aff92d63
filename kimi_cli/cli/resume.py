"""Which stored session a run goes on with: one that is chosen on the terminal, or a copy."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.store.errors import SessionError, SessionNotFound, StoreError

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Setup
    from kimi_cli.store.summary import Summary

CHOICES = 9
NONE_HERE = "there is no session of this project to continue"


def choose(home: Path, cwd: Path) -> str:
    """Let the user choose one of the project's last sessions, on stderr; returns its id. Raises
    SessionError when there is none, none was chosen, or there is no terminal to ask on;
    StoreError."""
    from kimi_cli.frontends.plain import ago
    from kimi_cli.frontends.sessions import choices
    from kimi_cli.store.summary import summaries
    from kimi_cli.workspace.roots import project_root

    last = [s for s in summaries(home, project_root(cwd)) if not s.problem][:CHOICES]
    if not last:
        raise SessionError(NONE_HERE)
    if not (_terminal(sys.stdin) and _terminal(sys.stderr)):
        known = ", ".join(f"{s.id} ({ago(time.time() - s.updated)})" for s in last[:3])
        raise SessionError(f"-r needs an ID where there is no terminal; the newest here: {known}")
    for line in choices(last, _width(sys.stderr), time.time()):
        _tell(f"  {line}\n")
    while True:
        _tell(f"  go on with which one? 1 to {len(last)}, or Enter for none: ")
        answer = sys.stdin.readline()
        if not answer.strip():
            _tell("\n" * (not answer))
            raise SessionError("no session was chosen")
        if found := _picked(answer.strip().lower(), last):
            return found
        _tell(f"  there is no {answer.strip()!r} in this list\n")


def _picked(answer: str, last: list[Summary]) -> str | None:
    if answer.isdecimal() and 0 < int(answer) <= len(last):
        return last[int(answer) - 1].id
    matching = [session.id for session in last if session.id.startswith(answer)]
    return matching[0] if len(matching) == 1 else None


async def open_fork(setup: Setup) -> Opened:
    """Open a copy of the session that ``setup`` goes on with, which may be open elsewhere. Raises
    as ``open_session`` does, and then there is no copy."""
    from kimi_cli.agent import SetupError, StopReason, open_session
    from kimi_cli.store.index import latest
    from kimi_cli.store.manage import delete, fork
    from kimi_cli.workspace.roots import project_root

    try:
        root = project_root(setup.cwd or Path(os.getcwd()))
        wanted = latest(setup.home, root) if setup.continue_last else setup.resume
        if wanted is None:
            raise SessionNotFound(NONE_HERE)
        copy = fork(setup.home, wanted, root)
    except FileNotFoundError:
        raise SetupError("the working directory no longer exists") from None
    except SessionError as error:
        raise SetupError(str(error)) from None
    except StoreError as error:
        raise SetupError(str(error), StopReason.STORE_FAILED) from None
    try:
        return await open_session(replace(setup, resume=copy, continue_last=False))
    except BaseException:
        with suppress(SessionError, StoreError):
            delete(setup.home, copy, root)
        raise


def _terminal(stream: object) -> bool:
    return hasattr(stream, "isatty") and bool(stream.isatty())


def _width(stream: object) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return 80


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()
