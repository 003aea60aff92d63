"""From flags to the interactive terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.starting import (
    GaveUp,
    Options,
    UsageError,
    begin_debug,
    check_session,
    chosen,
    expire,
    first_place,
    make_setup,
    open_run,
    tell,
    typed_flags,
)
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Setup


def wants_terminal(options: Options) -> bool:
    """Whether this command line means the interactive terminal: somebody sits at both ends and
    nothing asks for a headless run."""
    return (
        options.prompt is None
        and options.input_format == "text"
        and options.output_format == "text"
        and options.json_schema is None
        and options.verify is None
        and _is_terminal(sys.stdin)
        and _is_terminal(sys.stdout)
    )


def start(options: Options, prompt: str = "") -> int:
    """Run interactively, beginning with ``prompt`` if there is one; returns the exit code."""
    if os.environ.get("TERM") == "dumb":
        tell("TERM=dumb can't show an interactive session: kimi -p TEXT runs without one")
        return EXIT_CODES[StopReason.CONFIGURATION]
    from kimi_cli.store.errors import StoreError
    from kimi_cli.workspace.launch import launch_helper

    try:
        check_session(options)
        resume = options.resume if options.resume else chosen(options)
        place = first_place(options, terminal=True)
        helper = launch_helper()
    except (UsageError, OSError) as error:
        tell(str(error))
        return EXIT_CODES[StopReason.CONFIGURATION]
    except GaveUp as error:
        tell(str(error))
        return EXIT_CODES[error.reason]
    except StoreError as error:
        tell(str(error))
        return EXIT_CODES[StopReason.STORE_FAILED]

    from kimi_cli.cli.event_loop import run as run_loop
    from kimi_cli.frontends.terminal.run import run
    from kimi_cli.settings import SettingsError, kimi_home

    home = kimi_home(os.environ)
    opened_sessions: list[Opened] = []

    def open_one(setup: Setup) -> Awaitable[Opened]:
        async def opening() -> Opened:
            # Only the first session of this process is the one of the flags.
            first = not opened_sessions
            opened = await open_run(options if first else replace(options, fork=False), setup)
            opened_sessions.append(opened)
            if options.debug and first:
                begin_debug(home, opened.secrets)
            return opened

        return opening()

    from kimi_cli.agent import SetupError

    try:
        setup = make_setup(options, home, resume, helper, place)
        code = run_loop(run(replace(setup, on_ask="wait"), open_one, prompt))
    except SettingsError as error:
        from kimi_cli.cli.options import flag_problems

        tell(flag_problems(typed_flags(options.flags)) or str(error))
        return EXIT_CODES[StopReason.CONFIGURATION]
    except UsageError as error:
        tell(str(error))
        return EXIT_CODES[StopReason.CONFIGURATION]
    except SetupError as error:
        out = error.reason is StopReason.STORE_FAILED and options.keep_session
        tell(f"{error}; --no-session goes on without" if out else str(error))
        return EXIT_CODES[error.reason]
    if opened_sessions:
        expire(home, opened_sessions[-1])
    return code


def _is_terminal(stream: object) -> bool:
    return hasattr(stream, "isatty") and bool(stream.isatty())
