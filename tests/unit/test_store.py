"""The session store: what was appended is read back, whatever happens to process and disk."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.protocol.event import (
    SCHEMA_VERSION,
    Event,
)
from kimi_cli.protocol.events import (
    DURABLE,
    Aside,
    AssistantMessage,
    BudgetWarning,
    Checkpoint,
    Compaction,
    Confined,
    InstructionFile,
    Instructions,
    Kept,
    ModeChanged,
    ModelChanged,
    Notice,
    QuestionAnswered,
    QuestionAsked,
    Repair,
    Rewind,
    RewindStarted,
    SessionResumed,
    SessionStarted,
    Shrink,
    Title,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import (
    AssistantTurn,
    MediaPart,
    Message,
    OpaquePart,
    SystemMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolTurn,
    Usage,
    UserTurn,
)
from kimi_cli.protocol.provider import (
    Completed,
    ErrorClass,
    Failed,
    ModelEvent,
    ModelRequest,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.workspace import FileTouch
from kimi_cli.store.errors import (
    AmbiguousSession,
    SessionBusy,
    SessionNotFound,
    SessionTooNew,
    StoreError,
)
from kimi_cli.store.events_file import EVENTS, encode_event, read_events
from kimi_cli.store.index import ALPHABET, find, latest, new_id, project_key
from kimi_cli.store.log import Log, MemoryLog, SessionLog
from kimi_cli.store.replay import RecordedProvider

REPOSITORY = Path(__file__).resolve().parents[2]
CHILD = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def said(text: str, **more: Any) -> UserMessage:
    return UserMessage(parts=[TextPart(text=text)], **more)


def started(model: str = "kimi-k2.5") -> SessionStarted:
    return SessionStarted(
        program="kimi", cwd="/", model=model, thinking="", system_prompt="Be brief.", tools=[]
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "my project"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# --- round trip

# Lone surrogates come from file names that are not UTF-8 and from models' broken escapes.
texts = st.lists(st.characters() | st.sampled_from(["\udc80", "x\ud83dx", "\n", "\x00"])).map(
    "".join
)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
# Short and long, in the usual form and in others, and what looks like the store's own references.
media_urls = st.one_of(
    st.builds(
        lambda head, data, times: f"{head}{b64encode(data * times).decode()}",
        st.sampled_from(["data:image/png;base64,", "data:video/mp4;a=b;base64,", "data:;base64,"]),
        st.binary(max_size=9),
        st.sampled_from([1, 1000]),
    ),
    st.builds(lambda text: "data:image/svg+xml," + text * 1000, texts),
    st.builds(lambda text: "data:image/png;base64," + text + "=" * 5000, texts),
    st.builds(lambda text: "kimi-blob:" + text, texts),
    st.just("kimi-blob:" + "0" * 64 + ";data:image/png;base64,"),
)
content = st.lists(
    st.builds(TextPart, text=texts)
    | st.builds(MediaPart, kind=st.sampled_from(["image", "video"]), url=texts | media_urls),
    max_size=3,
)
answer_parts = st.lists(
    st.builds(TextPart, text=texts)
    | st.builds(ThinkingPart, text=texts)
    | st.builds(ToolCallPart, id=texts, name=texts, arguments=texts)
    | st.builds(OpaquePart, provider=texts, data=plain_json),
    max_size=4,
)
numbers = st.floats(allow_nan=False)
counts = st.integers(0, 2**40)
usages = st.builds(Usage, input_tokens=counts, output_tokens=counts, cached_tokens=counts)
touches = st.builds(
    FileTouch, path=texts, action=st.sampled_from(["read", "created", "modified", "deleted"]),
    digest=st.none() | texts, added=counts, diff=texts, preimage=st.none() | texts, note=texts,
)  # fmt: skip
some_json = st.dictionaries(st.text(), plain_json, max_size=3)
head = {"session": texts, "agent": texts, "turn": counts, "seq": counts, "time": numbers}


def built(kind: type[Event], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    return st.builds(kind, **{**head, **fields})


EVERY_EVENT: dict[type[Event], st.SearchStrategy[Event]] = {
    SessionStarted: built(
        SessionStarted, program=texts, cwd=texts, model=texts, thinking=texts, system_prompt=texts,
        tools=st.lists(some_json, max_size=2), forked_from=st.none() | texts, window=counts,
    ),
    SessionResumed: built(SessionResumed, program=texts, cwd=texts, dialect=texts, window=counts),
    Instructions: built(
        Instructions, text=texts,
        files=st.lists(
            st.builds(InstructionFile, path=texts, digest=texts, clipped=st.booleans()), max_size=2
        ),
    ),
    UserMessage: built(
        UserMessage, parts=content, origin=st.sampled_from(["user", "steer", "program"]),
        mode=texts,
    ),
    AssistantMessage: built(
        AssistantMessage, parts=answer_parts, usage=st.none() | usages, cost=st.none() | numbers,
        partial=st.booleans(), model=st.none() | texts, salvaged=counts, seconds=numbers,
    ),
    ToolStarted: built(ToolStarted, call_id=texts, name=texts, summary=texts),
    ToolResult: built(
        ToolResult, call_id=texts, name=texts, parts=content, summary=texts, display=texts,
        status=st.sampled_from(["ok", "error", "denied", "interrupted"]), data=some_json,
        files=st.lists(touches, max_size=2), output_path=st.none() | texts,
    ),
    QuestionAsked: built(
        QuestionAsked, question_id=texts, call_id=texts, tool=texts, text=texts, reason=texts,
        choices=st.lists(texts, max_size=3),
    ),
    QuestionAnswered: built(QuestionAnswered, question_id=texts, answer=texts, comment=texts),
    ModelChanged: built(ModelChanged, model=texts, thinking=texts, window=counts, dialect=texts),
    Confined: built(
        Confined, mode=st.sampled_from(["read-only", "off"]), way=st.sampled_from(["landlock"]),
        network=st.booleans(), lacks=st.lists(texts, max_size=2),
    ),
    ModeChanged: built(ModeChanged, mode=texts),
    Checkpoint: built(
        Checkpoint, snapshot=texts, moment=st.sampled_from(["turn_start", "before_undo"]),
        left_out=st.lists(texts, max_size=2), left_out_count=counts, failure=texts,
    ),
    Compaction: built(
        Compaction, upto=counts, note=texts, pinned=content, mechanical=st.booleans(),
        failure=texts, reason=st.sampled_from(["window", "server", "manual"]), focus=texts,
        kept=st.builds(Kept, user_messages=counts, spilled=st.lists(texts, max_size=2)),
        tokens_before=counts, window=counts, usage=st.none() | usages, cost=st.none() | numbers,
    ),
    Aside: built(
        Aside, question=texts, answer=texts, usage=st.none() | usages, cost=st.none() | numbers,
        currency=st.none() | texts, seconds=numbers, partial=st.booleans(),
    ),
    Shrink: built(Shrink, upto=counts, limit=counts, tokens_before=counts, window=counts),
    Repair: built(Repair, kind=texts, call_id=st.none() | texts, detail=texts),
    RewindStarted: built(
        RewindStarted, what=st.sampled_from(["undo", "redo"]), to=counts, undoes=st.none() | counts,
        before=texts, forced=st.booleans(),
    ),
    Rewind: built(Rewind, to=counts, files=st.booleans(), conversation=st.booleans()),
    BudgetWarning: built(
        BudgetWarning, axis=st.sampled_from(["steps", "cost"]), used=numbers, limit=numbers
    ),
    Notice: built(Notice, level=st.sampled_from(["info", "error"]), text=texts),
    Title: built(Title, text=texts),
    TurnStarted: built(TurnStarted),
    TurnEnded: built(
        TurnEnded, reason=st.sampled_from(list(StopReason)), answer=texts, usage=usages,
        cost=st.none() | numbers, currency=st.none() | texts, steps=counts,
    ),
}  # fmt: skip
durable_events = st.one_of(*EVERY_EVENT.values())


def test_the_property_below_knows_every_event() -> None:
    assert set(EVERY_EVENT) == set(DURABLE)


@settings(max_examples=100, deadline=None)
@given(st.lists(durable_events, min_size=1, max_size=4))
def test_every_event_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    home = tmp_path_factory.mktemp("home")
    log = SessionLog.create(home, home)
    for event in events:
        log.append(event)
    log.close()

    loaded = read_events(log.path)

    assert loaded.events == events
    assert [encode_event(e) for e in loaded.events] == [encode_event(e) for e in events]
    assert (loaded.skipped, loaded.torn_bytes) == ([], 0)
    assert (log.path / EVENTS).read_bytes().count(b"\n") == len(events)


def test_unknown_fields_of_known_events_are_kept(tmp_path: Path) -> None:
    line = json.loads(encode_event(said("hi")))
    line["mood"] = "good"
    line["parts"][0]["language"] = "en"
    (tmp_path / EVENTS).write_text(json.dumps(line) + "\n")

    (event,) = read_events(tmp_path).events

    assert json.loads(encode_event(event)) == line


def test_every_type_of_durable_event_has_a_type_the_reader_knows(tmp_path: Path) -> None:
    lines = [json.dumps({"type": kind.model_fields["type"].default}) for kind in DURABLE]
    (tmp_path / EVENTS).write_text("\n".join(lines) + "\n")

    reasons = [skipped.reason for skipped in read_events(tmp_path).skipped]

    assert [reason for reason in reasons if "unknown type" in reason] == []


# --- crashes and damage


def test_a_file_cut_at_any_byte_gives_the_complete_events_and_takes_more(
    home: Path, root: Path
) -> None:
    image = MediaPart(kind="image", url=f"data:image/png;base64,{b64encode(bytes(6000)).decode()}")
    log = SessionLog.create(home, root)
    events: list[Event] = [
        Title(text="grüße"),
        Instructions(files=[InstructionFile(path="/AGENTS.md", digest="d")], text="看"),
        UserMessage(parts=[image, TextPart(text="\udc80")]),
        Compaction(upto=2, note="n", pinned=[image], kept=Kept(spilled=["/x"]), usage=Usage()),
        Shrink(upto=2, limit=100),
    ]
    for event in events:
        log.append(event)
    log.close()
    file = log.path / EVENTS
    whole = file.read_bytes()
    assert len(whole) < 6000

    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        loaded = read_events(log.path)
        assert loaded.events == events[:complete]
        assert loaded.skipped == []
        assert loaded.torn_bytes == cut - (whole[:cut].rfind(b"\n") + 1)

        more = UserMessage(parts=[image])
        again = SessionLog.open(home, log.id)
        again.append(more)
        again.close()
        continued = read_events(log.path)
        assert continued.events == [*events[:complete], more]
        assert (continued.skipped, continued.torn_bytes) == ([], 0)


def test_a_torn_line_longer_than_a_block_is_cut_away(home: Path, root: Path) -> None:
    log = SessionLog.create(home, root)
    log.append(said("kept " * 50_000))
    log.close()
    with (log.path / EVENTS).open("ab") as file:
        file.write(b'{"v":1,"text":"' + b"x" * 200_000)

    before = (log.path / EVENTS).read_bytes()
    SessionLog.open(home, log.id).close()
    # Who only looks changes nothing; the next event takes the place of the torn line.
    assert (log.path / EVENTS).read_bytes() == before

    again = SessionLog.open(home, log.id)
    again.append(said("next"))
    again.close()
    assert read_events(log.path).events == [said("kept " * 50_000), said("next")]
    assert read_events(log.path).torn_bytes == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\x00\x00\x00", "not a JSON object"),
        (b"", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b'{"v":1', "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"a":' * 100_000, "not a JSON object"),
        (b"9" * 10_000, "not a JSON object"),
        (b"{}", "type"),
        (b'{"type":"hologram"}', "unknown type: 'hologram'"),
        (b'{"type":"user_message","parts":"hello"}', "parts"),
        (b'{"type":"user_message","v":"new","parts":[]}', "v: "),
    ],
)
def test_a_damaged_line_is_reported_and_the_rest_is_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    good = encode_event(said("one")), encode_event(said("two"))
    (tmp_path / EVENTS).write_bytes(good[0] + b"\n" + line + b"\n" + good[1] + b"\n")

    loaded = read_events(tmp_path)

    assert loaded.events == [said("one"), said("two")]
    assert [skipped.line for skipped in loaded.skipped] == [2]
    assert reason in loaded.skipped[0].reason


def test_a_session_of_a_newer_version_is_read_but_not_written(home: Path, root: Path) -> None:
    log = SessionLog.create(home, root)
    log.append(said("old"))
    log.append(said("new", v=SCHEMA_VERSION + 1))
    log.close()
    file = log.path / EVENTS
    with file.open("ab") as end:
        end.write(b'{"v":7,"type":"hologram"}\n{"v":7,"ty')
    before = file.read_bytes()

    with pytest.raises(SessionTooNew, match=r"format 7.*update kimi"):
        SessionLog.open(home, log.id)

    assert file.read_bytes() == before
    loaded = read_events(log.path)
    assert (len(loaded.events), loaded.version) == (2, 7)
    assert "hologram" in loaded.skipped[0].reason
    with pytest.raises(SessionTooNew):  # the refusal has released the lock
        SessionLog.open(home, log.id)


def test_damage_at_the_end_does_not_hide_a_newer_version(home: Path, root: Path) -> None:
    log = SessionLog.create(home, root)
    log.append(said("new", v=SCHEMA_VERSION + 1))
    log.close()
    with (log.path / EVENTS).open("ab") as file:
        file.write(b"\x00garbage\n\n")

    with pytest.raises(SessionTooNew):
        SessionLog.open(home, log.id)


LIMITED = """
import resource, sys
from pathlib import Path
from kimi_cli.store.log import SessionLog
from kimi_cli.store.errors import StoreError
from kimi_cli.protocol.events import (UserMessage,)
from kimi_cli.protocol.messages import TextPart
say = lambda text: UserMessage(parts=[TextPart(text=text)])
log = SessionLog.create(Path(sys.argv[1]), Path(sys.argv[1]))
log.append(say("first"))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
try:
    log.append(say("x" * 5000))
except StoreError as error:
    print(error.errno, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append(say("last"))
print(log.path)
"""


def test_a_write_that_stops_half_way_leaves_nothing_behind(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(home)], env=CHILD, capture_output=True, text=True
    )

    assert done.stderr == ""
    message, path = done.stdout.splitlines()
    assert message.startswith(f"{errno.ENOSPC} ") and "cannot be written" in message
    assert read_events(Path(path)).events == [said("first"), said("last")]


def test_a_full_disk_leaves_a_readable_log(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=64k"):
        log = SessionLog.create(disk / "home", tmp_path)
        written = 0
        with pytest.raises(StoreError, match="No space left") as caught:
            while True:
                log.append(said(str(written) * 300))
                written += 1
        log.close()

        assert caught.value.errno == errno.ENOSPC
        assert written > 3
        loaded = read_events(log.path)
        assert loaded.events == [said(str(number) * 300) for number in range(written)]
        assert loaded.torn_bytes == 0


def test_a_home_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="no session can be written in") as caught:
        SessionLog.create(tmp_path / "file" / "home", tmp_path)
    assert caught.value.errno == errno.ENOTDIR

    with mounted(tmp_path / "ro", "ro"), pytest.raises(StoreError) as caught:
        SessionLog.create(tmp_path / "ro" / "home", tmp_path)
    assert caught.value.errno == errno.EROFS


def test_append_after_close_is_an_error_and_touches_no_other_file(home: Path, root: Path) -> None:
    log = SessionLog.create(home, root)
    log.close()
    log.close()
    with pytest.raises(StoreError, match="is closed"):
        log.append(said("late"))


# --- the lock

HOLD = """
import sys
from pathlib import Path
from kimi_cli.store.log import SessionLog
log = SessionLog.open(Path(sys.argv[1]), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_session_is_open_in_one_process_and_free_after_its_death(home: Path, root: Path) -> None:
    log = SessionLog.create(home, root)
    log.append(said("hi"))
    with pytest.raises(SessionBusy, match=log.id):
        SessionLog.open(home, log.id)
    log.close()

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home), log.id],
        env=CHILD,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin and holder.stdout
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SessionBusy):
            SessionLog.open(home, log.id)
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    SessionLog.open(home, log.id).close()


APPEND_FOREVER = """
import sys
from pathlib import Path
from kimi_cli.store.log import SessionLog
from kimi_cli.protocol.events import (UserMessage,)
from kimi_cli.protocol.messages import TextPart
log = SessionLog.create(Path(sys.argv[1]), Path(sys.argv[1]))
for number in range(10**9):
    log.append(UserMessage(seq=number, parts=[TextPart(text="x" * 5000)]))
    print(number, flush=True)
"""


def test_what_was_appended_survives_kill_9(home: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", APPEND_FOREVER, str(home)], env=CHILD, stdout=subprocess.PIPE
    )
    assert writer.stdout
    with writer.stdout:
        confirmed = [int(writer.stdout.readline()) for _ in range(200)]
        writer.kill()
        confirmed += [int(line) for line in writer.stdout if line.endswith(b"\n")]
        writer.wait()

    session = latest(home, home)
    assert session
    loaded = read_events(find(home, session))
    assert [event.seq for event in loaded.events][: len(confirmed)] == confirmed
    assert loaded.skipped == []


def test_racing_processes_get_sessions_of_their_own(home: Path, root: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from kimi_cli.store.log import SessionLog\n"
        "sys.stdin.readline()\n"
        "for _ in range(50): print(SessionLog.create(Path(sys.argv[1]), Path(sys.argv[2])).id)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(home), str(root)],
            env=CHILD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = []
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        outputs += racer.communicate()[0].split()
        assert racer.returncode == 0

    assert len(set(outputs)) == len(outputs) == 150


# --- ids, folders, finding


def test_folders_and_files_are_private_and_projects_are_told_apart(home: Path, root: Path) -> None:
    log = SessionLog.create(home, root)
    log.append(said("hi"))
    made = [home, home / "sessions", log.path.parent, log.path, log.outputs, log.blobs]
    assert [oct(folder.stat().st_mode & 0o777) for folder in made] == ["0o700"] * 6
    assert (log.path / EVENTS).stat().st_mode & 0o777 == 0o600
    assert log.path.parent.name.startswith("my-project-")
    assert project_key(root / "..") != project_key(root)
    assert project_key(root / ".." / root.name) == project_key(root)
    assert project_key(Path("/")).startswith("root-")
    assert "/" not in project_key(Path("/a/..b/ 你好 \udc80\x1b"))
    log.close()


def test_ids_sort_by_time_and_are_easily_typed() -> None:
    # The first is a clock that was never set.
    ids = [new_id(now) for now in (0.0, 1.79e9, 1.8e9, 1.8e9 + 1, 2.5e9)]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {10}
    assert set("".join(ids)) <= set(ALPHABET)


def stamped(home: Path, root: Path, written: int, *events: Event) -> str:
    log = SessionLog.create(home, root)
    for event in events:
        log.append(event)
    log.close()
    os.utime(log.path / EVENTS, (written, written))
    return log.id


def test_latest_is_the_last_written_of_this_project_with_a_message(
    home: Path, root: Path, tmp_path: Path
) -> None:
    assert latest(home, root) is None
    older = stamped(home, root, 1000, started(), said("a"))
    newest = stamped(home, root, 3000, started(), said("b"))
    middle = stamped(home, root, 2000, started(), said("c"))
    stamped(home, root, 4000, started())
    stamped(home, root, 5000, started(), said("a reminder", origin="program"))
    tricky = json.dumps(said("x").model_dump(mode="json"), separators=(",", ":"))
    stamped(home, root, 5500, Notice(text=tricky))
    stamped(home, tmp_path, 6000, started(), said("elsewhere"))
    (home / "sessions" / project_key(root) / "0000").mkdir()

    assert latest(home, root) == newest
    assert len({older, newest, middle}) == 3


def named(home: Path, root: Path, name: str) -> Path:
    folder = home / "sessions" / project_key(root) / name
    folder.mkdir(parents=True)
    (folder / EVENTS).write_bytes(encode_event(said("hi")) + b"\n")
    return folder


def test_a_session_is_found_by_a_unique_prefix_in_this_project_first(
    home: Path, root: Path, tmp_path: Path
) -> None:
    here = named(home, root, "0abc111111")
    there = named(home, tmp_path, "0abc222222")
    named(home, root, "0xyz111111")
    named(home, root, "0xyz222222")
    exact = named(home, tmp_path, "0xyz")

    assert find(home, "0abc", root) == here
    assert find(home, "0abc2", root) == there
    assert find(home, "OABC111LII") == here
    assert find(home, "0xyz") == exact
    with pytest.raises(AmbiguousSession, match="2 sessions: 0abc111111"):
        find(home, "0abc")
    with pytest.raises(AmbiguousSession, match="2 sessions"):
        find(home, "0xy", root)


@pytest.mark.parametrize("wanted", ["", " ", "../..", "/", "0abc11111z", "zz", "\udc80", "*"])
def test_a_session_that_is_not_there_is_named_with_its_neighbours(
    home: Path, root: Path, wanted: str
) -> None:
    with pytest.raises(SessionNotFound):
        find(home, wanted, root)
    named(home, root, "0abc111111")
    with pytest.raises(SessionNotFound, match="0abc111111"):
        find(home, wanted, root)


AS_NOBODY = """
import difflib, os, sys
from pathlib import Path
from kimi_cli.store.errors import SessionNotFound, StoreError
from kimi_cli.store.index import find
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
home, root = map(Path, sys.argv[1:3])
for wanted in sys.argv[3:]:
    try:
        print(find(home, wanted, root).name)
    except (SessionNotFound, StoreError) as error:
        print(type(error).__name__, error)
"""


def test_what_somebody_else_may_read_hides_nothing_of_ours() -> None:
    """As after a run with sudo; in a child without root's rights."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        home = Path(name)
        ours = named(home, home / "ours", "0abc111111")
        closed = named(home, home / "ours", "0abc222222")
        named(home, home / "theirs", "0xyz111111").parent.chmod(0)
        closed.chmod(0)
        for folder in (home, home / "sessions", ours.parent, ours):
            folder.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, name, str(home / "ours"), "0abc1", "0abc2", "0xyz"],
            capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found, unreadable, unknown = done.stdout.splitlines()
    assert (found, unreadable) == (ours.name, closed.name)
    assert unknown.startswith("StoreError") and unknown.endswith("Permission denied")


# --- sync


def test_sync_returns_after_all_that_was_appended_and_shares_the_wait(
    home: Path, root: Path
) -> None:
    traced = f"""
import asyncio, os
count = 0
def counted(descriptor):
    global count
    count += 1
    print("flushed", count)
    os.fsync(descriptor)
os.fdatasync = counted
from pathlib import Path
from kimi_cli.protocol.events import (Notice,)
from kimi_cli.store.log import SessionLog
log = SessionLog.create(Path({str(home)!r}), Path({str(root)!r}))
async def main():
    await log.sync()
    print("nothing to do")
    log.append(Notice(text="one"))
    await asyncio.gather(*(log.sync() for _ in range(20)))
    print("one wait")
    await log.sync()
    log.append(Notice(text="two"))
    first = asyncio.create_task(log.sync())
    await asyncio.sleep(0)
    log.append(Notice(text="three"))
    second = asyncio.create_task(log.sync())
    first.cancel()
    await second
    log.append(Notice(text="four"))
    third = asyncio.create_task(log.sync())
    await asyncio.sleep(0)
    log.close()
    await third
asyncio.run(main())
print(count)
"""
    done = subprocess.run(
        [sys.executable, "-c", traced], env=CHILD, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:3] == ["nothing to do", "flushed 1", "one wait"]
    assert lines[-1] == "4"


def test_sync_on_a_closed_log_with_unwritten_data_is_a_store_error(home: Path, root: Path) -> None:
    log = SessionLog.create(home, root)
    log.append(said("hi"))
    log.close()
    with pytest.raises(StoreError):
        asyncio.run(log.sync())


# --- the log that keeps nothing


def test_the_memory_log_keeps_files_until_it_is_closed() -> None:
    log: Log = MemoryLog()
    log.append(said("hi"))
    asyncio.run(log.sync())
    (log.outputs / "long.txt").write_text("output")
    (log.blobs / "a").write_text("before")
    folder = log.path
    assert folder.stat().st_mode & 0o777 == 0o700
    log.close()
    log.close()
    assert not folder.exists()


def test_the_files_of_a_memory_log_lie_in_kimi_home_while_it_is_open(tmp_path: Path) -> None:
    home = tmp_path / "new"
    first, second = MemoryLog(home), MemoryLog(home)
    assert first.path != second.path
    for log in (first, second):
        assert log.path.parent == home / "unsaved"
        assert (log.path.stat().st_mode | home.stat().st_mode) & 0o077 == 0
        (log.path / "closed").mkdir(mode=0)
    second.close()
    second.close()
    assert first.outputs.is_dir() and not second.path.exists()
    # One that was killed has no lock.
    (home / "unsaved/left/outputs").mkdir(parents=True)
    third = MemoryLog(home)
    assert {path.name for path in (home / "unsaved").iterdir()} == {
        first.path.name,
        third.path.name,
    }
    third.close()
    first.close()
    assert not home.exists()


def test_a_memory_log_takes_a_temporary_folder_where_kimi_home_is_closed(home: Path) -> None:
    home.mkdir()
    (home / "unsaved").write_text("in the way")
    log = MemoryLog(home)
    assert not log.path.is_relative_to(home) and log.outputs.is_dir()
    log.close()
    assert not log.path.exists() and (home / "unsaved").read_text() == "in the way"


# --- replay


async def streamed(provider: RecordedProvider) -> list[ModelEvent]:
    return [event async for event in provider.stream(ModelRequest(messages=()))]


def test_a_recorded_session_answers_like_the_model_did(home: Path, root: Path) -> None:
    parts = (
        ThinkingPart(text="Let me think about this for a while."),
        TextPart(text="你好, " * 20),
        ToolCallPart(id="functions.read:0", name="read", arguments='{"path": "a/long/name.py"}'),
        ToolCallPart(id="functions.todo:1", name="todo", arguments=""),
        OpaquePart(provider="x", data={"signature": "abc"}),
    )
    log = SessionLog.create(home, root)
    log.append(started("kimi-k3"))
    log.append(
        AssistantMessage(
            parts=list(parts),
            finish_reason="tool_calls",
            usage=Usage(input_tokens=5, output_tokens=7),
            response_id="r1",
            model="kimi-k3-0905",
        )
    )
    log.append(AssistantMessage(parts=[TextPart(text="half of")], partial=True))
    log.append(AssistantMessage(parts=[TextPart(text="Done.")], finish_reason="stop"))
    log.close()
    provider = RecordedProvider(read_events(log.path).events)

    first = asyncio.run(streamed(provider))
    second = asyncio.run(streamed(provider))
    third = asyncio.run(streamed(provider))

    assert provider.model == "kimi-k3"
    assert first[-1] == Completed(
        parts=parts,
        finish_reason="tool_calls",
        usage=Usage(input_tokens=5, output_tokens=7),
        model="kimi-k3-0905",
        response_id="r1",
    )
    assert len(first) > 10
    thinking = "".join(e.text for e in first if isinstance(e, ThinkingDelta))
    assert thinking == "Let me think about this for a while."
    assert "".join(e.text for e in first if isinstance(e, TextDelta)) == "你好, " * 20
    calls = [e for e in first if isinstance(e, ToolCallDelta)]
    arguments = "".join(e.arguments for e in calls if e.index == 0)
    assert arguments == '{"path": "a/long/name.py"}'
    assert [e.name for e in calls if e.index == 1] == ["todo"]
    assert second == [
        TextDelta("Done."),
        Completed(parts=(TextPart(text="Done."),), finish_reason="stop"),
    ]
    assert isinstance(third[0], Failed) and third[0].error.kind is ErrorClass.PROTOCOL
    assert len(third) == 1


def test_a_paced_replay_waits_before_each_piece_and_can_be_cancelled() -> None:
    provider = RecordedProvider([AssistantMessage(parts=[TextPart(text="slow")])], pace=3600)

    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(streamed(provider), 0.01)

    asyncio.run(run())


def test_the_recorded_encoder_writes_each_kind_of_message_as_json() -> None:
    encoder = RecordedProvider([]).encoder()
    call = ToolCallPart(id="c", name="read", arguments="{}")
    messages: list[Message] = [
        SystemMessage("s"),
        UserTurn((TextPart(text="\udc80"), MediaPart(kind="image", url="data:x"))),
        AssistantTurn((ThinkingPart(text="t"), TextPart(text="a"), call)),
        AssistantTurn((call,)),
        ToolTurn("c", "read", (TextPart(text="r"),)),
    ]
    plain = [json.loads(encoder.encode(message).data) for message in messages]
    assert [one["role"] for one in plain] == ["system", "user", "assistant", "assistant", "tool"]
    assert plain[2]["reasoning_content"] == "t" and plain[2]["content"] == "a"
    assert plain[3]["content"] is None and plain[3]["tool_calls"][0]["id"] == "c"
    assert plain[4]["tool_call_id"] == "c"
