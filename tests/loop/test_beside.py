"""What happens beside the turns: commands moved to the background, the user's own commands, side
questions, steering that came too late."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent import StopTurn
from kimi_cli.agent.spent import spent
from kimi_cli.agent.undo import CannotUndo
from kimi_cli.frontends.account import Account
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    Compaction,
    Title,
    ToolResult,
    ToolStarted,
    TurnEnded,
    UserMessage,
)
from kimi_cli.protocol.live import CompactionStarted, StepStarted, TextDelta, ToolOutputDelta
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.messages import Usage as Used
from kimi_cli.protocol.operations import Background, Compact, Interrupt, Rename, Say, Steer
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.events_file import read_events
from kimi_cli.store.summary import summary_of
from tests.loop.conftest import Stage, StageMaker
from tests.support.replies import Reply, Usage, http_error, text, tool_calls
from tests.support.worker import NOTE


def shell(command: str) -> Reply:
    return tool_calls([("shell", {"command": command})])


def words(event: UserMessage | ToolResult) -> str:
    return "".join(part.text for part in event.parts if isinstance(part, TextPart))


def whole(path: str) -> str:
    return Path(path).read_text()


def when_shown(s: Stage, piece: str, act: Any) -> None:
    """Call ``act`` once, as soon as a command has written ``piece``."""
    seen: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, ToolOutputDelta) and piece not in "".join(seen):
            seen.append(event.text)
            if piece in "".join(seen):
                act()

    s.session.subscribe(listen)


# The background


async def test_a_running_command_goes_to_the_background(stage: StageMaker) -> None:
    async with stage([shell("echo begun; sleep 600; echo never"), text("ok")]) as s:
        moved: list[list[str]] = []
        when_shown(s, "begun", lambda: moved.append(s.session.background()))
        ended = await asyncio.wait_for(s.session.run_turn("go"), 60)
        assert ended.reason is StopReason.DONE
        [result] = s.of(ToolResult)
        assert result.status == "ok" and result.data == {
            "exit_code": None,
            "task": moved[0][0],
            "background": True,
        }
        assert "begun" in words(result) and "the user moved it" in words(result)
        task = s.session.workspace.processes.task(moved[0][0])
        assert task is not None and task.result is None
        assert s.session.background() == []


async def test_what_ends_later_in_the_background_is_told(stage: StageMaker, tmp_path: Path) -> None:
    wait = "while [ ! -e go ]; do sleep 0.05; done"
    script = [shell(f"echo begun; {wait}; exit 3"), shell("touch go; sleep 0.5"), text("ok")]
    async with stage(script) as s:
        when_shown(s, "begun", lambda: s.session.send(Background()))
        await asyncio.wait_for(s.session.run_turn("go"), 60)
        first = s.of(ToolResult)[0].data["task"]
        said = [words(e) for e in s.of(UserMessage) if e.origin == "program"]
        assert any(f"Background task {first} ended with exit status 3" in one for one in said)


async def test_what_has_ended_already_is_not_moved(stage: StageMaker) -> None:
    async with stage([shell("echo hi"), text("ok")]) as s:
        moved: list[list[str]] = []

        def move(event: Event) -> None:
            if isinstance(event, ToolResult | TurnEnded):
                moved.append(s.session.background())

        s.session.subscribe(move)
        await s.session.run_turn("go")
        assert moved == [[], []]
        assert s.of(ToolResult)[0].data["background"] is False


async def test_moving_at_any_moment_loses_nothing(stage: StageMaker) -> None:
    rounds = 12
    script = [*[shell(f"echo begun; sleep 0.{n:02}; echo end-{n}") for n in range(rounds)]]
    async with stage([*script, text("ok")]) as s:
        when: list[int] = []

        def move(event: Event) -> None:
            if isinstance(event, ToolStarted):
                loop = asyncio.get_running_loop()
                loop.call_later(0.01 * len(when), s.session.background)
                when.append(len(when))

        s.session.subscribe(move)
        ended = await asyncio.wait_for(s.session.run_turn("go"), 60)
        assert ended.reason is StopReason.DONE
        for number, result in enumerate(s.of(ToolResult)):
            code, task = result.data["exit_code"], result.data["task"]
            assert result.status == "ok" and result.data["background"] == (task is not None)
            assert (code is None) <= (task is not None)
            if code is not None:
                assert code == 0 and f"end-{number}" in words(result)
            else:
                one = s.session.workspace.processes.task(task)
                assert one is not None
                done = await asyncio.wait_for(one.wait(None), 30)
                assert done is not None and done.code == 0
                assert f"end-{number}" in one.output_path.read_text()


async def test_only_what_is_waited_for_so_can_be_moved(stage: StageMaker, tmp_path: Path) -> None:
    async with stage([]) as s:
        processes = s.session.workspace.processes
        task = await processes.start("sleep 0.5; exit 4", cwd=tmp_path)
        waiting = asyncio.create_task(task.wait(None))
        await asyncio.sleep(0)
        assert processes.move_to_background() == []
        result = await waiting
        assert result is not None and result.code == 4


# The user's own commands


async def test_a_command_of_the_user_runs_with_their_rights(
    stage: StageMaker, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with stage([text("ok")]) as s:
        outside = Path(s.session.workspace.root).parent.parent / "outside"
        done = await s.session.run_user_command(f"pwd; touch '{outside}'; exit 2", call_id="user-1")
        assert (done.code, done.outcome, done.task, done.stopped) == (
            2,
            "exit status 2",
            None,
            False,
        )
        assert done.output == f"{tmp_path / 'work'}\n" and done.output_path is None
        assert outside.exists()
        shown = s.of(ToolOutputDelta)
        assert {e.call_id for e in shown} == {"user-1"}
        assert "".join(e.text for e in shown) == done.output
        assert s.of(UserMessage) == []
        s.session.offer(done.words)
        await s.session.run_turn("what was that?")
        told = s.sent(0)[-2]["content"]
        assert "exit status 2" in told and "$ pwd" in told and str(tmp_path / "work") in told
        assert s.sent(0)[-1]["content"] == "what was that?"


async def test_a_long_output_is_cut_for_the_model_and_kept(stage: StageMaker) -> None:
    async with stage([]) as s:
        done = await s.session.run_user_command("seq 100000")
        assert len(done.words) < 20_000 and done.output_path is not None
        assert await asyncio.to_thread(whole, done.output_path) == "".join(
            f"{number}\n" for number in range(1, 100_001)
        )
        assert done.output_path in done.output


async def test_an_endless_command_of_the_user_can_be_interrupted(stage: StageMaker) -> None:
    async with stage([]) as s:
        when_shown(s, "begun", lambda: s.session.send(Interrupt()))
        command = s.session.run_user_command("echo begun; sleep 600")
        done = await asyncio.wait_for(command, 30)
        assert done.stopped and done.code is None and "stopped" in done.words


async def test_a_command_of_the_user_can_be_called_off(stage: StageMaker) -> None:
    async with stage([]) as s:
        running = asyncio.create_task(s.session.run_user_command("echo begun; sleep 600"))
        when_shown(s, "begun", running.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 30)


async def test_a_command_of_the_user_can_be_moved(stage: StageMaker) -> None:
    async with stage([]) as s:
        when_shown(s, "begun", s.session.background)
        command = s.session.run_user_command("echo begun; sleep 600")
        done = await asyncio.wait_for(command, 30)
        assert done.task and done.code is None and not done.stopped
        assert f"background task {done.task}" in done.words
        assert [task.id for task in s.session.workspace.processes.tasks()] == [done.task]


async def test_what_is_offered_in_a_turn_comes_before_its_next_step(stage: StageMaker) -> None:
    async with stage([shell("echo hi"), text("ok"), text("done")]) as s:

        def offer(event: Event) -> None:
            if isinstance(event, ToolStarted):
                s.session.offer("[one]")
            if isinstance(event, TextDelta) and len(s.server.requests) == 2:
                s.session.offer("[two]")

        s.session.subscribe(offer)
        await s.session.run_turn("go")
        assert [m["role"] for m in s.sent(1)][-2:] == ["tool", "user"]
        assert s.sent(1)[-1]["content"] == "[one]"
        kinds = [type(e) for e in s.events if isinstance(e, UserMessage | TurnEnded)]
        assert kinds == [UserMessage, UserMessage, UserMessage, TurnEnded]
        await s.session.run_turn("more")
        assert [m["content"] for m in s.sent(2)[-2:]] == ["[two]", "more"]


async def test_our_own_key_is_never_offered(stage: StageMaker) -> None:
    async with stage([text("ok")]) as s:
        s.session.offer("key: sk-test-key")
        await s.session.run_turn("go")
        assert b"sk-test-key" not in s.server.requests[0].raw
        assert b"sk-test-key" not in (s.session._log.path / "events.jsonl").read_bytes()


# Side questions


def total(s: Stage) -> tuple[Used, float | None]:
    return s.session.budget.usage, s.session.budget.cost


async def test_a_side_question_is_no_part_of_the_conversation(stage: StageMaker) -> None:
    answer = text("Because of a bug.", text_fragments=4, usage=Usage(100, 10, 90))
    async with stage([text("one"), answer, text("two")], flags={"model": "kimi-k2.5"}) as s:
        await s.session.run_turn("a")
        before = list(s.session._record.messages)
        shown: list[str] = []
        aside = await s.session.aside("why?", shown.append)
        assert (aside.question, aside.answer, aside.partial) == ("why?", "Because of a bug.", False)
        assert shown[-1] == aside.answer and len(shown) == 4
        assert aside.usage == Used(input_tokens=100, output_tokens=10, cached_tokens=90)
        assert aside.cost is not None and aside.currency == "USD"
        assert s.server.requests[1].raw.startswith(s.server.requests[0].conversation)
        assert s.server.requests[1].body["tools"] == s.server.requests[0].body["tools"]
        assert s.sent(1)[-1]["content"].endswith("why?")
        assert list(s.session._record.messages) == before
        await s.session.run_turn("b")
        assert s.server.requests[2].conversation.startswith(s.server.requests[0].conversation)
        assert b"why?" not in s.server.requests[2].raw
        [stored] = [e for e in read_events(s.session._log.path).events if isinstance(e, Aside)]
        assert stored == aside


async def test_calls_in_the_answer_to_a_side_question_are_not_run(
    stage: StageMaker, tmp_path: Path
) -> None:
    async with stage([text("one"), shell("touch made"), text("Plain.")]) as s:
        await s.session.run_turn("a")
        assert (await s.session.aside("why?")).answer == "Plain."
        assert not (tmp_path / "work/made").exists() and s.of(ToolStarted) == []


async def test_a_side_question_while_a_turn_runs_is_paid_for_once(stage: StageMaker) -> None:
    used = Usage(1000, 10, 0)
    script = [
        tool_calls([("shell", {"command": "while [ ! -e go ]; do sleep 0.05; done"})], usage=used),
        text("Waiting for a file.", usage=used),
        text("done", usage=used),
    ]
    async with stage(script, flags={"model": "kimi-k2.5"}) as s:
        asked: list[asyncio.Task[Aside]] = []

        async def ask() -> Aside:
            aside = await s.session.aside("what do you do?")
            (Path(s.session.workspace.root) / "go").touch()
            return aside

        def listen(event: Event) -> None:
            if isinstance(event, ToolStarted):
                asked.append(asyncio.create_task(ask()))

        s.session.subscribe(listen)
        ended = await asyncio.wait_for(s.session.run_turn("wait for it"), 60)
        aside = await asked[0]
        assert aside.answer == "Waiting for a file." and ended.answer == "done"
        assert [m["role"] for m in s.sent(1)][-2:] == ["user", "user"]
        assert s.server.requests[2].conversation.startswith(s.server.requests[0].conversation)
        assert ended.usage.input_tokens == 2000 and s.session.budget.usage.input_tokens == 3000
        events = read_events(s.session._log.path).events
        account = Account()
        for event in events:
            account(event)
        whole, cost = spent(events)
        assert whole == account.usage == s.session.budget.usage
        assert cost == pytest.approx(account.cost) == pytest.approx(s.session.budget.cost)
        home = s.session._log.path.parents[2]
        summary = summary_of(home, s.session.id, None)
        assert summary.usage == whole and summary.cost == pytest.approx(cost)


async def test_a_side_question_that_fails_says_why(stage: StageMaker) -> None:
    async with stage([text("one"), http_error(401, "invalid_authentication_error")]) as s:
        await s.session.run_turn("a")
        with pytest.raises(StopTurn) as stop:
            await s.session.aside("why?")
        assert stop.value.reason is StopReason.AUTHENTICATION
        assert s.of(Aside) == []


async def test_a_side_question_keeps_to_the_budget(stage: StageMaker) -> None:
    async with stage(
        [text("one", usage=Usage(9_000, 10))], flags={"budget.max_tokens": 9_500}
    ) as s:
        await s.session.run_turn("a")
        with pytest.raises(StopTurn) as stop:
            await s.session.aside("why?")
        assert stop.value.reason is StopReason.TOKEN_LIMIT
        assert len(s.server.requests) == 1


async def test_a_side_question_that_is_called_off_is_paid_for(stage: StageMaker) -> None:
    slow = text("It was because of this and that", text_fragments=8, delay_between=0.2)
    async with stage([text("one"), slow]) as s:
        await s.session.run_turn("a")
        begun = asyncio.Event()
        asking = asyncio.create_task(s.session.aside("why?", lambda text: begun.set()))
        await asyncio.wait_for(begun.wait(), 30)
        before = s.session.budget.usage.total_tokens
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        [aside] = s.of(Aside)
        assert aside.partial and aside.answer and aside.usage is not None
        assert s.session.budget.usage.total_tokens == before + aside.usage.total_tokens


# Steering


async def test_steering_during_a_check_is_delivered(stage: StageMaker) -> None:
    async with stage([text("one"), text("two")]) as s:

        async def check(answer: str) -> str | None:
            if answer == "one":
                s.session.send(Steer(text="and this"))
            return None

        ended = await s.session.run_turn("go", [check])
        assert ended.answer == "two" and s.sent(1)[-1]["content"] == "and this"
        assert s.session.undelivered() == []


async def test_steering_that_came_too_late_can_be_had_back(stage: StageMaker) -> None:
    async with stage([text("one"), text("two"), text(NOTE), text("three")]) as s:
        await s.session.run_turn("a")

        def listen(event: Event) -> None:
            if isinstance(event, TextDelta) and len(s.server.requests) == 2:
                s.session.send(Compact())
            if isinstance(event, CompactionStarted | TurnEnded):
                s.session.send(Steer(text=type(event).__name__))

        s.session.subscribe(listen)
        await s.session.run_turn("b")
        late = s.session.undelivered()
        assert late == [*["CompactionStarted"] * len(s.of(CompactionStarted)), "TurnEnded"]
        assert s.session.undelivered() == []


@pytest.mark.parametrize("end", ["interrupted", "failed"])
async def test_steering_of_a_turn_without_an_answer_can_be_had_back(
    stage: StageMaker, end: str
) -> None:
    script = (
        [http_error(401, "invalid_authentication_error")]
        if end == "failed"
        else [shell("sleep 60")]
    )
    async with stage([*script, text("fine")]) as s:

        def listen(event: Event) -> None:
            if isinstance(event, StepStarted) and len(s.of(TurnEnded)) == 0:
                s.session.send(Steer(text="quick"))
            if isinstance(event, ToolStarted):
                s.session.send(Interrupt())

        s.session.subscribe(listen)
        ended = await s.session.run_turn("a")
        assert ended.reason is not StopReason.DONE
        assert s.session.undelivered() == ["quick"]
        await s.session.run_turn(Say(text="b"))
        assert b"quick" not in s.server.requests[-1].raw


# Titles and undo


async def test_a_title_is_recorded(stage: StageMaker) -> None:
    async with stage([text("ok")]) as s:
        await s.session.run_turn("a")
        s.session.send(Rename(text="the cart"))
        assert [e.text for e in s.of(Title)] == ["the cart"]
        assert summary_of(s.session._log.path.parents[2], s.session.id, None).title == "the cart"


async def test_undo_and_redo(stage: StageMaker, tmp_path: Path) -> None:
    write = tool_calls([("write", {"path": "a", "content": "x\n"})])
    async with stage([write, text("ok"), text("fine")]) as s:
        made = tmp_path / "work/a"
        await s.session.run_turn("a")
        done = await s.session.undo()
        assert [c.path for c in done.changes] == [made] and not made.exists()
        await s.session.redo()
        assert made.exists()
        with pytest.raises(CannotUndo):
            await s.session.redo()

        async def check(answer: str) -> str | None:
            with pytest.raises(CannotUndo, match="a turn is running"):
                await s.session.undo()
            return None

        assert (await s.session.run_turn("b", [check])).reason is StopReason.DONE


async def test_a_session_that_is_not_kept_can_not_be_undone(stage: StageMaker) -> None:
    async with stage([text("ok")], keep=False) as s:
        await s.session.run_turn("a")
        with pytest.raises(CannotUndo, match="not kept"):
            await s.session.undo()
        assert s.of(Compaction) == []
