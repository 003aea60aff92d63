"""Sessions as wholes: fork, rename, delete, expiry, with real files and other processes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.protocol.event import SCHEMA_VERSION, Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    Kept,
    Notice,
    SessionResumed,
    SessionStarted,
    Title,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import MediaPart, TextPart, Usage
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.workspace import FileTouch
from kimi_cli.store.errors import (
    SessionBusy,
    SessionError,
    SessionNotFound,
    SessionTooNew,
    StoreError,
)
from kimi_cli.store.events_file import EVENTS, read_events, read_session
from kimi_cli.store.expire import expire_outputs
from kimi_cli.store.index import find, latest
from kimi_cli.store.lock import held
from kimi_cli.store.log import SessionLog
from kimi_cli.store.manage import delete, fork, rename
from kimi_cli.store.summary import summaries, summary_of

REPOSITORY = Path(__file__).resolve().parents[2]
CHILD = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
DAY = 86_400
NOW = 1_800_000_000.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def started() -> SessionStarted:
    return SessionStarted(
        program="kimi", cwd="/", model="kimi-k2.5", thinking="", system_prompt="", tools=[]
    )


def said(text: str, **more: Any) -> UserMessage:
    return UserMessage(parts=[TextPart(text=text)], **more)


def turn(number: int, *events: Event) -> list[Event]:
    whole: list[Event] = [
        TurnStarted(),
        said(f"message {number}"),
        *events,
        AssistantMessage(parts=[TextPart(text=f"answer {number}")], cost=0.5),
        TurnEnded(reason=StopReason.DONE),
    ]
    for event in whole:
        event.turn = number
    return whole


def write(home: Path, root: Path, *events: Event) -> SessionLog:
    """A session with these events; it is still open."""
    log = SessionLog.create(home, root)
    append(log, *events)
    return log


def append(log: SessionLog, *events: Event) -> None:
    seq = len(read_events(log.path).events)
    for event in events:
        seq += 1
        event.seq, event.parent, event.session = seq, seq - 1, log.id
        log.append(event)


def closed(home: Path, root: Path, *events: Event) -> Path:
    log = write(home, root, *(events or (started(), *turn(1))))
    log.close()
    return log.path


HOLD = """
import sys
from pathlib import Path
from kimi_cli.store.log import SessionLog
log = SessionLog.open(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def open_elsewhere(home: Path, session: str) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home), session],
        env=CHILD,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout and holder.stdin
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.stdin.close()


# --- the lock


def test_a_short_look_at_the_lock_does_not_fail_who_opens(home: Path, root: Path) -> None:
    path = closed(home, root)
    looking, done = threading.Event(), threading.Event()

    def look() -> None:
        with held(path / EVENTS):
            looking.set()
            done.wait(0.02)

    looker = threading.Thread(target=look)
    looker.start()
    looking.wait()
    SessionLog.open(home, path.name).close()
    done.set()
    looker.join()


def test_a_busy_session_is_refused_with_what_to_do(home: Path, root: Path) -> None:
    path = closed(home, root)
    with (
        open_elsewhere(home, path.name),
        pytest.raises(SessionBusy, match=rf"wait.*kimi -r {path.name} --fork"),
    ):
        SessionLog.open(home, path.name)


# --- fork


def test_a_fork_is_the_same_conversation_under_another_id(home: Path, root: Path) -> None:
    odd = Notice(text="\udc80 é", mood="kept", time=1.5)
    path = closed(home, root, started(), odd, *turn(1), *turn(2))

    copy = find(home, fork(home, path.name[:-1], root))

    assert copy.parent == path.parent and copy.name != path.name
    source, forked = read_session(path).events, read_session(copy).events
    begun = forked[0]
    assert isinstance(begun, SessionStarted) and begun.forked_from == path.name
    begun.forked_from = None
    assert {event.session for event in forked} == {copy.name}
    for event in forked:
        event.session = path.name
    assert forked == source
    assert (copy / EVENTS).stat().st_mode & 0o777 == 0o600
    log = SessionLog.open(home, copy.name, root)
    append(log, *turn(3))
    log.close()
    assert len(read_events(path).events) == len(source)


def test_a_session_that_is_open_elsewhere_is_forked_up_to_its_last_whole_line(
    home: Path, root: Path
) -> None:
    path = closed(home, root)
    with (path / EVENTS).open("ab") as file, open_elsewhere(home, path.name):
        file.write(b'{"v":1,"type":"notice","te')
        file.flush()
        copy = find(home, fork(home, path.name, root))

    forked = read_events(copy)
    assert (len(forked.events), forked.torn_bytes, forked.skipped) == (5, 0, [])


@pytest.mark.parametrize("last", [1, 2, 3])
def test_the_first_turns_are_kept_whole(home: Path, root: Path, last: int) -> None:
    between = [SessionResumed(program="kimi", cwd="/", turn=1), Compaction(upto=5, note="", turn=1)]
    unfinished = turn(3)[:-1]
    path = closed(home, root, started(), *turn(1), *between, *turn(2), *unfinished)

    events = read_session(find(home, fork(home, path.name, root, upto_turn=last))).events

    kept = [turn(1), [*between, *turn(2)], unfinished][:last]
    assert [type(event) for event in events[1:]] == [type(e) for part in kept for e in part]
    assert max(event.turn for event in events) == last


@pytest.mark.parametrize("last", [0, -1, 3])
def test_a_turn_that_is_not_there_is_refused(home: Path, root: Path, last: int) -> None:
    path = closed(home, root, started(), *turn(1), *turn(2))
    with pytest.raises(SessionError, match=f"no turn {last}: its last one is 2"):
        fork(home, path.name, root, upto_turn=last)
    assert [one.id for one in summaries(home, root)] == [path.name]


def furnished(home: Path, root: Path) -> tuple[Path, list[Event]]:
    """A session with an image, a pre-image of each layout, and long outputs."""
    url = f"data:image/png;base64,{b64encode(bytes(9000)).decode()}"
    log = write(home, root, started())
    (log.blobs / ("a" * 64)).write_text("before")
    (log.path / "preimages").mkdir()
    (log.path / "preimages" / "old").write_text("older")
    for name in ("shell-1.txt", "note-1.txt", "told-1.txt", "stray-1.txt"):
        (log.outputs / name).write_text(name * 100)
        os.utime(log.outputs / name, (NOW, NOW))
    touches = [
        FileTouch(path="/x", action="modified", preimage=f"blobs/{'a' * 64}"),
        FileTouch(path="/y", action="modified", preimage="preimages/old"),
    ]
    events: list[Event] = [
        UserMessage(parts=[MediaPart(kind="image", url=url)]),
        ToolResult(
            call_id="c", name="shell", status="ok", files=touches,
            parts=[TextPart(text=f"cut; all of it: {log.outputs / 'shell-1.txt'}.")],
            output_path=str(log.outputs / "shell-1.txt"),
        ),
        Notice(text=f"see {log.outputs / 'told-1.txt'}."),
        Compaction(upto=3, note="", kept=Kept(spilled=[str(log.outputs / "note-1.txt")])),
        ToolResult(
            call_id="d", name="shell", status="ok", parts=[], output_path="/elsewhere/outputs/a"
        ),
    ]  # fmt: skip
    append(log, *events)
    log.close()
    return log.path, events


def test_blobs_and_outputs_come_along_and_outlive_the_source(home: Path, root: Path) -> None:
    path, events = furnished(home, root)

    copy = find(home, fork(home, path.name, root))
    assert (path / "outputs/shell-1.txt").stat().st_nlink == 2
    delete(home, path.name, root)

    assert {file.name for file in (copy / "outputs").iterdir()} == {
        "shell-1.txt", "note-1.txt", "told-1.txt"
    }  # fmt: skip
    assert (copy / "outputs/shell-1.txt").stat().st_mtime == NOW
    assert (copy / "blobs" / ("a" * 64)).read_text() == "before"
    assert (copy / "preimages/old").read_text() == "older"
    image, result, told, compaction, other = read_session(copy).events[1:]
    assert isinstance(image, UserMessage) and image.parts == events[0].parts  # type: ignore[attr-defined]
    assert isinstance(result, ToolResult) and isinstance(compaction, Compaction)
    assert result.parts == events[1].parts  # type: ignore[attr-defined]
    assert result.output_path == str(copy / "outputs/shell-1.txt")
    assert compaction.kept.spilled == [str(copy / "outputs/note-1.txt")]
    assert isinstance(other, ToolResult) and other.output_path == "/elsewhere/outputs/a"
    assert isinstance(told, Notice) and str(path) in told.text


def test_what_cannot_be_linked_is_copied(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    (path / "outputs").rename(path / "aside")
    (path / "outputs").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path / "outputs")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        shutil.copy2(path / "aside/shell-1.txt", path / "outputs")
        copy = find(home, fork(home, path.name, root))
    finally:
        subprocess.run(["umount", "-l", str(path / "outputs")], check=True)
    status = (copy / "outputs/shell-1.txt").stat()
    assert (status.st_nlink, status.st_mtime) == (1, NOW)
    assert (copy / "outputs/shell-1.txt").read_text() == "shell-1.txt" * 100


def test_a_fork_of_a_fork_has_all_its_files(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    first = fork(home, path.name, root)
    second = find(home, fork(home, first, root))
    delete(home, path.name, root)
    delete(home, first, root)

    assert len(list((second / "outputs").iterdir())) == 3
    assert len(list((second / "blobs").iterdir())) == 2
    begun = read_session(second).events[0]
    assert isinstance(begun, SessionStarted) and begun.forked_from == first


def test_only_what_the_kept_turns_name_comes_along(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    log = SessionLog.open(home, path.name)
    append(log, *turn(1), *turn(2))
    (log.outputs / "late-1.txt").write_text("late")
    append(log, Notice(text=f"{log.outputs}/late-1.txt", turn=2))
    log.close()
    copy = find(home, fork(home, path.name, root, upto_turn=1))
    assert not (copy / "outputs/late-1.txt").exists()
    assert (copy / "outputs/shell-1.txt").exists()


FORK = """
import sys
from pathlib import Path
from kimi_cli.store.manage import fork
print("go", flush=True)
while True:
    fork(Path(sys.argv[1]), sys.argv[2], None)
"""


def test_a_fork_killed_in_the_middle_shows_nowhere(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    log = SessionLog.open(home, path.name)
    append(log, *(event for number in range(1, 200) for event in turn(number)))
    log.close()
    whole = len(read_events(path).events)
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", FORK, str(home), path.name], env=CHILD, stdout=subprocess.PIPE
        )
        assert child.stdout
        with child.stdout:
            child.stdout.readline()
            # Anywhere: how far it has come is for the machine to decide.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.05)
            child.send_signal(signal.SIGKILL)
            child.wait()

    for one in summaries(home, root):
        assert one.problem == ""
        assert len(read_session(one.path).events) == whole
    for folder in path.parent.iterdir():
        if folder.is_dir() and not (folder / EVENTS).exists():
            with pytest.raises(SessionNotFound):
                find(home, folder.name)
            os.utime(folder, (NOW, NOW))
    latest_one = latest(home, root)
    assert latest_one and len(read_session(find(home, latest_one)).events) == whole
    expire_outputs(home, 30, NOW + 2 * DAY)
    assert all((f / EVENTS).exists() for f in path.parent.iterdir() if f.is_dir())


def test_a_fork_that_fails_leaves_nothing(tmp_path: Path, root: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        path = closed(disk / "home", root, started(), *turn(1), Notice(text="x" * 70_000))
        before = set(path.parent.iterdir())
        with pytest.raises(StoreError, match="cannot be written: No space left"):
            fork(disk / "home", path.name, root)
        assert set(path.parent.iterdir()) == before
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_session_without_a_beginning_is_not_forked(home: Path, root: Path) -> None:
    path = closed(home, root, *turn(1))
    with pytest.raises(SessionError, match="no beginning"):
        fork(home, path.name, root)
    assert [one for one in path.parent.iterdir() if one.is_dir()] == [path]


def test_what_is_no_file_does_not_come_along(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    (path / "outputs/shell-1.txt").unlink()
    os.mkfifo(path / "outputs/shell-1.txt")
    shutil.rmtree(path / "preimages")
    copy = find(home, fork(home, path.name, root))
    assert {file.name for file in (copy / "outputs").iterdir()} == {"note-1.txt", "told-1.txt"}
    assert not (copy / "preimages").exists()


# --- versions


def newer(home: Path, root: Path) -> Path:
    path = closed(home, root)
    with (path / EVENTS).open("ab") as file:
        file.write(b'{"v":%d,"type":"hologram"}\n{"torn' % (SCHEMA_VERSION + 1))
    return path


def test_a_newer_session_is_refused_everywhere_and_never_touched(home: Path, root: Path) -> None:
    path = newer(home, root)
    before = (path / EVENTS).read_bytes()
    stamp = (path / EVENTS).stat().st_mtime_ns
    attempts: list[Callable[[], object]] = [
        lambda: SessionLog.open(home, path.name),
        lambda: read_session(path),
        lambda: read_session(path / EVENTS),
        lambda: fork(home, path.name, root),
        lambda: fork(home, path.name, root, upto_turn=1),
        lambda: rename(home, path.name, "mine", root),
    ]
    for attempt in attempts:
        with pytest.raises(SessionTooNew, match=rf"{path.name} .*newer version.*update kimi"):
            attempt()
    (summary,) = summaries(home, root)
    assert "newer version" in summary.problem
    assert summary_of(home, path.name, root) == summary
    assert (summary.title, summary.version) == ("message 1", SCHEMA_VERSION + 1)
    (path / "outputs/old").write_text("")
    os.utime(path / "outputs/old", (0, 0))
    assert expire_outputs(home, 1, NOW) == 1
    assert (path / EVENTS).read_bytes() == before
    assert (path / EVENTS).stat().st_mtime_ns == stamp
    assert [one.name for one in path.parent.iterdir() if one.is_dir()] == [path.name]
    delete(home, path.name, root)
    assert summaries(home, root) == []


def test_a_session_of_version_1_is_read_gone_on_with_and_forked(home: Path, root: Path) -> None:
    recorded = REPOSITORY / "kimi_cli/demo/session.jsonl"
    path = closed(home, root)
    shutil.rmtree(path / "blobs")
    (path / "preimages").mkdir()
    shutil.copy(recorded, path / EVENTS)
    lines = recorded.read_bytes().splitlines()
    assert all(line.startswith(b'{"v":1,') for line in lines)

    rename(home, path.name, "the cart", root)
    log = SessionLog.open(home, path.name)
    append(log, *turn(2, ToolResult(call_id="c", name="read", status="ok", parts=[])))
    log.close()

    assert (path / EVENTS).read_bytes().startswith(recorded.read_bytes())
    loaded = read_session(path)
    assert (loaded.version, loaded.skipped) == (SCHEMA_VERSION, [])
    summary = summary_of(home, path.name, root)
    assert (summary.title, summary.turns, summary.problem) == ("the cart", 2, "")
    copy = find(home, fork(home, path.name, root, upto_turn=1))
    assert {event.v for event in read_session(copy).events} == {1}


# --- rename


def test_a_rename_is_an_event_and_no_work_on_the_session(home: Path, root: Path) -> None:
    older, newest = closed(home, root), closed(home, root)
    os.utime(older / EVENTS, (1000, 1000))
    os.utime(newest / EVENTS, (2000, 2000))

    rename(home, older.name, "  The \x1b[31mold\n one ", root)

    assert summary_of(home, older.name, root).title == "The old one"
    last = read_session(older).events[-1]
    assert isinstance(last, Title)
    assert (last.seq, last.parent, last.turn, last.session) == (6, 5, 1, older.name)
    assert last.v == SCHEMA_VERSION and last.time > NOW - 5 * 365 * DAY
    assert latest(home, root) == newest.name
    assert [one.id for one in summaries(home, root)] == [newest.name, older.name]
    rename(home, older.name, "again", root)
    assert summary_of(home, older.name, root).title == "again"
    rename(home, older.name, "", root)
    assert summary_of(home, older.name, root).title == "message 1"


def test_a_session_that_is_open_is_not_renamed(home: Path, root: Path) -> None:
    path = closed(home, root)
    before = (path / EVENTS).read_bytes()
    with open_elsewhere(home, path.name), pytest.raises(SessionBusy):
        rename(home, path.name, "mine", root)
    assert (path / EVENTS).read_bytes() == before


# --- delete


def test_a_deleted_session_is_gone_but_not_while_it_is_open(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    with open_elsewhere(home, path.name):
        with pytest.raises(SessionBusy):
            delete(home, path.name, root)
        assert len(list((path / "outputs").iterdir())) == 4
    delete(home, path.name[:-2], root)
    assert [one for one in path.parent.iterdir() if one.is_dir()] == []
    with pytest.raises(SessionNotFound):
        delete(home, path.name, root)


def test_who_waits_for_a_session_that_is_deleted_hears_so(home: Path, root: Path) -> None:
    path = closed(home, root)
    opened: list[BaseException | SessionLog] = []

    def try_to_open() -> None:
        try:
            opened.append(SessionLog.open(home, path.name))
        except SessionNotFound as error:
            opened.append(error)

    waiter = threading.Thread(target=try_to_open)
    with held(path / EVENTS):
        waiter.start()
        # It has the file open and waits for the lock, or it looks for the file too late: in both
        # cases the session is gone.
        waiter.join(0.05)
        path.rename(path.with_name(".deleted-" + path.name))
    waiter.join()
    assert isinstance(opened[0], SessionNotFound)


def test_what_a_killed_delete_left_is_no_session_and_goes(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    left = path.rename(path.with_name(".deleted-" + path.name))
    assert summaries(home, root) == []
    with pytest.raises(SessionNotFound):
        find(home, path.name)
    os.utime(left, (NOW, NOW))
    expire_outputs(home, 30, NOW + 1)
    assert left.exists()
    (home / "sessions/.expired").unlink()
    expire_outputs(home, 30, NOW + 2 * DAY)
    assert not left.exists()


# --- expiry


def test_old_outputs_of_closed_sessions_go_once_a_day(home: Path, root: Path) -> None:
    def output(session: Path, name: str, age: float) -> Path:
        file = session / "outputs" / name
        file.write_text("long")
        os.utime(file, (NOW - age * DAY, NOW - age * DAY))
        return file

    done, busy = closed(home, root), closed(home, root)
    old, young = output(done, "old", 31), output(done, "young", 29)
    kept = output(busy, "old", 31)
    (done / "outputs" / "link").symlink_to("/etc/passwd")

    assert expire_outputs(home, 0, NOW) == 0
    assert expire_outputs(home, 0.0, NOW) == 0 and old.exists()
    with open_elsewhere(home, busy.name):
        assert expire_outputs(home, 30, NOW) == 1
    assert (old.exists(), young.exists(), kept.exists()) == (False, True, True)
    assert expire_outputs(home, 30, NOW + DAY - 1) == 0
    assert expire_outputs(home, 30, NOW + DAY + 1) == 1 + 1  # the young one has aged
    assert read_events(done).events and not kept.exists()
    assert (done / "outputs" / "link").is_symlink()
    output(done, "later", 100)
    assert expire_outputs(home, 30, NOW - 9 * DAY) == 1, "a stamp of the future holds nobody up"


def test_expiry_fails_silently(tmp_path: Path, root: Path) -> None:
    assert expire_outputs(tmp_path / "nowhere", 1, NOW) == 0
    (tmp_path / "file").write_text("")
    assert expire_outputs(tmp_path / "file", 1, NOW) == 0
    home = tmp_path / "home"
    path = closed(home, root)
    (path / "outputs").rmdir()
    (path / "outputs").write_text("in the way")
    closed(home, root)
    assert expire_outputs(home, 1, NOW) == 0


def test_an_expired_output_is_no_loss_to_a_fork(home: Path, root: Path) -> None:
    path, _ = furnished(home, root)
    assert expire_outputs(home, 1, NOW + 3 * DAY) == 4
    copy = find(home, fork(home, path.name, root))
    result = read_session(copy).events[2]
    assert isinstance(result, ToolResult)
    assert result.output_path == str(path / "outputs/shell-1.txt")
    assert list((copy / "outputs").iterdir()) == []


def test_usage_of_a_fork_is_that_of_what_it_holds(home: Path, root: Path) -> None:
    spent = Usage(input_tokens=10, output_tokens=2)
    turns = [turn(1), turn(2)]
    for number, events in enumerate(turns, 1):
        events[-1] = TurnEnded(reason=StopReason.DONE, usage=spent, cost=0.75, turn=number)
    path = closed(home, root, started(), *turns[0], *turns[1])
    copy = fork(home, path.name, root, upto_turn=1)
    assert summary_of(home, copy, root).usage == spent
    assert summary_of(home, path.name, root).cost == 1.5
    assert summary_of(home, copy, root).cost == 0.75
    assert (
        json.loads((find(home, copy) / EVENTS).read_text().splitlines()[0])["v"] == SCHEMA_VERSION
    )
