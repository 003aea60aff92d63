"""``kimi context``: what fills a session's window, and what its compactions kept and dropped."""

from __future__ import annotations

import os
import sys

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.here import working_directory
from kimi_cli.cli.output import json_line
from kimi_cli.protocol.stops import StopReason

WIDTH = 80


def show_context(session: str | None, json_output: bool) -> int:
    """Print the report of a stored session; returns the exit code."""
    from kimi_cli.agent.context_report import stored_report
    from kimi_cli.frontends.context_lines import context_lines
    from kimi_cli.settings import SettingsError, kimi_home
    from kimi_cli.store.errors import SessionError, StoreError
    from kimi_cli.workspace.roots import project_root

    try:
        root = project_root(working_directory())
        report = stored_report(os.environ, kimi_home(os.environ), root, session)
    except (SessionError, SettingsError) as error:
        print(f"kimi: {error}", file=sys.stderr)
        return EXIT_CODES[StopReason.CONFIGURATION]
    except StoreError as error:
        print(f"kimi: {error}", file=sys.stderr)
        return EXIT_CODES[StopReason.STORE_FAILED]
    if json_output:
        print(json_line(report.as_json()))
    else:
        print("\n".join(context_lines(report, width=WIDTH, bars=_bars_shown())))
    return 0


def _bars_shown() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
