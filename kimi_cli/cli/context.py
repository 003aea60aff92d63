"""``kimi context``: what fills a session's window, and what its compactions kept and dropped."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.here import working_directory
from kimi_cli.cli.output import json_line
from kimi_cli.protocol.stops import StopReason

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
NAME, FIGURE, BAR = 44, 11, 12
WIDTH = 80
BARS = "▏▎▍▌▋▊▉█"


def show_context(session: str | None, json_output: bool) -> int:
    """Print the report of a stored session; returns the exit code."""
    from kimi_cli.agent.context_report import stored_report
    from kimi_cli.settings import SettingsError, kimi_home
    from kimi_cli.store.errors import SessionError, StoreError
    from kimi_cli.workspace.roots import project_root

    try:
        root = project_root(working_directory())
        report = stored_report(os.environ, kimi_home(os.environ), root, session)
    except (SessionError, SettingsError) as error:
        print(f"kimi: {error}", file=sys.stderr)
        return EXIT_CODES[StopReason.CONFIGURATION]
    except StoreError as error:
        print(f"kimi: {error}", file=sys.stderr)
        return EXIT_CODES[StopReason.STORE_FAILED]
    if json_output:
        print(json_line(report.as_json()))
    else:
        print("\n".join(_lines(report, _bars_shown())))
    return 0


def _bars_shown() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _lines(report: Report, bars: bool) -> Iterator[str]:
    from kimi_cli.frontends.plain import clean, share, short

    full = f"{short(report.tokens)} tokens"
    if report.window:
        full = f"{short(report.tokens)} of {short(report.window)} tokens"
        full += f" · {share(report.tokens, report.window)}"
    yield f"{report.session} · {clean(report.model)} · {full}"
    yield ""
    yield from _table(report, bars)
    yield ""
    yield from _sources(report)
    if report.compactions or report.shrinks:
        yield ""
        changes: list[Compaction | Shrink] = [*report.compactions, *report.shrinks]
        for event in sorted(changes, key=lambda change: change.seq):
            yield from _compaction(event) if event.type == "compaction" else _shrink(event)
        yield f"  the whole history: kimi sessions export {report.session}"


def _table(report: Report, bars: bool) -> Iterator[str]:
    from kimi_cli.frontends.plain import clean, fit, pad

    whole = report.window or report.tokens or 1
    for kind, tokens in report.shares.items():
        if not tokens:
            continue
        yield _row(pad(TITLES[kind], NAME), tokens, whole, bars)
        if kind == "results":
            for result in report.largest:
                name = pad(f"  {fit(clean(result.name), NAME - 2)}", NAME)
                yield f"  {name}{result.tokens:>{FIGURE},}"
    if report.window:
        yield _row(pad("free", NAME), max(report.window - report.tokens, 0), whole, False)


def _row(name: str, tokens: int, whole: int, bars: bool) -> str:
    part = tokens / whole
    percent = f"{part * 100:.0f} %" if part >= 0.005 else "<1 %"
    row = f"  {name}{tokens:>{FIGURE},}{percent:>6}"
    return f"{row}  {_bar(part)}".rstrip() if bars else row


def _bar(part: float) -> str:
    eighths = min(round(part * BAR * 8), BAR * 8)
    full, rest = divmod(eighths, 8)
    return BARS[-1] * full + (BARS[rest - 1] if rest else "")


def _sources(report: Report) -> Iterator[str]:
    """Which figures are measured."""
    from kimi_cli.frontends.plain import share, short

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


def _compaction(event: Compaction) -> Iterator[str]:
    from kimi_cli.frontends.plain import clean, counted, fit, moment, short

    change = f"{short(event.tokens_before)} → {short(event.tokens_after)} tokens"
    yield f"  {moment(event.time)} · compacted, {REASONS[event.reason]} · {change}"
    if event.focus:
        yield fit(f"    focus: {clean(event.focus)}", WIDTH)
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
    yield fit(f"    dropped {counted(kept.dropped_steps, 'step')} · {note}", WIDTH)


def _shrink(event: Shrink) -> Iterator[str]:
    from kimi_cli.frontends.plain import moment, short

    change = f"{short(event.tokens_before)} → {short(event.tokens_after)} tokens"
    yield f"  {moment(event.time)} · results cut to {event.limit:,} bytes each · {change}"
