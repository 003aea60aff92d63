"""What a stored session is opened with is in its log only when something followed."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from kimi_cli.agent.opening import OpeningLog
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Instructions,
    ModelChanged,
    Notice,
    Repair,
    SessionResumed,
    SessionStarted,
    TurnStarted,
)
from kimi_cli.store.errors import StoreError
from kimi_cli.store.events_file import read_events
from kimi_cli.store.log import SessionLog

STARTED = SessionStarted(
    program="", cwd="", model="", thinking="", system_prompt="", tools=[], seq=1
)
OPENING: list[Event] = [
    SessionResumed(program="kimi", cwd="/", seq=2),
    ModelChanged(model="m", thinking="", seq=3),
    Instructions(files=[], text="x", seq=4),
    Repair(kind="k", seq=5),
]


def kinds(log: SessionLog) -> list[str]:
    return [event.type for event in read_events(log.path).events]


def test_the_opening_waits_for_what_follows(tmp_path: Path) -> None:
    log = SessionLog.create(tmp_path, tmp_path)
    log.append(STARTED)
    opening = OpeningLog(log)
    for event in OPENING:
        opening.append(event)
    assert kinds(log) == ["session_started"]
    opening.append(TurnStarted(seq=6))
    # Later ones are no opening.
    opening.append(ModelChanged(model="n", thinking="", seq=7))
    names = ["session_resumed", "model_changed", "instructions", "repair"]
    assert kinds(log) == ["session_started", *names, "turn_started", "model_changed"]
    opening.close()


def test_a_new_session_begins_at_once(tmp_path: Path) -> None:
    log = SessionLog.create(tmp_path, tmp_path)
    opening = OpeningLog(log)
    opening.append(STARTED)
    opening.append(OPENING[2])
    assert kinds(log) == ["session_started", "instructions"]
    opening.close()


@pytest.mark.parametrize("written", range(len(OPENING) + 1))
def test_what_could_not_be_written_is_tried_again_once(tmp_path: Path, written: int) -> None:
    """A limit on the file's size stands for a full disk, at every event."""
    sizes = []
    for folder in ("measured", "full"):
        log = SessionLog.create(tmp_path / folder, tmp_path)
        opening = OpeningLog(log)
        for event in OPENING:
            opening.append(event)
        if folder == "measured":
            for event in (*OPENING, Notice(text="y", seq=6)):
                log.append(event)
                sizes.append((log.path / "events.jsonl").stat().st_size)
        else:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[written] - 1, hard))
            try:
                with pytest.raises(StoreError):
                    opening.append(Notice(text="y", seq=6))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                signal.signal(signal.SIGXFSZ, former)
            assert len(kinds(log)) == written
            opening.append(Notice(text="y", seq=6))
            assert [e.seq for e in read_events(log.path).events] == [2, 3, 4, 5, 6]
        opening.close()
