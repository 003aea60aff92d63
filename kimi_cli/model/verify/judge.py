"""Judging calls and text; pure but for the import of jsonschema."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from kimi_cli.model.verify.cases import Tool
from kimi_cli.model.verify.raw import Answer, RawCall
from kimi_cli.model.verify.report import short

NATIVE_ID = re.compile(r"functions\.(?P<name>.+):(?P<number>\d+)")
"""What Kimi K2 calls its calls (its repository's docs/tool_call_guidance.md)."""
# Kimi K2 and K3, ChatML, Hermes and Qwen, Mistral, Llama, DeepSeek, GLM.
_MARKERS = re.compile(
    r"<\|(?:tool_calls?_[a-z_]+|open|close|sep|im_[a-z]+|python_tag|media_[a-z_]+)\|>"
    r"|</?tool_calls?>|<function=\w|\[TOOL_CALLS\]|<｜tool▁\w+｜>|</?arg_(?:key|value)>"
)
_THINK = re.compile(r"</?think(?:ing)?>|[◁]/?think[▷]")


def call_problem(call: RawCall, tools: Sequence[Tool]) -> str:
    """What is wrong with a call of the tools that were offered; empty: it is valid."""
    import jsonschema

    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        return f"it calls {short(call.name, 60) or 'no name'}, which was not offered"
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return f"its arguments are no JSON: {short(call.arguments, 80) or 'nothing'}"
    if not isinstance(arguments, dict):
        return f"its arguments are no object: {short(call.arguments, 80)}"
    validator = jsonschema.Draft202012Validator(dict(tool.parameters))
    error = next(iter(validator.iter_errors(arguments)), None)
    if error is None:
        return ""
    return f"its arguments do not fit the schema: {short(f'{error.json_path}: {error.message}')}"


def arguments_of(call: RawCall) -> Any:
    """The parsed arguments, None where they are no JSON."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None


def leak(answer: Answer) -> str:
    """A marker that should never have reached the client, with what is around it; empty: none."""
    for where, text in (("content", answer.text), ("reasoning", answer.reasoning)):
        found = _MARKERS.search(text) or (_THINK.search(text) if where == "content" else None)
        if found:
            return f"{where}: {_around(text, found)}"
    for call in answer.calls:
        if found := _MARKERS.search(f"{call.name} {call.id}"):
            return f"name or id of a call: {_around(f'{call.name} {call.id}', found)}"
    return ""


def leaked_call(answer: Answer) -> bool:
    """Whether a call of a tool that was offered came as text, told by a marker and its name."""
    return any(
        _MARKERS.search(text) and any(name in text for name in answer.tools)
        for text in (answer.text, answer.reasoning)
    )


def thinks_aloud(answer: Answer) -> bool:
    """Whether reasoning came inside the text, told by its tags."""
    return bool(_THINK.search(answer.text))


def id_problem(answer: Answer, native: bool) -> str:
    """What is wrong with the ids of an answer's calls. `native`: they have Kimi K2's form, whose
    number counts all calls of the conversation."""
    seen: set[str] = set()
    for place, call in enumerate(answer.calls):
        if not call.id:
            return "a call has no id"
        if call.id in seen:
            return f"two calls of one answer have the id {short(call.id, 60)}"
        seen.add(call.id)
        if not native:
            continue
        form = NATIVE_ID.fullmatch(call.id)
        if form is None or form["name"] != call.name:
            return f"{short(call.id, 60)} is not functions.{short(call.name, 40)}:IDX"
        if int(form["number"]) != answer.before + place:
            words = f"{short(call.id, 60)} should have the number {answer.before + place}"
            return f"{words}: it counts the calls of the whole conversation"
    return ""


def _around(text: str, found: re.Match[str]) -> str:
    return short(text[max(0, found.start() - 30) : found.end() + 50], 110)
