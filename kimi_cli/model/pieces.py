"""What an encoded message holds, read back from its bytes: what is really sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

PieceKind = Literal["text", "thinking", "call", "image", "video"]

_REASONING = ("reasoning_content", "reasoning")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a message; ``text`` is what the model reads, the URL of a medium."""

    kind: PieceKind
    text: str


def pieces(data: bytes | str) -> list[list[Piece]] | None:
    """The pieces of each message in ``data``, one encoded message or several with commas between
    them; None for bytes that are something else. A tool's result and a call count with their ids,
    which templates print."""
    try:
        documents = json.loads(f"[{data}]" if isinstance(data, str) else b"[%b]" % data)
        if not documents or not all("role" in document for document in documents):
            return None
        return [list(_pieces(document)) for document in documents]
    except (ValueError, TypeError, AttributeError):
        return None


def _pieces(document: dict[str, Any]) -> Iterator[Piece]:
    for field in _REASONING:
        if document.get(field):
            yield Piece("thinking", str(document[field]))
    if identity := document.get("tool_call_id"):
        yield Piece("text", str(identity))
    content = document.get("content")
    if isinstance(content, str):
        yield Piece("text", content)
    for part in content if isinstance(content, list) else ():
        yield from _part(part)
    for call in document.get("tool_calls") or ():
        function = call.get("function") or {}
        words = (call.get("id"), function.get("name"), function.get("arguments"))
        yield Piece("call", " ".join(map(str, words)))


def _part(part: Any) -> Iterator[Piece]:
    if not isinstance(part, dict):
        return
    kinds: tuple[Literal["image", "video"], ...] = ("image", "video")
    for kind in kinds:
        medium = part.get(f"{kind}_url")
        if isinstance(medium, dict):
            yield Piece(kind, str(medium.get("url", "")))
    if isinstance(part.get("text"), str):
        yield Piece("text", part["text"])
