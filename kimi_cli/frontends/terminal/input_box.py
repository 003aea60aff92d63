"""The input box with all that belongs to it: history, completion, pastes, mentions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition

from kimi_cli.frontends.terminal.completion import InputCompleter
from kimi_cli.frontends.terminal.file_index import FileIndex
from kimi_cli.frontends.terminal.history import ProjectHistory, history_file
from kimi_cli.frontends.terminal.mentions import dropped
from kimi_cli.frontends.terminal.pastes import Pastes
from kimi_cli.workspace.roots import project_root

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.commands.command import Command
    from kimi_cli.frontends.terminal.controller import Controller


def make_buffer(home: Path, cwd: Path, pastes: Pastes, enabled: Condition) -> Buffer:
    """The input's text, with the history of the project; it completes while ``enabled``."""
    history = project_history(home, cwd, pastes)
    return Buffer(multiline=True, history=history, complete_while_typing=enabled)


def project_history(home: Path, cwd: Path, pastes: Pastes) -> ProjectHistory:
    """The history of the project that holds ``cwd``."""
    return ProjectHistory(history_file(home, project_root(cwd)), pastes.for_history)


def complete_in(controller: Controller, cwd: Path, folders: Sequence[Path]) -> None:
    """Complete commands, and the files of these folders, from now on."""
    commands = [Completable(command, controller) for command in controller.commands]
    controller.buffer.completer = InputCompleter(commands, FileIndex(cwd, folders), cwd)


def pasted(data: str, cwd: Path, pastes: Pastes) -> str:
    """What to insert for a paste: images that were dropped are mentioned, big texts folded."""
    return dropped(data, cwd) or pastes.fold(data)


class Completable:
    """A command as the completer wants it: what follows it depends on the controller."""

    def __init__(self, command: Command, controller: Controller) -> None:
        self.name, self.help, self.aliases = command.name, command.help, command.aliases
        self._command, self._controller = command, controller
        if command.complete is None:
            self.complete = None  # type: ignore[assignment]

    def complete(self, typed: str) -> Iterable[tuple[str, str]]:
        assert self._command.complete
        return self._command.complete(self._controller, typed)
