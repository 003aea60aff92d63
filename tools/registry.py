"""The tools of a session, in the order the model sees them."""

from __future__ import annotations

from kimi_cli.protocol.tools import Tool


def default_tools(*, shell_timeout: float = 120.0, shell_max_timeout: float = 600.0) -> list[Tool]:
    """New instances of every built-in tool; the order is part of the cached prompt. The timeouts
    are seconds, see ShellTool."""
    from kimi_cli.tools.edit import EditTool
    from kimi_cli.tools.glob import GlobTool
    from kimi_cli.tools.grep import GrepTool
    from kimi_cli.tools.read import ReadTool
    from kimi_cli.tools.shell import ShellTool
    from kimi_cli.tools.todo import TodoTool
    from kimi_cli.tools.write import WriteTool

    return [
        ShellTool(shell_timeout, shell_max_timeout),
        ReadTool(),
        WriteTool(),
        EditTool(),
        GrepTool(),
        GlobTool(),
        TodoTool(),
    ]
