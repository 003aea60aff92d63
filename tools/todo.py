"""The model's own list of steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.tools import Intent, Params, ToolContext, ToolOutput
from kimi_cli.protocol.workspace import Workspace
from kimi_cli.tools.wording import counted


class Item(Params):
    text: str = Field(min_length=1)
    status: Literal["pending", "in_progress", "done"] = "pending"


class TodoParams(Params):
    items: list[Item]


class TodoTool:
    name = "todo"
    params = TodoParams
    read_only = False

    @property
    def description(self) -> str:
        return load("tools/todo")

    def intents(self, params: TodoParams, workspace: Workspace) -> Sequence[Intent]:
        return []

    def summary(self, params: TodoParams) -> str:
        # The outcome says all there is.
        return ""

    async def run(self, params: TodoParams, context: ToolContext) -> ToolOutput:
        count = _count(params.items)
        todos = [item.model_dump() for item in params.items]
        return ToolOutput(count, display=count, data={"todos": todos})


def _count(items: Sequence[Item]) -> str:
    if not items:
        return "no items"
    states = [item.status for item in items]
    counts = [
        f"{states.count(state)} {state.replace('_', ' ')}"
        for state in ("done", "in_progress", "pending")
        if state in states
    ]
    return f"{counted(len(items), 'item')}: {', '.join(counts)}"
