"""A server that refuses requests as too long: what is learned of it, and what is given up."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import AssistantMessage, Compaction, Shrink
from kimi_cli.protocol.live import StepStarted
from kimi_cli.protocol.messages import MediaPart
from kimi_cli.protocol.operations import Compact, Say
from kimi_cli.protocol.stops import StopReason
from tests.loop.conftest import StageMaker
from tests.loop.test_compaction import NOTE, small, worker
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, text, tool_calls
from tests.support.validate import Rules

BYTES = http_error(413, "request_entity_too_large", "Request Entity Too Large")
LOOK = tool_calls([("grep", {"pattern": "word"})])
WORDS = http_error(400, "invalid_request_error", "the input is too long for this model")


def refusing(script: Any, refusal: Reply, *numbers: int) -> Any:
    """``script``, but for the requests with these numbers."""

    def reply(index: int, record: Recorded) -> Reply:
        answer: Reply = refusal if index in numbers else script(index, record)
        return answer

    return reply


def limit(server: Any, tokens: int) -> None:
    server._rules = Rules(server._rules.models, "sk-test-key", None, tokens)


@pytest.mark.parametrize("refusal", [BYTES, WORDS])
async def test_one_refusal_without_a_number_is_no_window(stage: StageMaker, refusal: Reply) -> None:
    script = refusing(worker(30), refusal, 6)
    async with stage(script, yolo=True, flags=small(100_000)) as s:
        ended = await s.session.run_turn("count to the end, please")
        assert ended.reason is StopReason.DONE
        # What was refused was made smaller; what came after grew as if nothing had been.
        assert {event.reason for event in s.of(Compaction)} <= {"server"}
        told = [*s.of(Shrink), *s.of(Compaction)]
        last = [e.usage.total_tokens for e in s.of(AssistantMessage)][-1]
        assert last > 1.5 * max(e.tokens_before for e in told)
        assert {e.window for e in told} == {100_000}


async def test_the_second_refusal_in_words_is_believed(stage: StageMaker) -> None:
    script = refusing(worker(40), WORDS, 6, 12)
    async with stage(script, yolo=True, flags=small(100_000)) as s:
        ended = await s.session.run_turn("count to the end, please")
        assert ended.reason is StopReason.DONE
        assert any(event.reason == "window" for event in s.of(Compaction))


async def test_bytes_that_are_too_many_never_are_a_window(stage: StageMaker) -> None:
    script = refusing(worker(40), BYTES, 6, 12, 18)
    async with stage(script, yolo=True, flags=small(100_000)) as s:
        await s.session.run_turn("count to the end, please")
        assert {event.reason for event in s.of(Compaction)} <= {"server"}


async def test_a_turn_that_was_refused_to_the_end_does_not_spoil_the_next(
    stage: StageMaker,
) -> None:
    script = refusing(worker(3), BYTES, *range(7))
    async with stage(script, yolo=True, flags=small(100_000)) as s:
        ended = await s.session.run_turn("count")
        assert ended.reason is StopReason.CONTEXT_TOO_LONG
        assert len(s.server.requests) == 6
        # One more refusal is not one too many.
        ended = await s.session.run_turn("once more")
        assert (ended.reason, ended.answer) == (StopReason.DONE, "Counted to the end.")


async def test_a_refused_request_is_no_step(stage: StageMaker) -> None:
    script = refusing(worker(2), BYTES, 0, 2)
    flags = small(100_000) | {"budget.max_steps": 3}
    async with stage(script, yolo=True, flags=flags) as s:
        ended = await s.session.run_turn("count")
        assert (ended.reason, ended.steps) == (StopReason.DONE, 3)
        assert len(s.server.requests) == 5
        assert [e.step for e in s.of(AssistantMessage)] == [1, 2, 3]
        assert len(s.of(StepStarted)) == 3


async def test_only_the_answer_was_too_long(stage: StageMaker) -> None:
    """The server adds the room for the answer to the request: asking for less will do."""
    work = worker(3)
    caps: list[int] = []

    def reply(index: int, record: Recorded) -> Reply:
        caps.append(record.body["max_completion_tokens"])
        if index == 2:
            return http_error(
                400, "invalid_request_error", "Your request exceeded model token limit: 12000"
            )
        answer: Reply = work(index, record)
        return answer

    flags = small(12_000) | {"models": {"kimi-k2-0905-preview": {"context": 12_000}}}
    async with stage(reply, yolo=True, flags=flags) as s:
        ended = await s.session.run_turn("count to the end. " + "And do it well. " * 1200)
        assert ended.reason is StopReason.DONE
        assert s.of(Compaction) == s.of(Shrink) == []
        assert caps[3] < caps[2]
        requests = s.server.requests
        assert requests[3].messages == requests[2].messages


async def test_even_the_running_step_goes_when_nothing_else_helps(stage: StageMaker) -> None:
    """The model wrote a file that is larger than what the server takes."""
    done = {"written": False}

    def reply(index: int, record: Recorded) -> Reply:
        if done["written"]:
            return text("That is all there was to do.")
        done["written"] = True
        return tool_calls([("write", {"path": "big.txt", "content": "words and more " * 2000})])

    async with stage(reply, yolo=True, flags=small(60_000)) as s:
        limit(s.server, 6_000)
        ended = await s.session.run_turn("write a large file")
        assert ended.reason is StopReason.DONE, ended.detail
        assert "big.txt (created)" in json.dumps(s.sent(-1))
        assert "write a large file" in json.dumps(s.sent(-1))
        s.server.rejected.clear()


async def test_a_smaller_window_makes_the_pinned_message_smaller(stage: StageMaker) -> None:
    """It was made for another window, and nothing else is left that could go."""
    flags = small(60_000) | {"context.recent_tokens": 0}
    async with stage([], yolo=True, flags=flags) as s:

        def compact(event: Event) -> None:
            if isinstance(event, AssistantMessage) and (event.turn, event.step) == (4, 1):
                s.session.send(Compact())
            elif isinstance(event, Compaction):
                limit(s.server, 6_000)

        s.server.script = [*[text("Well.")] * 3, LOOK, text(NOTE), text("Done.")]
        s.session.subscribe(compact)
        for number in range(4):
            ended = await s.session.run_turn(f"message {number}: " + "words of the user, " * 500)
        assert ended.reason is StopReason.DONE, ended.detail
        first, *others = s.of(Compaction)
        assert first.reason == "manual"
        assert first.tokens_after > 6_000
        assert others[-1].tokens_after < 6_000
        assert others[-1].kept.recent_steps == 1
        s.server.rejected.clear()


async def test_media_of_results_go_before_the_work_stops(stage: StageMaker, tmp_path: Path) -> None:
    """Pictures that a proxy finds too large are left out, and the model is told."""
    picture = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg=="
    )
    (tmp_path / "work" / "a.png").write_bytes(picture + bytes(60_000))
    calls = tool_calls([("read", {"path": "a.png"})])

    def reply(index: int, record: Recorded) -> Reply:
        if len(record.raw) > 40_000:
            return BYTES
        return calls if index == 0 else text("I could not see it.")

    flags = {"model": "kimi-k2.5"}
    async with stage(reply, yolo=True, flags=flags) as s:
        ended = await s.session.run_turn("look at a.png")
        assert (ended.reason, ended.answer) == (StopReason.DONE, "I could not see it.")
        assert "dropped to save context" in json.dumps(s.sent(-1))
        # A picture of the user's goes too, and by name.
        url = "data:image/png;base64," + base64.b64encode(picture + bytes(60_000)).decode()
        say = Say(text="and this?", parts=[MediaPart(kind="image", url=url, name="b.png")])
        ended = await s.session.run_turn(say)
        assert ended.reason is StopReason.DONE
        assert "[image b.png: no longer in view]" in json.dumps(s.sent(-1))
