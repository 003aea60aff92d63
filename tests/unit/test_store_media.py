"""Media of events are kept beside the log, and nobody but the store knows."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Compaction, ToolResult, UserMessage
from kimi_cli.protocol.messages import MediaPart, TextPart
from kimi_cli.store.errors import StoreError
from kimi_cli.store.events_file import EVENTS, read_events
from kimi_cli.store.index import find, latest
from kimi_cli.store.log import SessionLog

REPOSITORY = Path(__file__).resolve().parents[2]
CHILD = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
PIXELS = bytes(range(256)) * 40
DIGEST = sha256(PIXELS).hexdigest()


def image(content: bytes = PIXELS, name: str | None = None) -> MediaPart:
    url = f"data:image/png;base64,{b64encode(content).decode()}"
    return MediaPart(kind="image", url=url, name=name)


def shown(*parts: MediaPart) -> UserMessage:
    return UserMessage(parts=[TextPart(text="look"), *parts])


@pytest.fixture
def log(tmp_path: Path) -> SessionLog:
    return SessionLog.create(tmp_path / "home", tmp_path)


def test_the_same_image_in_many_events_is_one_private_file_and_short_lines(
    log: SessionLog,
) -> None:
    seen = ToolResult(call_id="c", name="read", status="ok", parts=[image()])
    pinned = Compaction(upto=1, note="n", pinned=[image(), TextPart(text="x")])
    events: list[Event] = [shown(image(), image()), seen, pinned]
    for event in events:
        before = event.model_copy(deep=True)
        log.append(event)
        assert event == before  # who appends keeps what he has

    (blob,) = log.blobs.iterdir()
    assert (blob.name, blob.read_bytes()) == (DIGEST, PIXELS)
    assert blob.stat().st_mode & 0o777 == 0o600
    assert (log.path / EVENTS).stat().st_size < 2500
    assert read_events(log.path).events == events
    assert read_events(log.path / EVENTS).events == events


def test_what_is_short_or_no_data_stays_in_the_line(log: SessionLog) -> None:
    event = shown(
        image(b"tiny"),
        MediaPart(kind="video", url="ms://file-id"),
        MediaPart(kind="image", url="https://example.org/" + "x" * 9000),
    )
    log.append(event)
    assert list(log.blobs.iterdir()) == []
    assert "kimi-blob" not in (log.path / EVENTS).read_text()
    assert read_events(log.path).events == [event]


def test_a_session_without_a_folder_for_blobs_gets_one(log: SessionLog, tmp_path: Path) -> None:
    log.close()
    log.blobs.rmdir()
    again = SessionLog.open(tmp_path / "home", log.id)
    again.append(shown(image()))
    assert [path.name for path in again.blobs.iterdir()] == [DIGEST]
    assert again.blobs.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["gone", "empty", "other", "folder"])
def test_a_missing_or_damaged_blob_is_told_as_text(log: SessionLog, damage: str) -> None:
    log.append(shown(image(name="plan.png"), image(b"b" * 5000)))
    blob = log.blobs / DIGEST
    blob.unlink()
    if damage == "folder":
        blob.mkdir()
    elif damage != "gone":
        blob.write_bytes(b"" if damage == "empty" else PIXELS[::-1])

    (event,) = read_events(log.path).events

    assert isinstance(event, UserMessage)
    _, lost, kept = event.parts
    assert lost == TextPart(text="[image plan.png: its data is missing from the session]")
    assert kept == image(b"b" * 5000)


@pytest.mark.parametrize("left", [PIXELS[:100], bytes(len(PIXELS))])
def test_a_blob_that_a_power_failure_spoiled_is_written_again(log: SessionLog, left: bytes) -> None:
    log.append(shown(image()))
    (log.blobs / DIGEST).write_bytes(left)
    log.append(shown(image()))
    assert read_events(log.path).events == [shown(image())] * 2


def test_a_reference_leads_nowhere_but_into_the_blobs(log: SessionLog) -> None:
    (log.path / "secret").write_bytes(PIXELS)
    log.append(shown(image()))
    line = (log.path / EVENTS).read_text()
    for name in ("../secret", "a" * 63 + "/", "", DIGEST.upper()):
        (log.path / EVENTS).write_text(line.replace(DIGEST, name))
        (event,) = read_events(log.path).events
        assert isinstance(event, UserMessage)
        part = event.parts[1]
        # As it stands there: it is no reference.
        assert isinstance(part, MediaPart) and part.url.startswith(f"kimi-blob:{name};")


def test_when_the_blob_cannot_be_written_nothing_of_the_event_is(log: SessionLog) -> None:
    log.blobs.rmdir()
    log.blobs.write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        log.append(shown(image()))
    assert (log.path / EVENTS).read_bytes() == b""
    log.append(shown())
    assert read_events(log.path).events == [shown()]


FLUSHED = """
import asyncio, os, sys
real = os.fsync
def told(descriptor):
    print(os.readlink(f"/proc/self/fd/{descriptor}").rsplit("/", 1)[1])
    real(descriptor)
os.fdatasync = told
from pathlib import Path
from kimi_cli.protocol.events import UserMessage
from kimi_cli.protocol.messages import MediaPart
from kimi_cli.store.log import SessionLog
log = SessionLog.create(Path(sys.argv[1]), Path(sys.argv[1]))
async def main():
    for char in "aab":
        url = "data:image/png;base64," + char * 8000
        log.append(UserMessage(parts=[MediaPart(kind="image", url=url)]))
        await log.sync()
        print("-")
asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_sync_brings_new_blobs_to_the_disk_before_the_events(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FLUSHED, str(tmp_path)], env=CHILD, capture_output=True, text=True
    )
    assert done.stderr == ""
    first, second, third, rest = done.stdout.split("-\n")
    assert re.fullmatch(r"[0-9a-f]{64}\nevents.jsonl\n", first)
    assert second == "events.jsonl\n"
    assert re.fullmatch(r"[0-9a-f]{64}\nevents.jsonl\n", third)
    assert rest == ""


APPEND_FOREVER = """
import sys
from base64 import b64encode
from pathlib import Path
from kimi_cli.protocol.events import UserMessage
from kimi_cli.protocol.messages import MediaPart
from kimi_cli.store.log import SessionLog
log = SessionLog.create(Path(sys.argv[1]), Path(sys.argv[1]))
for number in range(10**9):
    data = b64encode(number.to_bytes(4, "big") * 5000).decode()
    log.append(UserMessage(parts=[MediaPart(kind="image", url="data:image/png;base64," + data)],
                           seq=number))
    print(number, flush=True)
"""


def test_every_line_that_survives_kill_9_has_its_blobs(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", APPEND_FOREVER, str(tmp_path)], env=CHILD, stdout=subprocess.PIPE
    )
    assert writer.stdout
    with writer.stdout:
        for _ in range(100):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()

    session = latest(tmp_path, tmp_path)
    assert session
    events = read_events(find(tmp_path, session)).events
    assert len(events) >= 100
    for event in events:
        assert isinstance(event, UserMessage)
        assert event.parts == [image(event.seq.to_bytes(4, "big") * 5000)]


def test_lines_with_media_in_them_are_read_as_before(log: SessionLog) -> None:
    """Older sessions have their media in the line."""
    (log.path / EVENTS).write_text(json.dumps(shown(image()).model_dump()) + "\n")
    assert read_events(log.path).events == [shown(image())]
    asyncio.run(log.sync())
