"""When a request is tried again."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from kimi_cli.model.retry import Policy, Retrying, delay
from kimi_cli.protocol.provider import (
    Completed,
    Encoder,
    ErrorClass,
    Failed,
    ModelError,
    ModelEvent,
    ModelRequest,
    RetryWait,
    TextDelta,
)

E = ErrorClass
POLICY = Policy()


def error(kind: ErrorClass, retry_after: float | None = None) -> ModelError:
    return ModelError(kind, "words", retry_after=retry_after)


def waits(kind: ErrorClass, chance: float = 1.0) -> list[float]:
    found: list[float] = []
    while (wait := delay(POLICY, error(kind), len(found) + 1, chance)) is not None:
        found.append(wait)
    return found


def test_the_patient_schedule_lasts_twenty_minutes() -> None:
    for kind in (E.RATE, E.OVERLOAD):
        assert waits(kind)[:6] == [2, 4, 8, 16, 32, 60]
        assert 1100 < sum(waits(kind)) < 1300
        assert sum(waits(kind, 0.0)) > 700


def test_the_brief_schedule_lasts_a_minute_or_two() -> None:
    for kind in (E.SERVER, E.NETWORK, E.PROTOCOL):
        assert waits(kind) == [1, 2, 4, 8, 16, 30, 30]
    assert len(waits(E.STALL)) == 3


@pytest.mark.parametrize(
    "kind",
    [
        E.AUTH,
        E.PERMISSION,
        E.QUOTA,
        E.MODEL_MISSING,
        E.CONTEXT_TOO_LONG,
        E.CONTENT_FILTER,
        E.REQUEST,
    ],
)
def test_what_can_not_help_is_not_tried(kind: ErrorClass) -> None:
    assert delay(POLICY, error(kind, 1), 1, 0.5) is None


def test_jitter_only_shortens() -> None:
    assert delay(POLICY, error(E.SERVER), 1, 0.0) == 0.75
    assert delay(POLICY, error(E.SERVER), 1, 1.0) == 1.0


def test_the_servers_wish_is_obeyed() -> None:
    assert delay(POLICY, error(E.RATE, 90), 1, 0.0) == 90
    assert delay(POLICY, error(E.RATE, 0), 3, 1.0) == 8
    # More than anyone waits for: said at once.
    assert delay(POLICY, error(E.RATE, 18_000), 1, 0.0) is None


def test_scale() -> None:
    assert delay(Policy(scale=0.001), error(E.RATE, 90), 1, 0.0) == pytest.approx(0.09)


def test_many_failures_do_not_overflow() -> None:
    assert delay(POLICY, error(E.RATE), 24, 1.0) == 60


class Scripted:
    """A provider that plays lists of events, one a request."""

    model = "scripted"
    window = 0
    output_cap = None
    counter = None

    def __init__(self, *answers: Sequence[ModelEvent]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.closed = 0

    async def count(self, request: ModelRequest) -> int | None:
        raise NotImplementedError

    def encoder(self) -> Encoder:
        raise NotImplementedError

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.asked += 1
        try:
            for event in self.answers.pop(0):
                yield event
            await asyncio.sleep(3600)
        finally:
            self.closed += 1

    async def close(self) -> None:
        self.closed = -1


DONE = Completed((), "stop")


def collect(provider: Scripted, policy: Policy) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        events: list[ModelEvent] = []
        async for event in Retrying(provider, policy, chance=lambda: 1.0).stream(ModelRequest([])):
            events.append(event)
            if isinstance(event, Completed | Failed):
                break
        return events

    return asyncio.run(asyncio.wait_for(run(), 20))


FAST = Policy(scale=0)


def test_an_attempt_that_fails_is_void_and_repeated() -> None:
    overload, server = error(E.OVERLOAD), error(E.SERVER)
    scripted = Scripted(
        [TextDelta("a"), Failed(overload)],
        [Failed(server)],
        [Failed(overload)],
        [TextDelta("b"), DONE],
    )
    assert collect(scripted, FAST) == [
        TextDelta("a"),
        RetryWait(overload, 0, 1, 25),
        RetryWait(server, 0, 1, 8),
        RetryWait(overload, 0, 2, 25),
        TextDelta("b"),
        DONE,
    ]


def test_the_last_failure_says_how_often() -> None:
    scripted = Scripted(*[[Failed(error(E.STALL))] for _ in range(9)])
    *waited, last = collect(scripted, FAST)
    assert len(waited) == 3
    assert isinstance(last, Failed)
    assert last.error.message == "words (after 4 attempts)"
    assert scripted.asked == scripted.closed == 4


def test_of_an_endpoint_that_is_gone_nothing_more_is_asked() -> None:
    asked: list[bool] = []

    def gone() -> bool:
        asked.append(len(asked) == 1)
        return asked[-1]

    scripted = Scripted(*[[Failed(error(E.SERVER))] for _ in range(9)])
    *waited, last = collect(scripted, Policy(scale=0, gone=gone))
    assert (len(waited), scripted.asked) == (1, 2)
    assert isinstance(last, Failed)


def test_a_failure_that_is_not_tried_again_is_passed_on_as_it_is() -> None:
    failed = Failed(error(E.AUTH))
    assert collect(Scripted([TextDelta("a"), failed]), FAST) == [TextDelta("a"), failed]


def test_the_wait_can_be_cancelled() -> None:
    scripted = Scripted([Failed(error(E.SERVER))])

    async def run() -> None:
        async for event in Retrying(scripted, Policy(scale=1000)).stream(ModelRequest([])):
            if isinstance(event, RetryWait):
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(asyncio.wait_for(run(), 20))
    assert scripted.asked == 1


def test_leaving_the_stream_closes_the_attempt() -> None:
    scripted = Scripted([TextDelta("a")])

    async def run() -> None:
        stream = Retrying(scripted, FAST).stream(ModelRequest([]))
        assert await anext(stream) == TextDelta("a")
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(run(), 20))
    assert scripted.closed == 1


def test_the_rest_is_the_wrapped_providers() -> None:
    scripted = Scripted()
    retrying = Retrying(scripted)
    assert retrying.model == "scripted"
    asyncio.run(retrying.close())
    assert scripted.closed == -1
