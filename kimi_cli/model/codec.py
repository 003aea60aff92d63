"""Messages and tools as the JSON of chat completions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kimi_cli.model.catalogue import ModelInfo
from kimi_cli.model.dialects import Dialect, thinks
from kimi_cli.model.names import normalise_tool_name
from kimi_cli.protocol.messages import (
    AssistantTurn,
    MediaPart,
    Message,
    SystemMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolTurn,
    UserTurn,
)
from kimi_cli.protocol.provider import Encoded
from kimi_cli.protocol.tools import ToolSchema

_NAME = re.compile(r"\$?[A-Za-z0-9_-]{1,64}")
_SHAPES = frozenset({"type", "anyOf", "oneOf", "allOf", "$ref"})


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8. Halves of a surrogate pair are joined, lone ones become U+FFFD:
    they have no UTF-8, and servers refuse them as escapes too."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.encode()


class ChatEncoder:
    """Encodes one conversation, message by message in order, for one model and endpoint."""

    def __init__(self, dialect: Dialect, info: ModelInfo, thinking: str) -> None:
        self._dialect = dialect
        self._media = info.media(dialect.hosted)
        self._renumber = dialect.native_ids and info.native_ids
        self._reasoning = _reasoning_rule(dialect, info, thinking)
        self._calls = 0
        self._ids: dict[str, str] = {}
        self._open: set[str] = set()
        self._late_media: list[dict[str, Any]] = []
        self._repairs: list[str] = []

    def encode(self, message: Message) -> Encoded:
        """One message. Media of tool results that the endpoint wants from the user come as a
        second message, joined with a comma, behind the last result of the step."""
        self._repairs = []
        documents: list[dict[str, Any]]
        match message:
            case SystemMessage(text):
                documents = [{"role": "system", "content": self._filled(text)}]
            case UserTurn(parts):
                documents = [{"role": "user", "content": self._content(parts, "\n\n")}]
            case AssistantTurn():
                documents = [self._assistant(message)]
            case ToolTurn():
                documents = self._tool(message)
        return Encoded(b",".join(map(dumps, documents)), tuple(dict.fromkeys(self._repairs)))

    def _assistant(self, turn: AssistantTurn) -> dict[str, Any]:
        calls = turn.tool_calls
        document: dict[str, Any] = {"role": "assistant"}
        if self._reasoning == "always" or (self._reasoning == "calls" and calls):
            # The API wants the field beside tool calls even when there was no reasoning.
            document[self._dialect.reasoning_field] = _join(turn.parts, ThinkingPart)
        text = _join(turn.parts, TextPart)
        if text or not calls:
            document["content"] = self._filled(text)
        if calls:
            self._ids.clear()
            self._open.clear()
            document["tool_calls"] = [self._call(call) for call in calls]
        return document

    def _call(self, call: ToolCallPart) -> dict[str, Any]:
        name = call.name
        if not _NAME.fullmatch(name):
            name = re.sub(r"[^A-Za-z0-9_-]", "_", normalise_tool_name(name))[:64] or "unknown"
            self._repairs.append("tool_name_cleaned")
        identity = call.id
        if self._renumber:
            identity = f"functions.{name}:{self._calls}"
            if identity != call.id:
                self._repairs.append("tool_call_id_renamed")
        self._calls += 1
        self._ids[call.id] = identity
        self._open.add(call.id)
        function = {"name": name, "arguments": call.arguments}
        return {"id": identity, "type": "function", "function": function}

    def _tool(self, turn: ToolTurn) -> list[dict[str, Any]]:
        self._open.discard(turn.call_id)
        parts: Sequence[TextPart | MediaPart] = turn.parts
        if self._dialect.tool_media == "user":
            media = [part for part in parts if self._takes(part)]
            if media:
                intro = {"type": "text", "text": f"Media from the result of {turn.name}:"}
                self._late_media += [intro, *map(_media, media)]
                parts = [part for part in parts if part not in media]
        result = {
            "role": "tool",
            "tool_call_id": self._ids.get(turn.call_id, turn.call_id),
            "content": self._content(parts, "\n"),
        }
        if self._open or not self._late_media:
            return [result]
        late, self._late_media = self._late_media, []
        return [result, {"role": "user", "content": late}]

    def _takes(self, part: TextPart | MediaPart) -> bool:
        return isinstance(part, MediaPart) and part.kind in self._media

    def _content(
        self, parts: Sequence[TextPart | MediaPart], between: str
    ) -> str | list[dict[str, Any]]:
        """One string where possible: a list of texts ends up in some servers' prompts."""
        documents: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, MediaPart) and self._takes(part):
                documents.append(_media(part))
                continue
            text = part.text if isinstance(part, TextPart) else self._omitted(part)
            if not text:
                continue
            if documents and documents[-1]["type"] == "text":
                documents[-1]["text"] += between + text
            else:
                documents.append({"type": "text", "text": text})
        if not documents:
            return self._filled("")
        if len(documents) == 1 and documents[0]["type"] == "text":
            return str(documents[0]["text"])
        return documents

    def _omitted(self, part: MediaPart) -> str:
        self._repairs.append(f"{part.kind}_left_out")
        name = f" {part.name}" if part.name else ""
        return f"[{part.kind}{name} left out: this model does not take it]"

    def _filled(self, text: str) -> str:
        """Text that is never empty: the API refuses empty messages."""
        return text or "(empty)"


def encode_tools(tools: Sequence[ToolSchema]) -> bytes:
    """The ``tools`` array. Every property gets a type, without which Moonshot answers 400."""
    return dumps([_tool_document(tool) for tool in tools])


def _tool_document(tool: ToolSchema) -> dict[str, Any]:
    if tool.name.startswith("$"):
        # A tool that Moonshot itself carries out; it has no schema.
        return {"type": "builtin_function", "function": {"name": tool.name}}
    parameters = {"type": "object", "properties": {}, **tool.parameters}
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": _typed(parameters),
    }
    return {"type": "function", "function": function}


def _typed(schema: Any) -> Any:
    """The schema with a type wherever one is missing."""
    if not isinstance(schema, Mapping):
        return {"type": "string"} if schema is True else schema
    typed = dict(schema)
    if not _SHAPES.intersection(typed):
        typed["type"] = _guess(typed)
    for key in ("properties", "$defs", "definitions"):
        if isinstance(typed.get(key), Mapping):
            typed[key] = {name: _typed(inner) for name, inner in typed[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(typed.get(key), Mapping):
            typed[key] = _typed(typed[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(typed.get(key), Sequence):
            typed[key] = [_typed(inner) for inner in typed[key]]
    return typed


def _guess(schema: Mapping[str, Any]) -> str:
    if "properties" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema:
        return "array"
    values = schema.get("enum") or [schema.get("const", "")]
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return kinds.get(type(values[0]), "string")


def _reasoning_rule(
    dialect: Dialect, info: ModelInfo, thinking: str
) -> Literal["never", "calls", "always"]:
    if not dialect.reasoning_field or not thinks(info, thinking):
        return "never"
    return "always" if info.keeps_thinking else "calls"


def _join(parts: Sequence[Any], kind: type[TextPart | ThinkingPart]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


def _media(part: Any) -> dict[str, Any]:
    field = f"{part.kind}_url"
    return {"type": field, field: {"url": part.url}}
