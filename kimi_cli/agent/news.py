"""What happened beside the turn that the model should hear of."""

from __future__ import annotations

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import ToolResult
from kimi_cli.protocol.workspace import Processes


class News:
    """Background tasks that ended without the model having seen it. Listens to the session's
    events, which say what it has seen."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._known: set[str] = set()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, ToolResult) or event.data.get("exit_code") is None:
            return
        if event.data.get("task"):
            self._known.add(str(event.data["task"]))

    def take(self) -> list[str]:
        """A sentence for each that ended since the last call."""
        news = []
        for task in self._processes.tasks():
            if task.result is not None and task.id not in self._known:
                self._known.add(task.id)
                code = task.result.code
                how = "was killed" if code is None else f"ended with exit status {code}"
                news.append(f"Background task {task.id} {how} after {task.seconds:.0f} s.")
        return news
