"""What a compaction keeps and how it is written down. Pure: the note and the files are given.

The model's goodwill has a part only in the note. The user's messages, the todo list and the files
are kept by this code, and ``Pinned.musts`` is what must be found again in the next request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kimi_cli.agent.clip import shorten
from kimi_cli.agent.conversation import Source, named
from kimi_cli.agent.facts import Facts, Said, Todo
from kimi_cli.agent.window import Shares
from kimi_cli.model.pieces import Piece
from kimi_cli.model.tokens import piece_tokens
from kimi_cli.prompts import load
from kimi_cli.protocol.events import Kept
from kimi_cli.protocol.messages import ContentPart, MediaPart, TextPart

BYTES_A_TOKEN = 3
LEAST_BYTES = 400
MARKS = {"done": "x", "in_progress": ">"}
URGENCY = {"in_progress": 0, "done": 2}
MEDIA_MESSAGES = 3
"""Messages of the user, the newest, whose media stay."""
BOUNDARIES = ("user", "steer", "assistant")


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a conversation is cut: messages from ``index`` on stay as they are, events up to
    ``upto`` go; ``kept`` and ``dropped`` count the steps."""

    index: int
    upto: int
    kept: int
    dropped: int


def cut(
    sources: Sequence[Source],
    size: Callable[[int], int],
    budget: int,
    last: int,
    *,
    running: bool = True,
) -> Cut:
    """The cut that leaves at most ``budget`` tokens of newest steps. ``size`` gives the tokens of
    the message at an index, ``last`` is the number of the last event. It is never between a call
    and its result, and a step that runs is never cut off, however long it is, unless
    ``running`` is False."""
    head = _head(sources)
    chosen = len(sources)
    room = budget
    for index in range(len(sources) - 1, head - 1, -1):
        room -= size(index)
        if room < 0:
            break
        if sources[index].kind in BOUNDARIES:
            chosen = index
    if chosen == len(sources) and running:
        chosen = _running(sources, head)
    upto = sources[chosen].seq - 1 if chosen < len(sources) else last
    steps = [index for index, source in enumerate(sources) if source.kind == "assistant"]
    kept = sum(index >= chosen for index in steps)
    return Cut(chosen, upto, kept, len(steps) - kept)


def _head(sources: Sequence[Source]) -> int:
    """How many messages stand before the conversation proper."""
    for index, source in enumerate(sources):
        if source.kind not in ("system", "instructions", "pinned"):
            return index
    return len(sources)


def _running(sources: Sequence[Source], head: int) -> int:
    """Where the step that runs begins; the end when none does."""
    if not sources or sources[-1].kind in ("user", "assistant"):
        return len(sources)
    for index in range(len(sources) - 1, head - 1, -1):
        if sources[index].kind == "assistant":
            return index
    return len(sources)


@dataclass(slots=True)
class Pinned:
    """The one message that stands for what was dropped. ``musts`` are texts that it has to hold,
    ``note`` is the note as it stands in it."""

    parts: list[ContentPart] = field(default_factory=list)
    musts: list[str] = field(default_factory=list)
    kept: Kept = field(default_factory=Kept)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pins:
    """Writes that message. ``size`` counts the tokens of a text, ``show`` gives a path as people
    see it, ``spill`` keeps a text in a file with a name that starts so, and returns its path."""

    size: Callable[[str], int]
    show: Callable[[str], str]
    spill: Callable[[str, str], str]

    def write(
        self, facts: Facts, where: Cut, shares: Shares, note: str, *, mechanical: bool
    ) -> Pinned:
        """The message for a cut. ``shares`` bound its sections."""
        pinned = Pinned(note=self._clipped(note, shares.note))
        spilled: list[str] = []
        author = "made by the program of its records" if mechanical else "your own"
        rest = (
            "Your newest steps follow as they were: go on from there."
            if where.kept
            else "Go on with the work where it stood."
        )
        intro = load("compacted").format(author=author, rest=rest)
        said = [message for message in facts.said if message.seq <= where.upto]
        media = self._media(said, shares.media)
        words, clipped = self._said(said, media, shares, pinned.musts, spilled)
        sections = [
            intro,
            _section("The user's messages, oldest first", words),
            _section("The note", pinned.note),
            self._todos(facts.todos, shares.todos, pinned.musts, spilled),
            *self._files(facts, shares.files, pinned.musts, spilled),
        ]
        pinned.parts = [TextPart(text="\n\n".join(filter(None, sections))), *media]
        pinned.kept = Kept(
            user_messages=len(said),
            clipped_messages=clipped,
            todos=len(facts.todos),
            files_changed=len(facts.changed),
            files_read=len(facts.read),
            recent_steps=where.kept,
            dropped_steps=where.dropped,
            spilled=spilled,
        )
        return pinned

    def _media(self, said: Sequence[Said], room: int) -> list[MediaPart]:
        """The media of the newest messages, as many of the newest as there is room for."""
        kept: list[MediaPart] = []
        for part in [part for message in said[-MEDIA_MESSAGES:] for part in message.media][::-1]:
            room -= piece_tokens(Piece(part.kind, part.url))
            if room < 0:
                break
            kept.insert(0, part)
        return kept

    def _said(
        self,
        said: Sequence[Said],
        media: Sequence[MediaPart],
        shares: Shares,
        musts: list[str],
        spilled: list[str],
    ) -> tuple[str, int]:
        """The first message and as many of the newest as there is room for, and how many of them
        were clipped. ``media`` are those that stay."""
        room = shares.said
        clipped = 0
        blocks: dict[int, str] = {}
        for index in dict.fromkeys((0, *range(len(said) - 1, 0, -1))) if said else ():
            text = said[index].text
            size = self.size(text)
            clip = size > shares.message
            if min(size, shares.message) > room and index not in (0, len(said) - 1):
                break
            if clip:
                path = self.spill("message", text)
                spilled.append(path)
                text = shorten(text, max(min(shares.message, room) * BYTES_A_TOKEN, LEAST_BYTES))
                text += f"\n[the whole of this message is in {path}]"
                size = self.size(text)
                clipped += 1
            room -= size
            blocks[index] = text
        musts += blocks.values()
        lines = []
        for index, message in enumerate(said):
            if index in blocks:
                how = " (while you worked)" if message.steer else ""
                lost = "".join(
                    f"\n[{named(part)}: no longer in view]"
                    for part in message.media
                    if not any(part is kept for kept in media)
                )
                lines.append(f"## Message {index + 1}{how}\n{blocks[index]}{lost}")
            elif index == 1:
                gap = [other.text for at, other in enumerate(said) if at not in blocks]
                lines.append(self._left_out(gap, spilled))
        return "\n\n".join(lines), clipped

    def _left_out(self, texts: Sequence[str], spilled: list[str]) -> str:
        path = self.spill("messages", "\n\n---\n\n".join(texts))
        spilled.append(path)
        return f"[{len(texts)} older messages of the user are in {path}]"

    def _todos(self, todos: Sequence[Todo], room: int, musts: list[str], spilled: list[str]) -> str:
        """The list in its order; where it is too long, what is open comes before what is done."""
        lines = [f"- [{MARKS.get(todo.status, ' ')}] {todo.text}" for todo in todos]
        shown: set[int] = set()
        for at in sorted(range(len(todos)), key=lambda at: URGENCY.get(todos[at].status, 1)):
            room -= self.size(lines[at]) + 1
            if room < 0:
                break
            shown.add(at)
        kept = [lines[at] for at in sorted(shown)]
        musts += kept
        if len(kept) < len(lines):
            path = self.spill("todo-list", "\n".join(lines))
            spilled.append(path)
            kept.insert(0, f"[the whole list, {len(lines)} items, is in {path}; of them:]")
        return _section("The todo list", "\n".join(kept))

    def _files(self, facts: Facts, share: int, musts: list[str], spilled: list[str]) -> list[str]:
        sections = []
        room = share
        changed = [f"{self.show(path)} ({how})" for path, how in facts.changed.items()]
        read = [self.show(path) for path in facts.read]
        for title, name, lines in (
            ("Files changed so far", "changed-files", changed),
            ("Files only read so far", "read-files", read),
        ):
            shown: list[str] = []
            for line in reversed(lines):
                room -= self.size(line) + 1
                if room < 0:
                    break
                shown.insert(0, line)
            musts += shown
            if len(shown) < len(lines):
                path = self.spill(name, "\n".join(lines))
                spilled.append(path)
                shown.insert(0, f"[the whole list, {len(lines)} files, is in {path}; the newest:]")
            sections.append(_section(title, "\n".join(shown)))
        return sections

    def _clipped(self, note: str, share: int) -> str:
        return note if self.size(note) <= share else shorten(note, share * BYTES_A_TOKEN)


def _section(title: str, text: str) -> str:
    return f"# {title}\n{text}" if text else ""


def missing_in(messages: Sequence[bytes], musts: Sequence[str]) -> list[str]:
    """Those of ``musts`` that none of the encoded messages holds word for word."""
    texts: list[str] = []
    for message in messages:
        _strings(json.loads(b"[" + message + b"]"), texts)
    whole = "\0".join(texts)
    return [must for must in musts if _plain(must) not in whole]


def _strings(value: object, into: list[str]) -> None:
    if isinstance(value, str):
        into.append(value)
    elif isinstance(value, list):
        for inner in value:
            _strings(inner, into)
    elif isinstance(value, dict):
        for inner in value.values():
            _strings(inner, into)


def _plain(text: str) -> str:
    """The text as it can be sent: see ``model.codec.dumps``."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
