"""What fills a session's context window, and what its compactions kept and dropped, in lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean, counted, fit, moment, pad, share, short

if TYPE_CHECKING:
    from kimi_cli.agent.context_report import Kind, Report
    from kimi_cli.protocol.events import Compaction, Shrink

TITLES: dict[Kind, str] = {
    "system": "system prompt",
    "tools": "tools",
    "instructions": "AGENTS.md",
    "pinned": "kept by compaction",
    "user": "your messages",
    "program": "reminders",
    "thinking": "thinking",
    "answers": "answers",
    "calls": "tool calls",
    "results": "tool results",
    "media": "images and videos",
}
REASONS = {"window": "window nearly full", "server": "refused as too long", "manual": "asked for"}
NAME, FIGURE, SHARE, BAR = 44, 11, 6, 12
NARROWEST_NAME = 20
BARS = "▏▎▍▌▋▊▉█"


def context_lines(report: Report, *, width: int, bars: bool) -> Iterator[str]:
    """The lines. Rows of the table take at most ``width`` columns, and no less than is needed for
    their figures; sentences are not wrapped. ``bars``: the terminal can show block elements."""
    full = f"{short(report.tokens)} tokens"
    if report.window:
        full = f"{short(report.tokens)} of {short(report.window)} tokens"
        full += f" · {share(report.tokens, report.window)}"
    yield f"{report.session} · {clean(report.model)} · {full}"
    yield ""
    yield from _table(report, width, bars)
    yield ""
    yield from _sources(report)
    if report.compactions or report.shrinks:
        yield ""
        changes: list[Compaction | Shrink] = [*report.compactions, *report.shrinks]
        for event in sorted(changes, key=lambda change: change.seq):
            yield from _compaction(event, width) if event.type == "compaction" else _shrink(event)
        yield f"  the whole history: kimi sessions export {report.session}"


def _table(report: Report, width: int, bars: bool) -> Iterator[str]:
    whole = report.window or report.tokens or 1
    figures = 2 + FIGURE + SHARE
    room = width - figures - (BAR + 2 if bars else 0)
    bars = bars and room >= NARROWEST_NAME
    name = min(NAME, room if bars else width - figures)

    def row(title: str, tokens: int, bar: bool) -> str:
        part = tokens / whole
        percent = f"{part * 100:.0f} %" if part >= 0.005 else "<1 %"
        shown = f"  {pad(fit(title, name), name)}{tokens:>{FIGURE},}{percent:>{SHARE}}"
        return f"{shown}  {_bar(part)}".rstrip() if bar else shown

    for kind, tokens in report.shares.items():
        if not tokens:
            continue
        yield row(TITLES[kind], tokens, bars)
        if kind == "results":
            for result in report.largest:
                title = pad(fit(f"  {clean(result.name)}", name), name)
                yield f"  {title}{result.tokens:>{FIGURE},}"
    if report.window:
        yield row("free", max(report.window - report.tokens, 0), False)


def _bar(part: float) -> str:
    eighths = min(round(part * BAR * 8), BAR * 8)
    full, rest = divmod(eighths, 8)
    return BARS[-1] * full + (BARS[rest - 1] if rest else "")


def _sources(report: Report) -> Iterator[str]:
    """Which figures are measured."""
    how = "counted with the model's tokenizer" if report.exact else "estimated"
    usage = report.measured
    if usage is None:
        yield f"  all figures are {how}: this context was not sent yet"
        return
    since = f"; {report.since:,} since then are {how}" if report.since else ""
    yield f"  measured by the server: {usage.total_tokens:,} after its last answer{since}"
    yield f"  the rows are {how} and scaled to agree with that"
    cached = share(usage.cached_tokens, usage.input_tokens)
    yield (
        f"  {cached} of the last request came from the server's cache"
        f" ({short(usage.cached_tokens)} of {short(usage.input_tokens)})"
    )


def _compaction(event: Compaction, width: int) -> Iterator[str]:
    change = f"{short(event.tokens_before)} → {short(event.tokens_after)} tokens"
    yield f"  {moment(event.time)} · compacted, {REASONS[event.reason]} · {change}"
    if event.focus:
        yield fit(f"    focus: {clean(event.focus)}", width)
    kept = event.kept
    cut = f" ({kept.clipped_messages} cut)" if kept.clipped_messages else ""
    yield (
        f"    kept {counted(kept.user_messages, 'message')}{cut} · {counted(kept.todos, 'todo')}"
        f" · {counted(kept.files_changed, 'file')} changed, {kept.files_read} read"
        f" · {counted(kept.recent_steps, 'step')}"
    )
    note = "the model's own note"
    if event.mechanical:
        note = "no note by the model" + f": {clean(event.failure)}" * bool(event.failure)
    yield fit(f"    dropped {counted(kept.dropped_steps, 'step')} · {note}", width)


def _shrink(event: Shrink) -> Iterator[str]:
    change = f"{short(event.tokens_before)} → {short(event.tokens_after)} tokens"
    yield f"  {moment(event.time)} · results cut to {event.limit:,} bytes each · {change}"
