"""From settings to a provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from kimi_cli.model.catalogue import Given, ModelInfo, lookup_as
from kimi_cli.model.dialects import (
    AUTO,
    Dialect,
    dialect_named,
    recognise,
    sampling_params,
    thinking_params,
)
from kimi_cli.model.errors import ConfigError
from kimi_cli.model.provider import ChatProvider, Endpoint
from kimi_cli.model.retry import Policy, Retrying
from kimi_cli.model.sdk import Connection
from kimi_cli.model.tokenizer import LateCounter
from kimi_cli.model.wire import Timeouts
from kimi_cli.version import VERSION

USER_AGENT = f"kimi/{VERSION}"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a provider is made from.

    ``dialect`` is a name or "auto"; "auto" knows Moonshot's hosts and takes every other for
    openai-compatible, so look at an unknown endpoint with ``endpoint.detect`` first.
    ``thinking`` is "on" or "" (the model's default), "off", or an effort. ``temperature`` and
    ``top_p`` are sent only when they are set or the model is self-hosted. ``session_id`` keeps
    the requests of a session on one prompt cache. ``same_as`` names the model that it is where
    ``model`` is only a name for it, ``info`` replaces the catalogue's row, ``given`` is what the
    user says of the model, over all else. ``tokenizer`` is the path of its
    ``tiktoken.model`` or of the folder with it.
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    dialect: str = AUTO
    thinking: str = "on"
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: Policy = field(default_factory=Policy)
    session_id: str = ""
    same_as: str = ""
    info: ModelInfo | None = None
    given: Given = field(default_factory=Given)
    tokenizer: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class ModelClient(Retrying):
    """A model ready for use: what Provider says, with retries, and what is known of it."""

    def __init__(self, provider: ChatProvider, policy: Policy) -> None:
        super().__init__(provider, policy)
        self._chat = provider

    @property
    def info(self) -> ModelInfo:
        return self._chat.info

    @property
    def dialect(self) -> Dialect:
        return self._chat.dialect

    @property
    def media(self) -> frozenset[str]:
        """The kinds of media that may be sent."""
        return self.info.media(self.dialect.hosted)

    def warm(self) -> None:
        """Start the costly imports and the TLS context in a thread; returns at once."""
        self._chat.warm()


def build_provider(config: ModelConfig, endpoint: Endpoint | None = None) -> ModelClient:
    """A provider for the configuration, and for ``endpoint`` where that was built of it before.
    Quick, and without any I/O. Raises ConfigError for a configuration that can't work."""
    dialect = _dialect(config)
    info = config.given.over(config.info or lookup_as(config.model, config.same_as))
    provider = ChatProvider(
        endpoint or build_endpoint(config),
        dialect,
        info,
        config.thinking,
        _params(config, dialect, info),
        config.timeouts,
        config.max_output_tokens,
        LateCounter(config.model, info.repository, config.tokenizer),
    )
    return ModelClient(provider, config.retry)


def build_endpoint(config: ModelConfig) -> Endpoint:
    """The endpoint of a configuration. Raises ConfigError for an address or a key that can't be
    one; the message never holds the key."""
    base_url = config.base_url.strip().rstrip("/")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"the base URL {base_url!r} must begin with http:// or https:// and name a host"
        )
    base_url = base_url.removesuffix("/chat/completions")
    key = config.api_key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError("the API key holds characters that no key has; copy it again")
    headers = {"User-Agent": USER_AGENT, **config.headers}
    connection = Connection(base_url, key, headers, config.timeouts.connect)
    return Endpoint(base_url, connection, key)


def _dialect(config: ModelConfig) -> Dialect:
    if config.dialect == AUTO:
        return recognise(config.base_url)
    return dialect_named(config.dialect)


def _params(config: ModelConfig, dialect: Dialect, info: ModelInfo) -> dict[str, Any]:
    params: dict[str, Any] = {
        **sampling_params(dialect, info, config.thinking, config.temperature, config.top_p),
        **thinking_params(dialect, info, config.thinking),
    }
    if dialect.cache_key and config.session_id:
        params["prompt_cache_key"] = config.session_id
    return params
