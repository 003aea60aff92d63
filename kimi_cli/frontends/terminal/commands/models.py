"""Commands about the model and how it thinks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean, pad
from kimi_cli.frontends.terminal.commands.command import Command
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

THINKING_WORDS = {"on": "the model's usual way", "off": "answers at once"}


async def set_model(controller: Controller, argument: str) -> None:
    await in_its_turn(controller, lambda: _switch(controller, argument))


async def _switch(controller: Controller, argument: str) -> None:
    session = controller.need_session()
    name = argument or await _chosen_model(controller)
    if not name:
        return
    if name == session.model:
        controller.say(f"the model is {clean(name)} already")
    elif not await session.switch_model(model=name):
        controller.say(f"model {clean(name)}, as soon as this turn has ended")


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


async def _chosen_model(controller: Controller) -> str | None:
    from kimi_cli.agent.model_config import model_config
    from kimi_cli.frontends.models import model_row, price_text, window_text
    from kimi_cli.model.endpoint import list_models

    session = controller.need_session()
    loaded = await loaded_settings(controller)
    with noted(controller, "asking the endpoint for its models"):
        found = await list_models(model_config(loaded.settings, session.model, "", ""))
    items = []
    for model in found.models:
        row = model_row(model, found.dialect, loaded)
        price = f"{price_text(row['price'])} a million" if row["price"] else "no price known"
        about = f"{window_text(row['context'])} · {row['thinking']} · {price}"
        items.append(Item(model.id, model.id, about))
    if not items:
        why = f"the endpoint lists no models: {found.error.message}" if found.error else ""
        controller.say(why or "the endpoint lists no models; those of the catalogue follow")
        items = [Item(name, name, about) for name, about in model_choices(controller, "")]
    # The one in use comes first: Enter changes nothing.
    items.sort(key=lambda item: item.value != session.model)
    return await choose(controller, f"model, now {session.model}", _aligned(items))


def _aligned(items: list[Item]) -> list[Item]:
    from rich.cells import cell_len

    names = [words(item.text) for item in items]
    wide = max(map(cell_len, names), default=0)
    pairs = zip(names, items, strict=True)
    return [Item(item.value, pad(name, wide), item.about) for name, item in pairs]


def model_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """The models of the catalogue, and the one in use."""
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
    from kimi_cli.model.catalogue import lookup

    opened = need_opened(controller)
    model = opened.session.model
    known = model_config(opened.settings, model, "", "").given.over(lookup(model))
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
