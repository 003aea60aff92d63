"""What an endpoint says of itself: its kind and its models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kimi_cli.model.build import ModelConfig, build_endpoint
from kimi_cli.model.catalogue import ModelInfo, Price, lookup, lookup_as, merge_endpoint
from kimi_cli.model.dialects import AUTO, Dialect, dialect_named, recognise, recognised
from kimi_cli.model.provider import Endpoint
from kimi_cli.model.wire import RequestFailed
from kimi_cli.protocol.provider import ModelError


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of an endpoint: the catalogue's row as the endpoint corrects it, the media it
    takes there, and its price there, if it has one that is known."""

    id: str
    info: ModelInfo
    media: frozenset[str]
    price: Price | None


@dataclass(frozen=True, slots=True)
class Models:
    """What an endpoint lists, or why it did not."""

    dialect: Dialect
    models: tuple[Listed, ...] = ()
    error: ModelError | None = None


async def list_models(config: ModelConfig) -> Models:
    """Ask GET /models, joined with the catalogue, sorted by id. Never raises for what the
    endpoint does; ConfigError for a configuration that can't work."""
    endpoint = build_endpoint(config)
    try:
        return await _list(endpoint, config)
    finally:
        await endpoint.connection.close()


async def _list(endpoint: Endpoint, config: ModelConfig) -> Models:
    try:
        entries = await endpoint.get_models()
    except RequestFailed as failure:
        return Models(_dialect(config, []), error=failure.error)
    dialect = _dialect(config, entries)
    rows = [_listed(entry, dialect, config) for entry in entries if entry.get("id")]
    return Models(dialect, tuple(sorted(rows, key=lambda row: row.id)))


async def detect(
    config: ModelConfig, endpoint: Endpoint | None = None
) -> tuple[ModelConfig, ModelError | None]:
    """The configuration with what its endpoint says filled in: the dialect where it is "auto",
    the window where it is not set. Moonshot's own hosts are asked only for a model that the
    catalogue does not know. An endpoint that does not answer leaves the configuration as it is;
    the error says why, if the dialect is in doubt by that. ``endpoint`` is one built of the
    configuration before, whose connection is then open for what follows."""
    hosted = recognised(config.base_url) is not None
    known = config.given.context is not None or (hosted and lookup(config.model).listed)
    if known and (hosted or config.dialect != AUTO):
        return config, None
    found = await (_list(endpoint, config) if endpoint else list_models(config))
    if found.error is not None:
        return config, None if hosted else found.error
    info = next((model.info for model in found.models if model.id == config.model), None)
    if info is not None and config.info is None:
        config = replace(config, info=info)
    return replace(config, dialect=found.dialect.name), None


def price_at(info: ModelInfo, dialect: Dialect, base_url: str) -> Price | None:
    """The price of a model at an endpoint. Moonshot bills in yuan in China and in dollars
    elsewhere; the subscription has no price per token, and other endpoints' are not known."""
    if not dialect.metered:
        return None
    return info.price("CNY" if ".moonshot.cn" in base_url else "USD")


def _dialect(config: ModelConfig, entries: list[dict[str, Any]]) -> Dialect:
    if config.dialect != AUTO:
        return dialect_named(config.dialect)
    return recognise(config.base_url, {"data": entries})


def _listed(entry: dict[str, Any], dialect: Dialect, config: ModelConfig) -> Listed:
    name = str(entry["id"])
    same_as = config.same_as if name == config.model else ""
    if not same_as and not lookup(name).listed:
        # A model served under another name: vLLM tells the one it was loaded from.
        same_as = str(entry.get("root") or "")
    info = merge_endpoint(lookup_as(name, same_as), entry)
    price = price_at(info, dialect, config.base_url)
    return Listed(info.id, info, info.media(dialect.hosted), price)
