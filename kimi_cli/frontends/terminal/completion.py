"""What the menu of the input box offers: commands, their arguments, files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.file_index import FileIndex, entries
from kimi_cli.frontends.terminal.fuzzy import score
from kimi_cli.frontends.terminal.mentions import BEGIN, mention, unquoted

ArgumentCompleter = Callable[[str], Iterable[tuple[str, str]]]
"""From the argument as typed so far to whole arguments, each with a help text."""

_COMMAND = re.compile(r"/[^\s/]*")
_ARGUMENT = re.compile(r"/([^\s/]+)[ \t]+(.*)")
# Not in the middle of a word: an address has one there. Chinese has no blanks between words.
_MENTION = re.compile(BEGIN + r'(?:"((?:[^"\\\n]|\\[^\n])*)|([^\s"]*))\Z')
_LAST_WORD = re.compile(r"(?:[^\s\\]|\\.)*\Z")
_FOREIGN_PLACE = re.compile(r"/|~/|\.\.?/")
_SHELL_SPECIAL = re.compile(r"([^\w@%+=:,./~-])")


class Command(Protocol):
    """A command of the input box. It may have ``complete``, an ArgumentCompleter."""

    @property
    def name(self) -> str:
        """Without the slash."""
        ...

    @property
    def help(self) -> str: ...

    @property
    def aliases(self) -> Sequence[str]: ...


class InputCompleter(Completer):
    """Completes ``/`` at the very start, ``@`` at the start of a word, and, when asked for with
    the Tab key, paths in a line that starts with ``!``. Never raises."""

    def __init__(self, commands: Sequence[Command], files: FileIndex, base: Path) -> None:
        """Paths that are not in the workspace are relative to ``base``."""
        self._commands = commands
        self._files = files
        self._base = base

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        try:
            return self._completions(document, complete_event.completion_requested)
        except Exception:
            # Whatever is wrong with a file or a command, typing goes on.
            return []

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        before = document.text_before_cursor
        # What may take a while, files and sessions, is found in a thread; names of commands are
        # there with the key.
        if _COMMAND.fullmatch(before):
            found = self.get_completions(document, complete_event)
        else:
            found = await asyncio.to_thread(self.get_completions, document, complete_event)
        for completion in found:
            yield completion

    def _completions(self, document: Document, requested: bool) -> list[Completion]:
        before = document.text_before_cursor
        if _COMMAND.fullmatch(before):
            return list(self._named(before))
        if typed := _MENTION.search(before):
            return list(self._mentions(typed, document.text_after_cursor))
        if argument := _ARGUMENT.fullmatch(before):
            return list(self._arguments(argument[1], argument[2]))
        if requested and before.startswith("!"):
            return list(self._shell_paths(before))
        return []

    def _named(self, typed: str) -> Iterator[Completion]:
        ranked = []
        for command in self._commands:
            ranks = [_rank(typed[1:], name) for name in (command.name, *command.aliases)]
            # An alias brings its command no further than the name of another.
            best = min((rank, place > 0) for place, rank in enumerate(ranks))
            if best[0] < _NO_MATCH:
                ranked.append((best, command.name, command))
        for _, _, command in sorted(ranked, key=lambda entry: entry[:2]):
            text = f"/{command.name}"
            more = " " if getattr(command, "complete", None) else ""
            yield Completion(
                text + more, -len(typed), display=text, display_meta=clean(command.help)
            )

    def _arguments(self, name: str, typed: str) -> Iterator[Completion]:
        command = next((c for c in self._commands if name in (c.name, *c.aliases)), None)
        complete: ArgumentCompleter | None = getattr(command, "complete", None)
        ranked = []
        for text, help_text in complete(typed) if complete else ():
            rank = _rank(typed, text)
            if rank == _NO_MATCH and typed.lower() in help_text.lower():
                rank -= 1
            if rank < _NO_MATCH and clean(text) == text:
                ranked.append((rank, text, help_text))
        # Sorted by rank alone: the command knows the order of its own arguments.
        for _, text, help_text in sorted(ranked, key=lambda entry: entry[0]):
            yield Completion(text, -len(typed), display_meta=clean(help_text))

    def _mentions(self, typed: re.Match[str], after: str) -> Iterator[Completion]:
        query = unquoted(typed[1]) if typed[1] is not None else typed[2]
        if _FOREIGN_PLACE.match(query):
            paths = entries(self._base, query)
        else:
            paths = self._files.search(query)
        for path in paths:
            text = mention(path)
            if not path.endswith("/"):
                text += "" if after[:1].isspace() else " "
            elif text.endswith('"'):
                # Typing goes on in the folder, inside of the quotes.
                text = text[:-1]
            yield Completion(text, -len(typed[0]), display=path)

    def _shell_paths(self, before: str) -> Iterator[Completion]:
        found = _LAST_WORD.search(before, 1)
        word = found[0] if found else ""
        for path in entries(self._base, re.sub(r"\\(.)", r"\1", word)):
            name = path.rstrip("/").rpartition("/")[2] + "/" * path.endswith("/")
            yield Completion(_SHELL_SPECIAL.sub(r"\\\1", path), -len(word), display=name)


_NO_MATCH = 4


def _rank(typed: str, name: str) -> int:
    """0 for a name that starts so, more for what is less alike, ``_NO_MATCH`` for another."""
    small, wanted = name.lower(), typed.lower()
    if small.startswith(wanted):
        return 0
    if wanted in small:
        return 1
    return 2 if score(wanted, small) is not None else _NO_MATCH
