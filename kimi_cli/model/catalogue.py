"""What is known of models: the table, and how an id finds its row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Thinking = Literal["none", "always", "switchable", "unknown"]

# vLLM; Moonshot, OpenRouter, Together; Groq; LM Studio, whose model may be loaded with less than
# it could have; Mistral.
_WINDOW_FIELDS = (
    "max_model_len",
    "context_length",
    "context_window",
    "loaded_context_length",
    "max_context_length",
)
_BOUNDARY = re.compile(r"[-_:@+]")


@dataclass(frozen=True, slots=True)
class Price:
    """Per million tokens; ``date`` is when ``source`` was read."""

    currency: str
    input: float
    cached_input: float
    output: float
    source: str
    date: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model.

    ``context`` is the window in tokens. ``temperature`` holds while it thinks (and for models
    that never do), ``instant_temperature`` with thinking off; both are for self-hosted servers.
    ``inputs`` are the media it takes, ``hosted_inputs`` those it takes on Moonshot's servers
    only. ``repository`` is where its files are: a name at huggingface.co, or a folder.
    ``keeps_thinking``: it wants all its earlier reasoning back. ``native_ids``: it knows
    its tool calls as ``functions.NAME:IDX``. ``listed`` False marks a guess for an unknown id.
    """

    id: str
    context: int
    thinking: Thinking
    efforts: tuple[str, ...] = ()
    temperature: float | None = None
    instant_temperature: float | None = None
    top_p: float | None = None
    inputs: frozenset[str] = frozenset()
    hosted_inputs: frozenset[str] = frozenset()
    keeps_thinking: bool = False
    native_ids: bool = True
    max_output: int | None = 32_768
    prices: tuple[Price, ...] = ()
    repository: str = ""
    note: str = ""
    listed: bool = True

    def price(self, currency: str) -> Price | None:
        """The price in a currency ("USD", "CNY"), None when it is not known."""
        return next((price for price in self.prices if price.currency == currency), None)

    def media(self, hosted: bool) -> frozenset[str]:
        """The kinds of media it takes, at Moonshot's own endpoints or elsewhere."""
        return self.inputs | self.hosted_inputs if hosted else self.inputs


@dataclass(frozen=True, slots=True)
class Given:
    """What the user's settings say of a model, over everything else; None: nothing."""

    context: int | None = None
    max_output: int | None = None
    thinking: Thinking | None = None
    efforts: tuple[str, ...] | None = None
    inputs: frozenset[str] | None = None

    def over(self, info: ModelInfo) -> ModelInfo:
        """The row with it. No answer is longer than half of the window by itself: a conversation
        could not even begin."""
        said = {name: getattr(self, name) for name in self.__slots__}
        info = replace(info, **{name: value for name, value in said.items() if value is not None})
        if info.max_output is not None:
            info = replace(info, max_output=max(1, min(info.max_output, info.context // 2)))
        return info


def lookup(model_id: str) -> ModelInfo:
    """The row for an id as an endpoint names it: hosted ids, Hugging Face ids, paths and the
    variants of a listed model (``Kimi-K2.5-NVFP4``). Unknown ids get cautious defaults; the
    result always carries the id that was asked for."""
    from kimi_cli.model.catalogue_data import ROWS

    short = model_id.rstrip("/").rsplit("/", 1)[-1].lower()
    best = ""
    for name in ROWS:
        rest = short[len(name) :]
        if short.startswith(name) and len(name) > len(best) and (not rest or _BOUNDARY.match(rest)):
            best = name
    if best:
        return replace(ROWS[best], id=model_id)
    kimi = "kimi" in short or short.startswith("k3")
    return ModelInfo(
        id=model_id,
        context=131_072,
        thinking="unknown",
        native_ids=kimi,
        max_output=32_768 if kimi else None,
        listed=False,
    )


def lookup_as(model_id: str, same_as: str = "") -> ModelInfo:
    """The row for a model that is served under the name ``model_id`` and is ``same_as``; without
    that, the name alone tells."""
    if not same_as:
        return lookup(model_id)
    row = lookup(same_as)
    return replace(row, id=model_id, repository=same_as if "/" in same_as else row.repository)


def merge_endpoint(info: ModelInfo, entry: Mapping[str, Any]) -> ModelInfo:
    """The row corrected by what the endpoint says of the model in GET /models: the window, and
    for models that are not listed what Moonshot's entries add (``supports_image_in``,
    ``supports_reasoning`` ...)."""
    for key in _WINDOW_FIELDS:
        window = entry.get(key)
        if isinstance(window, int) and window > 0:
            info = replace(info, context=window)
            break
    if info.listed:
        return info
    inputs = {kind for kind in ("image", "video") if entry.get(f"supports_{kind}_in") is True}
    if entry.get("supports_reasoning") is False:
        info = replace(info, thinking="none")
    return replace(info, inputs=info.inputs | inputs)
