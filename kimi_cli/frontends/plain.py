"""Figures and foreign text as people read them."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kimi_cli.protocol.events import Compaction, Confined, Shrink
    from kimi_cli.protocol.live import CompactionStarted
    from kimi_cli.protocol.messages import Usage

HIDING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode for what is not seen, but obeyed: controls, formats, separators."""
CURRENCY_SIGNS = {"USD": "$", "CNY": "¥", "EUR": "€"}
# What reorders or breaks a line (Unicode UAX #9 and #14) goes with what a terminal obeys.
_SINGLE = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
_CONTROL = re.compile(f"\x1b\\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|{_SINGLE}")
# ECMA-48: strings (DCS, SOS, OSC, PM, APC), CSI, other escapes. An open string ends with its line,
# so that it does not swallow the text. One that begins with a C1 character must be closed: text
# that was decoded wrongly is full of these.
_SEQUENCE = re.compile(
    "\x1b[PX\\]^_][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|[\x90\x98\x9d-\x9f][^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b\\[[0-?]*[ -/]*(?:[@-~]|\\Z)|\x9b[0-?]+[ -/]*[@-~]|\x1b[ -/]*(?:[0-~]|\\Z)"
    f"|{_SINGLE}"
)


def clean(text: str) -> str:
    """Text of the model or a tool on one line, without anything a terminal would obey. What a
    string for the terminal says stays, as text: a command must not hide a part of itself."""
    return _CONTROL.sub("", text.replace("\n", " ⏎ ").replace("\t", " "))


def clean_block(text: str) -> str:
    """Text of several lines as a terminal would show it: no control characters but newline and
    tab, and of the sequences that it would obey nothing, neither titles nor links."""
    return _SEQUENCE.sub("", text)


def revealed(text: str) -> str:
    """Text that somebody is to judge, such as a command to be approved: what a terminal would obey
    is shown for what it is, nothing of it is left out. New lines stay."""
    return "".join(
        char if char == "\n" or unicodedata.category(char) not in HIDING else _name(char)
        for char in text
    )


def _name(char: str) -> str:
    code = ord(char)
    # The control pictures of Unicode stand for the 32 controls and DEL.
    picture = {**dict.fromkeys(range(32), code + 0x2400), 0x7F: 0x2421}.get(code)
    return chr(picture) if picture else f"[U+{code:04X}]"


def ago(age: float) -> str:
    """``3 h ago`` for what was ``age`` seconds ago; empty for more than a week."""
    for unit, length, end in (("min", 60, 60), ("h", 3600, 24), ("d", 86_400, 8)):
        if age < 60:
            return "just now"
        if age < length * end:
            return f"{age // length:.0f} {unit} ago"
    return ""


def when(time: float, now: float) -> str:
    """``3 h ago``, or the local date of what is older than a week; both in seconds since the
    epoch. Empty for 0, which is not known."""
    return ago(now - time) or moment(time)[:10] if time else ""


def moment(time: float) -> str:
    """``2026-11-22 14:03``, local; empty for 0 and for what no calendar has."""
    try:
        return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M") if time else ""
    except (ValueError, OverflowError, OSError):
        return ""


def fit(text: str, width: int) -> str:
    """The text cut to ``width`` columns of a terminal, where a wide character takes two; ``…``
    says that something was cut."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= width:
        return text
    return chop_cells(text, width - 1)[0] + "…" if width > 1 else "…"[:width]


def pad(text: str, width: int) -> str:
    """The text with blanks up to ``width`` columns of a terminal."""
    from rich.cells import cell_len

    return text + " " * (width - cell_len(text))


def counted(count: int, word: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{count} {word}{'s' * (count != 1)}"


def short(count: int) -> str:
    """``950``, ``18.2k``, ``212k``, ``1.31M``."""
    if count < 1000:
        return str(count)
    if count < 99_950:
        return f"{count / 1000:.1f}k"
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1_000_000:.2f}M"


def tokens(count: int) -> str:
    """``18.2k tokens``; empty for none."""
    return f"{short(count)} tokens" if count else ""


def tokens_cached(usage: Usage) -> str:
    """``18.2k tokens, 91 % cached``; empty for none."""
    if not usage.input_tokens:
        return tokens(usage.total_tokens)
    return f"{tokens(usage.total_tokens)}, {share(usage.cached_tokens, usage.input_tokens)} cached"


def share(part: float, whole: float) -> str:
    """``91 %``."""
    return f"{part / whole * 100:.0f} %"


def spent(steps: int, usage: Usage, cost: float | None, currency: str | None, time: float) -> str:
    """``5 steps · 18.2k tokens, 91 % cached · $0.012 · 41 s``: what a turn or a run took."""
    pieces = (counted(steps, "step"), tokens_cached(usage), money(cost, currency), seconds(time))
    return " · ".join(piece for piece in pieces if piece)


def rounded(cost: float | None) -> float | None:
    """A cost as JSON has it."""
    return None if cost is None else round(cost, 6)


def usage_fields(usage: Usage) -> dict[str, int]:
    """Tokens as JSON has them."""
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def compacting(event: CompactionStarted) -> str:
    """``compacting the context: 212k of 256k tokens``."""
    of = f" of {short(event.window)}" if event.window else ""
    return f"compacting the context: {short(event.tokens)}{of} tokens"


def confinement(event: Confined) -> str:
    """``sandbox workspace-write, network off``: what holds for commands."""
    if event.mode == "off":
        return "no sandbox"
    text = f"sandbox {event.mode}, network {'on' if event.network else 'off'}"
    return text + f", degraded: it can't hold {', '.join(event.lacks)}" * bool(event.lacks)


def compacted(event: Compaction, currency: str | None = None) -> str:
    """What a compaction did to the context, what it kept, why the model wrote no note, and what
    the request for it took; its cost only in a ``currency``."""
    kept = event.kept
    files = kept.files_changed + kept.files_read
    what = [
        ("your message" if kept.user_messages == 1 else f"your {kept.user_messages} messages")
        * (kept.user_messages > 0),
        counted(kept.todos, "todo") * (kept.todos > 0),
        counted(files, "file") * (files > 0),
    ]
    names = ", ".join(piece for piece in what if piece)
    done = f"compacted {_change(event)}" + f": kept {names}" * bool(names)
    without = "without a note by the model"
    why = (without + f": {clean(event.failure)}" * bool(event.failure)) * event.mechanical
    took = f"took {tokens_cached(event.usage)}" if event.usage else ""
    cost = money(event.cost, currency) if currency else ""
    return " · ".join(piece for piece in (_full(event), done, why, took, cost) if piece)


def shrunk(event: Shrink) -> str:
    """What cutting old results of tools did to the context."""
    done = f"older results of tools cut: {_change(event)}"
    return " · ".join(piece for piece in (_full(event), done) if piece)


def _full(event: Compaction | Shrink) -> str:
    return f"context {share(event.tokens_before, event.window)}" if event.window else ""


def _change(event: Compaction | Shrink) -> str:
    return f"{short(event.tokens_before)} → {short(event.tokens_after)} tokens"


def money(amount: float | None, currency: str | None) -> str:
    """``$0.012``, ``<$0.001``; empty when no price is known."""
    if amount is None:
        return ""
    sign = CURRENCY_SIGNS.get(currency or "", f"{clean(currency)} " if currency else "")
    if 0 < amount < 0.0005:
        return f"<{sign}0.001"
    return f"{sign}{amount:.3f}" if amount < 10 else f"{sign}{amount:.2f}"


def seconds(value: float) -> str:
    """``0.3 s``, ``41 s``, ``2:05``; empty when it is too short to matter, or no time at all."""
    if not 0.1 <= value < math.inf:
        return ""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes}:{rest:02d}"
