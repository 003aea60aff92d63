"""Model servers of one's own that run on this machine: on the ports they usually have, and those
of `kimi serve`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from kimi_cli.agent.local import again, is_up, limits, running, why_over
from kimi_cli.frontends.doctor.finding import Finding
from kimi_cli.frontends.doctor.trial import settings_for, trial_config
from kimi_cli.model.endpoint import list_models
from kimi_cli.model.errors import ConfigError
from kimi_cli.serve import state
from kimi_cli.settings import SettingsError
from kimi_cli.settings.files import kimi_home

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
    """A server that lists models; ``name`` is what it is, as far as it tells. ``key`` is that of
    one that `kimi serve` runs."""

    base_url: str
    name: str
    models: tuple[str, ...]
    key: str = field(default="", repr=False)


async def find_servers(env: Mapping[str, str]) -> AsyncIterator[Server]:
    """The servers on this machine's loopback, each as soon as it has answered; without a key but
    for those of `kimi serve`. Ends after SECONDS."""
    own = await asyncio.to_thread(_own, kimi_home(env))
    others = {f"http://127.0.0.1:{port}/v1": name for port, name in PORTS.items()}
    asking = [asyncio.ensure_future(_ask(env, url, key, "kimi serve")) for url, key in own.items()]
    asking += [
        asyncio.ensure_future(_ask(env, url, "", name))
        for url, name in others.items()
        if url not in own
    ]
    try:
        for done in asyncio.as_completed(asking):
            if (server := await done) is not None:
                yield server
    finally:
        for task in asking:
            task.cancel()


def check_local(home: Path) -> Finding | None:
    """How the servers of `kimi serve` are; None where there are none to speak of."""
    servers = state.list_servers(home)
    alive = running(servers)
    failed = [one for one in servers if one.state.progress.stage == "failed"]
    if not alive and not failed:
        return None
    words, todo = [], []
    for server in alive:
        words.append(f"{server.name} {server.state.progress.stage} at {server.state.base_url}")
        if server.state.progress.stage == "limited":
            words[-1] += f" ({limits(server.state)})"
            todo.append(f"`kimi serve status {server.name}` says what does not work.")
    if not any(is_up(server) for server in alive):
        for server in failed:
            words.append(f"{server.name} failed: {why_over(server)}".rstrip(": "))
            todo.append(f"{again(server)} starts it again.")
    return Finding("local", "warn" if todo else "ok", "; ".join(words), " ".join(todo))


def _own(home: Path) -> dict[str, str]:
    """The keys of the servers that `kimi serve` runs and that are up, by their address."""
    found = {}
    for server in state.list_servers(home):
        with contextlib.suppress(OSError):
            if is_up(server):
                found[server.state.base_url] = server.key
    return found


async def _ask(env: Mapping[str, str], url: str, key: str, usual: str) -> Server | None:
    """``usual`` is what a server at this address is as a rule."""
    parts = urlsplit(url)
    try:
        # The SDK is not loaded for ports where nobody listens.
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.close()
            config = trial_config(settings_for(env, url, key, ""))
            # Headers of the settings are for another endpoint, and may hold a key.
            found = await list_models(replace(config, headers={}))
    except (OSError, TimeoutError, ConfigError, SettingsError):
        return None
    if found.error is not None or not found.models:
        return None
    name = _NAMES.get(found.dialect.name) or usual or "server"
    return Server(url, name, tuple(model.id for model in found.models), key)
