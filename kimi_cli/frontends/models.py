"""The models that an endpoint lists, as people and programs see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kimi_cli.model.catalogue import ModelInfo
    from kimi_cli.model.dialects import Dialect
    from kimi_cli.model.endpoint import Listed
    from kimi_cli.settings import Loaded


def model_row(model: Listed, dialect: Dialect, loaded: Loaded) -> dict[str, Any]:
    """What is known of a model: what the endpoint says, the settings over it."""
    from kimi_cli.agent.model_config import model_config

    settings = loaded.settings
    given = model_config(settings, model.id, "", "").given
    window, source, detail = _window(model.info, loaded)
    info, price = given.over(replace(model.info, context=window)), model.price
    return {
        "id": model.id,
        "current": model.id == settings.model,
        "context": info.context,
        "context_source": source,
        "context_detail": detail,
        "thinking": " | ".join(info.efforts) or info.thinking,
        "inputs": ["text", *sorted(info.media(dialect.hosted))],
        "price": price
        and {
            "currency": price.currency,
            "input": price.input,
            "cached_input": price.cached_input,
            "output": price.output,
            "source": price.source,
            "date": price.date,
        },
    }


def price_text(price: Mapping[str, Any] | None) -> str:
    """``USD 0.6, 0.1, 3`` for the price in a row: a million tokens of input, cached input, output;
    empty where none is known."""
    if not price:
        return ""
    figures = ", ".join(f"{price[name]:g}" for name in ("input", "cached_input", "output"))
    return f"{price['currency']} {figures}"


def _window(info: ModelInfo, loaded: Loaded) -> tuple[int, str, str]:
    """The context window that a session gets, who says so, and where (a file with its line, a
    variable). Where endpoint and catalogue say the same, the catalogue counts as the source."""
    from kimi_cli.model.catalogue import lookup
    from kimi_cli.model.dialects import recognised
    from kimi_cli.settings.keys import dotted

    entry = loaded.settings.models.get(info.id)
    if entry and entry.context is not None:
        source = loaded.sources[dotted(("models", info.id, "context"))]
        return entry.context, source.kind, source.detail
    own = lookup(info.id)
    # Served under another name: the row is that of the model it was loaded from.
    known = lookup(info.repository) if info.listed and not own.listed else own
    if known.listed and recognised(loaded.settings.endpoint.base_url):
        # Moonshot's own hosts are not asked for the window of a model that is known.
        return known.context, "catalogue", ""
    if info.context != known.context:
        return info.context, "endpoint", ""
    return info.context, "catalogue" if known.listed else "default", ""


def window_text(window: int) -> str:
    """``256k``, or all digits of what is no multiple of 1024."""
    return f"{window:,}" if window % 1024 else f"{window // 1024:,}k"
