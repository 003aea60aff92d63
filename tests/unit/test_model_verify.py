"""The proof of an endpoint over real HTTP, and the judging of what came over the wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.model.verify.cases import CASES, LOOK_UP
from kimi_cli.model.verify.judge import call_problem, id_problem, leak, leaked_call
from kimi_cli.model.verify.prove import Proof, prove
from kimi_cli.model.verify.raw import Answer, RawCall, finish, take
from kimi_cli.model.verify.report import Check, Scorecard, Trial, short
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, leaked, text, tool_calls
from tests.support.server import Script, ScriptedServer

KIMI = "moonshotai/Kimi-K2.5"
CALL = tool_calls([("look_up", {"number": 7})])
HELLO = text("Hello.")


def proved(script: Script, *, tools: bool = True, seconds: float = 20.0) -> tuple[Proof, ...]:
    with ScriptedServer(script, flavour="vllm") as server:
        return asyncio.run(
            prove(server.base_url, "sk-test-key", KIMI, tools=tools, timeout=seconds)
        )


def outcome(found: tuple[Proof, ...]) -> list[tuple[str, bool]]:
    return [(name, ok) for name, ok, _ in found]


def test_a_good_endpoint_is_proved_with_two_short_requests() -> None:
    with ScriptedServer([HELLO, CALL], flavour="vllm") as server:
        found = asyncio.run(prove(server.base_url, "sk-test-key", KIMI))
        server.check()
        bodies = [record.body for record in server.requests]
    assert outcome(found) == [("chat", True), ("tool call", True)]
    for body in bodies:
        assert body["chat_template_kwargs"] == {"thinking": False}
        assert body["max_tokens"] <= 256 and body["stream"]
    assert "tool_choice" not in bodies[1]


def test_without_tools_only_the_chat_is_tried() -> None:
    assert outcome(proved([HELLO], tools=False)) == [("chat", True)]


def test_a_call_that_comes_as_text() -> None:
    found = proved([HELLO, text(leaked([("look_up", {"number": 7})]))])
    assert outcome(found) == [("chat", True), ("tool call", False)]
    assert found[1][2] == "the call came as text: the tool parser does not suit this model"


def test_a_stray_marker_is_no_call() -> None:
    found = proved([HELLO, text("Seven.</tool_call>"), text("Seven."), CALL])
    assert outcome(found) == [("chat", True), ("tool call", False)]
    assert found[1][2].startswith("only when forced")


def test_the_second_try_counts() -> None:
    assert outcome(proved([HELLO, text("Seven."), CALL])) == [("chat", True), ("tool call", True)]


def test_a_server_without_a_tool_parser() -> None:
    words = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    found = proved([HELLO, http_error(400, "BadRequestError", words)])
    assert outcome(found) == [("chat", True), ("tool call", False)]
    assert "without a tool parser" in found[1][2]


def test_a_model_that_calls_only_when_it_must() -> None:
    script = [HELLO, text("Seven."), text("Seven."), CALL]
    with ScriptedServer(script, flavour="vllm") as server:
        found = asyncio.run(prove(server.base_url, "sk-test-key", KIMI))
        forced = server.requests[3].body["tool_choice"]
    assert outcome(found) == [("chat", True), ("tool call", False)]
    assert found[1][2].startswith("only when forced")
    assert forced == {"type": "function", "function": {"name": "look_up"}}


@pytest.mark.parametrize(
    ("second", "third", "words"),
    [
        (text("Seven."), text("Seven."), "no call came"),
        (text("Seven."), tool_calls([("look_up", "true")]), "no object"),
        (text("Seven."), http_error(500, "server_error", "boom"), "boom"),
        (tool_calls([("look_up", {"number": "x"})]), None, "do not fit the schema"),
        (http_error(500, "server_error", "boom"), None, "boom"),
    ],
)
def test_no_valid_call_is_no_proof(second: Reply, third: Reply | None, words: str) -> None:
    found = proved([HELLO, second, *([second, third] if third else [])])
    assert outcome(found) == [("chat", True), ("tool call", False)]
    assert words in found[1][2]


def test_an_answer_without_usage_is_no_proof() -> None:
    found = proved([text("Hello.", usage_at="absent")])
    assert outcome(found) == [("chat", False), ("tool call", False)]
    assert found[0][2] == "the answer came without its usage" and found[1][2] == "not tried"


@pytest.mark.parametrize("silent", [Reply(stall_after="headers"), text("Hi", stall_after=1)])
def test_a_silent_endpoint_ends_in_time(silent: Reply) -> None:
    found = proved([silent], seconds=1.0)
    assert outcome(found) == [("chat", False), ("tool call", False)]
    assert "no whole answer within" in found[0][2]


def test_nobody_listens() -> None:
    with ScriptedServer() as server:
        url = server.base_url
    (name, ok, words), _ = asyncio.run(prove(url, "", KIMI))
    assert (name, ok) == ("chat", False) and "connection refused" in words


def test_the_key_is_in_no_words() -> None:
    key = "sk-very-secret-1"

    def quoting(index: int, record: Recorded) -> Reply:
        return http_error(401, "invalid_api_key", f"wrong key {key}")

    with ScriptedServer(quoting, flavour="vllm", api_key=key) as server:
        found = asyncio.run(prove(server.base_url, key, KIMI))
    assert not found[0][1] and "wrong key" in found[0][2]
    assert key not in str(found)


def streamed(*deltas: dict[str, Any], end: str = "stop", done: bool = True) -> Answer:
    answer = Answer(True)
    for delta in deltas:
        take(answer, {"choices": [{"index": 0, "delta": delta}]})
    if end:
        take(answer, {"choices": [{"index": 0, "delta": {}, "finish_reason": end}]})
    answer.done = done
    finish(answer)
    return answer


def piece(index: int | None, **function: str) -> dict[str, Any]:
    named: dict[str, Any] = {} if index is None else {"index": index}
    if identity := function.pop("id", ""):
        named["id"] = identity
    return {"tool_calls": [named | {"function": function}]}


def test_the_parts_of_parallel_calls_find_each_other() -> None:
    answer = streamed(
        piece(0, id="a", name="one", arguments=""),
        piece(1, id="b", name="two", arguments='{"x"'),
        piece(0, arguments="{}"),
        piece(1, arguments=": 1}"),
        end="tool_calls",
    )
    calls = [(call.id, call.name, call.arguments) for call in answer.calls]
    assert calls == [("a", "one", "{}"), ("b", "two", '{"x": 1}')]
    assert not answer.faults


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (streamed({"content": "x"}, end=""), "no finish_reason"),
        (streamed({"content": "x"}, done=False), "no [DONE]"),
        (streamed(piece(None, name="a", arguments="{}")), "no index"),
        (streamed(piece(0, id="a", name="x"), piece(0, id="b")), "changes its id"),
        (streamed({"content": [{"type": "text", "text": "x"}]}), "content is no string"),
        (streamed({"tool_calls": [{"index": 0}]}), "no function"),
        (streamed({"tool_calls": ["x"]}), "no object"),
    ],
)
def test_what_breaks_the_protocol_is_noted(answer: Answer, fault: str) -> None:
    assert any(fault in one for one in answer.faults), answer.faults


def test_nothing_is_repaired() -> None:
    answer = streamed({"content": leaked([("look_up", {"number": 7})])})
    assert not answer.calls and "tool_call" in leak(answer)
    answer.tools = ("look_up",)
    assert leaked_call(answer)
    answer.tools = ("other",)
    assert not leaked_call(answer)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "delta", "message", "content", "tool_calls", "function",
                         "name", "arguments", "index", "id", "usage", "finish_reason"]),
        inner, max_size=4,
    )
), max_leaves=20))  # fmt: skip
def test_no_chunk_is_too_strange(value: Any) -> None:
    for is_streamed in (True, False):
        answer = Answer(is_streamed)
        take(answer, value if isinstance(value, dict) else {"choices": value})
        take(answer, {"choices": [{"delta" if is_streamed else "message": value}]})
        finish(answer)
        for call in answer.calls:
            call_problem(call, (LOOK_UP,))
        leak(answer)
        id_problem(answer, True)


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("look_up", '{"number": 3}', ""),
        ("look_up", '{"number": "3"}', "do not fit"),
        ("look_up", "{}", "do not fit"),
        ("look_up", '{"number": 3, "more": 1}', "do not fit"),
        ("look_up", "true", "no object"),
        ("look_up", '{"number": 3', "no JSON"),
        ("look_up", "", "no JSON"),
        ("look_up", "[" * 100_000, "no JSON"),
        ("functions.look_up", '{"number": 3}', "not offered"),
        ("", "{}", "no name"),
    ],
)
def test_a_call_is_valid_or_it_is_told_why(name: str, arguments: str, problem: str) -> None:
    found = call_problem(RawCall(0, "x", name, arguments), (LOOK_UP,))
    assert found == problem if not problem else problem in found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_case_wants_fits_its_schema(case: Any) -> None:
    call = RawCall(0, "x", case.tools[0].name, json.dumps(case.want))
    assert call_problem(call, case.tools) == ""


@pytest.mark.parametrize(
    ("before", "ids", "native", "right"),
    [
        (0, ["functions.f:0", "functions.f:1"], True, True),
        (2, ["functions.f:2"], True, True),
        (2, ["functions.f:0"], True, False),
        (0, ["functions.f:0", "functions.f:0"], True, False),
        (0, ["functions.g:0"], True, False),
        (0, ["call_1"], True, False),
        (0, ["call_1", "call_2"], False, True),
        (0, ["call_1", "call_1"], False, False),
        (0, [""], False, False),
    ],
)
def test_ids(before: int, ids: list[str], native: bool, right: bool) -> None:
    answer = Answer(True, calls=[RawCall(n, name, "f") for n, name in enumerate(ids)])
    answer.before = before
    assert (id_problem(answer, native) == "") is right


@pytest.mark.parametrize(
    ("trials", "failed", "passed"),
    [
        ([Trial("a", True, 1, 1, 1)] * 9 + [Trial("b", True, 1, 0, 0)], False, True),
        ([Trial("a", True, 1, 1, 1)] * 8 + [Trial("b", True, 1, 0, 0)] * 2, False, False),
        ([Trial("a", True, 1, 1, 1)] * 8 + [Trial("b", True, 0, 0, 0)] * 2, False, False),
        ([Trial("a", True, 1, 1, 1)], True, False),
        ([], False, False),
    ],
)
def test_what_passes(trials: list[Trial], failed: bool, passed: bool) -> None:
    checks = (
        Check("soft", "failed", hard=False),
        Check("hard", "failed" if failed else "not applicable"),
    )
    card = Scorecard("http://x/v1", "m", "vllm", checks, tuple(trials), 0.9)
    assert card.passed is passed


@given(st.text(max_size=400), st.integers(1, 80))
def test_evidence_is_one_short_line(words: str, most: int) -> None:
    line = short(words, most)
    assert len(line) <= most and line.isprintable()
