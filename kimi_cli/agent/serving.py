"""The model of a session: which one, at which endpoint, and what is known of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kimi_cli.agent.model_config import model_config, price_of
from kimi_cli.agent.setup import Setup, SetupError
from kimi_cli.agent.stored import Stored
from kimi_cli.model.build import build_endpoint, build_provider
from kimi_cli.model.catalogue import Price
from kimi_cli.model.endpoint import detect
from kimi_cli.model.errors import ConfigError
from kimi_cli.protocol.provider import Provider
from kimi_cli.protocol.stops import StopReason
from kimi_cli.settings import Loaded, Settings


@dataclass(frozen=True, slots=True)
class Served:
    """A provider, what it costs, the kinds of media its model takes, the name of its dialect, and
    a doubt about it for the user."""

    provider: Provider
    thinking: str
    price: Price | None = None
    media: frozenset[str] = frozenset()
    dialect: str = ""
    doubt: str = ""


async def find_model(
    setup: Setup, loaded: Loaded, stored: Stored | None, session: str, seconds: float | None
) -> Served:
    """The model of the setup, found within ``seconds``. Raises SetupError."""
    settings = loaded.settings
    model, thinking = _model_of(loaded, stored)
    if setup.provider is not None:
        return Served(setup.provider, thinking)
    try:
        async with asyncio.timeout(seconds):
            found = await _serve(settings, model, thinking, session)
    except TimeoutError:
        raise SetupError("the time limit is reached", StopReason.TIME_LIMIT) from None
    except ConfigError as problem:
        raise SetupError(str(problem)) from None
    if blind := setup.media - found.media:
        raise SetupError(f"{found.provider.model} takes no {' and no '.join(sorted(blind))}s")
    if settings.budget.max_cost is not None and found.price is None:
        raise SetupError(
            f"--max-cost needs a price, and none is known for {found.provider.model}: set "
            f'[prices."{found.provider.model}"] input, cached_input and output'
        )
    return found


async def _serve(settings: Settings, model: str, thinking: str, session: str) -> Served:
    config = model_config(settings, model, thinking, session)
    endpoint = build_endpoint(config)
    endpoint.connection.warm()
    config, error = await detect(config, endpoint)
    client = build_provider(config, endpoint)
    name = client.dialect.name
    return Served(
        client,
        thinking,
        price_of(settings, client),
        client.media,
        name,
        f"taking the endpoint for {name}: {error.message}" if error else "",
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
