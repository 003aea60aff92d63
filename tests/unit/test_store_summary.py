"""The list of sessions, and the cache that makes it fast: never anything but what the logs say."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.frontends.account import Account
from kimi_cli.protocol.event import SCHEMA_VERSION, Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    ModelChanged,
    Notice,
    SessionResumed,
    SessionStarted,
    Shrink,
    Title,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import MediaPart, TextPart, Usage
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.errors import SessionNotFound
from kimi_cli.store.events_file import EVENTS, encode_event, read_events
from kimi_cli.store.index import find, project_folder
from kimi_cli.store.lock import held, is_held
from kimi_cli.store.log import SessionLog
from kimi_cli.store.manage import delete, fork, rename
from kimi_cli.store.summary import Summary, summaries, summary_of, title_of
from kimi_cli.store.summary_cache import NAME
from kimi_cli.store.titles import cut

REPOSITORY = Path(__file__).resolve().parents[2]
SPENT = Usage(input_tokens=100, output_tokens=10, cached_tokens=50)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def started(**more: Any) -> SessionStarted:
    begun = {"program": "kimi", "cwd": "/src", "model": "kimi-k2.5", "thinking": "", "tools": []}
    return SessionStarted(**{**begun, "system_prompt": "", "time": 1000.5, **more})


def said(text: str, **more: Any) -> UserMessage:
    return UserMessage(parts=[TextPart(text=text)], **more)


def ended(**more: Any) -> TurnEnded:
    return TurnEnded(**{"reason": StopReason.DONE, "usage": SPENT, "cost": 9.0, **more})


def answer(**more: Any) -> AssistantMessage:
    return AssistantMessage(**{"parts": [], "usage": SPENT, "cost": 0.5, **more})


def stored(home: Path, root: Path, *events: Event) -> Path:
    log = SessionLog.create(home, root)
    for event in events:
        log.append(event)
    log.close()
    return log.path


# --- one summary


def test_a_summary_adds_up_what_the_log_says(home: Path, root: Path) -> None:
    path = stored(
        home, root, started(),
        TurnStarted(), said("fix the test\nnow"), answer(), answer(partial=True, usage=None),
        said("quicker", origin="steer"),
        Compaction(upto=3, note="n", usage=SPENT, cost=0.25, turn=1, step=2),
        answer(), ended(currency="CNY", steps=4, cost=2.0),
        Compaction(upto=7, note="n", usage=SPENT, cost=0.25),
        ModelChanged(model="kimi-k3", thinking=""), Shrink(upto=1, limit=5),
        TurnStarted(), said("and then"), answer(), answer(partial=True, usage=None, cost=None),
        SessionResumed(program="kimi", cwd="/src"),
        TurnStarted(), said("at last"), answer(usage=None, cost=None),
        ended(reason=StopReason.STEP_LIMIT, steps=1, cost=None),
    )  # fmt: skip
    os.utime(path / EVENTS, (5000, 5000))

    assert summary_of(home, path.name, root) == Summary(
        id=path.name,
        project=path.parent.name,
        path=path,
        cwd="/src",
        title="fix the test",
        model="kimi-k3",
        created=1000.5,
        updated=5000.0,
        turns=3,
        steps=6,
        usage=Usage(input_tokens=400, output_tokens=40, cached_tokens=200),
        cost=2.75,
        currency="CNY",
        last_reason="step_limit",
        compactions=2,
        forked_from=None,
        size=(path / EVENTS).stat().st_size,
        version=SCHEMA_VERSION,
    )
    assert summaries(home, root) == [summary_of(home, path.name, root)]


money = st.none() | st.sampled_from([0.0, 0.25, 3.0])
usage = st.builds(Usage, input_tokens=st.integers(0, 9), cached_tokens=st.integers(0, 9))
happenings = st.lists(
    st.one_of(
        st.builds(TurnStarted),
        st.builds(SessionResumed, program=st.just("kimi"), cwd=st.just("/")),
        st.builds(
            AssistantMessage,
            parts=st.just([]), usage=st.none() | usage, cost=money, partial=st.booleans(),
        ),
        st.builds(Compaction, upto=st.just(1), note=st.just(""), usage=usage, cost=money),
        st.builds(
            TurnEnded, reason=st.just(StopReason.DONE),
            usage=usage, cost=money, steps=st.integers(0, 9),
        ),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(happenings)
def test_a_summary_is_the_sum_of_the_turns_and_of_what_is_between_them(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event]
) -> None:
    home = tmp_path_factory.mktemp("home")
    path = stored(home, home, started(), said("x"), *_possible(events))
    whole = Account()
    for event in read_events(path).events:
        whole(event)
    summary = summary_of(home, path.name, None)
    assert (summary.turns, summary.steps, summary.usage, summary.compactions) == (
        len(whole.turns), whole.steps, whole.usage, whole.compactions
    )  # fmt: skip
    assert summary.cost == pytest.approx(whole.cost)


def _possible(events: list[Event]) -> Iterator[Event]:
    """No answer comes outside of a turn."""
    in_turn = False
    for event in events:
        in_turn = isinstance(event, TurnStarted) or (
            in_turn and not isinstance(event, TurnEnded | SessionResumed)
        )
        if in_turn or not isinstance(event, AssistantMessage):
            yield event


def test_a_turn_that_runs_has_no_reason_and_no_price_is_no_cost(home: Path, root: Path) -> None:
    path = stored(
        home, root, started(), TurnStarted(), said("a"), answer(cost=None), ended(cost=None),
        TurnStarted(),
    )  # fmt: skip
    summary = summary_of(home, path.name, root)
    assert (summary.last_reason, summary.cost, summary.currency) == ("", None, None)


def test_a_killed_turn_s_costs_have_the_currency_of_its_beginning(home: Path, root: Path) -> None:
    path = stored(home, root, started(), TurnStarted(currency="EUR"), said("a"), answer())
    summary = summary_of(home, path.name, root)
    assert (summary.cost, summary.currency) == (0.5, "EUR")
    log = SessionLog.open(home, path.name)
    log.append(TurnStarted())
    log.close()
    assert summary_of(home, path.name, root).currency == "EUR"


def test_running_is_what_a_process_has_open_in_a_turn(home: Path, root: Path) -> None:
    def state() -> tuple[bool, bool]:
        (summary,) = summaries(home, root)
        assert summary == summary_of(home, summary.id, root)
        return summary.running, summary.broken_off

    path = stored(home, root, started(), TurnStarted(), said("a"))
    assert state() == (False, True)
    log = SessionLog.open(home, path.name)
    assert state() == (True, False)
    log.append(ended())
    assert state() == (False, False)
    log.append(TurnStarted())
    assert state() == (True, False)
    log.close()
    assert state() == (False, True)


def test_looking_whether_a_session_runs_keeps_nobody_from_it(home: Path, root: Path) -> None:
    path = stored(home, root, started(), TurnStarted(), said("a"))
    script = (
        "import sys; from pathlib import Path; from kimi_cli.store.lock import is_held\n"
        "print(flush=True)\n"
        "while True: is_held(Path(sys.argv[1]))\n"
    )
    looker = subprocess.Popen(
        [sys.executable, "-c", script, str(path / EVENTS)], cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    try:
        assert looker.stdout is not None
        looker.stdout.readline()
        for _ in range(20):
            # Raises SessionBusy when it gives up.
            SessionLog.open(home, path.name).close()
        assert not is_held(path / EVENTS)
        with held(path / EVENTS):
            assert is_held(path / EVENTS)
        assert not is_held(path / "nothing")
    finally:
        looker.kill()
        looker.communicate()


def test_only_what_may_run_is_asked_for_its_lock(home: Path, root: Path, tmp_path: Path) -> None:
    """Listing hundreds of sessions takes as many looks at locks as there are open ends."""
    for number in range(5):
        stored(home, root, started(), TurnStarted(), said(str(number)), ended())
    stored(home, root, started(), TurnStarted(), said("open end"))
    script = (
        "import fcntl, sys; from pathlib import Path\n"
        "from kimi_cli.store.summary import summaries\n"
        "asked = []\n"
        "sys.addaudithook(lambda name, args: name == 'fcntl.flock' and asked.append(args[1]))\n"
        "print(len(summaries(Path(sys.argv[1]), None)), [a & fcntl.LOCK_EX for a in asked])\n"
    )
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", script, str(home)],
            cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        # Shared, and given back.
        assert run.stdout.split() == ["6", "[0,", "0]"]


def test_the_last_written_comes_first_and_sessions_without_a_message_do_not_come(
    home: Path, root: Path, tmp_path: Path
) -> None:
    here = [stored(home, root, started(), said(str(number))) for number in range(3)]
    there = stored(home, tmp_path, started(), said("elsewhere"))
    stored(home, root, started())
    silent = stored(home, root, started(), said("reminder", origin="program"))
    (here[0].parent / "0000000000").mkdir()
    for path, time in [*zip(here, (3000, 1000, 2000), strict=True), (there, 4000)]:
        os.utime(path / EVENTS, (time, time))

    assert [s.title for s in summaries(home, root)] == ["0", "2", "1"]
    assert [s.title for s in summaries(home, None)] == ["elsewhere", "0", "2", "1"]
    assert summaries(home, root / "other") == []
    assert summaries(tmp_path / "nowhere", None) == []
    assert summary_of(home, silent.name, root).title == ""
    with pytest.raises(SessionNotFound):
        summary_of(home, "zzz", root)


def test_what_cannot_be_used_is_shown_with_the_reason(home: Path, root: Path) -> None:
    headless = stored(home, root, said("no beginning"))
    odd = stored(home, root, started(), said("x"))
    (odd / EVENTS).unlink()
    (odd / EVENTS).mkdir()
    problems = {summary.id: summary.problem for summary in summaries(home, root)}
    assert "has no beginning" in problems[headless.name]
    assert "cannot be read: Is a directory" in problems[odd.name]
    assert len(problems) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff",
        b"[1]",
        b'{"v":2,"type":"user_message","parts":"x"}',
        b'{"v":"x","type":"user_message","parts":[1,{"text":3}],"origin":7}',
        b'{"type":"assistant_message","usage":{"input_tokens":"many"},"cost":"dear"}',
        b'{"type":"compaction","usage":[1]}',
        b'{"type":"assistant_message","usage":{"input_tokens":1e999},"cost":NaN}',
        b'{"type":"compaction","usage":{"input_tokens":1' + b"0" * 400 + b'},"cost":-Infinity}',
        b'{"type":"assistant_message","cost":1' + b"0" * 400 + b"}",
        b'{"type":"session_started","time":1' + b"0" * 400 + b"}",
        b'{"type":"turn_ended","usage":{},"cost":1e400}',
        b'{"type":"session_started","cwd":3,"model":null,"time":"now","forked_from":[]}',
        b'{"type":["title"],"text":"x"}',
        b'{"type":"title","text":{}}',
        b"{" * 100_000,
    ],
)
def test_damage_costs_the_line_and_not_the_list(home: Path, root: Path, line: bytes) -> None:
    path = stored(home, root, started(), said("hello"), answer())
    with (path / EVENTS).open("ab") as file:
        file.write(line + b"\n" + encode_event(answer()) + b"\n")
    (summary,) = summaries(home, root)
    assert summary.title == "hello"
    assert summary.usage.input_tokens == 200
    assert summary.cost in (1.0, 1.0 + 0.0)


def test_events_in_another_form_count_too(home: Path, root: Path) -> None:
    path = stored(home, root, started(), said("hello"))
    plain = json.loads(encode_event(answer(turn=3)))
    turned = {"type": plain.pop("type"), **plain}
    nested = {"parts": [{"type": "text", "text": "x"}], **plain, "type": "assistant_message"}
    surrogate = {**plain, "type": "assistant_message", "model": "\udc80"}
    with (path / EVENTS).open("a") as file:
        for form in (turned, nested, surrogate):
            file.write(json.dumps(form) + "\n")
    (summary,) = summaries(home, root)
    assert (summary.steps, summary.cost) == (3, 1.5)


def test_a_session_that_goes_away_while_it_is_looked_at_was_deleted(home: Path, root: Path) -> None:
    path = stored(home, root, started(), said("x"))
    # The cache is read after the session was found, and waits for us here.
    cache = path.parent / NAME
    os.mkfifo(cache)

    def delete_meanwhile() -> None:
        with cache.open("wb"):
            (path / EVENTS).unlink()

    meanwhile = threading.Thread(target=delete_meanwhile)
    meanwhile.start()
    with pytest.raises(SessionNotFound, match="was deleted"):
        summary_of(home, path.name, root)
    meanwhile.join(10)


# --- the cache


def rebuilt(home: Path) -> list[Summary]:
    for cache in home.glob(f"sessions/*/{NAME}"):
        cache.unlink()
    return summaries(home, None)


operations = st.lists(
    st.tuples(
        st.sampled_from(
            ["new", "say", "work", "compact", "tear", "rename", "fork", "fork 1", "delete", "list",
             "show", "spoil", "newer"]
        ),
        st.integers(0, 5),
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(operations)
def test_the_cache_says_what_a_rebuild_says_after_whatever_was_done(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    home = tmp_path_factory.mktemp("home")
    roots = [home / "a", home / "b"]
    sessions = [stored(home, roots[0], started(), TurnStarted(turn=1), said("first", turn=1))]
    for number, (what, which) in enumerate(steps):
        path = sessions[which % len(sessions)] if sessions else None
        if what == "new":
            sessions.append(stored(home, roots[which % 2], started(time=float(number))))
        elif what == "list":
            summaries(home, None if which % 2 else roots[0])
        elif path is not None:
            _do(what, home, path, number, sessions)

    cached = summaries(home, None)
    assert cached == rebuilt(home)
    assert cached == summaries(home, None)
    assert [summary_of(home, one.id, None) for one in cached] == cached


def _do(what: str, home: Path, path: Path, number: int, sessions: list[Path]) -> None:
    file = path / EVENTS
    if what == "tear":
        with file.open("ab") as end:
            end.write(b'{"v":2,"type":"user_mess')
    elif what == "spoil":
        with file.open("ab") as end:
            end.write(b"garbage\n")
    elif what == "newer":
        shutil.copytree(path, path.with_name(f"zzz{number}"))
        with (path.with_name(f"zzz{number}") / EVENTS).open("ab") as end:
            end.write(b'\n{"v":%d,"type":"title","text":"new"}\n' % (SCHEMA_VERSION + 1))
    elif what == "show":
        summary_of(home, path.name, None)
    elif what == "rename":
        rename(home, path.name, f"title {number}", None)
    elif what == "fork":
        sessions.append(find(home, fork(home, path.name, None)))
    elif what == "fork 1":
        if summary_of(home, path.name, None).turns:
            sessions.append(find(home, fork(home, path.name, None, upto_turn=1)))
    elif what == "delete":
        delete(home, path.name, None)
        sessions.remove(path)
    else:
        log = SessionLog.open(home, path.name)
        events: dict[str, list[Event]] = {
            "say": [TurnStarted(turn=1), said(f"message {number}", turn=1)],
            "work": [answer(turn=1, cost=0.1 * number), ended(turn=1)],
            "compact": [Compaction(upto=1, note="n", usage=SPENT, cost=0.01)],
        }
        for event in events[what]:
            log.append(event)
        log.close()


def test_a_longer_log_is_read_from_where_the_shorter_one_ended(home: Path, root: Path) -> None:
    path = stored(home, root, started(), said("first"), answer(), Notice(text="x" * 200))
    summaries(home, root)
    whole = (path / EVENTS).read_bytes()
    # Nobody would do that; it shows which bytes are read again.
    spoiled = whole.replace(b"assistant_message", b"assistant_massage", 1)
    log = SessionLog.open(home, path.name)
    log.append(answer())
    log.close()
    grown = (path / EVENTS).read_bytes()
    (path / EVENTS).write_bytes(spoiled + grown[len(whole) :])

    assert summaries(home, root)[0].steps == 2
    assert rebuilt(home)[0].steps == 1


def test_a_log_that_was_replaced_is_read_anew(home: Path, root: Path) -> None:
    path = stored(home, root, started(), said("first"), answer())
    summaries(home, root)
    other = stored(home, root, started(), said("another, longer message"), *[answer()] * 9)
    shutil.copy(other / EVENTS, path / EVENTS)
    assert {s.title for s in summaries(home, root)} == {"another, longer message"}
    (path / EVENTS).write_bytes(encode_event(started()) + b"\n" + encode_event(said("x")) + b"\n")
    assert summary_of(home, path.name, root).title == "x"


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: b"",
        lambda body: body[:-5],
        lambda body: body.replace(b"first", b"thirst"),
        lambda body: b"0" + body,
        lambda body: b"\xff" * 100,
        lambda body: body.partition(b"\n")[2],
    ],
)
def test_a_damaged_cache_is_rebuilt(
    home: Path, root: Path, damage: Callable[[bytes], bytes]
) -> None:
    stored(home, root, started(), said("first"), answer())
    before = summaries(home, root)
    cache = project_folder(home, root) / NAME
    good = cache.read_bytes()
    cache.write_bytes(damage(good))
    assert summaries(home, root) == before
    assert cache.read_bytes() == good


def test_the_cache_is_private_small_and_forgets_what_is_deleted(home: Path, root: Path) -> None:
    paths = [stored(home, root, started(), said(f"message {n}")) for n in range(20)]
    summaries(home, root)
    cache = project_folder(home, root) / NAME
    assert cache.stat().st_mode & 0o777 == 0o600
    assert cache.stat().st_size < 20 * 1000
    for path in paths[1:]:
        delete(home, path.name, root)
    summaries(home, root)
    assert cache.stat().st_size < 1000
    stamp = cache.stat().st_mtime_ns, cache.stat().st_ino
    summaries(home, root)
    summary_of(home, paths[0].name, root)
    assert (cache.stat().st_mtime_ns, cache.stat().st_ino) == stamp, "nothing new, nothing written"
    assert {path.name for path in cache.parent.iterdir()} == {paths[0].name, NAME}


LIST = """
import sys
from pathlib import Path
from kimi_cli.store.summary import summaries
for _ in range(int(sys.argv[2])):
    print(len(summaries(Path(sys.argv[1]), None)), flush=True)
"""


def test_a_home_that_cannot_be_written_lists_its_sessions(
    home: Path, root: Path, tmp_path: Path
) -> None:
    stored(home, root, started(), said("first"))
    bound = tmp_path / "bound"
    bound.mkdir()
    mounts = [f"mount --bind {home} {bound}", f"mount -o remount,bind,ro {bound}"]
    try:
        for mount in mounts:
            if subprocess.run(mount.split(), capture_output=True).returncode:
                pytest.skip("needs the right to mount")
        assert [s.title for s in summaries(bound, None)] == ["first"]
        assert not (project_folder(home, root) / NAME).exists()
    finally:
        subprocess.run(["umount", "-l", bound], capture_output=True)


def test_lists_at_the_same_time_do_not_disturb_each_other(home: Path, root: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for number in range(30):
        stored(home, root, started(), said(f"message {number}"))
    listers = [
        subprocess.Popen(
            [sys.executable, "-c", LIST, str(home), "10"], env=env, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    log = SessionLog.create(home, root)
    log.append(started())
    while any(lister.poll() is None for lister in listers):
        log.append(answer())
        summaries(home, root)
    log.close()
    for lister in listers:
        assert set(lister.communicate()[0].split()) == {b"30"}
        assert lister.returncode == 0
    assert summaries(home, None) == rebuilt(home)
    assert len(list(project_folder(home, root).glob(".*"))) == 1


# --- titles


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Fix the test", "Fix the test"),
        ("\n\n  \n  fix   the\ttest  \nand more", "fix the test"),
        ("# Task: repair\n\nbody", "Task: repair"),
        ("> - [ ] **Rename** `foo` to __bar__", "Rename foo to bar"),
        ("1. first\n2. second", "first"),
        ("Please fix it", "fix it"),
        ("please, could you please fix it?", "fix it?"),
        ("Hi Kimi! Can you explain main.py", "explain main.py"),
        ("please", "please"),
        ("hi", "hi"),
        ("pleasewait is broken", "pleasewait is broken"),
        ("请帮我修复登录的错误", "修复登录的错误"),
        ("你好\uff0c麻烦你看一下日志", "看一下日志"),
        ("---\n***\n===\nreal", "real"),
        ("```python\nimport os\n```\nwhy does this fail?", "why does this fail?"),
        ("```\nonly code\n```", "only code"),
        ("see [the docs](https://e.org/x) for it", "see the docs for it"),
        ("review this\n\n<stdin>\ndiff --git\n</stdin>", "review this"),
        ("<stdin>\ndiff --git a b\n</stdin>\n\nreview this", "review this"),
        ("<stdin>\ndiff --git a b\n</stdin>", "diff --git a b"),
        ("<file path='a b'>\nx\n</file>\nwhat is it", "what is it"),
        ("fix a\x1b[31m\x00 bug\u202e\x07 now", "fix a bug now"),
        ("what about snake_case__names__here", "what about snake_case__names__here"),
        ("do this:", "do this"),
        ("", ""),
        (" \n\t\n", ""),
        ("...", ""),
        ("🙂", ""),
        ("x" * 80, "x" * 59 + "…"),
        ("word " * 20, "word " * 11 + "word…"),
        ("修" * 40, "修" * 29 + "…"),
        ("a 修复" * 12, "a 修复" * 9 + "a 修…"),
    ],
)
def test_a_title_is_the_first_line_that_says_something(text: str, title: str) -> None:
    assert title_of(text) == title


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["please ", "修复", "word ", "<a>\n", "```\n", "\n", "# ", "\x1b", "**"])
        | st.characters(),
        max_size=60,
    ).map("".join)
)
def test_a_title_is_one_short_printable_line(text: str) -> None:
    from rich.cells import cell_len

    title = title_of(text)
    assert cell_len(title) <= 62  # tables of widths differ in a few characters
    assert title.isprintable() and title == title.strip()
    assert cut(title) == title


@pytest.mark.parametrize(
    "piece", ["x", "<a ", "```", "***", "**a ", "[x](", "please ", "<stdin>\n", "- ", "1) ", " "]
)
def test_a_huge_message_has_a_title_at_once(piece: str) -> None:
    """What looks for markup must not go through the rest of the text from every place in it."""
    assert len(title_of(piece * 1_000_000)) <= 60


def test_a_title_leaves_out_media_and_a_session_of_media_says_so(home: Path, root: Path) -> None:
    image = MediaPart(kind="image", url="data:image/png;base64," + "a" * 9000, name="x.png")
    both = stored(home, root, started(), UserMessage(parts=[image, TextPart(text="what is it?")]))
    only = stored(home, root, started(), UserMessage(parts=[image]), said("second"))
    results = ToolResult(call_id="c", name="read", status="ok", parts=[TextPart(text="no")])
    late = stored(home, root, started(), results, Title(text="mine"), said("other"))
    assert summary_of(home, both.name, root).title == "what is it?"
    assert summary_of(home, only.name, root).title == "[image]"
    assert summary_of(home, late.name, root).title == "mine"
