"""How the start of a server goes, as lines: pure functions of what its keeper wrote down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kimi_cli.frontends.plain import clean, seconds
from kimi_cli.frontends.serve.spans import Line, Span, columns_of, cut, dotted, wrapped
from kimi_cli.serve.naming import name_of
from kimi_cli.serve.running import LOADING, UP, Checked, Launch, Progress, ServerState, Stage

STAGES: dict[Stage, str] = {
    "starting": "start vLLM",
    "download": "download",
    "load": "load shards",
    "compile": "compile",
    "profile": "profile memory",
    "graphs": "capture graphs",
    "warmup": "warm up",
    "proving": "try a chat and a tool call",
    "ready": "ready",
    "limited": "limited",
    "stopping": "stopping",
    "stopped": "stopped",
    "failed": "failed",
}
LONGEST_BAR, SHORTEST_BAR = 30, 8
MOST_WAITING_LINES = 3


def head_lines(launch: Launch, width: int | None) -> Iterator[Line]:
    """The plan in two lines, and what there is to know besides. The server's name is told where it
    is not the model's."""
    called = "" if launch.name == name_of(launch.served_name) else clean(launch.name)
    for text, first in ((launch.title, ""), (launch.about, "  ")):
        if text:
            pieces = clean(text).split(" · ")
            if called and not first:
                pieces.append(f"called {called}")
            yield from dotted([Span(piece) for piece in pieces], width, first, "  ")
    for note in launch.notes:
        yield from wrapped(note, width, "warn", "! ", "  ")


class Story:
    """What is worth a line for good, told once: finished stages, repairs, notes. `begun` is how it
    stood before, where that is known."""

    def __init__(self, begun: Progress | None = None) -> None:
        self._last = begun
        self._repairs = 0
        self._notes = 0

    def told(self, state: ServerState, width: int | None) -> list[Line]:
        """The new lines, now that this is the state."""
        lines: list[Line] = []
        last, self._last = self._last, state.progress
        repairs = state.repairs[self._repairs :]
        notes = state.notes[self._notes :]
        self._repairs, self._notes = len(state.repairs), len(state.notes)
        if last and not repairs and _went_well(last, state.progress):
            lines.append(_finished(last, state.progress.since - last.since, width))
        said = [repair.why for repair in repairs]
        for why in said:
            lines += wrapped(why, width, "warn", "  ! ", "    ")
        for note in notes:
            if note not in said:
                lines += wrapped(note, width, "dim", "  ", "    ")
        return lines


def live_lines(state: ServerState, now: float, width: int, *, colour: bool = True) -> list[Line]:
    """The stage under way, at most `width` columns wide, and below it what it waits for. The rest
    of the bar is told apart by its colour, or without any by its form."""
    progress = state.progress
    lines = [_stage_line(state, now, width, colour)]
    if progress.waiting:
        lines += wrapped(progress.waiting, width, "warn", "  ! ")[:MOST_WAITING_LINES]
    return lines


def progress_words(state: ServerState, now: float) -> str:
    """The stage under way in one line without a bar."""
    progress = state.progress
    pieces = [STAGES[progress.stage], _percent(progress), _detail(state), *_times(progress, now)]
    words = "  ".join(piece for piece in pieces[:3] if piece)
    times = " · ".join(piece for piece in pieces[3:] if piece)
    waiting = f" · {clean(progress.waiting)}" * bool(progress.waiting)
    return f"{words}  {times}{waiting}"


def ready_lines(state: ServerState, width: int | None) -> list[Line]:
    """That it can be used, where and how; what it fails at."""
    checks = [check_span(check) for check in state.checks]
    word = "ready" if state.progress.stage == "ready" else "running, with limits,"
    where = Span(f"{word} on {clean(state.base_url)}")
    lines = dotted([*checks, where, Span("kimi --local", "live")], width)
    return lines + failed_checks(state, width)


def failed_checks(state: ServerState, width: int | None) -> list[Line]:
    """What it fails at, in words."""
    lines: list[Line] = []
    for check in state.checks:
        if not check.ok:
            lines += wrapped(f"{check.name}: {check.words}", width, "warn", "    ")
    return lines


def failed_lines(state: ServerState, log: Path, width: int | None) -> list[Line]:
    """What happened, what to do, the line of the log that tells it, and where the log is."""
    trouble = state.trouble
    if trouble is None:
        lines = wrapped("the server ended, and did not say why", width, "bad", "  ✗ ")
    else:
        lines = wrapped(trouble.what, width, "bad", "  ✗ ")
        lines += wrapped(trouble.todo, width, "", "    ") if trouble.todo else []
        if trouble.evidence:
            lines += wrapped(f"it said: {trouble.evidence}", width, "dim", "    ", "      ")
    name = clean(state.launch.name)
    whole = [Span(f"log: {clean(str(log))}", "dim"), Span(f"kimi serve logs {name}", "dim")]
    return lines + dotted(whole, width, "    ", "    ")


def stopping_line(running: float | None, since: float, now: float, width: int) -> Line:
    """While requests in flight are waited for; `running`: how many (None: not known)."""
    pieces = ["  stopping"]
    if running:
        pieces.append(f"{running:.0f} request{'s' * (running != 1)} to finish")
    pieces += [clock(now - since), "ctrl-c again ends it at once"]
    return cut((Span(" · ".join(pieces), "warn"),), width)


def check_span(check: Checked) -> Span:
    """``✓ chat``."""
    mark = "✓" if check.ok else "✗"
    return Span(f"{mark} {clean(check.name)}", "good" if check.ok else "bad")


def clock(duration: float) -> str:
    """``0:41``, ``9:30``, ``1:02:05``."""
    minutes, rest = divmod(max(int(duration), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def left(eta: float | None) -> str:
    """``about 5 min left``; "" when nobody knows. Coarse, so that it does not jump about."""
    if eta is None or not 0 <= eta < 1e9:
        return ""
    if eta < 10:
        return "almost done"
    if eta < 90:
        return f"about {round(eta / 10) * 10} s left"
    minutes = round(eta / 60)
    if minutes < 90:
        return f"about {minutes} min left"
    return f"about {minutes / 60:.1f} h left"


def _went_well(last: Progress, now: Progress) -> bool:
    """Whether the stage before is one that ended well and has no line elsewhere."""
    if last.stage not in LOADING or last.stage == "proving":
        return False
    if now.stage in LOADING:
        return LOADING.index(now.stage) > LOADING.index(last.stage)
    return now.stage in UP


def _finished(progress: Progress, took: float, width: int | None) -> Line:
    whole = clean(progress.detail).rpartition("/")[2].strip()
    pieces = (f"  ✓ {STAGES[progress.stage]}", whole, seconds(took))
    line = (Span(" · ".join(piece for piece in pieces if piece), "dim"),)
    return line if width is None else cut(line, width)


def _stage_line(state: ServerState, now: float, width: int, colour: bool) -> Line:
    progress = state.progress
    name = Span("  " + STAGES[progress.stage], "" if progress.stage in UP else "live")
    percent, detail = _percent(progress), _detail(state)
    elapsed, rest = _times(progress, now)
    times = f"{elapsed} · {rest}" if rest else elapsed
    # What goes first where the line is too long: the detail, the estimate, the bar, the share.
    for words in ((percent, detail, times), (percent, times), (percent, elapsed)):
        tail = Span("".join(f"  {word}" for word in words if word))
        room = width - columns_of((name, tail)) - 2
        if progress.done is None and room >= -2:
            return (name, tail)
        if progress.done is not None and room >= SHORTEST_BAR:
            return (name, Span("  "), *_bar(progress.done, min(room, LONGEST_BAR), colour), tail)
    line = (name, Span(f"  {percent or elapsed}"))
    return cut(line, width)


def _bar(done: float, size: int, colour: bool) -> Line:
    full = int(min(max(done, 0.0), 1.0) * size)
    tip = "╸" if full < size else ""
    rest = ("━" if colour else "─") * (size - full - len(tip))
    return (Span("━" * full + tip, "live"), Span(rest, "dim"))


def _percent(progress: Progress) -> str:
    return "" if progress.done is None else f"{min(max(progress.done, 0.0), 1.0) * 100:.0f} %"


def _detail(state: ServerState) -> str:
    return clean(state.progress.detail)


def _times(progress: Progress, now: float) -> tuple[str, str]:
    return clock(now - progress.since), left(progress.eta)
