"""What is verified: one model at one endpoint, as the endpoint itself tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kimi_cli.model.build import ModelConfig
from kimi_cli.model.catalogue import ModelInfo, Price, lookup_as
from kimi_cli.model.dialects import Dialect, thinking_params
from kimi_cli.model.endpoint import Listed, list_models, price_at
from kimi_cli.model.errors import ConfigError
from kimi_cli.protocol.provider import ModelError


@dataclass(frozen=True, slots=True)
class Subject:
    """One model at one endpoint. `window` is its context length, None where that is a guess;
    `names` are the models that the endpoint lists, `error` why it lists none."""

    config: ModelConfig
    info: ModelInfo
    dialect: Dialect
    window: int | None = None
    price: Price | None = None
    names: tuple[str, ...] = ()
    error: ModelError | None = None

    @property
    def name(self) -> str:
        return self.config.model

    @property
    def kimi_k2(self) -> bool:
        """Whether the model is of the K2 family, whose ids of calls have a form of their own."""
        names = f"{self.info.id} {self.info.repository}".lower()
        return self.info.native_ids and ("kimi-k2" in names or "kimi-for-coding" in names)

    def switch(self, thinking: str) -> dict[str, Any] | None:
        """The fields that set thinking "on" or "off", None where that can't be set."""
        try:
            return thinking_params(self.dialect, self.info, thinking)
        except ConfigError:
            return None

    def quick(self) -> str:
        """The setting with the least thinking that there is."""
        return "on" if self.switch("off") is None else "off"


class WhichModel(ConfigError):
    """The endpoint has several models and none was named; the message is for people."""


async def find_subject(config: ModelConfig, *, chosen: bool = True) -> Subject:
    """Ask the endpoint for its models. Without a model in the configuration it is the only one
    that is there, and so where the configuration's is not listed and was not `chosen`. Raises
    WhichModel, and ConfigError for an address or a key that can't be one; nothing for what the
    endpoint does."""
    found = await list_models(config)
    names = tuple(row.id for row in found.models)
    model = config.model
    if not model or not (chosen or model in names):
        model = _only(names, found.dialect) or model
    if model != config.model:
        config = replace(config, same_as="")
    if not model and found.error is None:
        raise WhichModel(
            f"name the model; the endpoint has: {', '.join(names[:20])}"
            if names
            else "name the model: the endpoint lists none"
        )
    row = next((row for row in found.models if row.id == model), None)
    info = config.given.over(row.info if row else lookup_as(model, config.same_as))
    dialect = found.dialect
    config = replace(config, model=model, dialect=dialect.name)
    return Subject(
        config,
        info,
        dialect,
        _window(info, row),
        price_at(info, dialect, config.base_url),
        names,
        found.error,
    )


def _only(names: Sequence[str], dialect: Dialect) -> str:
    # vLLM serves one model under as many names as it was given.
    return names[0] if names and (len(names) == 1 or dialect.name == "vllm") else ""


def _window(info: ModelInfo, row: Listed | None) -> int | None:
    guess = lookup_as("").context
    told = row is not None and row.info.context != guess
    return info.context if info.listed or told else None
