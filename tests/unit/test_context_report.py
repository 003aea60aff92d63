"""What fills the window of a stored session."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.agent.context_report import KINDS, Report, report, stored_report
from kimi_cli.model.catalogue import lookup
from kimi_cli.model.dialects import DIALECTS
from kimi_cli.model.tokens import IMAGE_TOKENS
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    DurableEvent,
    InstructionFile,
    Instructions,
    Kept,
    ModelChanged,
    SessionResumed,
    SessionStarted,
    Shrink,
    ToolResult,
    UserMessage,
)
from kimi_cli.protocol.messages import (
    AssistantPart,
    MediaPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    Usage,
)
from kimi_cli.settings import SettingsError
from kimi_cli.store.errors import SessionNotFound
from kimi_cli.store.log import SessionLog

TOOLS = [{"name": "shell", "description": "Runs.", "parameters": {"type": "object"}}]
IMAGE = "data:image/png;base64," + base64.b64encode(bytes(300_000)).decode()


def words(count: int) -> str:
    return "word " * count


def begun(**more: Any) -> SessionStarted:
    values: dict[str, Any] = {"dialect": "moonshot", "window": 100_000}
    return SessionStarted(
        program="kimi",
        cwd="/p",
        model="kimi-k2.5",
        thinking="on",
        system_prompt=words(100),
        tools=TOOLS,
        **values | more,
    )


def said(text: str, origin: Any = "user", *media: MediaPart) -> UserMessage:
    return UserMessage(origin=origin, parts=[TextPart(text=text), *media])


def answer(
    *calls: str, text: str = "", thinking: str = "", usage: Usage | None = None
) -> AssistantMessage:
    parts: list[AssistantPart] = [ThinkingPart(text=thinking)] if thinking else []
    parts += [TextPart(text=text)] if text else []
    parts += [ToolCallPart(id=call, name="shell", arguments="{}") for call in calls]
    return AssistantMessage(parts=parts, usage=usage)


def result(call: str, text: str, summary: str = "ls", *media: MediaPart) -> ToolResult:
    return ToolResult(
        call_id=call,
        name="shell",
        status="ok",
        parts=[TextPart(text=text), *media],
        summary=summary,
    )


def numbered(events: Sequence[DurableEvent]) -> list[DurableEvent]:
    for number, event in enumerate(events, 1):
        event.seq = number
    return list(events)


def reported(*events: DurableEvent, **more: Any) -> Report:
    first = begun()
    values: dict[str, Any] = {
        "begun": first,
        "info": lookup("kimi-k2.5"),
        "thinking": "on",
        "dialect": DIALECTS["moonshot"],
    }
    return report("s1", numbered([first, *events]), **values | more)


def test_every_kind_has_its_share() -> None:
    picture = MediaPart(kind="image", url=IMAGE)
    found = reported(
        Instructions(files=[InstructionFile(path="/p/AGENTS.md", digest="d")], text=words(200)),
        said(words(300), "user", picture),
        said(words(400), "steer"),
        answer("c1", "c2", text=words(500), thinking=words(600)),
        result("c1", words(700), "one"),
        result("c2", words(800), "two", picture),
        said(words(900), "program"),
    )
    shares = dict(found.shares)
    assert shares.pop("tools") == pytest.approx(40, abs=20)
    assert shares.pop("calls") == pytest.approx(12, abs=10)
    assert shares == {
        "system": pytest.approx(104, abs=3),
        "instructions": pytest.approx(204, abs=3),
        "pinned": 0,
        "user": pytest.approx(708, abs=9),
        "program": pytest.approx(904, rel=0.03),
        "thinking": pytest.approx(604, rel=0.03),
        "answers": pytest.approx(500, rel=0.03),
        "results": pytest.approx(1508, rel=0.03),
        "media": pytest.approx(2 * IMAGE_TOKENS, abs=9),
    }
    assert found.tokens == sum(found.shares.values())
    assert [(r.name, r.tokens > 700) for r in found.largest] == [
        ("shell two", True),
        ("shell one", True),
    ]
    assert (found.measured, found.since, found.exact) == (None, 0, False)


def test_thinking_that_is_not_sent_back_fills_nothing() -> None:
    events: list[DurableEvent] = [said("go"), answer(text="done", thinking=words(500))]
    assert reported(*events).shares["thinking"] == 0
    assert reported(*events, dialect=DIALECTS["openai-compatible"]).shares["thinking"] == 0
    kept = reported(*events, info=lookup("kimi-k3")).shares["thinking"]
    assert kept == pytest.approx(504, rel=0.03)


def test_the_server_s_count_is_the_truth() -> None:
    usage = Usage(input_tokens=9_000, output_tokens=1_000, cached_tokens=8_000)
    before: list[DurableEvent] = [
        said(words(1000)),
        answer("c1", text=words(500), usage=usage),
    ]
    found = reported(*before)
    assert found.measured == usage
    assert (found.tokens, found.since) == (10_000, 0)
    later = reported(*before, result("c1", words(500)))
    # As much as the answer, which the server's count made dearer than the estimate.
    assert later.since == pytest.approx(later.shares["answers"], rel=0.05)
    assert later.tokens == 10_000 + later.since
    scale = later.shares["user"] / reported(said(words(1000))).shares["user"]
    assert scale > 5
    assert later.shares["user"] == pytest.approx(2 * later.shares["answers"], rel=0.05)


def test_an_answer_without_a_count_is_no_measurement() -> None:
    usage = Usage(input_tokens=5_000, output_tokens=10)
    found = reported(
        said("go"), answer(text="a", usage=usage), said(words(100)), answer(text="b", usage=Usage())
    )
    assert found.measured == usage
    assert found.since > 100


def compaction(upto: int, **more: Any) -> Compaction:
    return Compaction(
        upto=upto, note="I was here.", pinned=[TextPart(text=words(300))], window=50_000, **more
    )


def test_after_a_compaction_only_what_is_left_counts() -> None:
    usage = Usage(input_tokens=90_000, output_tokens=500, cached_tokens=1)
    events: list[DurableEvent] = [
        said(words(5_000)),
        answer("c1", text=words(5_000), usage=usage),
        result("c1", words(5_000)),
        compaction(3, kept=Kept(user_messages=1, dropped_steps=1), tokens_before=90_500),
    ]
    found = reported(*events)
    assert found.shares["pinned"] == pytest.approx(304, abs=3)
    # The count was of another context, and so was the cache.
    assert found.measured is None
    assert found.shares["user"] == found.shares["answers"] == 0
    assert found.window == 50_000
    assert [event.note for event in found.compactions] == ["I was here."]
    usage = Usage(input_tokens=2_000, output_tokens=50, cached_tokens=1_000)
    again = reported(*events, answer(text="going on", usage=usage))
    assert (again.measured, again.tokens) == (usage, 2_050)


def test_results_that_were_cut_count_as_they_are_sent() -> None:
    events: list[DurableEvent] = [said("go"), answer("c1"), result("c1", words(5_000))]
    whole = reported(*events).shares["results"]
    cut = reported(*events, Shrink(upto=4, limit=2_000, window=30_000))
    assert cut.shares["results"] < whole / 5
    assert len(cut.shrinks) == 1 and cut.window == 30_000


def test_the_window_that_held_last() -> None:
    resumed = SessionResumed(program="kimi", cwd="/p", window=64_000)
    assert reported().window == 100_000
    assert reported(resumed).window == 64_000
    assert reported(resumed, compaction(1)).window == 50_000
    assert reported(compaction(1), resumed).window == 64_000
    # A session of an older version does not say.
    older = begun(window=0, dialect="")
    assert (
        report("s", [older], older, lookup("kimi-k3"), "on", DIALECTS["moonshot"]).window
        == 1_048_576
    )


def test_a_counter_counts() -> None:
    found = reported(said(words(1000)), counter=lambda text: 2 * len(text.split()))
    assert found.exact
    assert found.shares["user"] == pytest.approx(2004, abs=2)


TEXT = st.text(max_size=60)
EVENT = st.one_of(
    st.builds(said, TEXT, st.sampled_from(["user", "steer", "program"])),
    st.builds(
        answer,
        st.sampled_from(["c1", "c2"]),
        text=TEXT,
        thinking=TEXT,
        usage=st.none() | st.builds(Usage, input_tokens=st.integers(0, 10**6)),
    ),
    st.builds(result, st.sampled_from(["c1", "c2", "gone"]), TEXT, TEXT),
    st.builds(compaction, st.integers(1, 6)),
    st.builds(Shrink, upto=st.integers(1, 6), limit=st.integers(10, 100)),
)


@given(st.lists(EVENT, max_size=10), st.sampled_from(list(DIALECTS.values())))
def test_the_shares_always_add_up(events: list[DurableEvent], dialect: Any) -> None:
    found = reported(*[event.model_copy() for event in events], dialect=dialect)
    assert tuple(found.shares) == KINDS
    assert min(found.shares.values()) >= 0
    assert sum(found.shares.values()) == found.tokens
    if found.measured:
        assert found.tokens >= found.measured.total_tokens
    assert len(found.largest) <= 5
    assert json.loads(json.dumps(found.as_json()))["tokens"] == found.tokens


def stored(home: Path, root: Path, *events: DurableEvent) -> str:
    log = SessionLog.create(home, root)
    for event in numbered(events):
        event.session = log.id
        log.append(event)
    log.close()
    return log.id


def settings(home: Path, text: str) -> dict[str, str]:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text)
    return {"KIMI_HOME": str(home), "HOME": str(home)}


def test_a_stored_session(tmp_path: Path) -> None:
    home, root = tmp_path / "home", tmp_path / "work"
    root.mkdir()
    env = settings(home, "")
    with pytest.raises(SessionNotFound):
        stored_report(env, home, root, None)
    first = stored(home, root, begun(), said("hello"))
    changed = ModelChanged(model="kimi-k3", thinking="low")
    second = stored(home, root, begun(dialect="vllm"), said("later"), changed)
    assert stored_report(env, home, root, None).session == second
    found = stored_report(env, home, root, second[:8])
    assert (found.model, found.dialect, found.window) == ("kimi-k3", "vllm", 100_000)
    assert stored_report(env, home, root, first).model == "kimi-k2.5"
    with pytest.raises(SessionNotFound):
        stored_report(env, home, root, "zzzz")
    with pytest.raises(SettingsError):
        stored_report(settings(home, "nonsense ="), home, root, first)


@pytest.mark.parametrize(
    ("config", "dialect", "window"),
    [
        ("", "moonshot", 262_144),
        ('[endpoint]\nbase_url = "http://127.0.0.1:8000/v1"\n', "openai-compatible", 262_144),
        ('[endpoint]\nbase_url = "http://x/v1"\ndialect = "sglang"\n', "sglang", 262_144),
        ('[models."kimi-k2.5"]\ncontext = 9000\n', "moonshot", 9_000),
        ('[endpoint]\ndialect = "klingon"\n', "moonshot", 262_144),
    ],
)
def test_an_older_session_takes_the_settings(
    config: str, dialect: str, window: int, tmp_path: Path
) -> None:
    root = tmp_path / "work"
    root.mkdir()
    env = settings(tmp_path / "home", config)
    stored(tmp_path / "home", root, begun(dialect="", window=0), said("hello"))
    found = stored_report(env, tmp_path / "home", root, None)
    assert (found.dialect, found.window) == (dialect, window)
