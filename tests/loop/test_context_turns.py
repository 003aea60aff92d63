"""Compaction beside what else happens to a session: killed processes, limits, failing endpoints."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent.assemble import CHANGED
from kimi_cli.agent.note import CUT_OFF
from kimi_cli.agent.projection import Projection
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    Instructions,
    Repair,
    ToolStarted,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import CompactionStarted, TextDelta
from kimi_cli.protocol.messages import MediaPart, TextPart, ToolCallPart, Usage
from kimi_cli.protocol.operations import Compact, Say
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.events_file import read_events
from tests.loop.conftest import Stage, StageMaker
from tests.loop.test_compaction import MODEL, NOTE, asked, content, small, worker
from tests.support import replies
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, text, tool_calls

ALL_GOES: dict[str, Any] = {"model": MODEL, "context.recent_tokens": 0}


def oracle(s: Stage) -> list[bytes]:
    """The messages that the stored log alone would give."""
    projection = Projection(s.session.provider.encoder)
    for event in read_events(s.session._log.path).events:
        projection.feed(event)
    return projection.messages


async def test_a_killed_session_can_be_compacted(stage: StageMaker) -> None:
    """It ended in the middle of a step: the request for the note is whole all the same."""
    async with stage(worker(2), yolo=True, flags=ALL_GOES) as s:
        await s.session.run_turn("count")
        s.session.record(TurnStarted())
        s.session.record(UserMessage(parts=[TextPart(text="more")]))
        calls = [ToolCallPart(id=f"shell:{n}", name="shell", arguments="{}") for n in (8, 9)]
        s.session.record(AssistantMessage(parts=[*calls], usage=Usage(input_tokens=2_000)))
        s.session.record(ToolStarted(call_id="shell:8", name="shell"))
    async with stage(worker(0), yolo=True, flags=ALL_GOES, resume=s.session.id) as s:
        event = await s.session.compact()
        assert event is not None
        assert not event.mechanical
        kinds = [(e.kind, e.call_id) for e in s.of(Repair)]
        assert kinds == [("unknown_result", "shell:8"), ("call_never_ran", "shell:9")]
        assert list(s.session._record.messages) == oracle(s)
        await s.session.run_turn("go on")
        assert "unknown whether it ran" in json.dumps(s.sent(-1))
        assert len(s.of(Repair)) == 2
        assert list(s.session._record.messages) == oracle(s)


async def test_what_was_killed_is_closed_once(stage: StageMaker) -> None:
    """Also when there was nothing to compact."""
    async with stage(worker(0), yolo=True, flags={"model": MODEL}) as s:
        await s.session.run_turn("count")
        call = ToolCallPart(id="shell:8", name="shell", arguments="{}")
        s.session.record(AssistantMessage(parts=[call]))
    async with stage(worker(0), yolo=True, flags={"model": MODEL}, resume=s.session.id) as s:
        assert await s.session.compact() is None
        await s.session.run_turn("go on")
        assert [e.kind for e in s.of(Repair)] == ["call_never_ran"]
        assert list(s.session._record.messages) == oracle(s)


async def test_nothing_is_compacted_for_a_request_that_may_not_go_out(stage: StageMaker) -> None:
    """The last step that is allowed fills the window: who goes on finds the context whole."""
    flags = small(12_000) | {"budget.max_steps": 2}
    async with stage(worker(9, size=16_000), yolo=True, flags=flags) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.STEP_LIMIT
        assert s.session._record.meter.total > 8_000
        assert s.of(Compaction) == []


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (401, "invalid_authentication_error", StopReason.AUTHENTICATION),
        (429, "exceeded_current_quota_error", StopReason.QUOTA),
    ],
)
async def test_who_is_not_served_loses_no_context(
    stage: StageMaker, status: int, kind: str, reason: StopReason
) -> None:
    """The next request would be refused as well; the note can be asked for another day."""
    refused = http_error(status, kind, "not today")
    async with stage(worker(8, lambda _: refused, 6_000), yolo=True, flags=small(12_000)) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is reason
        assert "not today. " in ended.detail
        assert s.of(Compaction) == []


async def test_a_note_that_was_cut_off_by_the_server_is_paid_for(stage: StageMaker) -> None:
    bad = text("half a note, and then", finish_reason="content_filter")
    async with stage(worker(8, lambda _: bad, 6_000), yolo=True, flags=small(12_000)) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.DONE
        compactions = s.of(Compaction)
        assert compactions
        assert all(event.mechanical and event.usage for event in compactions)
        used = sum(e.usage.total_tokens for e in [*s.of(AssistantMessage), *compactions])
        assert ended.usage.total_tokens == used


async def test_a_note_without_its_end_says_so(stage: StageMaker) -> None:
    long = text(NOTE, finish_reason="length")
    async with stage(worker(1, lambda _: long), yolo=True, flags=ALL_GOES) as s:
        await s.session.run_turn("count")
        event = await s.session.compact()
        assert event is not None
        assert event.note == NOTE + CUT_OFF


async def test_a_long_todo_list_leaves_room_for_the_work(stage: StageMaker) -> None:
    """What is open comes first; the whole list is in a file."""
    items = [
        {"text": f"item {n} " + "of the list " * 20, "status": "done" if n < 300 else "pending"}
        for n in range(330)
    ]
    work = worker(8, size=8_000)

    def reply(index: int, record: Recorded) -> Reply:
        answer: Reply = work(index, record) if index else tool_calls([("todo", {"items": items})])
        return answer

    async with stage(reply, yolo=True, flags=small(24_000)) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.DONE
        event = s.of(Compaction)[-1]
        assert event.kept.todos == 330
        assert event.tokens_after < 12_000
        pinned = event.pinned[0].text
        assert "- [ ] item 300 " in pinned
        assert "- [x] item 0 " not in pinned
        (path,) = [p for p in event.kept.spilled if "todo-list" in p]
        assert path in pinned
        assert "- [x] item 0 " in content(path)


async def test_many_pictures_leave_room_for_the_work(stage: StageMaker) -> None:
    url = "data:image/png;base64," + base64.b64encode(b"picture").decode()
    flags = ALL_GOES | {"model": "kimi-k2.5", "models": {"kimi-k2.5": {"context": 24_000}}}
    async with stage(worker(0), yolo=True, flags=flags) as s:
        for turn in range(4):
            pictures = [MediaPart(kind="image", url=url, name=f"{turn}{n}.png") for n in range(5)]
            await s.session.run_turn(Say(text=f"message {turn}", parts=pictures))
        event = await s.session.compact()
        assert event is not None
        names = [part.name for part in event.pinned if isinstance(part, MediaPart)]
        assert names[-1:] == ["34.png"]
        assert len(names) < 4
        pinned = json.dumps(event.pinned[0].model_dump()["text"])
        assert r"## Message 1\nmessage 0\n[image 00.png: no longer in view]" in pinned
        assert "34.png" not in pinned


async def test_removed_instructions_are_told_once(stage: StageMaker, tmp_path: Path) -> None:
    rules = tmp_path / "work" / "AGENTS.md"
    rules.write_text("Be terse.")
    async with stage(worker(0), flags={"model": MODEL}) as s:
        await s.session.run_turn("hi")
    rules.unlink()
    for _ in range(3):
        async with stage(worker(0), flags={"model": MODEL}, resume=s.session.id) as s:
            await s.session.run_turn("hi again")
    events = read_events(s.session._log.path).events
    told = [event for event in events if isinstance(event, Instructions)]
    assert [bool(event.files) for event in told] == [True, False]


async def test_changed_instructions_say_that_they_replace_the_former(
    stage: StageMaker, tmp_path: Path
) -> None:
    rules = tmp_path / "work" / "AGENTS.md"
    rules.write_text("Be terse.")
    async with stage(worker(0), flags={"model": MODEL}) as s:
        await s.session.run_turn("hi")
        assert CHANGED not in json.dumps(s.sent(-1), ensure_ascii=False)
    rules.write_text("Be verbose.")
    for _ in range(2):
        async with stage(worker(0), flags={"model": MODEL}, resume=s.session.id) as s:
            await s.session.run_turn("hi again")
    told = [m["content"] for m in s.sent(-1) if m["content"].startswith(CHANGED)]
    assert len(told) == 1
    assert "Be verbose." in told[0]


async def test_who_goes_on_later_finds_nothing_cached(stage: StageMaker) -> None:
    """The wait for the first byte allows for a server that reads the whole prompt again."""
    async with stage(worker(3), yolo=True, flags={"model": MODEL}) as s:
        await s.session.run_turn("count")
        warm = s.session.request()
        assert warm.new_tokens < s.session._record.meter.total // 10
    async with stage(worker(0), yolo=True, flags={"model": MODEL}, resume=s.session.id) as s:
        assert s.session.request().new_tokens == s.session._record.meter.total
        assert s.session.usage_ahead().cached_tokens == 0
        await s.session.run_turn("go on")
        assert s.session.request().new_tokens < s.session._record.meter.total // 10


async def test_an_interrupted_answer_is_a_part_of_the_context(stage: StageMaker) -> None:
    """No usage comes for it, and what was said of it is an estimate."""
    long = text("word " * 6_000, text_fragments=20, stall_after=15)
    async with stage([text("short"), long], flags={"model": MODEL}) as s:
        await s.session.run_turn("hi")
        before = s.session._record.meter.total
        heard: list[str] = []

        def stop(event: Any) -> None:
            if isinstance(event, TextDelta):
                heard.append(event.text)
                if len("".join(heard)) > 15_000:
                    s.session.interrupt()

        s.session.subscribe(stop)
        ended = await s.session.run_turn("go on")
        assert ended.reason is StopReason.INTERRUPTED
        assert s.session._record.meter.total > before + 2_000
        live = s.session._record.meter.total
    async with stage([], flags={"model": MODEL}, resume=s.session.id) as s:
        assert abs(s.session._record.meter.total - live) < live // 10


async def test_a_server_that_counts_nothing(stage: StageMaker) -> None:
    """Zeros for a usage are no usage: the context is compacted in time, the budget holds."""
    work = worker(20, size=6_000)

    def reply(index: int, record: Recorded) -> Reply:
        answer: Reply = work(index, record)
        return answer.but(usage=replies.Usage(prompt=0, completion=0, cached=0))

    flags = small(12_000) | {"budget.max_tokens": 60_000}
    async with stage(reply, yolo=True, flags=flags) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.TOKEN_LIMIT
        assert s.of(Compaction)
        assert max(len(r.raw) / 4 for r in s.server.requests) < 12_000


@pytest.mark.parametrize("after", [0, 1, 2, 3])
async def test_an_interrupt_anywhere_in_a_compaction_loses_nothing(
    stage: StageMaker, after: int
) -> None:
    note = text(NOTE, text_fragments=4, stall_after="headers" if after == 0 else after)
    async with stage(worker(3, lambda _: note), yolo=True, flags=ALL_GOES) as s:

        def compact(event: Any) -> None:
            if isinstance(event, AssistantMessage) and (event.turn, event.step) == (1, 2):
                s.session.send(Compact())

        s.session.subscribe(compact)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if s.server.requests and asked(s.server.requests[-1]):
                loop.call_later(0.1, s.session.interrupt, StopReason.TERMINATED)
            else:
                loop.call_later(0.02, stop)

        stop()
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.TERMINATED
        assert s.of(Compaction) == []
        messages = list(s.session._record.messages)
        assert messages == oracle(s)
        assert (await s.session.run_turn("go on")).reason is StopReason.DONE
        assert list(s.session._record.messages)[: len(messages)] == messages


async def test_the_time_limit_holds_in_a_compaction(stage: StageMaker) -> None:
    silent = text(NOTE, stall_after="headers")
    async with stage(worker(0, lambda _: silent), flags=ALL_GOES | {"budget.timeout": 3}) as s:
        await s.session.run_turn("count")
        s.session.send(Compact())
        ended = await s.session.run_turn("go on")
        assert ended.reason is StopReason.TIME_LIMIT
        assert asked(s.server.requests[-1])
        assert s.of(Compaction) == []
        assert list(s.session._record.messages) == oracle(s)


async def test_a_compaction_that_can_not_be_written_did_not_happen(stage: StageMaker) -> None:
    """The disk is full just then; the work ends, and goes on once there is room."""
    async with stage(worker(8, size=6_000), yolo=True, flags=small(12_000)) as s:
        events_file = s.session._log.path / "events.jsonl"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)

        def fill(event: Event) -> None:
            if isinstance(event, CompactionStarted) and event.turn == 1:
                size = events_file.stat().st_size
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

        s.session.subscribe(fill)
        try:
            ended = await s.session.run_turn("count to the end, please")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert ended.reason is StopReason.STORE_FAILED
        assert s.of(Compaction) == []
        assert list(s.session._record.messages) == oracle(s)
        s.events.clear()
        ended = await s.session.run_turn("go on")
        assert ended.reason is StopReason.DONE
        assert s.of(Compaction)
        assert list(s.session._record.messages) == oracle(s)
