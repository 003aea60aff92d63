"""What the model does wrong: each is mended, told to the model, or ends with a code of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import Call, Reply, empty_tool_calls, leaked, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
READ = ("read", {"path": "calc.py"})


def results(request: Recorded) -> list[str]:
    """The tool results that a request carries, as text."""
    return [_text(message) for message in request.messages if message["role"] == "tool"]


def calls(request: Recorded) -> list[dict[str, Any]]:
    """The tool calls that a request carries."""
    return [
        call["function"] for message in request.messages for call in message.get("tool_calls") or []
    ]


def last(request: Recorded) -> str:
    """The last message of a request, as text."""
    return _text(request.messages[-1])


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content)


# Nothing said.


@pytest.mark.parametrize(
    "nothing",
    [text(""), text(None, thinking="Hm."), empty_tool_calls()],
    ids=["empty", "only thoughts", "an empty list of calls"],
)
def test_an_empty_answer_is_asked_for_again(kimi: Kimi, serve: Serve, nothing: Reply) -> None:
    server = serve([nothing, text("Now.")])
    run = kimi("-p", "hi", server=server)
    server.check()
    assert (run.code, run.out) == (0, "Now.\n")
    assert "empty" in last(server.requests[1])


@pytest.mark.parametrize(
    "nothing", [text(""), empty_tool_calls()], ids=["empty", "an empty list of calls"]
)
def test_empty_answers_without_end_are_a_failure(kimi: Kimi, serve: Serve, nothing: Reply) -> None:
    server = serve(lambda index, request: nothing)
    run = kimi("-p", "hi", "--output-format", "json", server=server)
    server.check()
    assert run.code == 1
    assert run.json()["stop_reason"] == "empty_answer"
    assert len(server.requests) == 3


def test_a_session_full_of_empty_answers_goes_on(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("")] * 3 + [text("Better.")])
    assert kimi("-p", "hi", server=server).code == 1
    assert kimi("-c", "-p", "again", server=server).out == "Better.\n"
    server.check()


# Calls that can't be run.


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (['{"path": "calc.py"', '{"path": calc.py}', "[" * 50_000], "not valid JSON"),
        (['["calc.py"]', '"calc.py"', "null", "7"], "must be a JSON object, not "),
        (["{}", '{"path": 7}', '{"path": "calc.py", "encode": 1}'], "Wrong arguments for read"),
    ],
    ids=["malformed", "no object", "against the schema"],
)
def test_arguments_that_cannot_be_used_are_told_so(
    kimi: Kimi, serve: Serve, bad: list[str], said: str
) -> None:
    goes_on_after(kimi, serve, [("read", arguments) for arguments in bad], said)


def test_tools_that_do_not_exist_are_told_so(kimi: Kimi, serve: Serve) -> None:
    unknown = [(name, {"path": "calc.py"}) for name in ("open_file", "", "x" * 300, "rm -rf /")]
    goes_on_after(kimi, serve, unknown, "There is no tool")


def goes_on_after(kimi: Kimi, serve: Serve, bad: list[tuple[str, Any]], said: str) -> None:
    """Bad calls, one a step and all at once: each is told to the model, and neither the run nor
    the session is the worse for it."""
    steps = [tool_calls([call]) for call in bad] + [tool_calls([*bad, READ])]
    server = serve([*steps, text("Read."), text("More.")])
    run = kimi("-p", "hi", server=server)
    server.check()
    assert (run.code, run.out) == (0, "Read.\n")
    *refused, content = results(server.requests[-1])
    assert len(refused) == 2 * len(bad)
    assert all(said in result for result in refused)
    assert "return a - b" in content
    again = kimi("-c", "-p", "go on", server=server)
    server.check()
    assert (again.code, again.out) == (0, "More.\n")


@pytest.mark.parametrize("name", ["functions.read:0", "functions.read", "read:3"])
def test_names_with_the_markup_of_an_id_work(kimi: Kimi, serve: Serve, name: str) -> None:
    server = serve([tool_calls([(name, {"path": "calc.py"})]), text("Read.")])
    run = kimi("-p", "hi", server=server)
    server.check()
    assert run.code == 0
    assert "return a - b" in results(server.requests[1])[0]


@pytest.mark.parametrize("id", [None, "", "functions.read:0"])
def test_calls_with_no_or_the_same_id(kimi: Kimi, serve: Serve, id: str | None) -> None:
    arguments = json.dumps(READ[1])
    step = tool_calls([Call("read", arguments, id)])
    server = serve([step, step.but(calls=(Call("read", '{"path": "README.md"}', id),)), text("x")])
    run = kimi("-p", "hi", server=server)
    server.check()
    assert run.code == 0
    first, second = results(server.requests[2])
    assert "return a - b" in first
    assert "Adds numbers" in second


@pytest.mark.parametrize(
    ("form", "place"),
    [
        ("section", "text"), ("singular", "text"), ("bare", "text"), ("k3", "text"),
        ("k3-json", "text"), ("section", "thinking"), ("k3", "thinking"),
    ],
)  # fmt: skip
def test_leaked_markers_are_run_and_not_shown(
    kimi: Kimi, serve: Serve, form: Any, place: str
) -> None:
    said = "Let me look. " + leaked([READ], form)
    spoken = place == "text"
    step = text(said if spoken else "", thinking=None if spoken else said, fragments=20)
    server = serve([step, text("It subtracts.")])
    run = kimi("-p", "hi", "--output-format", "stream-json", server=server)
    server.check()
    assert run.code == 0
    assert run.events()[-1]["answer"] == "It subtracts."
    assert "return a - b" in results(server.requests[1])[0]
    assert [call["name"] for call in calls(server.requests[1])] == ["read"]
    assert "<|" not in run.out
    assert b"<|" not in server.requests[1].raw


# Cut by the output limit.


def test_arguments_cut_by_the_output_limit_are_not_run(
    kimi: Kimi, serve: Serve, project: Path
) -> None:
    whole = json.dumps({"path": "new.txt", "content": "line\n" * 100})
    cut = tool_calls([("write", whole[:300])], finish_reason="length")
    server = serve([cut, text("In pieces, then.")])
    run = kimi("-p", "hi", server=server)
    server.check()
    assert run.code == 0
    assert "hit the output limit" in results(server.requests[1])[0]
    assert not (project / "new.txt").exists()
    assert all(isinstance(json.loads(c["arguments"]), dict) for c in calls(server.requests[1]))


def test_an_answer_cut_by_the_output_limit_is_continued(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("One, two, ", finish_reason="length"), text("three.")])
    run = kimi("-p", "count", server=server)
    server.check()
    assert (run.code, run.out) == (0, "One, two, three.\n")


def test_thoughts_cut_by_the_output_limit_are_no_answer(kimi: Kimi, serve: Serve) -> None:
    cut = text(None, thinking="Hm, " * 100, finish_reason="length")
    server = serve([cut, text("Now.")])
    run = kimi("-p", "count", server=server)
    server.check()
    assert (run.code, run.out) == (0, "Now.\n")


# Too much.


def test_a_hundred_calls_in_one_answer(kimi: Kimi, serve: Serve, project: Path) -> None:
    for number in range(100):
        (project / f"file{number}.txt").write_text(f"content {number}\n")
    many = [("read", {"path": f"file{number}.txt"}) for number in range(100)]
    server = serve([tool_calls(many), text("All read.")])
    run = kimi("-p", "read all", server=server)
    server.check()
    assert (run.code, run.out) == (0, "All read.\n")
    found = results(server.requests[1])
    assert len(found) == 100
    assert all(f"content {number}" in said for number, said in enumerate(found))


def test_a_hundred_changes_in_one_answer_happen_in_order(
    kimi: Kimi, serve: Serve, project: Path
) -> None:
    steps = [("shell", {"command": f"echo {number} >> log.txt"}) for number in range(100)]
    server = serve([tool_calls(steps), text("Logged.")])
    run = kimi("-p", "log", "--yolo", server=server)
    server.check()
    assert run.code == 0
    assert (project / "log.txt").read_text().split() == [str(n) for n in range(100)]


def test_an_argument_of_5_mb_does_not_poison_the_session(
    kimi: Kimi, serve: Serve, project: Path
) -> None:
    huge = {"path": "huge.txt", "content": "x" * 5_000_000}
    server = serve([tool_calls([("write", huge)], fragments=5000), text("Sorry."), text("Fine.")])
    run = kimi("-p", "hi", server=server)
    server.check()
    assert (run.code, run.out) == (0, "Sorry.\n")
    assert "too large" in results(server.requests[1])[0]
    assert not (project / "huge.txt").exists()
    again = kimi("-c", "-p", "and now", server=server)
    server.check()
    assert (again.code, again.out) == (0, "Fine.\n")
    assert all(len(request.raw) < 50_000 for request in server.requests)


def test_the_same_call_again_and_again_ends(kimi: Kimi, serve: Serve) -> None:
    server = serve(lambda index, request: tool_calls([READ]))
    run = kimi("-p", "hi", "--output-format", "json", server=server)
    server.check()
    assert run.code == 1
    assert run.json()["stop_reason"] == "repeated_calls"


def test_a_model_that_never_ends_meets_the_step_limit(kimi: Kimi, serve: Serve) -> None:
    def look(index: int, request: Recorded) -> Reply:
        return tool_calls([("grep", {"pattern": f"word{index}"})])

    server = serve(look)
    run = kimi("-p", "hi", "--max-steps", "7", server=server)
    server.check()
    assert run.code == 10
    assert len(server.requests) == 7
