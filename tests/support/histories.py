"""Judges the messages of a chat request: roles, contents, and calls paired with their results."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.sse import Flavour

_ROLES = {"system", "user", "assistant", "tool"}
_CALL_NAME = re.compile(r"\$?[A-Za-z0-9_-]{1,64}")
_NATIVE_ID = re.compile(r"functions\.(.+):(\d+)")
_KIMI = re.compile(r"kimi|\bk[23]\b", re.IGNORECASE)
_THINKS = re.compile(r"thinking|k2\.[5-9]|k[3-9]\b|for-coding", re.IGNORECASE)
_TEXT_ONLY = re.compile(r"k2(?![.\d])", re.IGNORECASE)
_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,|https?://|ms://")


def message_problems(
    body: dict[str, Any], model: str, flavour: Flavour, native_ids: bool
) -> Iterator[str]:
    """What is wrong with body["messages"], in order."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "Invalid request: messages must not be empty"
        return
    switch = body.get("thinking")
    disabled = isinstance(switch, dict) and switch.get("type") == "disabled"
    needs_reasoning = flavour == "hosted" and bool(_THINKS.search(model)) and not disabled
    counter = _Counter() if native_ids and _KIMI.search(model) else None
    waiting: list[str] = []
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES and not (role == "developer" and flavour == "openai"):
            yield f"Invalid request: messages[{at}]: unknown role {role!r}"
            continue
        if role == "tool":
            yield from _result_problems(message, at, waiting)
        elif waiting:
            yield _unanswered(waiting, at)
            waiting = []
        calls = message.get("tool_calls") if role == "assistant" else None
        last = at == len(messages) - 1
        yield from _content_problems(message, at, bool(calls), last, flavour, model)
        if calls is None:
            continue
        if not isinstance(calls, list) or not calls:
            yield f"Invalid request: messages[{at}]: tool_calls must be a non-empty list"
            continue
        if needs_reasoning and not isinstance(message.get("reasoning_content"), str):
            yield f"reasoning_content is missing in assistant tool call message at index {at}"
        waiting = []
        for call in calls:
            yield from _call_problems(call, at, waiting, counter)
    if waiting:
        yield _unanswered(waiting, len(messages))


class _Counter:
    """The running IDX of functions.NAME:IDX; it may start anywhere (after a compaction)."""

    def __init__(self) -> None:
        self.next: int | None = None

    def fits(self, identity: str, name: str) -> bool:
        found = _NATIVE_ID.fullmatch(identity)
        if not found or found[1] != name:
            return False
        index = int(found[2])
        fits = self.next in (None, index)
        self.next = index + 1
        return fits


def _unanswered(waiting: list[str], at: int) -> str:
    return (
        "Invalid request: an assistant message with 'tool_calls' must be followed by tool messages"
        f" responding to each 'tool_call_id'; before messages[{at}] these have none:"
        f" {', '.join(waiting)}"
    )


def _result_problems(message: dict[str, Any], at: int, waiting: list[str]) -> Iterator[str]:
    identity = message.get("tool_call_id")
    if identity in waiting:
        waiting.remove(identity)
    else:
        yield f"Invalid request: messages[{at}]: tool_call_id {identity!r} is not found"


def _call_problems(
    call: Any, at: int, waiting: list[str], counter: _Counter | None
) -> Iterator[str]:
    """Problems of one call of an assistant message; its id is added to those that wait."""
    where = f"Invalid request: messages[{at}]: tool call"
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type") != "function":
        yield f"{where} is not a function"
        return
    identity, name = call.get("id"), function.get("name")
    if not isinstance(identity, str) or not identity:
        yield f"{where} has no id"
        identity = ""
    elif identity in waiting:
        yield f"{where}: id {identity} is duplicated"
    else:
        waiting.append(identity)
    if not isinstance(name, str) or not _CALL_NAME.fullmatch(name):
        yield f"{where}: function name {name!r} is invalid"
    elif counter is not None and not counter.fits(identity, name):
        yield f"{where}: id {identity} is not functions.{name}:IDX with IDX a running counter"
    if not _is_object(function.get("arguments")):
        yield f"{where} {identity}: arguments must be a string that holds a JSON object"


def _is_object(arguments: Any) -> bool:
    if not isinstance(arguments, str):
        return False
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


def _content_problems(
    message: dict[str, Any], at: int, has_calls: bool, last: bool, flavour: Flavour, model: str
) -> Iterator[str]:
    content, role = message.get("content"), message["role"]
    if isinstance(content, str):
        open_end = last and role == "assistant" and message.get("partial") is True
        if not content and not open_end:
            beside = " beside tool_calls" if has_calls else ""
            yield _empty(at, role, beside)
    elif isinstance(content, list):
        if not content:
            yield _empty(at, role, "")
        for part in content:
            yield from _part_problems(part, at, flavour, model)
    elif content is not None:
        yield f"Invalid request: messages[{at}]: content must be a string or a list"
    elif not has_calls:
        yield _empty(at, role, "")


def _empty(at: int, role: str, beside: str) -> str:
    return f"Invalid request: the message at position {at} with role '{role}' must not be empty" + (
        beside
    )


def _part_problems(part: Any, at: int, flavour: Flavour, model: str) -> Iterator[str]:
    where = f"Invalid request: messages[{at}]"
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        if not isinstance(part.get("text"), str) or not part["text"]:
            yield f"{where}: text content is empty"
    elif kind in ("image_url", "video_url"):
        media = part.get(kind)
        url = media.get("url") if isinstance(media, dict) else media
        if not isinstance(url, str) or not _URL.match(url):
            yield f"{where}: {kind} has no usable url"
        if _TEXT_ONLY.search(model) or (kind == "video_url" and flavour != "hosted"):
            yield f"{where}: model {model} does not support {kind} input"
    else:
        yield f"{where}: unknown content part {kind!r}"
