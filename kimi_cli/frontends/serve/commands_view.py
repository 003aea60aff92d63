"""The commands of a launch, to be copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from kimi_cli.frontends.serve.layout_text import INDENT, command, paragraph
from kimi_cli.frontends.serve.plan_view import assignment
from kimi_cli.serve.running import Launch


def command_lines(launch: Launch, width: int) -> Iterator[str]:
    """Notes as comments of a shell, then each node's command, so that all of it can be run."""
    for note in launch.notes:
        yield from paragraph(note, width, "# ", "# ")
    for at, one in enumerate(launch.commands):
        if at or launch.notes:
            yield ""
        if len(launch.commands) > 1:
            yield f"# on {one.host}"
        before = [assignment(variable) for variable in one.environment]
        for row, line in enumerate(command(one.argv, before, width)):
            yield INDENT * 2 * bool(row) + line


def command_fields(launch: Launch) -> dict[str, Any]:
    """The same as JSON; a secret is named and has no value."""
    return {
        "name": launch.name,
        "context": launch.context,
        "notes": list(launch.notes),
        "commands": [
            {
                "host": one.host,
                "rank": one.rank,
                "argv": list(one.argv),
                "environment": [asdict(variable) for variable in one.environment],
            }
            for one in launch.commands
        ],
    }
