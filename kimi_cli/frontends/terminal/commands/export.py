"""Writing down: the session as a document, the project's instructions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.commands.basic import say_next
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import (
    confirmed,
    is_kept,
    project_of,
    shown_path,
    stored_events,
)

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller
    from kimi_cli.protocol.events import DurableEvent

FORMATS = {".md": "md", ".html": "html", ".json": "openai"}
ABOUT = {".md": "Markdown", ".html": "a page that needs nothing else", ".json": "the messages"}
INSTRUCTIONS = "AGENTS.md"


async def export(controller: Controller, argument: str) -> None:
    session = controller.need_session()
    if not is_kept(controller):
        raise CommandError("this session is not kept, so there is nothing to export")
    folder = session.workspace.root
    path = _named(argument, folder, session.id) if argument else None
    form = form_of(path) if path else "md"
    if path is None:
        path = await asyncio.to_thread(unused, folder / f"kimi-{session.id}.md")
    shown, force = clean(shown_path(path, folder)), False
    if bool(argument) and await asyncio.to_thread(_exists, path):
        force = await confirmed(controller, f"{shown} exists: replace it?", "replace it")
        if not force:
            controller.say("nothing was written")
            return
    events = await stored_events(controller)
    await asyncio.to_thread(_write, controller, events, path, form, force)
    controller.say(f"written: {shown}")


def _named(argument: str, folder: Path, session: str) -> Path:
    """The file that is meant; in a folder that is there, one named after the session."""
    path = folder / Path(os.path.expanduser(argument))
    return unused(path / f"kimi-{session}.md") if path.is_dir() else path


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def form_of(path: Path) -> str:
    """The format that the file's ending means. Raises CommandError."""
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        endings = ", ".join(FORMATS)
        raise CommandError(f"{path.name!r} does not say what it is to be: end it with {endings}")
    return form


def unused(path: Path) -> Path:
    """The path, with a number before its ending where there is something of that name."""
    number = 2
    found = path
    while os.path.lexists(found):
        found = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return found


def _write(
    controller: Controller, events: list[DurableEvent], path: Path, form: str, force: bool
) -> None:
    from kimi_cli.frontends.export import export as exported
    from kimi_cli.frontends.export.masked import masked
    from kimi_cli.frontends.export.saving import token_mask, write_export

    events = masked(events, token_mask(controller.setup.env))
    text = exported(events, form, title="", session=controller.need_session().id)
    write_export(path, text, force=force)


def file_choices(controller: Controller, typed: str) -> Iterable[tuple[str, str]]:
    """Names for the session's document, one of each format."""
    session = controller.need_session()
    return [
        (unused(session.workspace.root / f"kimi-{session.id}{ending}").name, ABOUT[ending])
        for ending in FORMATS
    ]


async def init(controller: Controller, argument: str) -> None:
    from kimi_cli.prompts import load

    there = await asyncio.to_thread((project_of(controller) / INSTRUCTIONS).exists)
    text = load("init_again" if there else "init")
    say_next(controller, f"{text}\n\n{argument}" if argument else text)


COMMANDS = (
    Command(
        "export",
        "write this session to a file: .md, .html or .json",
        export,
        "[FILE]",
        complete=file_choices,
    ),
    Command("init", f"have {INSTRUCTIONS} written, or brought up to date", init, "[WISHES]"),
)
