"""Servers that were started, for people and for programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kimi_cli.frontends.plain import ago, clean, moment, when
from kimi_cli.frontends.serve.plan_view import amount, tokens
from kimi_cli.frontends.serve.progress_view import (
    STAGES,
    check_span,
    failed_checks,
    failed_lines,
    progress_words,
)
from kimi_cli.frontends.serve.spans import (
    Line,
    Span,
    Style,
    columns_of,
    cut,
    dotted,
    table,
    wrapped,
)
from kimi_cli.serve.running import LOADING, OVER, UP, Launch, ServerState

if TYPE_CHECKING:
    from kimi_cli.serve.state import Server

HEADINGS = ("name", "model", "state", "url", "context", "since", "pid")
GIVE_WAY = ("model", "pid", "context", "since", "url")
"""The columns that are left out where the terminal is too narrow, the first one first."""


class Figures(NamedTuple):
    """What a server does: requests in work and waiting, the share of its cache in use and of
    prompt tokens found there (0 to 1), tokens generated each second. None: not known."""

    running: float
    waiting: float
    cache: float | None
    hits: float | None
    rate: float | None


def figures(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> Figures:
    """From vLLM's metrics at two moments (vllm/v1/metrics/loggers.py names them); the first may be
    empty."""
    made = "vllm:generation_tokens_total"
    rate = None
    if made in before and made in after and seconds > 0 and after[made] >= before[made]:
        rate = (after[made] - before[made]) / seconds
    asked = after.get("vllm:prefix_cache_queries_total", 0.0)
    found = after.get("vllm:prefix_cache_hits_total", 0.0)
    return Figures(
        running=after.get("vllm:num_requests_running", 0.0),
        waiting=after.get("vllm:num_requests_waiting", 0.0),
        cache=after.get("vllm:kv_cache_usage_perc"),
        hits=found / asked if asked else None,
        rate=rate,
    )


def figure_spans(now: Figures) -> list[Span]:
    """``2 running``, ``0 waiting``, ``cache 12 %``, ``87 % found in it``, ``148 tok/s``."""
    cache = "" if now.cache is None else f"KV cache {now.cache * 100:.0f} %"
    hits = "" if now.hits is None else f"prefix cache hits {now.hits * 100:.0f} %"
    rate = "" if now.rate is None else f"{now.rate:.0f} tok/s"
    waiting = Span(f"{now.waiting:.0f} waiting", "warn" if now.waiting else "")
    pieces = (Span(f"{now.running:.0f} running"), waiting, Span(cache), Span(hits), Span(rate))
    return [piece for piece in pieces if piece.text]


def figures_line(now: Figures | None, width: int) -> Line:
    """The quiet line below a server that runs."""
    pieces = figure_spans(now) if now else []
    (line,) = dotted([*pieces, Span("ctrl-c stops")], None)
    return cut(tuple(Span(span.text, span.style or "dim") for span in line), width)


def server_lines(
    servers: Sequence[Server], width: int | None, now: float, left: Collection[str] = ()
) -> list[Line]:
    """A table of servers, at most `width` columns wide (None: nothing is left out). `left` are the
    names of those whose keeper is gone and whose processes are not."""
    rows = [_row(server, now, server.name in left) for server in servers]
    names = list(HEADINGS)
    lines = list(table(names, rows))
    for name in GIVE_WAY:
        if width is None or max(map(columns_of, lines)) <= width:
            break
        at = names.index(name)
        names.pop(at)
        for row in rows:
            row.pop(at)
        lines = list(table(names, rows))
    if width is not None:
        lines = [cut(line, width) for line in lines]
    for name in left:
        name = clean(name)
        words = f"{name} is lost, vLLM may still run: kimi serve stop {name}"
        lines += wrapped(words, width, "warn", "! ", "  ")
    return lines


def status_lines(server: Server, width: int | None, now: float) -> list[Line]:
    """A server and how it stands, without what only it can tell."""
    state = server.state
    launch, stage = state.launch, state.progress.stage
    lines = dotted(
        [
            Span(clean(launch.name)),
            Span(STAGES[stage], _style(state)),
            Span(clean(state.base_url)) if stage not in OVER else Span(_ended(state)),
        ],
        width,
        "",
    )
    began = ago(now - state.started) or moment(state.started)
    facts = [
        _model(launch),
        f"context {tokens(_context(state))}" if _context(state) else "",
        f"{amount(state.tokens)} tokens fit" if state.tokens and stage not in OVER else "",
        f"started {began}",
        f"pid {state.keeper_pid}" if server.alive and state.keeper_pid else "",
    ]
    lines += dotted([Span(fact, "dim") for fact in facts if fact], width)
    if stage in LOADING:
        words = progress_words(state, now)
        lines += wrapped(words, width, "warn" if state.progress.waiting else "live")
    if stage == "failed":
        lines += failed_lines(state, server.log, width)
    elif state.checks and stage not in OVER:
        lines += dotted([check_span(check) for check in state.checks], width)
        lines += failed_checks(state, width)
    for note in state.notes:
        lines += wrapped(note, width, "dim")
    return lines


def server_fields(server: Server) -> dict[str, Any]:
    """A server as JSON; sizes in tokens, times in seconds since the epoch."""
    state = server.state
    launch, progress, trouble = state.launch, state.progress, state.trouble
    return {
        "name": launch.name,
        "state": progress.stage,
        "alive": server.alive,
        "url": state.base_url,
        "model": launch.served_name,
        "repo": launch.repo,
        "context": _context(state) or None,
        "tokens": state.tokens or None,
        "key_file": _path(server.folder / "key") if launch.request.key else None,
        "log": _path(server.log),
        "pid": state.keeper_pid or None,
        "vllm": launch.vllm_version or None,
        "started": state.started,
        "ready": state.ready,
        "ended": state.ended,
        "progress": {
            "since": progress.since,
            "done": progress.done,
            "detail": progress.detail,
            "seconds_left": progress.eta,
            "waiting": progress.waiting,
        },
        "checks": [
            {"name": check.name, "ok": check.ok, "words": check.words} for check in state.checks
        ],
        "repairs": [repair.why for repair in state.repairs],
        "notes": [*launch.notes, *state.notes],
        "error": None
        if trouble is None
        else {
            "kind": trouble.kind,
            "message": trouble.what,
            "todo": trouble.todo,
            "evidence": trouble.evidence,
        },
    }


def _row(server: Server, now: float, left: bool) -> list[Span]:
    state = server.state
    launch = state.launch
    since = state.ended or state.ready or state.started
    over = state.progress.stage in OVER
    return [
        Span(clean(launch.name)),
        Span(_model(launch)),
        Span("lost" if left else _stage(state), _style(state)),
        Span("" if over else clean(state.base_url)),
        Span(tokens(_context(state)) if _context(state) else ""),
        Span(when(since, now)),
        Span(str(state.keeper_pid) if server.alive and state.keeper_pid else ""),
    ]


def _stage(state: ServerState) -> str:
    progress = state.progress
    done = "" if progress.done is None else f" {progress.done * 100:.0f} %"
    return STAGES[progress.stage] + done


def _style(state: ServerState) -> Style:
    stage = state.progress.stage
    if stage == "failed":
        return "bad"
    if stage in UP:
        return "good" if stage == "ready" else "warn"
    return "dim" if stage == "stopped" else "live"


def _ended(state: ServerState) -> str:
    return f"since {moment(state.ended)}" if state.ended else "when is not known"


def _model(launch: Launch) -> str:
    return clean(launch.repo or launch.request.model)


def _context(state: ServerState) -> int:
    return state.context or state.launch.context


def _path(path: Path) -> str:
    return str(path)
