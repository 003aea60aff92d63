"""Troubles that no log tells of: which node it was, what could not be started, the keeper's own."""

from __future__ import annotations

from dataclasses import replace

from kimi_cli.serve.facts import NodeCommand
from kimi_cli.serve.running import Trouble


def of_node(trouble: Trouble, command: NodeCommand, nodes: int) -> Trouble:
    """The trouble, and where there are several nodes, which one ended."""
    if nodes == 1:
        return trouble
    return replace(trouble, what=f"node {command.rank} ({command.host}) ended: {trouble.what}")


def not_started(command: NodeCommand, error: OSError) -> Trouble:
    """vLLM or ssh was there when it was looked for, and is not now, or the disk is full."""
    what = command.argv[0] if command.argv else "vllm"
    return Trouble(
        "start",
        f"{what} can't be started on {command.host}: {error.strerror or error}",
        "see that it is there and may be run, and that the disk has room; then: kimi serve restart",
    )


def own_fault(problem: BaseException) -> Trouble:
    """What nobody foresaw."""
    return Trouble(
        "keeper",
        f"kimi's keeper of the server failed: {type(problem).__name__}: {problem}",
        "keeper.log beside vllm.log has all of it; please report it",
    )
