"""``kimi doctor``: what works here, line by line, and what to do about the rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kimi_cli.cli.event_loop import run
from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.here import working_directory
from kimi_cli.cli.output import json_line, judged

if TYPE_CHECKING:
    from kimi_cli.frontends.doctor.finding import Finding
    from kimi_cli.frontends.terminal.look import Look
    from kimi_cli.settings import Loaded

NAME_WIDTH = 10
SGR = {"green": "32", "yellow": "33", "magenta": "35", "red": "31", "bold": "1", "dim": "2"}


def examine_all(as_json: bool) -> int:
    """Run every check and print what it found; returns 0 when nothing fails, else the code of the
    first failure's class."""
    from kimi_cli.frontends.doctor.examine import examine
    from kimi_cli.frontends.doctor.finding import document, first_failure
    from kimi_cli.frontends.terminal.look import find_look
    from kimi_cli.settings import SettingsError, is_trusted, kimi_home, load_settings
    from kimi_cli.workspace.roots import project_root

    env, home = dict(os.environ), kimi_home(os.environ)
    root = project_root(working_directory())
    trusted = is_trusted(home, root)
    loaded: Loaded | SettingsError
    try:
        loaded = load_settings(env=env, project_root=root, flags={}, trusted=trusted)
    except SettingsError as error:
        loaded = error
    look = find_look(env, sys.stdout.encoding)
    styled = bool(sys.stdout and sys.stdout.isatty())

    async def gather() -> list[Finding]:
        found = []
        async for finding in examine(env, home, root, loaded):
            found.append(finding)
            if not as_json:
                with judged():
                    print(_lines(finding, look, styled), flush=True)
        return found

    findings = run(gather())
    code = EXIT_CODES[first_failure(findings)]
    with judged():
        print(json_line(document(findings, code)) if as_json else _summary(findings))
    return code


def _lines(finding: Finding, look: Look, styled: bool) -> str:
    from kimi_cli.frontends.plain import clean

    style = {"ok": look.good, "warn": look.warn, "fail": look.bad}[finding.status]
    status = _styled(f"{finding.status:4}", style, styled)
    line = f"{status}  {finding.name:{NAME_WIDTH}} {clean(finding.detail)}"
    if finding.advice and finding.status != "ok":
        line += "\n" + " " * (NAME_WIDTH + 7) + clean(finding.advice)
    return line


def _styled(text: str, style: str, styled: bool) -> str:
    code = SGR.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if styled and code else text


def _summary(findings: Sequence[Finding]) -> str:
    from kimi_cli.frontends.plain import counted

    fails = sum(one.status == "fail" for one in findings)
    warns = sum(one.status == "warn" for one in findings)
    if not fails and not warns:
        return "all is well"
    return f"{counted(fails, 'failure')}, {counted(warns, 'warning')}"
