"""Turns: what the loop does with answers, results and everything that comes in between."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from kimi_cli.agent import Setup, SetupError, open_session
from kimi_cli.agent.loop import (
    ANSWER_PLEASE,
    CONTINUE,
    GARBLED_CALL,
    MAX_CONTINUATIONS,
    MAX_EMPTY_ANSWERS,
)
from kimi_cli.agent.repeats import STOP_AT
from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.frontends.headless.run import Job
from kimi_cli.frontends.headless.run import run as headless
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    DURABLE,
    AssistantMessage,
    BudgetWarning,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import (
    StepStarted,
    TextDelta,
)
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.operations import Answer, Interrupt, Say, Steer
from kimi_cli.protocol.stops import StopReason
from tests.loop.conftest import StageMaker
from tests.support.replies import Usage, leaked, text, tool_calls


def words(event: UserMessage | ToolResult | AssistantMessage) -> str:
    return "".join(part.text for part in event.parts if isinstance(part, TextPart))


def run(coroutine: object) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))  # type: ignore[arg-type]


def test_results_go_back_in_call_order(stage: StageMaker, tmp_path: Path) -> None:
    async def scene() -> None:
        calls = [("read", {"path": name}) for name in ("big", "small", "missing")]
        async with stage([tool_calls(calls), text("done")]) as s:
            (tmp_path / "work/big").write_text("x\n" * 20_000)
            (tmp_path / "work/small").write_text("y\n")
            ended = await s.session.run_turn("look")
            assert (ended.reason, ended.answer, ended.steps) == (StopReason.DONE, "done", 2)
            results = s.of(ToolResult)
            assert [r.status for r in results] == ["ok", "ok", "error"]
            assert [r.call_id for r in results] == [
                m["tool_call_id"] for m in s.sent(1) if m["role"] == "tool"
            ]

    run(scene())


def test_every_begin_has_its_end_and_sequence_numbers_count(stage: StageMaker) -> None:
    async def scene() -> None:
        script = [tool_calls([("shell", {"command": "true"})]), text("ok"), text("again")]
        async with stage(script, yolo=True) as s:
            await s.session.run_turn("one")
            await s.session.run_turn("two")
            assert len(s.of(TurnStarted)) == len(s.of(TurnEnded)) == 2
            assert len(s.of(StepStarted)) == len(s.of(AssistantMessage)) == 3
            assert len(s.of(ToolStarted)) == len(s.of(ToolResult)) == 1
            durable = [e for e in s.events if isinstance(e, DURABLE)]
            first = durable[0].seq
            assert [e.seq for e in durable] == list(range(first, len(durable) + first))
            assert all(e.parent == e.seq - 1 for e in durable)

    run(scene())


def test_steering_is_delivered_after_the_step(stage: StageMaker) -> None:
    async def scene() -> None:
        script = [tool_calls([("shell", {"command": "sleep 0.3"})]), text("done")]
        async with stage(script, yolo=True) as s:

            def steer(event: Event) -> None:
                if isinstance(event, ToolStarted):
                    s.session.send(Steer(text="and be quick"))

            s.session.subscribe(steer)
            await s.session.run_turn("go")
            assert [m["role"] for m in s.sent(1)][-2:] == ["tool", "user"]
            assert s.sent(1)[-1]["content"] == "and be quick"

    run(scene())


def test_steering_during_the_last_answer_is_not_lost(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("done", text_fragments=5), text("really done")]) as s:

            def steer(event: Event) -> None:
                if isinstance(event, TextDelta) and len(s.server.requests) == 1:
                    s.session.send(Steer(text=f"more {len(s.of(TextDelta))}"))

            s.session.subscribe(steer)
            ended = await s.session.run_turn("go")
            assert ended.answer == "really done"
            assert "more 1" in json.dumps(s.sent(1))

    run(scene())


def test_queued_messages_run_one_turn_each(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("one"), text("two")]) as s:
            s.session.send(Say(text="first"))
            s.session.send(Say(text="second"))
            both = asyncio.Event()
            s.session.subscribe(lambda _: both.set() if len(s.of(TurnEnded)) == 2 else None)
            serving = asyncio.create_task(s.session.serve())
            await both.wait()
            serving.cancel()
            assert [e.answer for e in s.of(TurnEnded)] == ["one", "two"]

    run(scene())


def test_an_interrupted_command_gets_its_result_and_the_session_goes_on(stage: StageMaker) -> None:
    async def scene() -> None:
        calls = [("shell", {"command": "sleep 60"}), ("shell", {"command": "echo never"})]
        async with stage([tool_calls(calls), text("fine")], yolo=True) as s:

            def stop(event: Event) -> None:
                if isinstance(event, ToolStarted):
                    s.session.send(Interrupt())

            s.session.subscribe(stop)
            ended = await s.session.run_turn("go")
            assert ended.reason is StopReason.INTERRUPTED
            first, second = s.of(ToolResult)
            assert (first.status, second.status) == ("interrupted", "interrupted")
            assert "while it ran" in words(first)
            assert "not run" in words(second)
            assert (await s.session.run_turn("go on")).answer == "fine"

    run(scene())


def test_an_interrupt_before_the_turn_has_begun_counts(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("never")]) as s:
            turn = asyncio.create_task(s.session.run_turn("go"))
            await asyncio.sleep(0)
            s.session.interrupt(StopReason.TERMINATED)
            assert (await turn).reason is StopReason.TERMINATED
            assert s.server.requests == []
            assert len(s.of(TurnStarted)) == len(s.of(UserMessage)) == len(s.of(TurnEnded)) == 1

    run(scene())


def test_partial_text_is_kept_and_marked(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("one two", text_fragments=7, stall_after=4), text("ok")]) as s:

            def stop(event: Event) -> None:
                if isinstance(event, TextDelta) and len(s.of(TextDelta)) == 3:
                    s.session.send(Interrupt())

            s.session.subscribe(stop)
            await s.session.run_turn("go")
            (partial,) = s.of(AssistantMessage)
            assert partial.partial
            assert "one two".startswith(words(partial))
            await s.session.run_turn("again")
            assert "[interrupted here]" in s.sent(1)[-2]["content"]

    run(scene())


def test_an_empty_answer_is_asked_again_and_never_success(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text(""), text("", thinking="hm"), text("here")]) as s:
            assert (await s.session.run_turn("go")).answer == "here"
            assert s.sent(1)[-1]["content"] == ANSWER_PLEASE
        async with stage([text("")] * 3) as s:
            assert (await s.session.run_turn("go")).reason is StopReason.EMPTY_ANSWER

    run(scene())


def test_a_cut_answer_is_continued(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("one ", finish_reason="length"), text("two")]) as s:
            ended = await s.session.run_turn("go")
            assert ended.answer.split() == ["one", "two"]
            assert s.sent(1)[-1]["content"] == CONTINUE

    run(scene())


def test_a_repeated_call_is_reminded_and_then_stopped(stage: StageMaker) -> None:
    async def scene() -> None:
        same = [tool_calls([("glob", {"pattern": "*.none"})]) for _ in range(STOP_AT + 1)]
        async with stage(same) as s:
            ended = await s.session.run_turn("go")
            assert ended.reason is StopReason.REPEATED_CALLS
            assert len(s.server.requests) == STOP_AT
            reminders = [e for e in s.of(UserMessage) if e.origin == "program"]
            assert len(reminders) == STOP_AT - 3

    run(scene())


def test_step_limit_and_its_warning(stage: StageMaker) -> None:
    async def scene() -> None:
        script = [tool_calls([("glob", {"pattern": f"*.{n}"})]) for n in range(9)]
        async with stage(script, flags={"budget.max_steps": 5}) as s:
            ended = await s.session.run_turn("go")
            assert (ended.reason, ended.steps) == (StopReason.STEP_LIMIT, 5)
            (warning,) = s.of(BudgetWarning)
            assert (warning.axis, warning.used, warning.limit) == ("steps", 4, 5)

    run(scene())


def test_a_question_waits_for_its_answer(stage: StageMaker) -> None:
    async def scene() -> None:
        calls = [("shell", {"command": "echo hi > made"}), ("shell", {"command": "echo no > no"})]
        script, flags = [tool_calls(calls), text("done")], {"sandbox.mode": "off"}
        async with stage(script, on_ask="wait", flags=flags) as s:
            answers = iter([{"answer": "once"}, {"answer": "no", "comment": "not that one"}])

            def answer(event: Event) -> None:
                if event.type == "question_asked":  # type: ignore[attr-defined]
                    question = event.question_id  # type: ignore[attr-defined]
                    operation = Answer(question_id=question, **next(answers))
                    asyncio.get_running_loop().call_soon(s.session.send, operation)

            s.session.subscribe(answer)
            await s.session.run_turn("go")
            yes, no = s.of(ToolResult)
            assert (yes.status, no.status) == ("ok", "denied")
            assert "not that one" in words(no)

    run(scene())


def test_a_check_sends_the_model_back_to_work(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("bad"), text("good")]) as s:

            async def check(answer: str) -> str | None:
                return None if answer == "good" else "not good enough"

            ended = await s.session.run_turn("go", [check])
            assert ended.answer == "good"
            assert s.sent(1)[-1]["content"] == "not good enough"

    run(scene())


def test_a_tool_that_breaks_is_reported_and_the_turn_goes_on(stage: StageMaker) -> None:
    async def scene() -> None:
        calls = [("read", {"path": "a\u0000b"}), ("nonsense", {}), ("read", {"pfad": "x"})]
        async with stage([tool_calls(calls), text("done")]) as s:
            assert (await s.session.run_turn("go")).reason is StopReason.DONE
            assert [r.status for r in s.of(ToolResult)] == ["error"] * 3
            assert "The tools are: shell" in words(s.of(ToolResult)[1])
            assert "pfad" in words(s.of(ToolResult)[2])

    run(scene())


def test_the_end_of_a_background_task_is_told_once(stage: StageMaker) -> None:
    async def scene() -> None:
        script = [
            tool_calls([("shell", {"command": "sleep 0.5; exit 3", "background": True})]),
            tool_calls([("shell", {"command": "sleep 1"})]),
            tool_calls([("shell", {"command": "true"})]),
            text("done"),
        ]
        async with stage(script, yolo=True) as s:
            await s.session.run_turn("go")
            told = [words(e) for e in s.of(UserMessage) if e.origin == "program"]
            assert len(told) == 1
            assert "ended with exit status 3" in told[0]
            assert s.sent(2)[-1]["content"] == told[0]

    run(scene())


def test_an_answer_cut_by_the_content_filter_is_paid_for_and_kept(stage: StageMaker) -> None:
    async def scene() -> None:
        cut = text("some words", finish_reason="content_filter", usage=Usage(100, 7))
        async with stage([cut], flags={"model": "kimi-k2.5"}) as s:
            ended = await s.session.run_turn("go")
            assert ended.reason is StopReason.CONTENT_FILTER
            assert (ended.usage.input_tokens, ended.usage.output_tokens) == (100, 7)
            (kept,) = s.of(AssistantMessage)
            assert kept.partial
            assert words(kept) == "some words"

    run(scene())


def test_calls_that_never_arrive_whole_end_the_turn(stage: StageMaker) -> None:
    async def scene() -> None:
        garbled = leaked([("shell", {"command": "true"})])[:60]
        async with stage(lambda index, request: text(garbled)) as s:
            ended = await s.session.run_turn("go")
            assert ended.reason is StopReason.EMPTY_ANSWER
            assert len(s.server.requests) == MAX_EMPTY_ANSWERS
            assert s.sent(-1)[-1]["content"] == GARBLED_CALL

    run(scene())


def test_an_output_that_cannot_be_kept_is_cut_all_the_same(
    stage: StageMaker, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with stage([tool_calls([("read", {"path": "long"})]), text("done")]) as s:
            lines = "".join(f"{number} {'x' * 90}\n" for number in range(2000))
            (tmp_path / "work/long").write_text(lines)
            (folder,) = (tmp_path / "home").glob("sessions/**/outputs")
            shutil.rmtree(folder)
            folder.write_text("in the way")
            ended = await s.session.run_turn("go")
            (result,) = s.of(ToolResult)
            assert (ended.reason, result.status) == (StopReason.DONE, "ok")
            assert "could not be kept" in words(result)

    run(scene())


def test_a_signal_counts_although_nobody_reads_stdout(
    stage: StageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        reader, writer = os.pipe()
        calls = [("shell", {"command": "sleep 60"})]
        with os.fdopen(reader, "rb"), os.fdopen(writer, "wb") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            async with stage([tool_calls(calls, text="x" * 300_000)], yolo=True) as s:

                def stop(event: Event) -> None:
                    if isinstance(event, ToolStarted):
                        os.kill(os.getpid(), signal.SIGTERM)

                s.session.subscribe(stop)
                job = Job(message=Say(text="go"), output="stream-json")
                code = await headless(s.session, job, lambda reason: EXIT_CODES[reason])
            assert code == 143

    run(scene())


def test_the_time_limit_holds_while_the_endpoint_is_asked_what_it_is() -> None:
    async def scene() -> None:
        flags = {"endpoint.dialect": "auto", "budget.timeout": 0.3}
        with socket.create_server(("127.0.0.1", 0)) as silent:
            setup = Setup(
                env={},
                home=Path("/nonexistent"),
                flags={**flags, "endpoint.base_url": f"http://127.0.0.1:{silent.getsockname()[1]}"},
                keep=False,
            )
            with pytest.raises(SetupError) as caught:
                await open_session(setup)
            assert caught.value.reason is StopReason.TIME_LIMIT

    run(scene())


def test_an_interrupt_ahead_of_its_turn_ends_that_turn_only(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("second")]) as s:
            s.session.interrupt_next()
            assert (await s.session.run_turn("one")).reason is StopReason.INTERRUPTED
            assert (await s.session.run_turn("two")).answer == "second"

    run(scene())


def test_an_answer_without_end_is_no_success(stage: StageMaker) -> None:
    async def scene() -> None:
        cut = [text("more ", finish_reason="length") for _ in range(MAX_CONTINUATIONS + 1)]
        async with stage(cut) as s:
            ended = await s.session.run_turn("go")
            assert ended.reason is StopReason.ENDLESS_ANSWER
            assert ended.answer.count("more") == MAX_CONTINUATIONS + 1

    run(scene())


def test_an_interrupted_answer_is_paid_for(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("one two", text_fragments=7, stall_after=4)]) as s:
            s.session.subscribe(
                lambda event: s.session.interrupt() if isinstance(event, TextDelta) else None
            )
            ended = await s.session.run_turn("go")
            assert ended.usage.input_tokens > 500
            assert ended.usage.output_tokens > 0
            assert ended.cost

    run(scene())


def test_the_first_request_counts_the_tools(stage: StageMaker) -> None:
    async def scene() -> None:
        async with stage([text("hi")]) as s:
            await s.session.run_turn("go")
            sent = len(s.server.requests[0].raw) / 4
        async with stage([], flags={"budget.max_tokens": int(sent * 0.8)}) as s:
            assert (await s.session.run_turn("go")).reason is StopReason.TOKEN_LIMIT
            assert s.server.requests == []

    run(scene())


def test_an_image_that_is_read_reaches_the_model(stage: StageMaker, tmp_path: Path) -> None:
    async def scene() -> None:
        async with stage([tool_calls([("read", {"path": "dot.png"})]), text("a dot")]) as s:
            image = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
            (tmp_path / "work/dot.png").write_bytes(image)
            assert (await s.session.run_turn("what is it?")).reason is StopReason.DONE
            result = s.sent(1)[-1]
            assert result["role"] == "tool"
            urls = [p["image_url"]["url"] for p in result["content"] if p["type"] == "image_url"]
            assert [base64.b64decode(url.partition("base64,")[2]) for url in urls] == [image]

    run(scene())
