"""What every run of a session has in common: its options, its setup, what follows its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Place, Setup
    from kimi_cli.protocol.modes import Mode
    from kimi_cli.workspace.launch import Helper

EXPIRY_SECONDS = 0.5
LOCAL_SAYS = {
    "endpoint.base_url": "--base-url",
    "endpoint.dialect": "--dialect",
    "model": "--model",
}


@dataclass(frozen=True, slots=True)
class Options:
    """The command line as given; ``flags`` are settings by dotted key, an empty ``resume`` leaves
    the choice of the session to the user, an empty ``local`` means whichever server runs here."""

    flags: Mapping[str, object]
    prompt: str | None = None
    input_format: Literal["text", "stream-json"] = "text"
    output_format: Literal["text", "json", "stream-json"] = "text"
    images: Sequence[Path] = ()
    cwd: Path | None = None
    add_dirs: Sequence[Path] = ()
    mode: Mode = "auto"
    trust: bool = False
    json_schema: Path | None = None
    verify: str | None = None
    system_prompt_file: Path | None = None
    keep_session: bool = True
    continue_last: bool = False
    resume: str | None = None
    fork: bool = False
    debug: bool = False
    local: str | None = None


class UsageError(Exception):
    """The command line can't be carried out; the message is for people."""


class GaveUp(Exception):
    """The user does not wait for what a run needs; the message is for people, ``reason`` gives the
    exit code."""

    def __init__(self, message: str, reason: StopReason) -> None:
        super().__init__(message)
        self.reason = reason


def typed_flags(flags: Mapping[str, object]) -> dict[str, object]:
    """The flags as settings. Numbers come as they were typed: what can't be one is told in the
    settings' own words."""
    from kimi_cli.settings.keys import split_key
    from kimi_cli.settings.layers import value_of

    return {
        name: value_of(split_key(name), value)
        if name.startswith("budget.") and isinstance(value, str)
        else value
        for name, value in flags.items()
    }


def make_setup(
    options: Options, home: Path, resume: str | None, helper: Helper, place: Place | None
) -> Setup:
    """The setup of a session; ``place`` None: its model is where the settings say. Raises
    UsageError."""
    from kimi_cli.agent import Setup
    from kimi_cli.agent.setup import CONFIGURED

    return Setup(
        env=dict(os.environ),
        home=home,
        flags=typed_flags(options.flags),
        place=place or CONFIGURED,
        cwd=folder_of(options.cwd) if options.cwd else None,
        add_dirs=[folder_of(folder) for folder in options.add_dirs],
        mode=options.mode,
        trust=options.trust,
        system_prompt=text_of(options.system_prompt_file) if options.system_prompt_file else None,
        keep=options.keep_session,
        resume=resume,
        continue_last=options.continue_last,
        media=frozenset({"image"}) if options.images else frozenset(),
        helper=helper,
    )


async def open_run(options: Options, setup: Setup) -> Opened:
    """The session of a run, or a copy of it. Raises as ``open_session``."""
    if options.fork:
        from kimi_cli.cli.resume import open_fork

        return await open_fork(setup)
    from kimi_cli.agent import open_session

    return await open_session(setup)


def first_place(options: Options, *, terminal: bool) -> Place | None:
    """Where ``--local`` leads, waited for; None without it. ``terminal``: somebody sits there.
    Raises UsageError, GaveUp."""
    if options.local is None:
        return None
    from kimi_cli.cli.local import local_place
    from kimi_cli.settings import kimi_home

    return local_place(options.local, kimi_home(os.environ), terminal=terminal)


def check_session(options: Options) -> None:
    """Raise UsageError for flags about the session that don't go together."""
    if options.local is not None:
        for name, flag in LOCAL_SAYS.items():
            if name in options.flags:
                raise UsageError(
                    f"--local and {flag} can't be given together: the local server says it "
                    "(--local NAME says which server)"
                )
    stored = options.continue_last or options.resume is not None
    if options.continue_last and options.resume is not None:
        raise UsageError("--continue and --resume can't be given together")
    if options.fork and not stored:
        raise UsageError("--fork copies a session: say which with --continue or --resume ID")
    if not options.keep_session and stored:
        raise UsageError("--no-session can't go on with a stored session")
    if options.system_prompt_file and stored:
        raise UsageError("--system-prompt-file: a stored session keeps the prompt it began with")


def chosen(options: Options) -> str | None:
    """The session that the user chooses, where ``-r`` names none; None without ``-r``. Raises
    UsageError, StoreError."""
    if options.resume is None:
        return None
    from kimi_cli.cli.resume import choose
    from kimi_cli.settings import kimi_home
    from kimi_cli.store.errors import SessionError

    try:
        return choose(kimi_home(os.environ), folder_of(options.cwd or Path.cwd()))
    except SessionError as error:
        raise UsageError(str(error)) from None
    except FileNotFoundError:
        raise UsageError("the working directory no longer exists") from None


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None


def folder_of(path: Path) -> Path:
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder")
    return path.resolve()


def expire(home: Path, opened: Opened) -> None:
    """Remove the outputs, snapshots and caches of long ago. Everybody has their result by now, and
    nobody waits for this: what it can't do in a moment, a later run does."""
    import threading
    import time

    from kimi_cli.store.expire import expire_outputs
    from kimi_cli.workspace.caches import prune_slots

    days, undo = opened.settings.session.outputs_days, opened.settings.undo

    def work() -> None:
        with contextlib.suppress(Exception):
            if days:
                expire_outputs(home, days, time.time())
                prune_slots(home, days, time.time())
            if undo.days:
                opened.session.expire_snapshots(undo.days)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(EXPIRY_SECONDS)


def begin_debug(home: Path, secrets: Sequence[str]) -> None:
    from kimi_cli.cli.debug_log import start_log

    try:
        tell(f"debug log {start_log(home, secrets)}")
    except OSError as error:
        tell(f"no debug log: {error}")


def tell(text: str) -> None:
    from kimi_cli.frontends.headless.progress import say

    say(f"kimi: {text}")
