"""The line below the input: what the session runs with, and what it has used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kimi_cli.frontends.plain import clean, money, share, short
from kimi_cli.frontends.terminal.ink import Ink, Style, cells
from kimi_cli.protocol.messages import Usage


@dataclass(slots=True)
class Status:
    """``fullness`` is the share of the context window in use and ``window`` its size in tokens;
    ``usage`` and ``cost`` are the whole session's."""

    model: str = ""
    thinking: str = ""
    mode: str = "auto"
    sandbox: str = ""
    branch: str = ""
    fullness: float | None = None
    window: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    currency: str | None = None
    session: str = ""


def status_line(status: Status, ink: Ink, width: int) -> str:
    """One line of at most ``width`` columns. Where room is short the least needed goes first;
    mode and sandbox stay longest, and the model with them."""
    pieces = _pieces(status)
    dot = f" {ink.look.dot} "
    while len(pieces) > 1 and _length(pieces, dot) + 2 > width:
        pieces.remove(min(pieces, key=lambda piece: piece[0]))
    out: list[tuple[str, Style]] = [("  ", "")]
    for number, (_, text, style) in enumerate(pieces):
        out += [(dot if number else "", "dim"), (text, style)]
    return ink.line(out, width)


def _pieces(status: Status) -> list[tuple[int, str, Style]]:
    """What there is to say, with how much it is needed."""
    thinking = {"off": "no thinking", "": "", "on": "thinking"}.get(
        status.thinking, f"thinking {status.thinking}"
    )
    mode: Style = {"yolo": "warn", "plan": "accent", "ask": "accent"}.get(status.mode, "dim")  # type: ignore[assignment]
    full = status.fullness
    context = ""
    if full is not None:
        context = share(full, 1) + f" of {_round(status.window)}" * bool(status.window)
    context_style: Style = "warn" if (full or 0) >= 0.8 else "dim"
    cached = status.usage.input_tokens and share(
        status.usage.cached_tokens, status.usage.input_tokens
    )
    used = status.usage.total_tokens
    found: list[tuple[int, str, Style]] = [
        (8, clean(status.model), "dim"),
        (5, thinking, "dim"),
        (10, status.mode, mode),
        (9, status.sandbox, "warn"),
        (4, clean(status.branch), "dim"),
        (7, context, context_style),
        (2, f"{short(used)} tokens" if used else "", "dim"),
        (1, f"{cached} cached" if cached else "", "dim"),
        (6, money(status.cost, status.currency), "dim"),
        (0, status.session, "dim"),
    ]
    return [piece for piece in found if piece[1]]


def _round(tokens: int) -> str:
    """``256k`` for 262,144 and for 256,000: windows come as either."""
    if tokens >= 1_000_000:
        return f"{round(tokens / 1_048_576)}M" if tokens % 1_048_576 == 0 else short(tokens)
    if tokens >= 1024 and tokens % 1024 == 0:
        return f"{tokens // 1024}k"
    return f"{round(tokens / 1000)}k" if tokens >= 1000 else str(tokens)


def _length(pieces: Sequence[tuple[int, str, Style]], dot: str) -> int:
    return sum(cells(text) for _, text, _ in pieces) + cells(dot) * (len(pieces) - 1)
