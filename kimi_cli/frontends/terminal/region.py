"""The lines above the input: the streaming tail, what runs, the question, what is queued."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.frontends.plain import clean, counted, seconds
from kimi_cli.frontends.terminal.ink import Ink, Style
from kimi_cli.frontends.terminal.live import Doing, Running

TOOL_OUTPUT = 3
TOOLS_SHOWN = 3


def tool_lines(doing: Doing, ink: Ink, width: int, height: int) -> list[str]:
    """The running tool calls, each with its time and the last lines of its output."""
    running = list(doing.tools.values())
    shown = running[-TOOLS_SHOWN:]
    each = max((height - len(shown)) // max(len(shown), 1), 0)
    lines: list[str] = []
    if len(running) > len(shown):
        lines.append(ink(f"  {counted(len(running) - len(shown), 'more call')}", "dim"))
    for tool in shown:
        lines.append(_tool_line(tool, ink, width, doing.now()))
        lines += [
            ink.line([(f"    {line}", "dim")], width)
            for line in tool.last_lines(min(each, TOOL_OUTPUT))
        ]
    return lines[:height]


def _tool_line(tool: Running, ink: Ink, width: int, now: float) -> str:
    what = clean(f"{tool.name} {tool.summary}".strip())
    taken = now - tool.since
    time_taken = seconds(float(int(taken))) if taken >= 1 else ""
    hint = "esc stops" + " · ctrl-b background" * (tool.name in ("shell", "!"))
    tail = f" · {time_taken}" * bool(time_taken)
    room = width - len(tail) - 2
    full = len(hint) + 3 + len(what) + len(tail) + 2 <= width and taken >= 1
    pieces = ink.line([(f"{ink.look.tool} ", "accent"), (what, "")], room + 2)
    return pieces + ink(tail, "dim") + (ink(f" · {hint}", "dim") if full else "")


def doing_line(doing: Doing, ink: Ink, width: int) -> list[str]:
    """What is waited for, if anything."""
    line = doing.line()
    if not line:
        return []
    style: Style
    hint, style = (" · esc stops", "warn") if doing.waiting else ("", "dim")
    return [ink.line([("  ", ""), (line, style), (hint, "dim")], width)]


def queue_lines(
    queued: Sequence[str], kept: Sequence[str], steering: Sequence[str], ink: Ink, width: int
) -> list[str]:
    """What is to be sent: to the running turn, after it, and when the user says so."""
    lines = []
    for text in steering[-2:]:
        lines.append(_labelled("steering", text, ink, width))
    for number, text in enumerate(queued[:2]):
        lines.append(_labelled("then" if number else "next", text, ink, width))
    if len(queued) > 2:
        lines.append(ink(f"  and {len(queued) - 2} more queued · ↑ takes the last back", "dim"))
    for text in kept[:2]:
        lines.append(_labelled("kept", text, ink, width))
    if kept:
        more = f"{len(kept) - 2} more · " if len(kept) > 2 else ""
        lines.append(ink(f"  {more}enter on an empty line sends them, ↑ takes one back", "dim"))
    return lines


def plan_lines(ink: Ink, width: int) -> list[str]:
    """What can be done with a plan."""
    head: list[tuple[str, Style]] = [(f"{ink.look.needs} ", "warn"), ("the plan is ready", "bold")]
    answers = "    1 carry it out, mode auto   2 carry it out, ask before each change"
    rest = "    or say what to change"
    return [ink.line(head, width), ink.line([(answers, "")], width), ink(rest, "dim")]


def _labelled(label: str, text: str, ink: Ink, width: int) -> str:
    return ink.line([(f"  {label}: ", "accent"), (clean(text), "dim")], width)
