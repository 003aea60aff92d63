"""`kimi serve verify`: check an endpoint, and print the scorecard."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from kimi_cli.cli.event_loop import run
from kimi_cli.cli.here import working_directory
from kimi_cli.cli.output import json_line, judged
from kimi_cli.cli.serve_output import FAILED, GOOD, USAGE, fail, pane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kimi_cli.model.build import ModelConfig
    from kimi_cli.model.catalogue import Price
    from kimi_cli.model.verify.report import Scorecard
    from kimi_cli.model.verify.subject import Subject
    from kimi_cli.serve.state import Server
    from kimi_cli.settings import Settings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Wish:
    """How it is to be verified."""

    rounds: int
    threshold: float
    concurrency: int
    timeout: float


class BadTarget(Exception):
    """What was asked for can't be verified; the message is for people."""


def verify_command(
    url: Annotated[
        str | None,
        typer.Argument(
            help="The endpoint, as http://127.0.0.1:8000/v1; without it the server that runs "
            "here, else the endpoint of the settings.",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model, where there are several.", metavar="NAME")
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(help="The variable that has the endpoint's API key.", metavar="NAME"),
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="How often each tool call is tried.", metavar="N", min=1, max=100)
    ] = 1,
    threshold: Annotated[
        float,
        typer.Option(
            help="The least share of calls that come and are valid.", metavar="SHARE", min=0, max=1
        ),
    ] = 0.9,
    concurrency: Annotated[
        int, typer.Option(help="How many requests at once.", metavar="N", min=1, max=256)
    ] = 8,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds that one answer may take.", metavar="SECONDS", min=1, max=3600),
    ] = 180.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check an endpoint as the vendors' verifiers do: tool calls against schemas, ids, reasoning,
    usage, limits. Real requests are sent; what they take is said first.

    Exit codes: 0 passed, 1 below the threshold or a check failed that decides, 2 usage.
    """
    from kimi_cli.model.errors import ConfigError
    from kimi_cli.settings import SettingsError

    wish = Wish(rounds, threshold, concurrency, timeout)
    try:
        config, settings = _target(url, model or "", api_key_env, os.environ)
        code = run(_verified(config, settings, wish, bool(model), as_json))
    except (BadTarget, ConfigError, SettingsError) as error:
        fail("usage", str(error), as_json, USAGE)
    raise typer.Exit(code)


async def _verified(
    config: ModelConfig, settings: Settings | None, wish: Wish, chosen: bool, as_json: bool
) -> int:
    from kimi_cli.frontends.serve.scorecard import (
        busy_line,
        check_lines,
        closing_lines,
        document,
        opening_lines,
    )
    from kimi_cli.model.verify.estimate import estimate
    from kimi_cli.model.verify.subject import find_subject
    from kimi_cli.model.verify.verify import verify

    subject = await find_subject(config, chosen=chosen)
    cost = estimate(subject, wish.rounds, wish.concurrency, _price(subject, settings))
    where = pane(sys.stderr if as_json else sys.stdout)
    try:
        with judged():
            where.say(opening_lines(subject, cost, where.width))
            card: Scorecard = await verify(
                subject,
                rounds=wish.rounds,
                threshold=wish.threshold,
                concurrency=wish.concurrency,
                timeout=wish.timeout,
                told=lambda check: None if as_json else where.say(check_lines(check, where.width)),
                busy=lambda sent: where.draw([busy_line(sent, cost.requests)]),
            )
    finally:
        where.close()
    code = GOOD if card.passed else FAILED
    with judged():
        if as_json:
            print(json_line(document(card, cost, code)))
        else:
            where.say(closing_lines(card, where.width))
    return code


def _target(
    url: str | None, model: str, api_key_env: str | None, env: Mapping[str, str]
) -> tuple[ModelConfig, Settings | None]:
    """The configuration of the endpoint, and the settings where it is theirs: only then do their
    key, headers, model and prices belong to it. Raises BadTarget, SettingsError."""
    from kimi_cli.agent.model_config import missing_key, model_config
    from kimi_cli.settings import is_trusted, kimi_home, load_settings
    from kimi_cli.workspace.roots import project_root

    home, root = kimi_home(env), project_root(working_directory())
    trusted = is_trusted(home, root)
    settings = load_settings(env=env, project_root=root, flags={}, trusted=trusted).settings
    key = None if api_key_env is None else _key_of(api_key_env, env)
    address = _address(url) if url is not None else ""
    if server := _server(home, address):
        config = _of_server(server)
        config = replace(config, base_url=address or config.base_url)
        return _changed(config, model, key), None
    if not address or _origin(address) == _origin(settings.endpoint.base_url):
        if key is None and (problem := missing_key(settings)):
            raise BadTarget(problem)
        config = model_config(settings, model or settings.model, settings.thinking, "")
        return _changed(replace(config, base_url=address or config.base_url), model, key), settings
    return _changed(_foreign(address, home), model, key), None


def _changed(config: ModelConfig, model: str, key: str | None) -> ModelConfig:
    """With the model and the key of the command line."""
    if model and model != config.model:
        config = replace(config, model=model, same_as="")
    if key is None:
        return config
    headers = {k: v for k, v in config.headers.items() if k.lower() != "authorization"}
    return replace(config, api_key=key, headers=headers)


def _server(home: Path, address: str) -> Server | None:
    """The server of ours that is meant: the one at this address, without an address the one that
    is up. Raises BadTarget for one that is not up yet, and for several."""
    from kimi_cli.serve.running import UP
    from kimi_cli.serve.state import list_servers

    alive = [server for server in list_servers(home) if server.alive]
    if address:
        here = [one for one in alive if _same_place(one.state.base_url, address)]
        return here[0] if here else None
    up = [server for server in alive if server.state.progress.stage in UP]
    if len(up) > 1:
        urls = ", ".join(server.state.base_url for server in up)
        raise BadTarget(f"several servers run here; give the URL of one: {urls}")
    if alive and not up:
        # The endpoint of the settings may cost money: nobody meant that.
        raise BadTarget(f"{alive[0].name} is not up yet; `kimi serve status` tells how far it is")
    return up[0] if up else None


def _of_server(server: Server) -> ModelConfig:
    from kimi_cli.model.build import ModelConfig

    state = server.state
    try:
        key = server.key
    except OSError as error:
        raise BadTarget(f"the key of {server.name} can't be read: {error.strerror}") from None
    return ModelConfig(
        base_url=state.base_url,
        model=state.launch.served_name,
        api_key=key,
        same_as=state.launch.repo,
    )


def _foreign(address: str, home: Path) -> ModelConfig:
    """An endpoint that is nobody's here: with the key that `kimi login` keeps for its host, if it
    keeps one, and with no other."""
    from kimi_cli.model.build import ModelConfig
    from kimi_cli.settings.credentials import stored_key

    found = stored_key(home, address)
    return ModelConfig(base_url=address, model="", api_key=found.key if found else "")


def _key_of(name: str, env: Mapping[str, str]) -> str:
    key = env.get(name, "").strip()
    if not key:
        raise BadTarget(f"--api-key-env: {name} is not set")
    return key


def _address(url: str) -> str:
    """The base URL that is meant: a host alone serves under /v1. Raises BadTarget."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise BadTarget(f"{url!r} is no URL; write it as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise BadTarget("the URL must be an address alone; --api-key-env names a key")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _origin(url: str) -> str:
    from kimi_cli.settings.credentials import origin_of

    return origin_of(url).lower()


def _same_place(one: str, other: str) -> bool:
    """Whether two URLs are of one server; the names of this computer are one name."""
    a, b = urlsplit(one), urlsplit(other)
    hosts = {a.hostname, b.hostname}
    return (a.scheme, a.port) == (b.scheme, b.port) and (len(hosts) == 1 or hosts <= LOOPBACK)


def _price(subject: Subject, settings: Settings | None) -> Price | None:
    """The user's price for the model at their own endpoint, else the catalogue's."""
    from kimi_cli.model.catalogue import Price

    own = settings.prices.get(subject.name) if settings else None
    if own is None:
        return subject.price
    cached = own.input if own.cached_input is None else own.cached_input
    return Price(own.currency, own.input, cached, own.output, own.source or "settings", "")
