"""Commands about the model and how it thinks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean, pad
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import (
    choose,
    in_its_turn,
    loaded_settings,
    need_opened,
    noted,
    words,
)
from kimi_cli.frontends.terminal.menu import Item

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller
    from kimi_cli.model.catalogue import ModelInfo
    from kimi_cli.serve.state import Server

THINKING_WORDS = {"on": "the model's usual way", "off": "answers at once"}


async def set_model(controller: Controller, argument: str) -> None:
    await in_its_turn(controller, lambda: _switch(controller, argument))


LOCAL = "local:"
"""Before the name of a local server, where a model's could stand."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, or a local server with the model that it has. ``configured``: the model is at the
    endpoint of the settings, wherever the session is; else at the one in use."""

    model: str = ""
    server: Server | None = None
    configured: bool = False


async def _switch(controller: Controller, argument: str) -> None:
    choice = await _named(controller, argument) if argument else await _chosen(controller)
    if choice is None:
        return
    if choice.server:
        await _go_local(controller, choice.server)
        return
    from kimi_cli.agent.setup import CONFIGURED

    session = controller.need_session()
    moves = choice.configured and bool(session.place.name)
    if choice.model == session.model and not moves:
        controller.say(f"the model is {clean(choice.model)} already")
    elif not await session.switch_model(choice.model, place=CONFIGURED if moves else None):
        controller.say(f"model {clean(choice.model)}, as soon as this turn has ended")


async def _go_local(controller: Controller, server: Server) -> None:
    from kimi_cli.agent.local import place_of

    session = controller.need_session()
    if session.place.name == server.name and not session.place.trouble():
        controller.say(f"the model is that of {clean(server.name)} already")
        return
    try:
        place = await asyncio.to_thread(place_of, server)
    except OSError as error:
        raise CommandError(f"the key of {server.name}: {error.strerror}") from None
    at_once = await session.switch_model(place=place)
    for note in place.notes:
        controller.say(note, controller.desk.ink.look.warn)
    if not at_once:
        controller.say(f"model of {clean(server.name)}, as soon as this turn has ended")


async def _named(controller: Controller, argument: str) -> Choice:
    if not argument.startswith(LOCAL):
        return Choice(argument)
    name = argument.removeprefix(LOCAL).strip()
    servers = await asyncio.to_thread(_up, controller)
    found = next((server for server in servers if server.name == name), None)
    if found is None:
        raise CommandError(f"no local server {words(name)!r} is up: `kimi serve ps` lists them")
    return Choice(server=found)


def _up(controller: Controller) -> list[Server]:
    """The local servers that answer, the newest first."""
    from kimi_cli.agent.local import is_up
    from kimi_cli.serve.state import list_servers

    return [server for server in list_servers(controller.setup.home) if is_up(server)]


async def set_thinking(controller: Controller, argument: str) -> None:
    await in_its_turn(controller, lambda: _think(controller, argument))


async def _think(controller: Controller, argument: str) -> None:
    session = controller.need_session()
    wish = argument.lower()
    if not wish:
        items = [Item(value, value, about) for value, about in thinking_choices(controller, "")]
        now = session.thinking or "on"
        found = await choose(controller, f"thinking of {session.model}, now {now}", items)
        if found is None:
            return
        wish = found
    if wish == (session.thinking or "on"):
        controller.say(f"thinking is {wish} already")
    elif not await session.switch_model(thinking=wish):
        controller.say(f"thinking {clean(wish)}, as soon as this turn has ended")


async def _chosen(controller: Controller) -> Choice | None:
    """What the user chooses of the models of the endpoint that the settings name, and of the local
    servers."""
    from kimi_cli.frontends.models import window_text

    session = controller.need_session()
    here = session.place.name
    choices: dict[str, Choice] = {}
    items: list[Item] = []

    def offer(choice: Choice, text: str, about: str, *, first: bool) -> None:
        choices[key := str(len(choices))] = choice
        # The one in use comes first: Enter changes nothing.
        items.insert(0 if first else len(items), Item(key, text, about))

    for item in await _configured_models(controller):
        used = item.value == session.model and not here
        offer(Choice(item.value, configured=True), item.text, item.about, first=used)
    for server in await asyncio.to_thread(_up, controller):
        state = server.state
        pieces = [state.base_url.removesuffix("/v1"), window_text(state.context)]
        if state.progress.stage == "limited":
            pieces.append("limited")
        about = " · ".join(piece for piece in pieces if piece != "0")
        text = f"{LOCAL} {server.name}"
        offer(Choice(server=server), text, about, first=server.name == here)
    if not items:
        raise CommandError("there is no other model to choose")
    now = f"{session.model} of {here}" if here else session.model
    chosen = await choose(controller, f"model, now {now}", _aligned(items))
    return None if chosen is None else choices[chosen]


async def _configured_models(controller: Controller) -> list[Item]:
    """Those of the endpoint that the settings name; of the catalogue where it lists none. Empty
    where the session is elsewhere and the endpoint can't be asked."""
    from kimi_cli.agent.model_config import missing_key, model_config
    from kimi_cli.agent.setup import CONFIGURED
    from kimi_cli.frontends.models import model_row, price_text, window_text
    from kimi_cli.model.endpoint import list_models

    elsewhere = bool(controller.need_session().place.name)
    loaded = await loaded_settings(controller, CONFIGURED)
    if elsewhere and missing_key(loaded.settings):
        return []
    with noted(controller, "asking the endpoint for its models"):
        found = await list_models(model_config(loaded.settings, loaded.settings.model, "", ""))
    items = []
    for model in found.models:
        row = model_row(model, found.dialect, loaded)
        price = f"{price_text(row['price'])} a million" if row["price"] else "no price known"
        about = f"{window_text(row['context'])} · {row['thinking']} · {price}"
        items.append(Item(model.id, model.id, about))
    if not items:
        why = f"the endpoint lists no models: {found.error.message}" if found.error else ""
        if elsewhere:
            controller.say(why or "the endpoint of the settings lists no models")
            return []
        controller.say(why or "the endpoint lists no models; those of the catalogue follow")
        items = [Item(name, name, about) for name, about in _known_models(controller)]
    return items


def _aligned(items: list[Item]) -> list[Item]:
    from rich.cells import cell_len

    names = [words(item.text) for item in items]
    wide = max(map(cell_len, names), default=0)
    pairs = zip(names, items, strict=True)
    return [Item(item.value, pad(name, wide), item.about) for name, item in pairs]


def model_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """The one in use, the local servers, and the models of the catalogue."""
    now, *others = _known_models(controller)
    local = [(f"{LOCAL}{server.name}", server.state.base_url) for server in _up(controller)]
    return [now, *local, *others]


def _known_models(controller: Controller) -> list[tuple[str, str]]:
    """The one in use, and those of the catalogue."""
    from kimi_cli.frontends.models import window_text
    from kimi_cli.model.catalogue import lookup
    from kimi_cli.model.catalogue_data import ROWS

    session = controller.work.session
    names = dict.fromkeys([session.model] if session else [])
    names.update(dict.fromkeys(row.id for row in ROWS.values()))
    return [(name, window_text(lookup(name).context)) for name in names]


def thinking_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """The ways in which the model in use can think, as far as that is known."""
    from kimi_cli.agent.model_config import model_config
    from kimi_cli.model.catalogue import lookup_as

    opened = need_opened(controller)
    session = opened.session
    settings = session.loaded.settings if session.loaded else opened.settings
    config = model_config(settings, session.model, "", "")
    known = config.given.over(lookup_as(session.model, config.same_as))
    return [(value, THINKING_WORDS.get(value, "")) for value in ways_to_think(known)]


def ways_to_think(model: ModelInfo) -> list[str]:
    """What thinking can be set to."""
    if model.thinking == "none":
        return ["off"]
    return ["on", *(["off"] if model.thinking != "always" else []), *model.efforts]


COMMANDS = (
    Command(
        "model",
        "another model; what was said stays",
        set_model,
        "[NAME]",
        while_busy=True,
        complete=model_choices,
    ),
    Command(
        "thinking",
        "whether the model thinks, or how hard",
        set_thinking,
        "[on|off|EFFORT]",
        while_busy=True,
        complete=thinking_choices,
    ),
)
