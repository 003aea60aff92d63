"""Modes: what is free in each, and how the model hears of a change."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from kimi_cli.agent import Setup
from kimi_cli.prompts import load
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Compaction,
    ModeChanged,
    QuestionAsked,
    ToolResult,
    ToolStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.modes import MODES, Mode
from kimi_cli.protocol.operations import Answer, SetMode
from kimi_cli.protocol.stops import StopReason
from tests.loop.conftest import Stage, StageMaker
from tests.support.replies import Reply, text, tool_calls
from tests.support.scripts import shell_steps
from tests.support.worker import NOTE


def write(path: str, content: str = "x\n") -> Reply:
    return tool_calls([("write", {"path": path, "content": content})])


def shell(command: str) -> Reply:
    return tool_calls([("shell", {"command": command})])


def told(s: Stage, request: int) -> list[str]:
    """The modes that a request tells of, in order."""
    known = {load(f"modes/{mode}"): mode for mode in MODES}
    said = (m["content"] for m in s.sent(request) if m["role"] == "user")
    return [known[one] for one in said if one in known]


def statuses(s: Stage) -> list[str]:
    return [result.status for result in s.of(ToolResult)]


def answering(s: Stage, answer: str) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, QuestionAsked):
            s.session.send(Answer(question_id=event.question_id, answer=answer))

    s.session.subscribe(listen)


async def test_plan_mode_reads_and_changes_nothing(stage: StageMaker, tmp_path: Path) -> None:
    script = [
        shell("ls; cat a.txt"),
        write("a.txt"),
        tool_calls([("edit", {"path": "a.txt", "edits": [{"old": "before", "new": "after"}]})]),
        shell("rm a.txt"),
        shell('python3 -c \'open("made", "w")\''),
        shell("echo 'unclosed"),
        tool_calls([("read", {"path": "a.txt"})]),
        text("The plan: change a.txt."),
    ]
    async with stage(script, on_ask="wait", flags={"policy.allow": ["shell(rm *)"]}) as s:
        (tmp_path / "work/a.txt").write_text("before\n")
        s.session.send(SetMode(mode="plan"))
        ended = await s.session.run_turn("change a.txt")
        assert (ended.reason, ended.answer) == (StopReason.DONE, "The plan: change a.txt.")
        assert statuses(s) == ["ok", *["denied"] * 2, *["denied"] * 3, "ok"]
        assert s.of(QuestionAsked) == []
        denials = ["".join(p.text for p in r.parts) for r in s.of(ToolResult)[1:6]]
        assert all("plan mode" in words and "the plan as your answer" in words for words in denials)
        assert [path.name for path in (tmp_path / "work").iterdir()] == ["a.txt"]
        assert (tmp_path / "work/a.txt").read_text() == "before\n"


async def test_an_approved_plan_is_carried_out(stage: StageMaker, tmp_path: Path) -> None:
    script = [text("I would write a."), write("a"), text("Done.")]
    async with stage(script, mode="plan") as s:
        await s.session.run_turn("plan it")
        assert told(s, 0) == ["plan"]
        s.session.set_mode("auto")
        await s.session.run_turn("go on")
        assert told(s, -1) == ["plan", "auto"]
        assert (tmp_path / "work/a").exists()
        assert [e.mode for e in s.of(ModeChanged)] == ["auto"]
        assert [e.mode for e in s.opened.events if isinstance(e, ModeChanged)] == ["plan"]


async def test_ask_mode_asks_for_changes_and_not_for_reading(
    stage: StageMaker, tmp_path: Path
) -> None:
    script = [
        shell("ls -a"),
        shell("touch made"),
        write("a"),
        tool_calls([("read", {"path": "a"})]),
        text("ok"),
    ]
    async with stage(script, mode="ask", on_ask="wait") as s:
        answering(s, "once")
        await s.session.run_turn("go")
        assert statuses(s) == ["ok"] * 4
        asked = s.of(QuestionAsked)
        assert [q.tool for q in asked] == ["shell", "write"]
        assert "ask mode" in asked[1].reason
        assert {p.name for p in (tmp_path / "work").iterdir()} == {"made", "a"}


async def test_an_answer_for_the_session_holds_in_ask_mode(
    stage: StageMaker, tmp_path: Path
) -> None:
    script = [write("a", "1\n"), write("a", "2\n"), write("b"), text("ok")]
    async with stage(script, mode="ask", on_ask="wait") as s:
        answering(s, "session")
        await s.session.run_turn("go")
        assert statuses(s) == ["ok"] * 3
        assert len(s.of(QuestionAsked)) == 2


@pytest.mark.parametrize("mode", MODES)
async def test_deny_rules_win_in_each_mode(stage: StageMaker, tmp_path: Path, mode: Mode) -> None:
    script = [shell("touch made"), write("a"), text("ok")]
    flags = {"policy.deny": ["shell(touch *)", "write(a)"]}
    async with stage(script, mode=mode, on_ask="wait", flags=flags) as s:
        await s.session.run_turn("go")
        assert statuses(s) == ["denied"] * 2
        assert list((tmp_path / "work").iterdir()) == []


async def test_a_change_in_a_turn_holds_for_the_next_call(
    stage: StageMaker, tmp_path: Path
) -> None:
    async with stage([shell("true"), write("a"), text("The plan.")]) as s:

        def plan(event: Event) -> None:
            if isinstance(event, ToolStarted):
                s.session.send(SetMode(mode="plan"))

        s.session.subscribe(plan)
        await s.session.run_turn("go")
        assert statuses(s) == ["ok", "denied"]
        assert told(s, 0) == [] and told(s, 1) == told(s, 2) == ["plan"]
        assert not (tmp_path / "work/a").exists()


async def test_there_and_back_before_the_next_step_says_nothing(stage: StageMaker) -> None:
    async with stage([text("ok")]) as s:
        for mode in ("plan", "plan", "ask", "auto"):
            s.session.send(SetMode(mode=mode))
        await s.session.run_turn("go")
        assert told(s, 0) == []
        assert [e.mode for e in s.of(ModeChanged)] == ["plan", "ask", "auto"]


async def test_a_compaction_that_drops_the_word_says_it_again(stage: StageMaker) -> None:
    script = [text("one"), text("two"), text(NOTE), text("three"), text("four")]
    async with stage(script, mode="plan", flags={"context.recent_tokens": 1}) as s:
        for message in ("a", "b"):
            await s.session.run_turn(message)
        await s.session.compact()
        assert len(s.of(Compaction)) == 1
        await s.session.run_turn("c")
        await s.session.run_turn("d")
        assert told(s, -2) == told(s, -1) == ["plan"]


async def test_what_was_taken_back_was_not_said(stage: StageMaker, tmp_path: Path) -> None:
    script = [text("one"), text("two"), text("three")]
    async with stage(script) as s:
        await s.session.run_turn("a")
        s.session.set_mode("plan")
        await s.session.run_turn("b")
        assert told(s, -1) == ["plan"]
        await s.session.undo()
        await s.session.run_turn("c")
        assert told(s, -1) == ["plan"]
        assert [m["content"] for m in s.sent(-1) if m["role"] == "user"][-2:] == [
            "c",
            load("modes/plan"),
        ]


async def test_a_resumed_session_begins_in_the_mode_of_its_setup(stage: StageMaker) -> None:
    async with stage([text("a plan")]) as s:
        s.session.set_mode("plan")
        await s.session.run_turn("plan it")
        session = s.session.id
    async with stage([text("done")], resume=session) as s:
        assert s.session.mode == "auto"
        await s.session.run_turn("go")
        assert told(s, 0) == ["plan", "auto"]
        assert [e.mode for e in s.opened.events if isinstance(e, ModeChanged)] == ["auto"]
    async with stage([text("again")], resume=session) as s:
        await s.session.run_turn("more")
        assert told(s, 0) == ["plan", "auto"]
        assert not [e for e in s.opened.events if isinstance(e, ModeChanged)]


async def test_yolo_is_the_mode_of_its_flag(stage: StageMaker) -> None:
    async with stage([text("ok")], yolo=True, mode="ask") as s:
        assert s.session.mode == "yolo"
        await s.session.run_turn("go")
        assert told(s, 0) == []


@pytest.mark.parametrize("seed", range(3))
async def test_each_request_is_how_the_next_one_begins(stage: StageMaker, seed: int) -> None:
    chance = random.Random(seed)
    async with stage(shell_steps(12, arguments='{"command": "echo STEP"}')) as s:

        def change(event: Event) -> None:
            if isinstance(event, ToolStarted | ToolResult) and chance.random() < 0.5:
                s.session.send(SetMode(mode=chance.choice(MODES)))

        s.session.subscribe(change)
        await s.session.run_turn("go")
        bodies = [request.conversation for request in s.server.requests]
        assert len(bodies) == 13 and s.of(ModeChanged)
        for one, other in pairwise(bodies):
            assert other.startswith(one)
        # Whatever was said last is what holds, as far as there was a step to say it in.
        said = [e for e in s.of(UserMessage) if e.mode]
        assert [e.mode for e in said] == told(s, -1)
        assert all(isinstance(e.parts[0], TextPart) and e.origin == "program" for e in said)


def test_the_setup_from_the_environment_has_a_mode() -> None:
    assert Setup.from_env(mode="plan").first_mode == "plan"
    assert Setup.from_env(mode="plan", yolo=True).first_mode == "yolo"
