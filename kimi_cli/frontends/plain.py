"""Figures and foreign text as people read them."""

from __future__ import annotations

import re

CURRENCY_SIGNS = {"USD": "$", "CNY": "¥", "EUR": "€"}
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """Text of the model or a tool on one line, without anything a terminal would obey."""
    return _CONTROL.sub("", text.replace("\n", " ⏎ ").replace("\t", " "))


def clean_block(text: str) -> str:
    """The same for text of several lines."""
    return _CONTROL.sub("", text)


def tokens(count: int) -> str:
    """``18.2k tokens``; empty for none."""
    if not count:
        return ""
    if count < 1000:
        return f"{count} tokens"
    if count < 1_000_000:
        return f"{count / 1000:.1f}k tokens"
    return f"{count / 1_000_000:.2f}M tokens"


def money(amount: float | None, currency: str | None) -> str:
    """``$0.012``; empty when no price is known."""
    if amount is None:
        return ""
    sign = CURRENCY_SIGNS.get(currency or "", f"{currency} " if currency else "")
    return f"{sign}{amount:.3f}" if amount < 10 else f"{sign}{amount:.2f}"


def seconds(value: float) -> str:
    """``0.3 s``, ``41 s``, ``2:05``; empty when it is too short to matter."""
    if value < 0.1:
        return ""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes}:{rest:02d}"
