"""A model that does what the checks of an endpoint ask for, as a script of the scripted server;
and ways in which a server spoils its answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kimi_cli.model.verify.cases import (
    CASES,
    CITIES,
    HELLO,
    PARALLEL,
    RESTRAINT,
    STEP_RESULTS,
    STEPS,
    WORD,
)
from kimi_cli.model.verify.thinking import RIDDLE
from tests.support.recorded import Recorded
from tests.support.replies import Reply, Usage, text, tool_calls

Change = Callable[[Recorded, Reply], Reply]
_NUMBER = re.compile(r"number (\d+)\.$")
_THOUGHT = "let me see"


def good(*changes: Change, thinks: bool = True) -> Callable[[int, Recorded], Reply]:
    """The script of a model that does as it is told, each answer passed through `changes`."""

    def script(index: int, record: Recorded) -> Reply:
        reply = _answer(record)
        if thinks and wants_thinking(record.body):
            reply = reply.but(thinking=_THOUGHT)
        for change in changes:
            reply = change(record, reply)
        return reply

    return script


def wants_thinking(body: dict[str, Any]) -> bool:
    """Whether thinking is on: in either dialect it is, unless it is turned off."""
    hosted = body.get("thinking", {}).get("type") != "disabled"
    return hosted and body.get("chat_template_kwargs", {}).get("thinking") is not False


def case_named(name: str, change: Change) -> Change:
    """The change for the answers to one case alone."""
    prompt = next(case.prompt for case in CASES if case.name == name)
    return lambda record, reply: change(record, reply) if asked(record) == prompt else reply


def asked(record: Recorded) -> str:
    """The conversation's first prompt."""
    return str(record.messages[0]["content"])


def prompt_tokens(record: Recorded) -> int:
    """About as a real template counts: reasoning of the history as well."""
    said = [str(value) for message in record.messages for value in message.values()]
    said.append(str(record.body.get("tools", "")))
    return sum(len(re.findall(r"\w+|[^\w\s]", one)) for one in said)


def _answer(record: Recorded) -> Reply:
    prompt, tools = asked(record), record.body.get("tools")
    usage = Usage(prompt=prompt_tokens(record), completion=3)
    if (record.body.get("max_tokens") or record.body["max_completion_tokens"]) < 16:
        return text("one two", finish_reason="length", usage=usage)
    case = next((case for case in CASES if case.prompt == prompt), None)
    if case:
        return tool_calls([(case.tools[0].name, case.want)], argument_fragments=5, usage=usage)
    if prompt == PARALLEL:
        return tool_calls([("get_weather", {"city": city}) for city in CITIES], usage=usage)
    if prompt == STEPS:
        done = sum(message["role"] == "tool" for message in record.messages)
        if done < len(STEP_RESULTS):
            return tool_calls([("look_up", {"number": STEP_RESULTS[done][0]})], usage=usage)
        return text(f"It is {WORD}.", usage=usage)
    number = _NUMBER.search(prompt)
    if number and tools:
        return tool_calls([("look_up", {"number": int(number[1])})], usage=usage)
    said = {HELLO: "one two three", RESTRAINT: "4", RIDDLE: "0.05"}.get(prompt, "hello")
    return text(said, usage=usage)
