"""Builds a whole answer from the chunks of a chat completion, whatever shape they come in.

Chunks are plain dicts: the fields that matter (``reasoning``, ``choices[0].usage``) are unknown
to typed clients, and a small model per chunk costs more than the chunk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from kimi_cli.model.names import normalise_tool_name
from kimi_cli.model.salvage import Leaked, Salvager
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart, Usage
from kimi_cli.protocol.provider import (
    Completed,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)

Kind = type[TextPart] | type[ThinkingPart]
Delta = TextDelta | ThinkingDelta | ToolCallDelta

_INDEXED = re.compile(r"(.*:)(\d+)", re.DOTALL)


class _Call:
    """A tool call on its way in."""

    __slots__ = ("arguments", "id", "key", "name")

    def __init__(self, key: int | None) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class Assembler:
    """Chunks in, deltas out, and at the end the whole answer.

    ``known`` are the names of the tools that were offered; ``first_index`` is the running number
    that the conversation's next tool call would have, for calls that came without an id.
    ``pieces`` counts what has arrived of the answer, shown or not.
    """

    def __init__(self, known: Collection[str] = (), first_index: int = 0) -> None:
        self.pieces = 0
        self.finish_reason = ""
        self.usage: Usage | None = None
        self.model: str | None = None
        self.response_id: str | None = None
        self._known = known
        self._first_index = first_index
        self._calls: list[_Call] = []
        self._segments: list[tuple[Kind, list[str]]] = []
        self._salvagers: dict[Kind, Salvager] = {ThinkingPart: Salvager(), TextPart: Salvager()}
        self._salvaged = 0
        self._closed = False

    def chunk(self, data: dict[str, Any]) -> Iterator[Delta]:
        """What one chunk, or one whole non-streamed completion, adds."""
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            choice = {}
        self._note(data, choice)
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            thinking = delta.get("reasoning_content") or delta.get("reasoning")
            if thinking and isinstance(thinking, str):
                self.pieces += 1
                yield from self._say(ThinkingPart, thinking)
            if content := _text(delta.get("content")):
                self.pieces += 1
                yield from self._say(TextPart, content)
            calls = delta.get("tool_calls")
            for call in calls if isinstance(calls, list) else ():
                if isinstance(call, dict):
                    self.pieces += 1
                    yield from self._call(call)
        if reason := choice.get("finish_reason"):
            self.finish_reason = str(reason)

    def end(self) -> Iterator[Delta]:
        """No more chunks will come: what was held back, and the calls found in the text."""
        if self._closed:
            return
        self._closed = True
        for kind, salvager in self._salvagers.items():
            if rest := salvager.finish():
                yield self._shown(kind, rest)
        # Some servers both parse a call and leave it in the text.
        proper = {(call.name, "".join(call.arguments)) for call in self._calls}
        for salvager in self._salvagers.values():
            for leaked in salvager.calls:
                name = normalise_tool_name(leaked.name, self._known)
                if (name, leaked.arguments) not in proper:
                    yield self._recovered(name, leaked)

    def _recovered(self, name: str, leaked: Leaked) -> Delta:
        call = _Call(None)
        call.name, call.arguments = name, [leaked.arguments]
        call.id = leaked.name if _INDEXED.fullmatch(leaked.name) else ""
        self._calls.append(call)
        self._salvaged += 1
        return ToolCallDelta(len(self._calls) - 1, name, leaked.arguments)

    def completed(self) -> Completed:
        """The whole answer; call ``end`` first."""
        parts: list[TextPart | ThinkingPart | ToolCallPart] = [
            kind(text="".join(texts)) for kind, texts in self._segments
        ]
        taken: set[str] = set()
        for place, call in enumerate(self._calls):
            name = call.name
            wanted = call.id or f"functions.{name}:{self._first_index + place}"
            identity = _unused(wanted, taken)
            taken.add(identity)
            parts.append(ToolCallPart(id=identity, name=name, arguments="".join(call.arguments)))
        return Completed(
            tuple(parts),
            self.finish_reason,
            self.usage,
            self.model,
            self.response_id,
            salvaged=self._salvaged,
            lost=sum(salvager.lost for salvager in self._salvagers.values()),
        )

    def _note(self, data: dict[str, Any], choice: dict[str, Any]) -> None:
        if self.response_id is None and isinstance(data.get("id"), str):
            self.response_id = data["id"]
        if self.model is None and isinstance(data.get("model"), str):
            self.model = data["model"]
        usage = data.get("usage") or choice.get("usage")
        if isinstance(usage, dict):
            self.usage = read_usage(usage)

    def _say(self, kind: Kind, text: str) -> Iterator[Delta]:
        if shown := self._salvagers[kind].feed(text):
            yield self._shown(kind, shown)

    def _shown(self, kind: Kind, text: str) -> Delta:
        if not self._segments or self._segments[-1][0] is not kind:
            self._segments.append((kind, []))
        self._segments[-1][1].append(text)
        return TextDelta(text) if kind is TextPart else ThinkingDelta(text)

    def _call(self, data: dict[str, Any]) -> Iterator[Delta]:
        function = data.get("function")
        if not isinstance(function, dict):
            function = {}
        name = function.get("name")
        name = name if isinstance(name, str) else ""
        arguments = function.get("arguments")
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        identity = data.get("id")
        identity = identity if isinstance(identity, str) else ""
        call = self._find(_index(data.get("index")), identity, name, arguments)
        call.id = call.id or identity
        added = _added_name(call, name, self._known)
        call.name += added
        if arguments:
            call.arguments.append(arguments)
        if added or arguments:
            yield ToolCallDelta(self._calls.index(call), added, arguments)

    def _find(self, key: int | None, identity: str, name: str, arguments: str) -> _Call:
        """The call that a delta belongs to, a new one if it starts one."""
        same = [call for call in self._calls if key is None or call.key in (key, None)]
        for call in reversed(same):
            if identity and call.id == identity:
                return call
        if same and not self._starts(same[-1], key, identity, name, arguments):
            return same[-1]
        fresh = _Call(key)
        self._calls.append(fresh)
        return fresh

    @staticmethod
    def _starts(last: _Call, key: int | None, identity: str, name: str, arguments: str) -> bool:
        """Whether a delta that could belong to ``last`` starts another call instead."""
        if identity and last.id:
            # It has another id. Some servers number every call 0, others change ids as they go.
            return bool(name) or key is None
        return key is None and bool(name) and bool(last.arguments or arguments)


def read_usage(data: dict[str, Any]) -> Usage:
    """Token counts from any of the places where endpoints put them: Moonshot has
    ``cached_tokens`` at the top as well, OpenAI and vLLM in ``prompt_tokens_details``."""
    details = data.get("prompt_tokens_details")
    cached = data.get("cached_tokens")
    if cached is None and isinstance(details, dict):
        cached = details.get("cached_tokens")
    return Usage(
        input_tokens=_count(data.get("prompt_tokens")),
        output_tokens=_count(data.get("completion_tokens")),
        cached_tokens=_count(cached),
    )


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _index(value: Any) -> int | None:
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return value if isinstance(value, int) else None


def _text(content: Any) -> str:
    """Content as a string, or as a list of text parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))


def _added_name(call: _Call, piece: str, known: Collection[str]) -> str:
    """What a name in a delta adds: names come whole, in pieces, repeated, or growing."""
    if not piece or call.arguments:
        return "" if call.name else piece
    joined = call.name + piece
    if any(name.startswith(joined) for name in known):
        return piece
    if piece == call.name:
        return ""
    return piece[len(call.name) :] if call.name and piece.startswith(call.name) else piece


def _unused(identity: str, taken: set[str]) -> str:
    """The id, or one like it that no other call of the answer has."""
    found = _INDEXED.fullmatch(identity)
    stem, number = (found.group(1), int(found.group(2))) if found else (identity + ":", 0)
    while identity in taken:
        number += 1
        identity = f"{stem}{number}"
    return identity
