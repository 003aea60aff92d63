"""Compaction in a running session: what is asked, what is kept, and what happens when it fails."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent.compaction import missing_in
from kimi_cli.agent.note import AGAIN
from kimi_cli.agent.stop import StopTurn
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import AssistantMessage, Compaction, Notice, Shrink
from kimi_cli.protocol.live import CompactionStarted
from kimi_cli.protocol.operations import Compact, Say
from kimi_cli.protocol.stops import StopReason
from tests.loop.conftest import StageMaker
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, text, tool_calls

MODEL = "kimi-k2-0905-preview"
NOTE = "Goal: count to the end. State: I have counted some. Next: count on from where I was."
ASKING = "write a hand-off note to yourself"


def small(window: int, **more: Any) -> dict[str, Any]:
    """Settings of a model with a small window."""
    return {
        "model": MODEL,
        "models": {MODEL: {"context": window, "max_output_tokens": 2000}},
    } | more


def words(record: Recorded) -> str:
    """The text of a request's last message."""
    content = record.messages[-1].get("content")
    return content if isinstance(content, str) else json.dumps(content)


def content(path: str) -> str:
    return Path(path).read_text()


def asked(record: Recorded) -> bool:
    return ASKING in words(record)


def worker(steps: int, note: Callable[[int], Reply] | None = None, size: int = 1500) -> Any:
    """A model that runs ``steps`` commands with ``size`` bytes of output, then is done. ``note``
    answers the requests for a note, by their number."""
    done = {"steps": 0, "notes": 0}

    def reply(index: int, record: Recorded) -> Reply:
        if asked(record):
            done["notes"] += 1
            return note(done["notes"]) if note else text(NOTE)
        if done["steps"] == steps:
            return text("Counted to the end.")
        done["steps"] += 1
        number = done["steps"]
        command = f"echo {number} $(yes word | head -n {size // 5})"
        return tool_calls([("shell", {"command": command})])

    return reply


async def test_a_long_turn_is_compacted_and_goes_on(stage: StageMaker) -> None:
    async with stage(worker(40), yolo=True, flags=small(12_000)) as s:
        ended = await s.session.run_turn("count to the end, please")
        assert (ended.reason, ended.answer) == (StopReason.DONE, "Counted to the end.")
        compactions = s.of(Compaction)
        assert len(compactions) >= 2
        assert len(s.of(CompactionStarted)) == len(compactions)
        for event in compactions:
            assert not event.mechanical
            assert event.note == NOTE
            assert event.reason == "window"
            assert event.tokens_after < event.tokens_before < 12_000
            assert event.kept.user_messages == 1
            assert event.kept.recent_steps >= 1
            assert event.kept.dropped_steps >= 1
        # Everything that was used is the turn's, the notes included.
        used = sum(e.usage.total_tokens for e in [*s.of(AssistantMessage), *compactions])
        assert ended.usage.total_tokens == used
        requests = s.server.requests
        for number, request in enumerate(requests):
            last = requests[number - 1]
            if number and not asked(last):
                # The request for a note too extends the one before: it is served from the cache.
                assert request.raw.startswith(last.conversation)
            if number and asked(last):
                joined = json.dumps(request.messages)
                assert "count to the end, please" in joined
                assert NOTE in joined
                assert ASKING not in joined
                assert request.messages[0] == requests[0].messages[0]
        assert all(request.body["tools"] == requests[0].body["tools"] for request in requests)


async def test_it_is_compacted_before_the_window_overflows(stage: StageMaker) -> None:
    async with stage(worker(30), yolo=True, flags=small(12_000)) as s:
        await s.session.run_turn("count")
        sizes = [len(request.raw) / 4 for request in s.server.requests]
        assert max(sizes) < 12_000
        caps = [request.body["max_completion_tokens"] for request in s.server.requests]
        assert min(caps) > 256
        for size, cap in zip(sizes, caps, strict=True):
            assert size + cap < 12_000 * 1.05


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (text(""), "gave none"),
        (tool_calls([("shell", {"command": "touch ran"})]), "gave none"),
        (http_error(400, "invalid_request_error", "no"), "no"),
        (http_error(500, "server_error", "boom"), "boom"),
    ],
)
async def test_without_a_note_the_record_speaks(
    stage: StageMaker, tmp_path: Path, bad: Reply, why: str
) -> None:
    """The summary comes back empty, as tool calls, or as an error: the work goes on."""
    async with stage(worker(20, lambda _: bad), yolo=True, flags=small(12_000)) as s:
        ended = await s.session.run_turn("count to the end, please")
        assert ended.reason is StopReason.DONE
        compactions = s.of(Compaction)
        assert compactions
        assert all(event.mechanical and why in event.failure for event in compactions)
        assert "shell" in compactions[0].note
        assert not (tmp_path / "work" / "ran").exists()
        after = next(
            r
            for i, r in enumerate(s.server.requests)
            if i and asked(s.server.requests[i - 1]) and not asked(r)
        )
        assert "count to the end, please" in json.dumps(after.messages)


async def test_an_empty_note_is_asked_for_once_more(stage: StageMaker) -> None:
    def note(number: int) -> Reply:
        return text("") if number % 2 else text(NOTE)

    async with stage(worker(20, note), yolo=True, flags=small(12_000)) as s:
        await s.session.run_turn("count")
        assert not any(event.mechanical for event in s.of(Compaction))
        again = [r for r in s.server.requests if AGAIN.strip() in words(r)]
        assert len(again) == len(s.of(Compaction))


async def test_a_manual_compaction_with_a_focus(stage: StageMaker) -> None:
    async with stage(worker(4), yolo=True, flags={"model": MODEL, "context.recent_tokens": 0}) as s:
        await s.session.run_turn("count")
        event = await s.session.compact("the shape of the output")
        assert event is not None
        assert (event.reason, event.focus) == ("manual", "the shape of the output")
        assert "the shape of the output" in words(s.server.requests[-1])
        assert event.tokens_after < event.tokens_before
        assert event.kept.dropped_steps == 5
        assert (await s.session.run_turn("and now?")).reason is StopReason.DONE
        contents = [m["content"] for m in s.sent(-1)]
        assert len(contents) == 3
        assert "## Message 1\ncount" in contents[1]
        assert contents[2] == "and now?"
        assert await s.session.compact() is not None
        assert await s.session.compact() is None


async def test_compact_while_it_works_waits_for_the_step(stage: StageMaker) -> None:
    async with stage(worker(3), yolo=True, flags={"model": MODEL, "context.recent_tokens": 0}) as s:
        s.session.send(Compact(focus="x"))
        ended = await s.session.run_turn(Say(text="count"))
        assert ended.reason is StopReason.DONE
        # Nothing was there to compact at first: the user's message is the newest thing there is.
        assert all(event.kept.user_messages == 1 for event in s.of(Compaction))


async def test_the_server_knows_a_smaller_window(stage: StageMaker) -> None:
    """It said 100,000 and takes 9,000: old results shrink, then the work goes on within it."""
    flags = small(100_000)
    async with stage(worker(40), yolo=True, flags=flags) as s:
        s.server._rules = type(s.server._rules)(s.server._rules.models, "sk-test-key", None, 9_000)
        ended = await s.session.run_turn("count to the end, please")
        assert ended.reason is StopReason.DONE, ended.detail
        assert s.of(Shrink)
        assert len(s.server.rejected) < 6
        assert any(event.window == 9_000 for event in [*s.of(Shrink), *s.of(Compaction)])
        assert [e for e in s.of(Compaction) if not e.mechanical]
        s.server.rejected.clear()


async def test_a_message_larger_than_the_window(stage: StageMaker) -> None:
    huge = "START " + "lorem ipsum dolor " * 20_000 + " END"
    async with stage(worker(3), yolo=True, flags=small(12_000)) as s:
        ended = await s.session.run_turn(huge)
        assert ended.reason is StopReason.DONE
        event = s.of(Compaction)[0]
        assert event.mechanical
        assert event.kept.clipped_messages == 1
        assert content(event.kept.spilled[0]) == huge
        first = json.dumps(s.sent(0))
        assert "START lorem" in first
        assert "dolor  END" in first
        assert event.kept.spilled[0] in first


async def test_a_result_larger_than_the_window(stage: StageMaker) -> None:
    async with stage(worker(3, size=60_000), yolo=True, flags=small(4_000)) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.DONE, ended.detail
        assert s.of(Shrink)
        assert all(len(r.raw) / 4 < 4_000 for r in s.server.requests)


async def test_compaction_can_be_switched_off(stage: StageMaker) -> None:
    flags = small(9_000) | {"context.auto_compact": False}
    async with stage(worker(40), yolo=True, flags=flags) as s:
        s.server._rules = type(s.server._rules)(s.server._rules.models, "sk-test-key", None, 9_000)
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.CONTEXT_TOO_LONG
        assert s.of(Compaction) == []
        nearly, full = [e.text for e in s.of(Notice) if e.level == "warning"]
        assert re.match(r"the context window is (8[5-9]|9\d) % full \([\d,]+ of 9,000", nearly)
        assert "window is full" in full and "`kimi compact`" in full
        s.server.rejected.clear()


async def test_a_window_that_was_emptied_can_fill_up_again(stage: StageMaker) -> None:
    """A mark is told once when it is reached, and once more when it is reached anew."""
    flags = small(12_000) | {"context.auto_compact": False}
    async with stage(worker(200), yolo=True, flags=flags) as s:

        def compact(event: Event) -> None:
            if isinstance(event, Notice) and len(s.of(Notice)) == 1:
                s.session.send(Compact())
            elif isinstance(event, Notice) and len(s.of(Notice)) == 2:
                s.session.interrupt()

        s.session.subscribe(compact)
        await s.session.run_turn("count")
        assert len(s.of(Compaction)) == 1
        kinds = [type(e) for e in s.events if isinstance(e, Notice | Compaction)]
        assert kinds == [Notice, Compaction, Notice]
        assert all("% full" in e.text for e in s.of(Notice))


async def test_budgets_hold_across_compactions(stage: StageMaker) -> None:
    """The notes are a part of what is spent; what the budget can't pay for is not asked for."""
    flags = small(9_000) | {"budget.max_tokens": 60_000}
    async with stage(worker(60), yolo=True, flags=flags) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.TOKEN_LIMIT
        compactions = s.of(Compaction)
        assert compactions
        used = [e.usage for e in [*s.of(AssistantMessage), *compactions] if e.usage]
        assert len(used) == len(s.server.requests)
        assert ended.usage.total_tokens == sum(u.total_tokens for u in used)
        assert 50_000 < ended.usage.total_tokens <= 60_000


async def test_the_facts_survive_many_compactions(stage: StageMaker, tmp_path: Path) -> None:
    """Todo list, files and messages are made of the record each time, so they don't decay."""
    steps = {"n": 0}

    def reply(index: int, record: Recorded) -> Reply:
        if asked(record):
            return text(NOTE)
        steps["n"] += 1
        number = steps["n"]
        if number % 20 == 0:
            return text(f"Round {number // 20} is done.")
        if number == 1:
            items = [{"text": "keep the todo alive", "status": "in_progress"}]
            return tool_calls([("todo", {"items": items})])
        if number % 2:
            return tool_calls([("write", {"path": f"f{number}.txt", "content": "x " * 400})])
        command = f"echo {number} $(yes word | head -n 300)"
        return tool_calls([("shell", {"command": command})])

    async with stage(reply, yolo=True, flags=small(12_000)) as s:
        for number in range(6):
            await s.session.run_turn(f"message {number}: the secret word is needle-{number}")
        assert len(s.of(Compaction)) >= 4
        last = s.server.requests[-1].messages
        joined = "\n".join(str(m.get("content")) for m in last)
        for number in range(6):
            assert f"the secret word is needle-{number}" in joined
        assert "- [>] keep the todo alive" in joined
        for number in range(3, 100, 2):
            if number % 20:
                assert f"f{number}.txt (created)" in joined or f"f{number}.txt" in json.dumps(last)
        record = s.session._record
        assert missing_in(
            record.projection.messages, ["the secret word is needle-0", "nowhere"]
        ) == ["nowhere"]


async def test_a_compaction_asked_for_in_the_last_step_is_not_lost(stage: StageMaker) -> None:
    async with stage(worker(2), yolo=True, flags={"model": MODEL, "context.recent_tokens": 0}) as s:

        def ask(event: Event) -> None:
            if isinstance(event, AssistantMessage) and event.finish_reason == "stop":
                s.session.send(Compact())

        s.session.subscribe(ask)
        ended = await s.session.run_turn("count")
        (event,) = s.of(Compaction)
        assert event.seq < ended.seq
        assert ended.reason is StopReason.DONE
        assert ended.answer == "Counted to the end."


async def test_a_compaction_between_turns_can_be_interrupted(stage: StageMaker) -> None:
    slow = worker(2, lambda _: text(NOTE, stall_after=2))
    async with stage(slow, yolo=True, flags={"model": MODEL, "context.recent_tokens": 0}) as s:
        await s.session.run_turn("count")

        def stop(event: Event) -> None:
            if isinstance(event, CompactionStarted):
                asyncio.get_running_loop().call_later(0.2, s.session.interrupt)

        s.session.subscribe(stop)
        assert await s.session.compact() is None
        assert not s.session.busy
        assert s.of(Compaction) == []
        assert len(s.sent(-1)) > 4


async def test_a_compaction_by_hand_says_that_the_key_is_refused(stage: StageMaker) -> None:
    refused = http_error(401, "invalid_authentication_error", "Invalid Authentication")
    flags = {"model": MODEL, "context.recent_tokens": 0}
    async with stage(worker(2, lambda _: refused), yolo=True, flags=flags) as s:
        await s.session.run_turn("count")
        with pytest.raises(StopTurn) as stopped:
            await s.session.compact()
        assert stopped.value.reason is StopReason.AUTHENTICATION
        assert s.of(Compaction) == []


async def test_where_it_matters_the_server_is_asked_for_its_count(stage: StageMaker) -> None:
    """A long message that nobody measured yet, near the limit; a short one is only estimated."""
    path = "/v1/tokenizers/estimate-token-count"
    async with stage([text("short"), text("long")], flags=small(12_000)) as s:
        await s.session.run_turn("short")
        assert [r.path for r in s.server.other_requests].count(path) == 0
        await s.session.run_turn("The words of a long message. " * 900)
        assert [r.path for r in s.server.other_requests].count(path) == 1
