"""Another model, or another way of thinking, in the middle of a session."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent import SetupError
from kimi_cli.agent.projection import Projection
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Compaction,
    ModelChanged,
    Notice,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from kimi_cli.protocol.operations import Say, SetModel
from kimi_cli.store.events_file import read_events
from tests.loop.conftest import Stage, StageMaker
from tests.support.replies import http_error, text, tool_calls
from tests.support.worker import NOTE

K25, K3, K2 = "kimi-k2.5", "kimi-k3", "kimi-k2-0905-preview"
ECHO = tool_calls([("shell", {"command": "echo hi"})], thinking="I look")


def sent(s: Stage, request: int) -> dict[str, Any]:
    return dict(json.loads(s.server.requests[request].raw))


def oracle(s: Stage) -> list[bytes]:
    """The messages as a fresh projection of the stored session makes them."""
    projection = Projection(s.session.provider.encoder)
    for event in read_events(s.session._log.path).events:
        projection.feed(event)
    return list(projection.messages)


async def test_the_next_turn_goes_to_the_other_model(stage: StageMaker) -> None:
    async with stage([ECHO, text("one"), text("two")], flags={"model": K25}) as s:
        await s.session.run_turn("a")
        price, window = s.session.price, s.session._compactor.known_window
        assert await s.session.switch_model(K3, "low") is True
        [changed] = s.of(ModelChanged)
        assert (changed.model, changed.thinking) == (s.session.model, s.session.thinking)
        assert (changed.model, changed.thinking, changed.dialect) == (K3, "low", "moonshot")
        assert changed.window == s.session.provider.window == s.session._compactor.known_window
        assert s.session.price != price and changed.window != window
        ended = await s.session.run_turn("b")
        assert ended.answer == "two" and ended.cost is not None
        first, last = sent(s, 1), sent(s, 2)
        assert (first["model"], last["model"]) == (K25, K3)
        assert [m["role"] for m in last["messages"]][: len(first["messages"])] == [
            m["role"] for m in first["messages"]
        ]
        # This model wants its thinking back with each answer, and the one before did not.
        assert "reasoning_content" in last["messages"][-2]
        assert list(s.session._record.messages)[:-1] == oracle(s)[:-1]
        assert list(s.session._record.messages) == oracle(s)


async def test_a_compacted_session_is_the_same_for_the_other_model(stage: StageMaker) -> None:
    script = [ECHO, text("one"), ECHO, text("two"), text(NOTE), ECHO, text("three"), text("four")]
    async with stage(script, flags={"model": K25, "context.recent_tokens": 1}) as s:
        await s.session.run_turn("a")
        await s.session.run_turn("b")
        await s.session.compact()
        assert len(s.of(Compaction)) == 1
        await s.session.run_turn("b")
        await s.session.switch_model(K3)
        assert list(s.session._record.messages) == oracle(s)
        await s.session.run_turn("c")
        assert list(s.session._record.messages) == oracle(s)


async def test_thinking_alone(stage: StageMaker) -> None:
    async with stage([text("one"), text("two")], flags={"model": K25}) as s:
        await s.session.run_turn("a")
        await s.session.switch_model(thinking="off")
        await s.session.run_turn("b")
        assert sent(s, 0)["thinking"] != {"type": "disabled"} == sent(s, 1)["thinking"]
        assert sent(s, 1)["model"] == K25


async def test_a_thinking_that_the_other_model_lacks_gives_way_unless_it_was_asked_for(
    stage: StageMaker,
) -> None:
    async with stage([text("one")], flags={"model": K3, "thinking": "low"}) as s:
        with pytest.raises(SetupError, match="no thinking efforts"):
            await s.session.switch_model(K25, "low")
        assert (s.session.model, s.session.thinking) == (K3, "low")
        assert await s.session.switch_model(K25)
        assert (s.session.model, s.session.thinking) == (K25, "")
        await s.session.run_turn("a")


async def test_an_unknown_model_leaves_the_old_one(stage: StageMaker) -> None:
    async with stage([text("one")], flags={"model": K25}) as s:
        with pytest.raises(SetupError, match=r"has no model 'kimi-k9'; it has: .*kimi-k2\.5"):
            await s.session.switch_model("kimi-k9")
        assert s.session.model == K25 and s.of(ModelChanged) == []
        assert (await s.session.run_turn("a")).answer == "one"


async def test_a_cost_limit_needs_a_price_and_its_currency(stage: StageMaker) -> None:
    flags = {
        "model": K25,
        "budget.max_cost": 1.0,
        "prices": {K3: {"currency": "CNY", "input": 1.0, "output": 1.0}},
    }
    async with stage([text("one")], flags=flags) as s:
        with pytest.raises(SetupError, match=r"the cost limit is in USD, and kimi-k3 is .* in CNY"):
            await s.session.switch_model(K3)
        # An endpoint that does not list its models may have any.
        s.server.overrides["GET /v1/models"] = http_error(503)
        with pytest.raises(SetupError, match="none is known for another"):
            await s.session.switch_model("another")
        assert s.session.model == K25
        assert (await s.session.run_turn("a")).answer == "one"


async def test_a_switch_in_a_turn_holds_after_it(stage: StageMaker) -> None:
    async with stage([ECHO, text("one"), text("two")], flags={"model": K25}) as s:
        in_effect: list[bool] = []

        async def check(answer: str) -> str | None:
            in_effect.append(await s.session.switch_model(K3))
            in_effect.append(await s.session.switch_model(thinking="low"))
            assert s.session.model == K25
            return None

        await s.session.run_turn("a", [check])
        assert in_effect == [False, False]
        assert (s.session.model, s.session.thinking) == (K3, "low")
        kinds = [type(e) for e in s.events if isinstance(e, TurnEnded | ModelChanged)]
        assert kinds == [TurnEnded, ModelChanged]
        await s.session.run_turn("b")
        assert [sent(s, n)["model"] for n in range(3)] == [K25, K25, K3]


async def test_queued_operations_are_carried_out_in_order(stage: StageMaker) -> None:
    async with stage([text("one"), text("two")], flags={"model": K25}) as s:
        for operation in (Say(text="a"), SetModel(model="kimi-k9"), SetModel(model=K3)):
            s.session.send(operation)
        s.session.send(Say(text="b"))
        both = asyncio.Event()
        s.session.subscribe(lambda _: both.set() if len(s.of(TurnEnded)) == 2 else None)
        serving = asyncio.create_task(s.session.serve())
        await asyncio.wait_for(both.wait(), 30)
        serving.cancel()
        assert [sent(s, n)["model"] for n in range(2)] == [K25, K3]
        [notice] = [e for e in s.of(Notice) if e.level == "error"]
        assert notice.text.startswith("set model: ") and "kimi-k9" in notice.text


async def test_media_that_the_other_model_can_not_take_are_left_out(
    stage: StageMaker, tmp_path: Path
) -> None:
    pixel = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg=="
    )
    script = [tool_calls([("read", {"path": "a.png"})]), text("seen"), text("not seen")]
    async with stage(script, flags={"model": K25}) as s:
        (tmp_path / "work/a.png").write_bytes(pixel)
        await s.session.run_turn("look")
        assert "image" in s.session.media and b"image_url" in s.server.requests[1].raw
        await s.session.switch_model(K2, "")
        assert s.session.media == s.session.toolbox.media_kinds == frozenset()
        await s.session.run_turn("again")
        assert b"image_url" not in s.server.requests[2].raw
        assert list(s.session._record.messages) == oracle(s)


async def test_resumed_it_goes_on_with_the_last_one(stage: StageMaker) -> None:
    async with stage([text("one"), text("two")], flags={"model": K25}) as s:
        await s.session.run_turn("a")
        await s.session.switch_model(K3, "low")
        await s.session.run_turn("b")
        session, messages = s.session.id, s.session._record.messages
    async with stage([text("three")], resume=session) as s:
        assert (s.session.model, s.session.thinking) == (K3, "low")
        assert s.session._record.messages == messages
        await s.session.run_turn("c")
        assert sent(s, 0)["model"] == K3


async def test_a_smaller_window_is_made_room_in(stage: StageMaker) -> None:
    flags = {
        "model": K25,
        "models": {K3: {"context": 40_000}},
        "context.recent_tokens": 1_000,
    }
    async with stage([text("one"), text("two"), text("three")], flags=flags) as s:
        await s.session.run_turn("many words " * 20_000)
        await s.session.run_turn("more")
        await s.session.switch_model(K3)
        assert (await s.session.run_turn("b")).answer == "three"
        [compaction] = s.of(Compaction)
        assert compaction.window == 40_000 > compaction.tokens_after


async def test_currency_follows(stage: StageMaker) -> None:
    flags = {
        "model": K25,
        "prices": {
            K25: {"currency": "USD", "input": 1.0, "output": 1.0},
            K3: {"currency": "CNY", "input": 1.0, "output": 1.0},
        },
    }
    async with stage([text("one"), text("two")], flags=flags) as s:
        await s.session.run_turn("a")
        await s.session.switch_model(K3)
        await s.session.run_turn("b")
        assert [e.currency for e in s.of(TurnStarted)] == ["USD", "CNY"]
        assert [e.currency for e in s.of(TurnEnded)] == ["USD", "CNY"]


async def test_a_turn_ends_with_the_model_it_began_with(stage: StageMaker) -> None:
    script = [tool_calls([("shell", {"command": "sleep 0.3"})]), text("one"), text("two")]
    async with stage(script, flags={"model": K25}) as s:
        switching: list[asyncio.Task[bool]] = []

        def switch(event: Event) -> None:
            if isinstance(event, ToolStarted):
                switching.append(asyncio.create_task(s.session.switch_model(K3)))

        s.session.subscribe(switch)
        await s.session.run_turn("a")
        await asyncio.gather(*switching)
        await s.session.run_turn("b")
        assert [sent(s, n)["model"] for n in range(3)] == [K25, K25, K3]
