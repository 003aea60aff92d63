"""From settings to the model layer's own terms."""

from __future__ import annotations

import math
from dataclasses import replace
from urllib.parse import urlsplit

from kimi_cli.agent.budget import Limits
from kimi_cli.model.build import ModelClient, ModelConfig
from kimi_cli.model.catalogue import Given, Price, Thinking
from kimi_cli.model.dialects import recognised
from kimi_cli.model.endpoint import price_at
from kimi_cli.model.retry import Policy, Schedule
from kimi_cli.model.wire import Timeouts
from kimi_cli.protocol.provider import ErrorClass
from kimi_cli.settings import Settings
from kimi_cli.settings.schema import ModelEntry

MAX_STALL_ATTEMPTS = 4
"""A stall has cost minutes by itself."""


def model_config(settings: Settings, model: str, thinking: str, session: str) -> ModelConfig:
    """What the provider for ``model`` is made from; ``session`` keys the prompt cache."""
    endpoint, sampling, timeouts = settings.endpoint, settings.sampling, settings.timeouts
    entry = settings.models.get(model)
    return ModelConfig(
        base_url=endpoint.base_url,
        model=model,
        api_key=endpoint.api_key.get_secret_value(),
        dialect=endpoint.dialect,
        thinking=thinking,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_output_tokens=sampling.max_output_tokens,
        timeouts=Timeouts(
            connect=timeouts.connect,
            first_byte=timeouts.first_byte,
            first_byte_per_1k_tokens=timeouts.first_byte_per_1k_tokens,
            between_chunks=timeouts.between_chunks,
        ),
        retry=retry_policy(settings),
        session_id=session,
        same_as=(entry.same_as if entry else None) or "",
        given=_given(entry) if entry else Given(),
        tokenizer=(entry.tokenizer if entry else None) or "",
        headers={name: value.get_secret_value() for name, value in endpoint.headers.items()},
    )


def retry_policy(settings: Settings) -> Policy:
    """``retry.attempts`` bounds ordinary failures, ``retry.overload_minutes`` the waits for a
    server that is full."""
    retry = settings.retry
    brief = Schedule(retry.attempts, retry.base_seconds, retry.cap_seconds)
    waits = retry.overload_minutes * 60 / max(retry.cap_seconds, 0.001)
    # The first waits, which double up to the cap, are together about as long as two more.
    patient = replace(brief, attempts=max(retry.attempts, min(math.ceil(waits) + 5, 1000)))
    stall = replace(brief, attempts=min(retry.attempts, MAX_STALL_ATTEMPTS))
    return Policy(patient=patient, brief=brief, overrides={ErrorClass.STALL: stall})


def price_of(settings: Settings, client: ModelClient) -> Price | None:
    """The user's price for the model, else the catalogue's where the endpoint bills it."""
    own = settings.prices.get(client.model)
    if own is None:
        return price_at(client.info, client.dialect, settings.endpoint.base_url)
    return Price(
        currency=own.currency,
        input=own.input,
        cached_input=own.input if own.cached_input is None else own.cached_input,
        output=own.output,
        source=own.source or "settings",
        date="",
    )


def missing_key(settings: Settings) -> str | None:
    """What to tell a user without a key for a host that answers nobody without one; None when
    there is a key, or the endpoint may need none."""
    endpoint = settings.endpoint
    named = any(name.lower() == "authorization" for name in endpoint.headers)
    if endpoint.api_key.get_secret_value() or named or recognised(endpoint.base_url) is None:
        return None
    variable = endpoint.api_key_env
    why = f" ({variable}, which endpoint.api_key_env names, is not set)" if variable else ""
    return (
        f"no API key for {urlsplit(endpoint.base_url).hostname}{why}: `kimi login` asks for one "
        "and keeps it, KIMI_API_KEY gives one for a run; for a server of your own give --base-url; "
        "`kimi demo` needs no key"
    )


def secrets_of(settings: Settings) -> list[str]:
    """What of the settings must never be shown or written."""
    endpoint = settings.endpoint
    values = [endpoint.api_key, *endpoint.headers.values()]
    return [text for value in values if (text := value.get_secret_value())]


def limits_of(settings: Settings) -> Limits:
    """The budget's limits."""
    budget = settings.budget
    return Limits(
        steps=budget.max_steps,
        tokens=budget.max_tokens,
        cost=budget.max_cost,
        seconds=budget.timeout,
    )


def _given(entry: ModelEntry) -> Given:
    thinking: dict[str, Thinking] = {"none": "none", "switch": "switchable", "always": "always"}
    return Given(
        context=entry.context,
        max_output=entry.max_output_tokens,
        thinking=thinking[entry.thinking] if entry.thinking else None,
        efforts=None if entry.efforts is None else tuple(entry.efforts),
        inputs=None if entry.media is None else frozenset(entry.media),
    )
