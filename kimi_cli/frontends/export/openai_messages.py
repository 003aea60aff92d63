"""A session as the messages of a chat completions request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kimi_cli.agent.branch import taken_back
from kimi_cli.agent.conversation import Conversation
from kimi_cli.model.catalogue import lookup
from kimi_cli.model.codec import ChatEncoder, dumps, encode_tools
from kimi_cli.model.dialects import dialect_named, thinks
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    DurableEvent,
    ModelChanged,
    SessionStarted,
)
from kimi_cli.protocol.messages import (
    MediaPart,
    Message,
    TextPart,
    ThinkingPart,
    ToolTurn,
    UserTurn,
)
from kimi_cli.protocol.provider import Encoded
from kimi_cli.protocol.tools import ToolSchema

_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,|https?://|ms://")


def openai_messages(events: Sequence[DurableEvent]) -> str:
    """JSON: ``model``, ``messages`` and, where the session had any, ``tools``.

    The history is the whole one, as it happened before any compaction, without what a rewind took
    back, and mended as a request would be: every call has one result.
    """
    gone = taken_back(events)
    kept = [event for index, event in enumerate(events) if index not in gone]
    model, thinking = "", ""
    tools: Sequence[Mapping[str, Any]] = ()
    for event in kept:
        if isinstance(event, SessionStarted | ModelChanged):
            model, thinking = event.model or model, event.thinking
        if isinstance(event, SessionStarted):
            tools = event.tools or tools
    conversation = Conversation(_Encoder(model, thinking, kept))
    for event in kept:
        conversation.feed(event)
    conversation.close_calls()
    document: dict[str, Any] = {
        "model": model,
        "messages": json.loads(b"[" + b",".join(conversation.messages) + b"]"),
    }
    if tools:
        document["tools"] = json.loads(encode_tools([_schema(tool) for tool in tools]))
    return json.dumps(json.loads(dumps(document)), ensure_ascii=False, indent=2) + "\n"


class _Encoder:
    """Chat completions that leave nothing out: all media, and all reasoning as
    ``reasoning_content``; an empty one only beside the calls of a model that thinks, because
    Moonshot refuses such a message without it (platform.moonshot.ai, "Use thinking models")."""

    def __init__(self, model: str, thinking: str, events: Iterable[Event]) -> None:
        info = lookup(model)
        self._fills = thinks(info, thinking) and (info.listed or _thought(events))
        everything = replace(
            info,
            thinking="always",
            keeps_thinking=True,
            inputs=frozenset({"image", "video"}),
        )
        # Other endpoints than Moonshot's take media from the user only.
        dialect = replace(dialect_named("moonshot"), tool_media="user")
        self._chat = ChatEncoder(dialect, everything, "")

    def encode(self, message: Message) -> Encoded:
        encoded = self._chat.encode(_at_hand(message))
        documents = json.loads(b"[" + encoded.data + b"]")
        for document in documents:
            filled = self._fills and "tool_calls" in document
            if not document.get("reasoning_content") and not filled:
                document.pop("reasoning_content", None)
        return Encoded(b",".join(map(dumps, documents)), encoded.repairs)


def _at_hand(message: Message) -> Message:
    """The message with a text for every medium whose content got lost."""
    match message:
        case UserTurn(parts):
            return UserTurn(tuple(map(_usable, parts)))
        case ToolTurn(call_id, name, parts):
            return ToolTurn(call_id, name, tuple(map(_usable, parts)))
        case _:
            return message


def _usable(part: TextPart | MediaPart) -> TextPart | MediaPart:
    if isinstance(part, TextPart) or _URL.match(part.url):
        return part
    return TextPart(text=f"[{part.kind} {part.name or ''} is not in the session any more]")


def _thought(events: Iterable[Event]) -> bool:
    answers = (event for event in events if isinstance(event, AssistantMessage))
    return any(isinstance(part, ThinkingPart) for answer in answers for part in answer.parts)


def _schema(tool: Mapping[str, Any]) -> ToolSchema:
    return ToolSchema(
        str(tool.get("name", "")), str(tool.get("description", "")), tool.get("parameters") or {}
    )
