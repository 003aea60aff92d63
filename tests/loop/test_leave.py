"""What the sandbox stops is asked for, exactly that, and what the answer makes of it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Notice, QuestionAnswered, QuestionAsked, ToolResult
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.operations import Answer
from kimi_cli.settings import kept_rules
from tests.loop.conftest import Stage, StageMaker
from tests.support.replies import Reply, text, tool_calls


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder of the user's that is no temporary folder."""
    folder = Path(tempfile.mkdtemp(dir=Path.home(), prefix="kimi-test-"))
    yield folder
    shutil.rmtree(folder)


def answering(s: Stage, *answers: dict[str, Any]) -> None:
    left = iter(answers)

    def answer(event: Event) -> None:
        if isinstance(event, QuestionAsked):
            operation = Answer(question_id=event.question_id, **next(left))
            asyncio.get_running_loop().call_soon(s.session.send, operation)

    s.session.subscribe(answer)


def shell(*commands: str) -> list[Reply]:
    return [*(tool_calls([("shell", {"command": one})]) for one in commands), text("done")]


def words(result: ToolResult) -> str:
    return "".join(part.text for part in result.parts if isinstance(part, TextPart))


async def results(
    stage: StageMaker, commands: Sequence[str], answers: Sequence[dict[str, Any]], **options: Any
) -> tuple[Stage, list[ToolResult], list[QuestionAsked]]:
    async with stage(shell(*commands), on_ask="wait", **options) as s:
        answering(s, *answers)
        await s.session.run_turn("go")
        assert len(s.of(QuestionAnswered)) == len(answers)
        return s, s.of(ToolResult), s.of(QuestionAsked)


async def test_yes_runs_it_again_with_what_it_lacked(stage: StageMaker, outside: Path) -> None:
    command = f"echo one >> tried; touch {outside}/made"
    _, [result], [question] = await results(stage, [command], [{"answer": "once"}])
    assert result.status == "ok" and (outside / "made").exists()
    assert words(result).startswith(
        f"[The sandbox stopped it first; run again writing to {outside}"
    )
    assert question.grant == f"writing to {outside}"
    assert str(outside) in question.reason


async def test_no_leaves_it_stopped_and_says_why(stage: StageMaker, outside: Path) -> None:
    answer = {"answer": "no", "comment": "use the workspace"}
    s, [result], _ = await results(stage, [f"touch {outside}/made"], [answer])
    assert result.status == "error" and not (outside / "made").exists()
    assert "The sandbox stopped it" in words(result) and "use the workspace" in words(result)
    assert [one["tool"] for one in s.session.denials] == ["shell"]


async def test_once_is_once(stage: StageMaker, outside: Path) -> None:
    commands = [f"touch {outside}/a", f"touch {outside}/b"]
    answers = [{"answer": "once"}, {"answer": "no"}]
    _, found, _ = await results(stage, commands, answers)
    assert [one.status for one in found] == ["ok", "error"]


@pytest.mark.parametrize("scope", ["session", "project"])
async def test_always_asks_no_more_for_this_program_and_place(
    stage: StageMaker, outside: Path, tmp_path: Path, scope: str
) -> None:
    commands = [f"touch {outside}/a", f"touch {outside}/b", f"mkdir {outside}/c"]
    answers = [{"answer": scope}, {"answer": "no"}]
    _, found, questions = await results(stage, commands, answers)
    assert [one.status for one in found] == ["ok", "ok", "error"]
    assert questions[0].rule == f"shell(touch) +write:{outside}"
    kept = kept_rules(tmp_path / "home", tmp_path / "work")
    assert [one.rule for one in kept] == [questions[0].rule] * (scope == "project")
    # What was kept holds in the next session.
    asked = [{"answer": "no"}] if scope == "session" else []
    _, [later], _ = await results(stage, [f"touch {outside}/d"], asked)
    assert later.status == ("ok" if scope == "project" else "error")


async def test_yolo_is_not_asked(stage: StageMaker, outside: Path) -> None:
    _, [result], questions = await results(stage, [f"touch {outside}/made"], [], yolo=True)
    assert result.status == "error" and questions == []
    assert "--yolo asks nothing" in words(result)


async def test_a_question_marks_the_part_that_needs_the_answer(
    stage: StageMaker, outside: Path
) -> None:
    command = f"cat /etc/hostname | head -1; touch {outside}/made; echo after"
    _, _, [question] = await results(stage, [f"set -e; {command}"], [{"answer": "no"}])
    marked = [f"set -e; {command}"[start:end] for start, end in question.marks]
    assert f"touch {outside}/made" in marked and "echo after" not in marked


FAILING = "python3 -c \"import socket; socket.create_connection(('example.com', 80), 5)\" 2>&1"


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (f"{FAILING} | tail -3", True),
        (f"{FAILING} | tail -n 9 | tail -2", True),
        (f"{FAILING} || true", False),
        ("echo 'curl: (6) Could not resolve host: example.com' | tail -3", False),
        ("cat log.txt | tail -3", False),
    ],
)
async def test_a_pipe_does_not_hide_what_was_refused(
    stage: StageMaker, tmp_path: Path, command: str, asked: bool
) -> None:
    (tmp_path / "work/log.txt").write_text("curl: (6) Could not resolve host: example.com\n")
    answers = [{"answer": "no"}] if asked else []
    _, [result], questions = await results(stage, [command], answers)
    assert len(questions) == asked
    assert ("The sandbox stopped it" in words(result)) == asked


async def test_a_rule_that_can_not_be_kept_holds_for_the_session(
    stage: StageMaker, outside: Path, tmp_path: Path
) -> None:
    commands = [f"touch {outside}/a", f"touch {outside}/b"]
    async with stage(shell(*commands), on_ask="wait") as s:
        # Only now: a session would not begin with rules that can't be read.
        (tmp_path / "home/rules").mkdir()
        answering(s, {"answer": "project"})
        await s.session.run_turn("go")
        assert [one.status for one in s.of(ToolResult)] == ["ok", "ok"]
        [notice] = s.of(Notice)
        assert "the rule was not kept" in notice.text
