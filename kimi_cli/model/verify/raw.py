"""An answer as it came over the wire. Nothing is repaired here: what is not as the protocol of
chat completions has it (platform.openai.com, "Chat completions: streaming") is noted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kimi_cli.protocol.provider import ErrorClass, ModelError

_REASONING = ("reasoning_content", "reasoning")


@dataclass(slots=True)
class RawCall:
    """One tool call, its parts put together as they came."""

    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Answer:
    """What one request brought. `error` is why there is no whole answer; `sent` False: it was not
    even sent, as the endpoint had stopped answering. `done` is the stream's own end mark,
    `before` the tool calls that the conversation had, `tools` the names that were offered,
    `forced` that a call was demanded by name. `faults` break the protocol."""

    streamed: bool
    error: ModelError | None = None
    sent: bool = True
    seconds: float = 0.0
    done: bool = False
    text: str = ""
    reasoning: str = ""
    reasoning_field: str = ""
    calls: list[RawCall] = field(default_factory=list)
    finish: str = ""
    usage: Mapping[str, Any] | None = None
    chunks: int = 0
    tools: tuple[str, ...] = ()
    forced: bool = False
    before: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        """Whether nobody answered: no connection, or silence."""
        return self.error is not None and self.error.kind in (ErrorClass.NETWORK, ErrorClass.STALL)

    def tokens(self, name: str) -> int | None:
        """A count of the usage, None where it has none."""
        value = self.usage.get(name) if self.usage else None
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def message(self, reasoning_field: str) -> dict[str, Any]:
        """It as a message of the conversation; the reasoning goes back in `reasoning_field`."""
        message: dict[str, Any] = {"role": "assistant"}
        if reasoning_field:
            message[reasoning_field] = self.reasoning
        # Empty content beside calls is refused by one server and printed by another.
        if self.text or not self.calls:
            message["content"] = self.text or "(empty)"
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.calls
            ]
        return message


def take(answer: Answer, chunk: Mapping[str, Any]) -> None:
    """Add a chunk, or a whole completion, to the answer."""
    answer.chunks += 1
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    if not isinstance(choice, dict):
        answer.faults.append("a choice is no object")
        return
    usage = chunk.get("usage") or choice.get("usage")
    if isinstance(usage, dict):
        answer.usage = usage
    part = choice.get("delta" if answer.streamed else "message")
    if part is None and choice.get("message" if answer.streamed else "delta") is not None:
        answer.faults.append("a stream was asked for and one document came")
        part = choice["message"] if answer.streamed else choice["delta"]
    if isinstance(part, dict):
        if answer.finish and any(part.get(key) for key in ("content", "tool_calls", *_REASONING)):
            answer.faults.append("the answer goes on after its finish_reason")
        _said(answer, part)
        calls = part.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                _call(answer, call)
            else:
                answer.faults.append("a tool call is no object")
    if reason := choice.get("finish_reason"):
        answer.finish = str(reason)


def finish(answer: Answer) -> None:
    """No more comes: note what is missing."""
    if answer.error is not None:
        return
    if not answer.chunks:
        answer.faults.append("the stream is empty")
    elif not answer.finish:
        answer.faults.append("there is no finish_reason")
    if answer.streamed and not answer.done:
        answer.faults.append("the stream has no [DONE]")


def _said(answer: Answer, part: Mapping[str, Any]) -> None:
    for name in _REASONING:
        if isinstance(piece := part.get(name), str) and piece:
            # Some servers send both fields with the same words.
            answer.reasoning_field = answer.reasoning_field or name
            if name == answer.reasoning_field:
                answer.reasoning += piece
    content = part.get("content")
    if isinstance(content, str):
        answer.text += content
    elif content is not None:
        answer.faults.append("content is no string")
        answer.text += "".join(_texts(content))


def _texts(content: Any) -> Iterable[str]:
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def _call(answer: Answer, data: Mapping[str, Any]) -> None:
    function = data.get("function")
    if not isinstance(function, dict):
        answer.faults.append("a tool call has no function")
        function = {}
    arguments = function.get("arguments")
    if arguments is None:
        arguments = ""
    elif not isinstance(arguments, str):
        answer.faults.append("arguments are no string")
        arguments = json.dumps(arguments, ensure_ascii=False)
    call = _found(answer, data) if answer.streamed else _new(answer, None)
    for name, value in (("id", data.get("id")), ("name", function.get("name"))):
        if not isinstance(value, str) or not value:
            continue
        former = getattr(call, name)
        if not former:
            setattr(call, name, value)
        elif former != value:
            answer.faults.append(f"a tool call changes its {name} on the way")
    call.arguments += arguments


def _found(answer: Answer, data: Mapping[str, Any]) -> RawCall:
    """The call that a delta belongs to: `index` alone says so."""
    index = data.get("index")
    if not isinstance(index, int):
        answer.faults.append("a delta of a tool call has no index")
        if answer.calls and not data.get("id"):
            return answer.calls[-1]
        return _new(answer, None)
    for call in answer.calls:
        if call.index == index:
            return call
    return _new(answer, index)


def _new(answer: Answer, index: int | None) -> RawCall:
    answer.calls.append(RawCall(index))
    return answer.calls[-1]
