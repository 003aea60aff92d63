"""What `kimi serve` shows of servers: lines from states, within any width, and nothing in them that
a terminal would obey."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kimi_cli.frontends.serve.progress_view import (
    STAGES,
    Story,
    clock,
    failed_lines,
    head_lines,
    left,
    live_lines,
    progress_words,
    ready_lines,
    stopping_line,
)
from kimi_cli.frontends.serve.server_view import (
    figure_spans,
    figures,
    figures_line,
    server_fields,
    server_lines,
    status_lines,
)
from kimi_cli.frontends.serve.spans import Line, Span, cut, dotted, painted, plain_text, wrapped
from kimi_cli.frontends.serve.stopping import begun_lines, stopped_lines
from kimi_cli.serve.running import (
    LOADING,
    Checked,
    Launch,
    Progress,
    Repair,
    Request,
    ServerState,
    Stage,
    Trouble,
)
from kimi_cli.serve.state import Server

LAUNCH = Launch(
    name="kimi-k2.5",
    request=Request("kimi-k2.5"),
    commands=(),
    host="127.0.0.1",
    port=8000,
    served_name="kimi-k2.5",
    repo="moonshotai/Kimi-K2.5",
    context=262_144,
    title="kimi serve Kimi-K2.5 · 8×H200 141 GB · tensor parallel 8 · 256k context",
    about="weights 69.2  kv cache 46.8  overhead 10.1  free 14.9 GiB per GPU · 5.7M tokens fit",
)
STATE = ServerState("a1", LAUNCH, 4711, 1000.0, Progress("load", 1000.0, 105 / 163, "105/163", 299))
FOLDER = Path("/home/me/.kimi-cli/servers/kimi-k2.5")
CHECKS = (Checked("chat", True), Checked("tool call", True))

evil = st.text(
    st.one_of(
        st.sampled_from("\x1b[2J\x07\r\n\t\x9b\x00\u202e "),
        st.characters(codec="utf-8", exclude_categories=["Cs", "Mn", "Me", "Cf"]),
    ),
    max_size=120,
)
stages = st.sampled_from(sorted(STAGES))


def texts(lines: list[Line]) -> list[str]:
    return [plain_text(line) for line in lines]


def at(stage: Stage, since: float, detail: str = "") -> ServerState:
    return replace(STATE, progress=Progress(stage, since, detail=detail))


# --- the stage under way ---


def test_the_line_of_a_stage() -> None:
    (line,) = texts(live_lines(STATE, 1570.0, 80))
    assert line == (
        "  load shards  ━━━━━━━━━━━━━━━━╸━━━━━━━━  64 %  105/163  9:30 · about 5 min left"
    )
    assert len(line) <= 80


def test_without_colour_the_rest_of_the_bar_has_another_form() -> None:
    (line,) = texts(live_lines(STATE, 1570.0, 100, colour=False))
    bar = re.search("━+╸─+", line)
    assert bar and len(bar[0]) == 30
    assert bar[0].count("━") == int(30 * 105 / 163)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (60, "  load shards  ━━━━━━╸━━━  64 %  9:30 · about 5 min left"),
        (40, "  load shards  ━━━━━╸━━━  64 %  9:30"),
        (28, "  load shards  64 %"),
        (14, "  load shards…"),
    ],
)
def test_what_gives_way_on_a_narrow_terminal(width: int, line: str) -> None:
    (found,) = texts(live_lines(STATE, 1570.0, width))
    kept = re.sub("━+╸━*", "━", line)
    assert re.sub("━+╸━*", "━", found) == kept
    assert len(found) <= width


def test_a_stage_that_can_not_be_measured_has_no_bar() -> None:
    assert texts(live_lines(at("compile", 1000.0), 1041.0, 80)) == ["  compile  0:41"]


def test_what_it_waits_for_is_said_below() -> None:
    waiting = replace(STATE.progress, waiting="node1 has not joined: is port 29501 open?")
    line, below = live_lines(replace(STATE, progress=waiting), 1570.0, 80)
    assert plain_text(below) == "  ! node1 has not joined: is port 29501 open?"
    assert {span.style for span in below} == {"warn"}
    assert "waiting" not in plain_text(line)
    assert "node1 has not joined" in progress_words(replace(STATE, progress=waiting), 1570.0)


@pytest.mark.parametrize(
    ("eta", "words"),
    [
        (None, ""),
        (-1, ""),
        (float("inf"), ""),
        (4, "almost done"),
        (44, "about 40 s left"),
        (299, "about 5 min left"),
        (5400, "about 1.5 h left"),
    ],
)
def test_how_long_it_takes_still(eta: float | None, words: str) -> None:
    assert left(eta) == words


def test_clock() -> None:
    assert [clock(t) for t in (-1, 0, 41.9, 570, 3725)] == [
        "0:00",
        "0:00",
        "0:41",
        "9:30",
        "1:02:05",
    ]


# --- what stays ---


def test_each_stage_that_ends_is_told_once() -> None:
    story = Story()
    told: list[str] = []
    for state in (
        at("starting", 1000.0),
        at("starting", 1000.0),
        at("load", 1004.0, "1/163"),
        at("load", 1004.0, "163/163"),
        at("compile", 1585.5),
        at("proving", 1600.0),
        at("ready", 1603.0),
    ):
        told += texts(story.told(state, 80))
    assert told == [
        "  ✓ start vLLM · 4.0 s",
        "  ✓ load shards · 163 · 9:41",
        "  ✓ compile · 14 s",
    ]


def test_a_repair_is_told_and_the_failed_stage_is_not_done() -> None:
    why = "context 131,072 does not fit, starting again with 98,304"
    story = Story()
    story.told(at("profile", 1000.0), 80)
    again = replace(
        at("starting", 1010.0),
        repairs=(Repair((("--max-model-len", "98304"),), why),),
        notes=(why, "the first start takes longer"),
    )
    assert texts(story.told(again, 80)) == [f"  ! {why}", "  the first start takes longer"]
    assert story.told(again, 80) == []


@given(st.lists(st.tuples(stages, st.floats(0, 1e6)), max_size=12))
def test_no_stage_is_done_that_was_followed_by_an_earlier_one(
    steps: list[tuple[Stage, float]],
) -> None:
    story = Story()
    before: Stage | None = None
    for stage, since in steps:
        lines = texts(story.told(at(stage, since), 80))
        if lines:
            assert before in LOADING
            assert stage not in LOADING or LOADING.index(stage) > LOADING.index(before)
        before = stage


def test_ready() -> None:
    ready = replace(at("ready", 1600.0), checks=CHECKS)
    assert texts(ready_lines(ready, 80)) == [
        "  ✓ chat · ✓ tool call · ready on http://127.0.0.1:8000/v1 · kimi --local"
    ]


def test_limited_says_what_does_not_work() -> None:
    checks = (CHECKS[0], Checked("tool call", False, "the call came as text: hermes is no parser"))
    lines = texts(ready_lines(replace(at("limited", 1600.0), checks=checks), 100))
    assert lines[0].startswith("  ✓ chat · ✗ tool call · running, with limits, on http://127.0.0.1")
    assert lines[1] == "    tool call: the call came as text: hermes is no parser"


def test_a_failure_has_the_cause_what_to_do_the_evidence_and_the_log() -> None:
    trouble = Trouble("memory", "the weights do not fit", "use more GPUs", "CUDA out of memory")
    failed = replace(at("failed", 1600.0), trouble=trouble)
    lines = texts(failed_lines(failed, FOLDER / "vllm.log", 100))
    assert lines == [
        "  ✗ the weights do not fit",
        "    use more GPUs",
        "    it said: CUDA out of memory",
        "    log: /home/me/.kimi-cli/servers/kimi-k2.5/vllm.log · kimi serve logs kimi-k2.5",
    ]
    assert "did not say why" in texts(failed_lines(at("failed", 1.0), FOLDER, 100))[0]


def test_the_two_lines_of_the_plan_and_its_notes() -> None:
    launch = replace(LAUNCH, notes=("estimated: overhead",))
    lines = texts(list(head_lines(launch, 100)))
    assert lines == [LAUNCH.title, f"  {LAUNCH.about}", "! estimated: overhead"]
    narrow = texts(list(head_lines(launch, 80)))
    assert narrow[1:3] == [
        "  weights 69.2  kv cache 46.8  overhead 10.1  free 14.9 GiB per GPU",
        "  5.7M tokens fit",
    ]
    second = texts(list(head_lines(replace(LAUNCH, name="kimi-k2.5-2"), 120)))
    assert second[0] == f"{LAUNCH.title} · called kimi-k2.5-2"


def test_stopped() -> None:
    stopped = Server(FOLDER, replace(at("stopped", 1600.0), ended=1725.0), alive=False)
    assert texts(stopped_lines(stopped, [], 80)) == [
        "  kimi-k2.5 stopped after 12:05 · no process of it is left"
    ]
    assert "can't be ended: 4, 9" in texts(stopped_lines(stopped, [4, 9], 80))[0]
    (begun,) = texts(begun_lines(server(at("ready", 1.0)), None, now=False))
    assert begun == "  stopping kimi-k2.5: requests in work finish first, at most 30 s"
    for one, now in ((server(), False), (server(at("ready", 1.0)), True)):
        assert texts(begun_lines(one, None, now=now)) == ["  stopping kimi-k2.5"]
    assert plain_text(stopping_line(2.0, 1000.0, 1012.0, 80)) == (
        "  stopping · 2 requests to finish · 0:12 · ctrl-c again ends it at once"
    )


# --- servers ---


def server(state: ServerState = STATE, alive: bool = True) -> Server:
    return Server(FOLDER, state, alive)


def test_the_table() -> None:
    ready = replace(at("ready", 1600.0), ready=1600.0)
    gone = replace(
        at("failed", 1600.0), ended=1600.0, launch=replace(LAUNCH, name="tiny", repo="/models/tiny")
    )
    lines = texts(server_lines([server(), server(ready), server(gone, False)], 120, 8800.0))
    assert lines[0].split() == ["name", "model", "state", "url", "context", "since", "pid"]
    assert "load shards 64 %" in lines[1] and "http://127.0.0.1:8000/v1" in lines[1]
    assert re.search(r" ready +http://127.0.0.1:8000/v1 +256k +2 h ago +4711$", lines[2])
    assert lines[3].startswith("tiny ") and "http" not in lines[3] and "4711" not in lines[3]
    narrow = texts(server_lines([server()], 60, 1600.0))
    assert narrow[0].split()[:2] == ["name", "state"] and "http://127.0.0.1:8000/v1" in narrow[1]
    lost = texts(server_lines([server(gone, False)], 120, 8800.0, ["tiny"]))
    assert " lost " in lost[1] and "failed" not in lost[1]
    assert lost[2] == "! tiny is lost, vLLM may still run: kimi serve stop tiny"


def test_status_of_one_that_loads_and_of_one_that_failed() -> None:
    lines = texts(status_lines(server(), 100, 1570.0))
    assert lines[0] == "kimi-k2.5 · load shards · http://127.0.0.1:8000/v1"
    assert "64 %  105/163  9:30 · about 5 min left" in lines[2]
    trouble = Trouble("memory", "the weights do not fit", "use more GPUs")
    failed = replace(at("failed", 1600.0), trouble=trouble, ended=1600.0)
    assert "  ✗ the weights do not fit" in texts(status_lines(server(failed, False), 100, 1700.0))


def test_status_has_the_words_of_what_fails() -> None:
    checks = (CHECKS[0], Checked("tool call", False, "the call came as text"))
    up = replace(at("limited", 1600.0), checks=checks, tokens=4_194_304)
    lines = texts(status_lines(server(up), 100, 1700.0))
    assert "4.2M tokens fit" in lines[1]
    assert lines[2:] == ["  ✓ chat · ✗ tool call", "    tool call: the call came as text"]
    # Of one that is over that is no longer so.
    gone = replace(up, progress=Progress("stopped", 1600.0))
    over = "\n".join(texts(status_lines(server(gone, False), 100, 1700.0)))
    assert "✓" not in over and "tokens fit" not in over and "tool call" not in over


def test_fields() -> None:
    fields = server_fields(server(replace(at("ready", 1600.0), context=98_304, checks=CHECKS)))
    assert fields["state"] == "ready" and fields["alive"] is True
    assert fields["url"] == "http://127.0.0.1:8000/v1" and fields["model"] == "kimi-k2.5"
    assert fields["context"] == 98_304
    assert fields["key_file"] == str(FOLDER / "key") and fields["log"] == str(FOLDER / "vllm.log")
    open_to_all = replace(STATE, launch=replace(LAUNCH, request=Request("k", key=False)))
    assert server_fields(server(open_to_all))["key_file"] is None
    lost = server_fields(server(replace(STATE, trouble=Trouble("lost", "gone", "restart"))))
    assert lost["error"] == {"kind": "lost", "message": "gone", "todo": "restart", "evidence": ""}


def test_figures() -> None:
    before = {"vllm:generation_tokens_total": 1000.0}
    after = {
        "vllm:num_requests_running": 2.0,
        "vllm:num_requests_waiting": 1.0,
        "vllm:kv_cache_usage_perc": 0.123,
        "vllm:prefix_cache_queries_total": 200.0,
        "vllm:prefix_cache_hits_total": 174.0,
        "vllm:generation_tokens_total": 1296.0,
    }
    now = figures(before, after, 2.0)
    assert [span.text for span in figure_spans(now)] == [
        "2 running",
        "1 waiting",
        "KV cache 12 %",
        "prefix cache hits 87 %",
        "148 tok/s",
    ]
    # The server was started anew in between, or is seen for the first time.
    assert figures(after, before, 2.0).rate is None
    assert figures({}, after, 2.0).rate is None
    assert figures({}, {}, 0.0).hits is None
    assert plain_text(figures_line(None, 80)) == "  ctrl-c stops"


# --- any text, any width ---


@given(evil, evil, evil, st.integers(12, 120), stages, st.none() | st.floats(-1, 2))
def test_never_wider_than_the_terminal(
    one: str, other: str, third: str, width: int, stage: Stage, done: float | None
) -> None:
    launch = replace(LAUNCH, name=one, title=other, about=third, repo=other, notes=(one,))
    launch = replace(launch, host=third)
    progress = Progress(stage, 1000.0, done, one, 30.0, other)
    state = ServerState(
        "a1",
        launch,
        4711,
        1000.0,
        progress,
        checks=(Checked(one, True, other), Checked(other, False, third)),
        notes=(one, third),
        trouble=Trouble("x", one, other, third),
        repairs=(Repair((), other),),
    )
    log = Path("/", *(part for part in one.replace("\0", "").split("/") if part))
    story = Story()
    story.told(replace(state, progress=Progress("starting", 1.0, detail=one)), width)
    for line in (
        *head_lines(launch, width),
        *story.told(state, width),
        *live_lines(state, 2000.0, width),
        *ready_lines(state, width),
        *failed_lines(state, log, width),
        *server_lines([server(state)], width, 2000.0, [one]),
        *status_lines(server(state), width, 2000.0),
        *stopped_lines(server(state), [1, 2], width),
        *begun_lines(server(state), width, now=False),
        stopping_line(2.0, 1000.0, 2000.0, width),
        figures_line(figures({}, {}, 1.0), width),
    ):
        text = plain_text(line)
        assert cell_len(text) <= width, (width, text)
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", text), repr(text)


@given(st.text(st.sampled_from("ab 漢字é✓"), max_size=60), st.integers(12, 40))
def test_wrapping_loses_nothing(text: str, width: int) -> None:
    joined = "".join(plain_text(line) for line in wrapped(text, width))
    assert joined.replace(" ", "") == text.replace(" ", "")
    assert plain_text(wrapped(text, None)[0]).strip() == text.strip()


@given(
    st.lists(st.text(st.sampled_from("ab漢"), min_size=1, max_size=20), min_size=1),
    st.integers(12, 60),
)
def test_pieces_are_broken_only_where_they_must(pieces: list[str], width: int) -> None:
    lines = texts(dotted([Span(piece) for piece in pieces], width))
    assert all(cell_len(line) <= width for line in lines)
    short = [piece for piece in pieces if cell_len(piece) + 4 <= width]
    assert all(any(piece in line for line in lines) for piece in short)


@given(st.text(st.sampled_from("ab漢 "), max_size=30), st.integers(1, 20))
def test_a_cut_line_says_so(text: str, width: int) -> None:
    whole = (Span(text[:7], "good"), Span(text[7:]))
    found = plain_text(cut(whole, width))
    assert cell_len(found) <= width
    assert found == text if cell_len(text) <= width else found.endswith("…")


def test_painting() -> None:
    line = (Span("✓ chat", "good"), Span(" · "), Span("━━╸", "live"))
    assert painted(line, colour=True, utf8=True) == "\x1b[32m✓ chat\x1b[0m · \x1b[36m━━╸\x1b[0m"
    assert painted(line, colour=False, utf8=False) == "+ chat - ==>"
