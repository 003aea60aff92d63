"""Recordings found and taken apart, and what is shown of them when."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kimi_cli.agent.replay.check import Checked, Outcome
from kimi_cli.agent.replay.recording import (
    RecordedCall,
    Recording,
    open_recording,
    turns_of,
    worked_in,
)
from kimi_cli.frontends.demo import RECORDING
from kimi_cli.frontends.replay import LONGEST_WAIT, Report, show, timed
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    DurableEvent,
    SessionResumed,
    SessionStarted,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import TextDelta, ThinkingDelta
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.errors import AmbiguousSession, SessionNotFound, SessionTooNew
from kimi_cli.store.events_file import encode_event
from kimi_cli.store.index import project_folder


def said(text: str, origin: str = "user") -> UserMessage:
    return UserMessage.model_validate({"origin": origin, "parts": [{"type": "text", "text": text}]})


def answer(text: str = "", *calls: str, partial: bool = False) -> AssistantMessage:
    parts = [ToolCallPart(id=call, name="read", arguments="{}") for call in calls]
    return AssistantMessage(parts=[TextPart(text=text), *parts], partial=partial)


def result(call: str, status: str = "ok") -> ToolResult:
    return ToolResult.model_validate(
        {"call_id": call, "name": "read", "status": status, "parts": []}
    )


def started(cwd: str = "/app", root: str = "") -> SessionStarted:
    return SessionStarted(
        program="kimi", cwd=cwd, root=root, model="k", thinking="", system_prompt="", tools=[]
    )


def test_turns_answers_and_calls() -> None:
    events: list[DurableEvent] = [
        started(),
        TurnStarted(),
        said("one"),
        answer("", "a", "b", "c", "d"),
        result("a"),
        result("b", "denied"),
        result("c", "interrupted"),
        said("note", "program"),
        answer("Done?"),
        said("no", "program"),
        said("again", "program"),
        answer("Yes."),
        said("faster", "steer"),
        answer("ok"),
        TurnEnded(reason=StopReason.DONE),
        SessionResumed(program="kimi", cwd="/app"),
        TurnStarted(),
        said("two"),
        answer("", "a"),
        result("a"),
        Compaction(upto=3, note="note"),
        answer("half", partial=True),
        TurnStarted(),
        said("three"),
    ]
    one, two, three = turns_of(events)
    assert [turn.number for turn in (one, two, three)] == [1, 2, 3]
    assert [turn.resumed for turn in (one, two, three)] == [False, True, False]
    assert one.ended and not two.ended
    assert [call.fate for call in one.answers[0].calls] == [
        "run", "denied", "interrupted", "interrupted",
    ]  # fmt: skip
    assert [(a.told, a.steering) for a in one.answers] == [
        ("", []), ("no", []), ("", ["faster"]), ("", []),
    ]  # fmt: skip
    assert [len(a.calls) for a in two.answers] == [1]
    assert three.answers == []


def test_calls_with_the_same_id_keep_their_own_results() -> None:
    events: list[DurableEvent]
    events = [said("x"), answer("", "", ""), result(""), result("", "error"), answer("", "")]
    first, second = turns_of(events)[0].answers
    statuses = [call.result and call.result.status for call in first.calls]
    assert statuses == ["ok", "error"]
    assert second.calls[0].result is None


@given(st.lists(st.sampled_from("sumpaAhrteR"), max_size=30))
def test_any_order_of_events_is_taken(order: Sequence[str]) -> None:
    kinds: dict[str, DurableEvent] = {
        "s": started(), "u": said("u"), "m": said("m", "steer"), "p": said("p", "program"),
        "a": answer("", "x"), "A": answer("text"), "h": answer("half", partial=True),
        "r": result("x"), "t": TurnStarted(), "e": TurnEnded(reason=StopReason.DONE),
        "R": SessionResumed(program="", cwd=""),
    }  # fmt: skip
    events = [kinds[kind] for kind in order]
    turns = turns_of(events)
    assert len(turns) == order.count("u")
    recorded = [a.message for turn in turns for a in turn.answers]
    assert all(not message.partial for message in recorded)
    console = Console(file=io.StringIO(), width=80)
    show(Recording(Path("x"), events, 0, False), console, 0)


def store(home: Path, project: Path, name: str, *events: DurableEvent) -> Path:
    folder = project_folder(home, project) / name
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_bytes(b"".join(encode_event(e) + b"\n" for e in events))
    return folder


def test_a_recording_is_found_by_path_and_by_id(tmp_path: Path) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    folder = store(home, project, "0abc", started())
    store(home, project, "0abd", started())
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((folder / "events.jsonl").read_bytes())
    for wanted in ("0abc", "0ABC", str(folder), f"{folder}/events.jsonl", str(copy)):
        assert len(open_recording(home, wanted, project).events) == 1
    with pytest.raises(AmbiguousSession):
        open_recording(home, "0ab", project)
    for wanted in (str(tmp_path / "no.jsonl"), "no.jsonl", str(home), "nosuch"):
        with pytest.raises(SessionNotFound):
            open_recording(home, wanted, project)


def test_a_newer_session_is_refused_and_a_torn_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(encode_event(started()) + b"\nrubbish\n" + encode_event(said("x"))[:20])
    recording = open_recording(tmp_path, str(path), tmp_path)
    assert (len(recording.events), recording.skipped, recording.torn) == (1, 1, True)
    path.write_bytes(encode_event(started().model_copy(update={"v": 99})) + b"\n")
    with pytest.raises(SessionTooNew):
        open_recording(tmp_path, str(path), tmp_path)


def test_where_the_project_began(tmp_path: Path) -> None:
    home = tmp_path / "home"
    stored = store(home, Path("/srv/app"), "0abc")
    cases = [
        (stored, started("/srv/app/a/b"), ("/srv/app", "a/b")),
        (stored / "events.jsonl", started("/srv/app"), ("/srv/app", ".")),
        (stored, started("/srv/other"), ("/srv/other", ".")),
        (tmp_path, started("/srv/app/a"), ("/srv/app/a", ".")),
        (tmp_path, started("/srv/app/a", "/srv"), ("/srv", "app/a")),
        (tmp_path, started("/srv/app", "/elsewhere"), ("/srv/app", ".")),
    ]
    for path, begun, expected in cases:
        assert worked_in(Recording(path, [begun], 0, False), begun) == expected


# --- shown


def at(time: float, event: DurableEvent) -> DurableEvent:
    return event.model_copy(update={"time": time})


def test_gaps_and_answers_take_their_time_divided_by_the_speed() -> None:
    words = AssistantMessage(
        parts=[ThinkingPart(text="t" * 40), TextPart(text="x" * 20)], seconds=5.0
    )
    events = [at(0, said("go")), at(6, words), at(8, result("x")), at(1000, said("late"))]
    shown = list(timed(events, 10))
    pieces = [wait for wait, event in shown if isinstance(event, ThinkingDelta | TextDelta)]
    # Five pieces in five seconds, after one second of waiting.
    assert pieces == pytest.approx([0.2, 0.1, 0.1, 0.1, 0.1])
    text = "".join(e.text for _, e in shown if isinstance(e, ThinkingDelta | TextDelta))
    assert text == "t" * 40 + "x" * 20
    waits = [wait for wait, event in shown if isinstance(event, ToolResult | UserMessage)]
    assert waits == pytest.approx([0, 0.2, LONGEST_WAIT])
    assert sum(wait for wait, _ in timed(events, 20)) < sum(wait for wait, _ in timed(events, 10))
    for at_once in (0, -1.0):
        assert not any(wait for wait, _ in timed(events, at_once))


@given(
    st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(0, 1e6)), max_size=8),
    st.floats(min_value=1e-300, allow_nan=False),
)
def test_no_wait_is_long_or_negative(times: list[tuple[float, float]], speed: float) -> None:
    """Clocks are set back, and a machine sleeps."""
    events = [
        AssistantMessage(parts=[TextPart(text="abc" * 20)], time=time, seconds=seconds)
        for time, seconds in times
    ]
    waits = [wait for wait, _ in timed(events, speed)]
    assert all(0 <= wait <= LONGEST_WAIT and math.isfinite(wait) for wait in waits)


def screen(events: Sequence[DurableEvent], *, torn: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80)
    show(Recording(Path("x"), events, 0, torn), console, 0)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_what_is_shown_of_a_session() -> None:
    denied = result("x", "denied")
    denied.parts = [TextPart(text="Denied: no.")]
    text = screen(
        [
            started("/app\x1b[31m"),
            TurnStarted(),
            said("do it"),
            denied,
            answer("I was say", partial=True),
            TurnEnded(reason=StopReason.INTERRUPTED, steps=2),
            SessionResumed(program="kimi", cwd="/elsewhere"),
            TurnStarted(),
            said("go on"),
        ]
    )
    parts = ["k · /app ·", "› do it", "● read · denied", "Denied: no.", "I was say",
             "interrupted here", "2 steps", "resumed in /elsewhere", "› go on",
             "the recording ends here"]  # fmt: skip
    rest = text
    for part in parts:
        _, found, rest = rest.partition(part)
        assert found, (part, text)
    assert "\x1b" not in text


def test_where_a_recording_breaks_off_is_said_only_there() -> None:
    whole: list[DurableEvent]
    whole = [started(), TurnStarted(), said("x"), TurnEnded(reason=StopReason.DONE)]
    assert "ends here" not in screen(whole)
    assert "ends here" not in screen([started()])
    assert "ends here" in screen(whole, torn=True)


# --- reported


def reported(
    outcome: Outcome, checked: Sequence[Checked], *, every: bool = False, **options: bool
) -> str:
    console = Console(file=io.StringIO(), width=80, **options)  # type: ignore[arg-type]
    report = Report(console, every=every)
    for one in checked:
        report.call(one)
    report.end(outcome)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_a_report_is_coloured_on_a_terminal_only() -> None:
    call = RecordedCall(ToolCallPart(id="x", name="read", arguments="{}"), result("x"))
    diff = ["--- recorded", "+++ now", "@@ -1 +1 @@", "-a\x1b[2J", "+b"]
    checked = [Checked(1, call, result("x"), "different", diff)]
    plain = reported(Outcome(1, checked), checked)
    assert "    -a\n    +b\n0 of 1 tool call gave the recorded result\n" in plain
    coloured = reported(Outcome(1, checked), checked, force_terminal=True)
    assert "\x1b[32m    +b\x1b[0m" in coloured and "\x1b[31m    -a\x1b[0m" in coloured
    assert "\x1b[2J" not in coloured


def test_the_outcome_is_that_of_every_call() -> None:
    call = RecordedCall(ToolCallPart(id="x", name="read", arguments="{}"), result("x"))
    same = Checked(1, call, result("x"), "same")
    left_out = Checked(1, call, result("x"), "not run", why="it was")
    assert Outcome(1, [same]).as_recorded
    assert Outcome(1, [same, left_out]).as_recorded
    assert not Outcome(2, [same]).as_recorded
    assert not Outcome(1, [same], ["turn 1: ended"]).as_recorded
    outcome = Outcome(2, [same, left_out], ["turn 1: ended"])
    end = [
        "DIFFERS  turn 1: ended",
        "1 of 2 tool calls gave the recorded result · 1 not run again",
    ]
    assert reported(outcome, [same, left_out]).splitlines() == end
    assert reported(outcome, [same, left_out], every=True).splitlines() == [
        "ok       turn 1 · read",
        "-        turn 1 · read · not run: it was",
        *end,
    ]


def test_the_demo_is_a_recording_of_version_1() -> None:
    recording = open_recording(Path("/nonexistent"), str(RECORDING), Path("/"))
    assert '"v":1,' in RECORDING.read_text()
    text = screen(recording.events)
    assert "set(self.coupons)" in text and "1 file +1 -1" in text
