"""Changing the colours while kimi runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, get_args

from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.look import ThemeChoice, find_look

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller

THEMES: tuple[ThemeChoice, ...] = get_args(ThemeChoice)
WORDS = {
    "auto": "what the terminal says of its background",
    "dark": "for a dark background",
    "light": "for a light background",
    "none": "no colours",
}


async def set_theme(controller: Controller, argument: str) -> None:
    if not argument:
        theme = controller.desk.ink.look.theme
        controller.say(
            f"theme {theme}; /theme {'|'.join(THEMES)} holds until kimi ends, "
            "/config terminal.theme THEME from then on",
            "",
        )
        return
    choice = next((theme for theme in THEMES if theme == argument), None)
    if choice is None:
        raise CommandError(f"there is no theme {argument!r}: {', '.join(THEMES)}")
    wear(controller, choice)
    theme = controller.desk.ink.look.theme
    why = " (NO_COLOR is set)" if theme == "none" and choice not in ("none", "auto") else ""
    controller.say(f"theme {theme}{why}", "")


def wear(controller: Controller, choice: ThemeChoice) -> None:
    """Look so from now on. To be called between turns: what streams would be forgotten."""
    from prompt_toolkit.output import ColorDepth

    from kimi_cli.frontends.terminal.scribe import Scribe

    look = find_look(controller.setup.env, sys.stdout.encoding, choice)
    desk, app = controller.desk, controller.app
    scribe = Scribe(look, lambda: controller.width)
    for fold in desk.scribe.folds.all():
        scribe.folds.add(fold.kind, fold.title, fold.excerpt, fold.path)
    desk.scribe, desk.ink.look = scribe, look
    app.sync.default_color_depth = None if look.colour else ColorDepth.DEPTH_1_BIT
    app.invalidate()


COMMANDS = (
    Command(
        "theme",
        "the colours",
        set_theme,
        "[auto|dark|light|none]",
        complete=lambda controller, typed: list(WORDS.items()),
    ),
)
