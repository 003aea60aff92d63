"""HTML that is put together so that text can't become markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

VOID = frozenset({"img", "input", "meta", "br"})


class Markup(str):
    """HTML that is safe as it is. Every other string is text."""

    __slots__ = ()


def put(*children: str) -> Markup:
    """The children one behind the other: Markup as it is, text escaped."""
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children))


def tag(name: str, attributes: Mapping[str, str | bool] | None = None, *children: str) -> Markup:
    """An element. An attribute that is True has no value, one that is False or "" is left out.

    ``name`` and the names of attributes must be our own words."""
    head = name
    for key, value in (attributes or {}).items():
        if value is True:
            head += f" {key}"
        elif value:
            head += f' {key}="{escape(value)}"'
    return Markup(f"<{head}>" if name in VOID else f"<{head}>{put(*children)}</{name}>")


def lines(children: Iterable[str]) -> Markup:
    """Markup of one child a line; empty ones are left out."""
    return Markup("\n".join(put(child) for child in children if child))
