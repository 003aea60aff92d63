"""What a user hears of the snapshots around a turn."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kimi_cli.agent.checkpoints import Checkpoints, waiting
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Checkpoint, Notice
from kimi_cli.workspace.snapshots import Snapshots
from kimi_cli.workspace.snapshots.lock import held


@pytest.mark.anyio
async def test_a_change_held_up_by_the_snapshot_before_it_is_explained_once(
    tmp_path: Path,
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.py").write_text("a\n")
    snapshots = Snapshots(tmp_path / "home", [project])
    place = snapshots._stores[0].place
    events: list[Event] = []
    told = asyncio.Event()

    def record(event: Event) -> None:
        events.append(event)
        told.set()

    checkpoints = Checkpoints(lambda: snapshots, record)
    # As another process does that works with the same snapshots.
    with held(place / "lock", 0):
        checkpoints.begin()
        change = asyncio.ensure_future(checkpoints.before_change())
        await asyncio.wait_for(told.wait(), 30)
        assert not change.done()
    await asyncio.wait_for(change, 30)
    await checkpoints.end(hurry=False)
    with held(place / "lock", 0):
        checkpoints.begin()
        change = asyncio.ensure_future(checkpoints.before_change())
        await asyncio.wait([change], timeout=2.5)
        assert not change.done()
    await asyncio.wait_for(change, 30)
    await checkpoints.end(hurry=False)
    assert [e.text for e in events if isinstance(e, Notice)] == [waiting(0)]
    assert sum(isinstance(e, Checkpoint) for e in events) == 4


@pytest.mark.anyio
async def test_a_quick_snapshot_needs_no_word(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    events: list[Event] = []
    checkpoints = Checkpoints(lambda: Snapshots(tmp_path / "home", [project]), events.append)
    checkpoints.begin()
    await checkpoints.before_change()
    await checkpoints.end(hurry=False)
    assert [type(event) for event in events] == [Checkpoint, Checkpoint]


def test_the_wait_is_explained_by_its_size() -> None:
    assert "50,000 to read" in waiting(50_000)
    assert "to read" not in waiting(0)
