"""The three output formats over every kind of end: stdout is the result and nothing else."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.helpers import RESULT_FIELDS, result_of, stream_of
from tests.support.program import Kimi, Run
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
READ = tool_calls([("read", {"path": "calc.py"})], thinking="hm", text="I look.")
WRITE = tool_calls([("write", {"path": "new.py", "content": "x = 1\n"})])
EDIT = tool_calls([("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})])
SHELL = tool_calls([("shell", {"command": "echo hi > there"})])


@dataclass(frozen=True)
class End:
    """A run, and the way it ends."""

    code: int
    reason: str
    replies: Sequence[Reply]
    args: Sequence[str] = ()
    answer: str = ""
    key: str = "sk-test-key"
    interrupt: bool = False
    steps: int = 1
    more: dict[str, Any] = field(default_factory=dict)


ENDS = {
    "done": End(
        0, "done", [READ, WRITE, text("All done.", thinking="well")], answer="All done.", steps=3
    ),
    "denied": End(0, "done", [SHELL, text("Could not.")], answer="Could not.", steps=2),
    "step limit": End(10, "step_limit", [READ], ["--max-steps", "1"]),
    "authentication": End(30, "authentication", [], key="sk-wrong-key"),
    "question": End(20, "question", [SHELL], ["--on-ask", "fail", "--sandbox", "off"]),
    "interrupted": End(
        130, "interrupted", [text("Half of an answer", stall_after=2)], interrupt=True
    ),
}


def run_to(end: End, form: str, kimi: Kimi, serve: Serve) -> Run:
    server = serve(end.replies)
    running = kimi.start(
        "-p", "go", "--output-format", form, *end.args,
        server=server, env={"KIMI_API_KEY": end.key},
    )  # fmt: skip
    if end.interrupt:
        # The stored turn begins before the request goes out.
        running.until(lambda: server.requests, "request")
        running.signal(signal.SIGINT)
    return running.end()


@pytest.mark.parametrize("name", ENDS)
def test_text_is_the_answer_alone(name: str, kimi: Kimi, serve: Serve) -> None:
    end = ENDS[name]
    run = run_to(end, "text", kimi, serve)
    assert run.code == end.code
    assert run.out == (f"{end.answer}\n" if end.answer else "")
    assert (end.reason.replace("_", " ") in run.err) == (end.code != 0)


@pytest.mark.parametrize("name", ENDS)
def test_json_is_one_object(name: str, kimi: Kimi, serve: Serve) -> None:
    end = ENDS[name]
    run = run_to(end, "json", kimi, serve)
    result = result_of(run)
    assert (run.code, result["stop_reason"]) == (end.code, end.reason)
    assert (result["answer"], result["steps"]) == (end.answer, end.steps)
    assert run.err.splitlines()[-1] == f'kimi -r {result["session_id"]} -p "..."'
    assert kimi.sessions()[-1].name == result["session_id"]


@pytest.mark.parametrize("name", ENDS)
def test_stream_json_is_events_and_the_result(name: str, kimi: Kimi, serve: Serve) -> None:
    end = ENDS[name]
    run = run_to(end, "stream-json", kimi, serve)
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"]) == (end.code, end.reason)
    assert events[0]["type"] == "session_started"
    assert events[-1]["type"] == "turn_ended"
    durable = [e for e in events if "delta" not in e["type"] and e["type"] != "step_started"]
    assert durable == kimi.stored()


def test_result_of_a_working_run(kimi: Kimi, serve: Serve) -> None:
    server = serve(
        [
            WRITE,
            EDIT,
            SHELL,
            text("Fixed."),
        ]
    )
    args = ("--sandbox", "off", "--output-format", "json")
    result = result_of(kimi("-p", "fix", *args, server=server))
    assert result["changed_files"] == [
        {"path": str(kimi.cwd / "calc.py"), "action": "modified"},
        {"path": str(kimi.cwd / "new.py"), "action": "created"},
    ]
    (denial,) = result["denials"]
    assert denial.keys() == {"tool", "summary", "reason"}
    assert (denial["tool"], denial["summary"]) == ("shell", "echo hi > there")
    usage = result["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 < usage["cached_tokens"] < usage["input_tokens"]
    assert result["cost"] > 0 and result["currency"] == "USD"
    assert result["model"] == "kimi-k2.5"


def test_the_documented_fields_are_the_fields() -> None:
    page = (Path(__file__).parents[2] / "docs" / "headless.md").read_text()
    table = page.split("| field | |")[1].split("\n\n")[0]
    cells = " ".join(row.split("|")[1] for row in table.splitlines()[2:])
    documented = {word.strip("`, ") for word in cells.split("`")[1::2]}
    assert documented | {"type"} == set(RESULT_FIELDS)


def test_streamed_pieces_make_up_the_stored_whole(kimi: Kimi, serve: Serve) -> None:
    words = "Ein längerer Text 文字 mit Stücken."
    server = serve([READ.but(fragments=5), text(words, thinking="hmm hm", fragments=7)])
    events, _ = stream_of(kimi("-p", "x", "--output-format", "stream-json", server=server))
    for step, message in ((1, "I look."), (2, words)):
        pieces = [e["text"] for e in events if e["type"] == "text_delta" and e["step"] == step]
        assert len(pieces) > 1 and "".join(pieces) == message
    arguments = [e["arguments"] for e in events if e["type"] == "tool_call_delta"]
    assert json.loads("".join(arguments)) == {"path": "calc.py"}


def test_reader_that_leaves_ends_the_run(kimi: Kimi, serve: Serve) -> None:
    """As in `kimi ... | head -1`: without a reader there is nobody to work for."""
    server = serve([text("word " * 1500, fragments=1500, delay_between=0.02)])
    reader, writer = os.pipe()
    running = kimi.start(
        "-p", "x", "--output-format", "stream-json", server=server, stdout=writer
    )  # fmt: skip
    os.close(writer)
    with open(reader, "rb") as stream:
        assert json.loads(stream.readline())["type"] == "session_started"
    assert running.end(20).code == 143
    assert kimi.stored()[-1]["reason"] == "terminated"


def test_progress_and_heartbeat_go_to_stderr(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"headless": {"heartbeat": 0.2}})
    server = serve([READ, text("slow", delay_headers=1.0)])
    run = kimi("-p", "x", server=server)
    assert run.out == "slow\n"
    assert "read calc.py" in run.err
    assert run.err.count("still working · waiting for the model") >= 2


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["-p", "x", "-m", "m", "--thinking", "Loud!"], 2, "thinking"),
        (["-p", "x", "-r", "nosuch", "--base-url", "http://127.0.0.1:9/v1"], 2, "session"),
        (["-p", "x", "--json-schema", "missing.json"], 2, "missing.json"),
        (["-p", "x", "--base-url", "https://api.moonshot.ai/v1"], 30, "KIMI_API_KEY"),
    ],
)
@pytest.mark.parametrize("output", ["json", "stream-json"])
def test_a_run_that_never_begins_gives_its_result_all_the_same(
    kimi: Kimi, args: list[str], code: int, says: str, output: str
) -> None:
    run = kimi(*args, "--output-format", output, env={"KIMI_API_KEY": ""})
    assert run.code == code
    result = result_of(run)
    assert says in result["detail"]
    assert result["session_id"] is None
