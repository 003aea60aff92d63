"""The model of a session: which one, at which endpoint, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from kimi_cli.agent.model_config import model_config, price_of
from kimi_cli.agent.setup import CONFIGURED, Place, Setup, SetupError
from kimi_cli.agent.stored import Stored
from kimi_cli.model.build import build_endpoint, build_provider
from kimi_cli.model.catalogue import Price
from kimi_cli.model.endpoint import detect
from kimi_cli.model.errors import ConfigError
from kimi_cli.model.provider import Endpoint
from kimi_cli.model.wire import RequestFailed
from kimi_cli.protocol.provider import Provider
from kimi_cli.protocol.stops import StopReason
from kimi_cli.settings import Loaded, Settings

SHOWN = 20
"""Models that a complaint names."""


@dataclass(frozen=True, slots=True)
class Served:
    """A provider, what it costs, the kinds of media its model takes, the name of its dialect, a
    doubt about it for the user, where it is, and the settings that say so (None: those that the
    session was opened with)."""

    provider: Provider
    thinking: str
    price: Price | None = None
    media: frozenset[str] = frozenset()
    dialect: str = ""
    doubt: str = ""
    place: Place = CONFIGURED
    loaded: Loaded | None = None


async def find_model(
    setup: Setup, loaded: Loaded, stored: Stored | None, session: str, seconds: float | None
) -> Served:
    """The model of the setup, found within ``seconds``. Raises SetupError."""
    model, thinking = _model_of(loaded, stored)
    if setup.provider is not None:
        return Served(setup.provider, thinking)
    # What is set for thinking is meant for the model of the settings.
    yielding = bool(setup.place.name) and loaded.sources["thinking"].kind != "flag"
    serving = _serve(loaded.settings, model, thinking, session, setup.place, yielding=yielding)
    found = replace(await _found(serving, seconds), place=setup.place, loaded=loaded)
    if blind := setup.media - found.media:
        raise SetupError(f"{found.provider.model} takes no {' and no '.join(sorted(blind))}s")
    _check_price(loaded.settings, found)
    return found


async def other_model(
    loaded: Loaded,
    now: Served,
    model: str | None,
    thinking: str | None,
    session: str,
    seconds: float | None,
    *,
    place: Place,
) -> Served:
    """Another model than that of ``now`` at the same endpoint, the same one that thinks otherwise,
    or one at ``place``, where ``loaded`` holds. What is None stays, but another place has a model
    of its own; a model that can't think as it was set before gets its own default. Raises
    SetupError, also for a model that the endpoint does not list."""
    settings = loaded.settings
    moved = place is not now.place
    name = model or (settings.model if moved else now.provider.model)
    wish = now.thinking if thinking is None else thinking
    serving = _serve(
        settings,
        name,
        wish,
        session,
        place,
        listed=moved or name != now.provider.model,
        yielding=thinking is None,
    )
    found = replace(await _found(serving, seconds), place=place, loaded=loaded)
    try:
        _check_price(settings, found)
        was, price = now.price, found.price
        limited = settings.budget.max_cost is not None
        if limited and was and price and was.currency != price.currency:
            raise SetupError(
                f"the cost limit is in {was.currency}, and {name} is billed in {price.currency}"
            )
    except SetupError:
        await found.provider.close()
        raise
    return found


async def _found(serving: Awaitable[Served], seconds: float | None) -> Served:
    try:
        async with asyncio.timeout(seconds):
            return await serving
    except TimeoutError:
        raise SetupError("the time limit is reached", StopReason.TIME_LIMIT) from None
    except ConfigError as problem:
        raise SetupError(str(problem)) from None


async def _serve(
    settings: Settings,
    model: str,
    thinking: str,
    session: str,
    place: Place,
    *,
    listed: bool = False,
    yielding: bool = False,
) -> Served:
    """``listed``: the endpoint must know the model, if it tells which ones it has. ``yielding``:
    where the model can't think so, it thinks as it does by default."""
    config = model_config(settings, model, thinking, session)
    # Of a server that is known to have ended the user hears at once.
    config = replace(config, retry=replace(config.retry, gone=lambda: bool(place.trouble())))
    endpoint = build_endpoint(config)
    endpoint.connection.warm()
    try:
        config, error = await detect(config, endpoint)
        if listed:
            await _check_listed(model, endpoint)
        try:
            client = build_provider(config, endpoint)
        except ConfigError:
            if not yielding:
                raise
            thinking = ""
            client = build_provider(replace(config, thinking=thinking), endpoint)
    except BaseException:
        await endpoint.connection.close()
        raise
    name = client.dialect.name
    return Served(
        client,
        thinking,
        price_of(settings, client),
        client.media,
        name,
        f"taking the endpoint for {name}: {error.message}" if error else "",
    )


async def _check_listed(model: str, endpoint: Endpoint) -> None:
    try:
        entries = await endpoint.get_models()
    except RequestFailed:
        # One that does not say which models it has may have this one.
        return
    names = sorted(str(entry["id"]) for entry in entries if entry.get("id"))
    if names and model not in names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ConfigError(
            f"{endpoint.host} has no model {model!r}; it has: {', '.join(names[:SHOWN])}{more}"
        )


def _check_price(settings: Settings, found: Served) -> None:
    if settings.budget.max_cost is not None and found.price is None:
        raise SetupError(
            f"--max-cost needs a price, and none is known for {found.provider.model}: set "
            f'[prices."{found.provider.model}"] input, cached_input and output'
        )


def _model_of(loaded: Loaded, stored: Stored | None) -> tuple[str, str]:
    """Model and thinking: a stored session keeps its own unless a flag says otherwise."""
    settings = loaded.settings
    model, thinking = stored.model if stored else (settings.model, settings.thinking)
    if loaded.sources["model"].kind == "flag":
        model = settings.model
    if loaded.sources["thinking"].kind == "flag":
        thinking = settings.thinking
    return model, thinking
