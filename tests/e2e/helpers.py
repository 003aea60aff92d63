"""What tests of headless runs share: the documented result, and the grammar of its events."""

from __future__ import annotations

import json
from typing import Any

from kimi_cli.protocol.event import SCHEMA_VERSION
from tests.support.program import Run

RESULT_FIELDS = {
    "type": str,
    "answer": str,
    "structured": object,
    "stop_reason": str,
    "detail": str,
    "exit_code": int,
    "session_id": (str, type(None)),
    "model": str,
    "steps": int,
    "seconds": (int, float),
    "usage": dict,
    "cost": (int, float, type(None)),
    "currency": (str, type(None)),
    "turns": list,
    "compactions": int,
    "session_usage": dict,
    "session_cost": (int, float, type(None)),
    "changed_files": list,
    "denials": list,
    "sandbox": (dict, type(None)),
}
TURN_FIELDS = {"turn", "stop_reason", "steps", "seconds", "usage", "cost"}
USAGE_FIELDS = {"input_tokens", "cached_tokens", "output_tokens", "total_tokens"}
LIVE = {
    "text_delta",
    "thinking_delta",
    "tool_call_delta",
    "tool_output_delta",
    "step_started",
    "retry_scheduled",
    "compaction_started",
}


def result_of(run: Run) -> dict[str, Any]:
    """The result of a run with `--output-format json`: stdout is that one object and no more."""
    document = json.loads(run.out)
    assert run.out == json.dumps(document, ensure_ascii=False) + "\n"
    return checked_result(document, run)


def stream_of(run: Run) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The events and the result of a run with `--output-format stream-json`, both checked."""
    assert run.out.endswith("\n")
    *events, last = run.events()
    check_events(events)
    return events, checked_result(last, run)


def checked_result(document: Any, run: Run) -> dict[str, Any]:
    """The object, after a look at its fields and their types."""
    assert isinstance(document, dict)
    assert document.keys() == RESULT_FIELDS.keys()
    for name, kind in RESULT_FIELDS.items():
        assert isinstance(document[name], kind), name  # type: ignore[arg-type]
    assert document["type"] == "result"
    assert document["exit_code"] == run.code
    assert document["usage"].keys() == document["session_usage"].keys() == USAGE_FIELDS
    for turn in document["turns"]:
        assert turn.keys() == TURN_FIELDS and turn["usage"].keys() == USAGE_FIELDS
    return document


def check_events(events: list[dict[str, Any]]) -> None:
    """One run's events: numbered without a gap, every begin with its end."""
    assert all(event["v"] == SCHEMA_VERSION and event["time"] > 0 for event in events)
    assert len({event["session"] for event in events}) == 1
    durable = [event for event in events if event["type"] not in LIVE]
    first = durable[0]["seq"]
    assert [e["seq"] for e in durable] == list(range(first, first + len(durable)))
    for event in durable:
        back = event["type"] == "rewind" and event["conversation"]
        assert event["parent"] == (event["to"] if back else event["seq"] - 1)
    newest = first
    open_turn = False
    calls: set[str] = set()
    questions: set[str] = set()
    for event in events:
        kind = event["type"]
        if kind in LIVE:
            assert event["seq"] == newest
        newest = event["seq"]
        if kind == "turn_started":
            assert not open_turn
            open_turn = True
        elif kind == "turn_ended":
            assert open_turn and not calls and not questions
            open_turn = False
        elif kind == "tool_started":
            calls.add(event["call_id"])
        elif kind == "tool_result":
            calls.discard(event["call_id"])
        elif kind == "question_asked":
            questions.add(event["question_id"])
        elif kind == "question_answered":
            questions.remove(event["question_id"])
    assert not open_turn and not calls and not questions


def last_text(messages: list[dict[str, Any]], role: str = "user") -> str:
    """The text of the newest message of that role in a request."""
    content = next(m for m in reversed(messages) if m["role"] == role)["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)
