"""Cuts a text that is too long for the model: its head and its tail stay."""

from __future__ import annotations

MAX_RESULT_BYTES = 24_000
"""About 8k tokens of source code. In bytes, so that CJK text, three bytes and about a token a
character, is held to the same size."""


def clip_middle(text: str, limit: int, path: str) -> str:
    """``text`` cut to about ``limit`` bytes of UTF-8: one third head, two thirds tail (errors
    stand at the end), at line ends where there are some near, naming ``path`` as the whole."""
    raw = text.encode("utf-8", "replace")
    head = _until_line_end(raw[: limit // 3])
    tail = _from_line_start(raw[-(limit - limit // 3) :])
    omitted = len(raw) - len(head) - len(tail)
    note = f"\n[... {omitted:,} bytes left out; the whole is in {path} ...]\n"
    return head.decode("utf-8", "ignore") + note + tail.decode("utf-8", "ignore")


def shorten(text: str, limit: int) -> str:
    """``text`` cut to about ``limit`` bytes of UTF-8, head and tail; the same object when it is
    short enough."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    head, tail = raw[: limit // 2], raw[len(raw) - (limit - limit // 2) :]
    note = f"\n[... {len(raw) - limit:,} bytes dropped to save context ...]\n"
    return head.decode("utf-8", "ignore") + note + tail.decode("utf-8", "ignore")


def _until_line_end(raw: bytes) -> bytes:
    cut = raw.rfind(b"\n")
    return raw[:cut] if cut > len(raw) // 2 else raw


def _from_line_start(raw: bytes) -> bytes:
    cut = raw.find(b"\n")
    return raw[cut + 1 :] if 0 <= cut < len(raw) // 2 else raw
