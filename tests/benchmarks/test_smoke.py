"""The benchmarks' own machinery, on a short run; orders and shares only, since machines differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from kimi_cli.model.tokens import estimate
from tests.benchmarks.rig import Place, Server, extends, overheads


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("bench"))


def test_steps_stay_cheap_and_requests_extend_each_other(place: Place) -> None:
    with Server(place.folder, "--script", "shell-steps", "--steps", "20") as server:
        options = ("--yolo", "--dialect", "moonshot")
        run = place.ask(server.base_url, *options, watch=True)
        place.ask(server.base_url, *options, "-c")
    assert len(server.chats) == 22
    assert extends(server.chats) == 1
    waits = overheads(server.chats[:21])
    assert min(waits) > 0
    # Of several, the fastest: other load on the machine slows some of them down.
    assert min(waits[-10:]) < 4 * min(waits[:10])
    if Path("/proc/self/smaps_rollup").exists():
        assert 10_000 < run.peak < 150_000


def test_the_first_request_is_small(place: Place) -> None:
    with Server(place.folder, "--log-bodies") as server:
        run = place.ask(server.base_url, "--dialect", "moonshot")
    [first] = server.chats
    assert run.begun < first["arrived_ns"] < first["answered_ns"] < run.ended
    assert estimate(first["body"]) < 4000


def test_a_changed_beginning_is_noticed() -> None:
    sizes = [(100, 0), (200, 98), (300, 99)]
    chats = [{"conversation_bytes": size, "shared_prefix": same} for size, same in sizes]
    assert extends(chats) == (98 + 99) / (100 + 200)
