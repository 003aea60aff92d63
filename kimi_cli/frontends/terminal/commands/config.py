"""The command about the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kimi_cli.frontends.plain import clean, counted
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import load, loaded_settings, tell

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller

Rows = Mapping[str, Mapping[str, Any]]
AT_ONCE = {"model": "/model", "thinking": "/thinking"}
"""Settings that a command changes for the running session."""
SECRET = ("endpoint.api_key", "endpoint.headers")


async def config(controller: Controller, argument: str) -> None:
    key, _, value = argument.partition(" ")
    if value.strip():
        await _set(controller, key, value.strip())
        return
    from kimi_cli.frontends.settings_list import setting_rows

    loaded = await loaded_settings(controller)
    for warning in loaded.warnings:
        controller.say(warning, controller.desk.ink.look.warn)
    rows = setting_rows(loaded)
    shown = chosen_rows(rows, key)
    _show(controller, shown)
    if not key and len(shown) < len(rows):
        rest = counted(len(rows) - len(shown), "more")[: -1 if len(rows) - len(shown) > 1 else None]
        controller.say(f"{rest} have their defaults: /config all shows them")


def chosen_rows(rows: Rows, key: str) -> Rows:
    """All rows for ``all``, those under a key, or without one those that somebody has set. Raises
    CommandError for a key that is none."""
    if key == "all":
        return rows
    if not key:
        return {name: row for name, row in rows.items() if row["source"] != "default"}
    found = {name: row for name, row in rows.items() if name == key or name.startswith(f"{key}.")}
    if not found:
        found = {name: row for name, row in rows.items() if key in name}
    if not found:
        raise CommandError(f"there is no setting {key!r}: /config all shows them")
    return found


def _show(controller: Controller, rows: Rows) -> None:
    from kimi_cli.frontends.settings_list import setting_lines

    tell(controller, [clean(line) for line in setting_lines(rows)])


async def _set(controller: Controller, key: str, value: str) -> None:
    from kimi_cli.frontends.setting_words import value_problem
    from kimi_cli.frontends.settings_list import setting_rows
    from kimi_cli.settings import SettingsError
    from kimi_cli.settings.edit import set_value

    if key.startswith(SECRET):
        raise CommandError("a key does not belong into what is typed here: kimi login takes one")
    try:
        file, missing = await asyncio.to_thread(set_value, controller.setup.env, None, key, value)
    except SettingsError as error:
        raise CommandError(value_problem(key, value) or str(error)) from None
    controller.say(f"{key} is set in {clean(str(file))}", "")
    for other in missing:
        controller.say(f"{other} is missing: set it too", controller.desk.ink.look.warn)
    if missing:
        return
    row = setting_rows(await loaded_settings(controller)).get(key)
    controller.say(effect(key, row))


def effect(key: str, row: Mapping[str, Any] | None) -> str:
    """When a value that was just written to the user's file takes effect."""
    if row and row["source"] not in ("user", "default"):
        where = " ".join(filter(None, (row["source"], row["detail"])))
        return f"it has no effect here: {clean(where)} has another value, and wins"
    at_once = f"; {AT_ONCE[key]} changes this one" if key in AT_ONCE else ""
    return f"it holds from the next session on: /clear begins one{at_once}"


def key_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """Every setting with its value; after a key, what it may be set to."""
    from kimi_cli.frontends.setting_words import accepted
    from kimi_cli.frontends.settings_list import setting_rows, value_text
    from kimi_cli.settings.keys import split_key

    rows = setting_rows(load(controller))
    key, blank, _ = typed.partition(" ")
    if not blank:
        return [(name, value_text(row)) for name, row in rows.items()]
    choices = accepted(split_key(key))
    if choices == "true or false" or " or " in choices:
        return [(f"{key} {one}", "") for one in choices.split(" or ")]
    return []


COMMANDS = (
    Command(
        "config",
        "show the settings, or set one for all sessions to come",
        config,
        "[KEY [VALUE] | all]",
        while_busy=True,
        complete=key_choices,
    ),
)
