"""Sizes and lengths in words."""

from __future__ import annotations

_GIB = 1 << 30


def gib(size: int) -> str:
    """Bytes in GiB with one decimal: "46.8 GiB"."""
    return f"{size / _GIB:,.1f} GiB"


def length(tokens: int) -> str:
    """A context in thousands of 1,024, as it is written on a command line: "256k"."""
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)


def count(number: int, thing: str) -> str:
    """ "1 node", "2 nodes"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
