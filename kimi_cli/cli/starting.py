"""What every run of a session has in common: its options, its setup, what follows its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Setup
    from kimi_cli.protocol.modes import Mode
    from kimi_cli.workspace.launch import Helper

EXPIRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """The command line as given; ``flags`` are settings by dotted key, an empty ``resume`` leaves
    the choice of the session to the user."""

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


class UsageError(Exception):
    """The command line can't be carried out; the message is for people."""


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


def make_setup(options: Options, home: Path, resume: str | None, helper: Helper) -> Setup:
    """The setup of a session. Raises UsageError."""
    from kimi_cli.agent import Setup

    return Setup(
        env=dict(os.environ),
        home=home,
        flags=typed_flags(options.flags),
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


def check_session(options: Options) -> None:
    """Raise UsageError for flags about the session that don't go together."""
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
