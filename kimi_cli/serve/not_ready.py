"""That a server can't be started as asked, before anything is."""

from __future__ import annotations


class NotReady(Exception):
    """`kind` is a short fixed word for scripts, `message` what is wrong, `todo` what to do next
    ("" when the message says it); `commands` are to be copied."""

    def __init__(
        self, kind: str, message: str, todo: str = "", commands: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.todo = todo
        self.commands = commands
