"""Model servers of one's own that run on this machine, on the ports they usually have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from kimi_cli.frontends.doctor.trial import settings_for, trial_config
from kimi_cli.model.endpoint import list_models
from kimi_cli.model.errors import ConfigError
from kimi_cli.settings import SettingsError

PORTS: Mapping[int, str] = {
    8000: "",
    30000: "",
    8080: "",
    10002: "",
    1234: "LM Studio",
    11434: "Ollama",
}
"""vLLM, SGLang, llama.cpp, KTransformers, LM Studio, Ollama: the defaults of each; a name only
where nothing else is likely there."""
SECONDS = 2.0
_NAMES = {"vllm": "vLLM", "sglang": "SGLang"}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that lists models; ``name`` is what it is, as far as it tells."""

    base_url: str
    name: str
    models: tuple[str, ...]


async def find_servers(env: Mapping[str, str]) -> AsyncIterator[Server]:
    """The servers on this machine's loopback, each as soon as it has answered; without a key. Ends
    after SECONDS."""
    asking = [asyncio.ensure_future(_ask(env, port)) for port in PORTS]
    try:
        for done in asyncio.as_completed(asking):
            if (server := await done) is not None:
                yield server
    finally:
        for task in asking:
            task.cancel()


async def _ask(env: Mapping[str, str], port: int) -> Server | None:
    url = f"http://127.0.0.1:{port}/v1"
    try:
        # The SDK is not loaded for ports where nobody listens.
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            config = trial_config(settings_for(env, url, "", ""))
            # Headers of the settings are for another endpoint, and may hold a key.
            found = await list_models(replace(config, headers={}))
    except (OSError, TimeoutError, ConfigError, SettingsError):
        return None
    if found.error is not None or not found.models:
        return None
    name = _NAMES.get(found.dialect.name) or PORTS[port] or "server"
    return Server(url, name, tuple(model.id for model in found.models))
