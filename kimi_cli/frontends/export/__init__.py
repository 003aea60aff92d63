"""A recorded session as a document: for reading, for other programs, for the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kimi_cli.protocol.events import DurableEvent

FORMATS: Mapping[str, str] = {"md": ".md", "openai": ".json", "html": ".html"}
"""The formats, each with the suffix of its files."""


def export(events: Sequence[DurableEvent], format: str, *, title: str, session: str) -> str:
    """The whole history of a session in one of ``FORMATS``.

    ``events`` are all its events in the order of the file, ``session`` is its id; an empty
    ``title`` is replaced by the session's own, or by its first message. The text holds no lone
    surrogates. Raises ValueError for another format.
    """
    if format == "md":
        from kimi_cli.frontends.export.markdown import markdown

        return markdown(events, title=title, session=session)
    if format == "openai":
        from kimi_cli.frontends.export.openai_messages import openai_messages

        return openai_messages(events)
    if format == "html":
        from kimi_cli.frontends.export.page import page

        return page(events, title=title, session=session)
    raise ValueError(f"no export format {format!r}; there are: {', '.join(FORMATS)}")
