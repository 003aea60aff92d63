"""What several commands need: the stored session, the settings, a choice, a confirmation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.commands.command import CommandError
from kimi_cli.frontends.terminal.menu import Item

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Place
    from kimi_cli.frontends.terminal.controller import Controller
    from kimi_cli.protocol.events import DurableEvent
    from kimi_cli.settings import Loaded

GUTTER = 2
YES, NO = "yes", "no"
LOOKING = "looking at the files"


def need_opened(controller: Controller) -> Opened:
    """The session with what came of opening it. Raises CommandError while it is being opened."""
    controller.need_session()
    assert controller.work.opened
    return controller.work.opened


def project_of(controller: Controller) -> Path:
    """The top of the session's project. Raises CommandError."""
    return controller.need_session().workspace.folders[0]


def room(controller: Controller) -> int:
    """Columns beside the gutter."""
    return max(controller.width - GUTTER, 20)


def tell(controller: Controller, lines: Iterable[str], style: str = "") -> None:
    """Print lines as one block of ours."""
    if text := "\n".join(lines):
        controller.say(text, style)


async def choose(controller: Controller, title: str, items: Sequence[Item]) -> str | None:
    """Let the user choose from a menu."""
    return await controller.choose(title, items)


async def confirmed(controller: Controller, question: str, yes: str, no: str = "leave it") -> bool:
    """Ask for a yes; closing the menu is a no."""
    items = [Item(NO, no), Item(YES, yes)]
    return await controller.choose(question, items, sure=True) == YES


async def in_its_turn(controller: Controller, work: Callable[[], Awaitable[None]]) -> None:
    """Do it beside what runs; where nothing does, so that Esc stops it and messages wait for it."""
    if controller.work.busy:
        await work()
    else:
        controller.work.do(lambda session: work())


@contextmanager
def noted(controller: Controller, text: str) -> Iterator[None]:
    """Say below what streams what is being done, as long as it is."""
    controller.desk.note = text
    controller.frame()
    try:
        yield
    finally:
        controller.desk.note = ""
        controller.frame()


def is_kept(controller: Controller) -> bool:
    """Whether the session is stored."""
    return need_opened(controller).kept


async def stored_events(controller: Controller) -> list[DurableEvent]:
    """All events of the session. Raises CommandError, SessionError, StoreError."""
    return await asyncio.to_thread(read_stored, controller)


def read_stored(controller: Controller) -> list[DurableEvent]:
    """The same, for a thread."""
    from kimi_cli.store.events_file import read_events
    from kimi_cli.store.index import find

    if not is_kept(controller):
        raise CommandError("this session is not kept, so there is no record of it")
    session = controller.need_session()
    return read_events(find(controller.setup.home, session.id, project_of(controller))).events


async def loaded_settings(controller: Controller, place: Place | None = None) -> Loaded:
    """The settings as they would be loaded now, flags included, for where the session's model is
    or for ``place``. Raises SettingsError."""
    return await asyncio.to_thread(load, controller, place)


def load(controller: Controller, place: Place | None = None) -> Loaded:
    """The same, for a thread."""
    from kimi_cli.settings import is_trusted, load_settings

    setup, root = controller.setup, project_of(controller)
    return load_settings(
        env=setup.env,
        project_root=root if setup.project_settings else None,
        flags=setup.flags_at(place or controller.need_session().place),
        trusted=setup.trust or is_trusted(setup.home, root),
    )


def words(text: str) -> str:
    """Foreign text as words on one line."""
    return " ".join(clean(text.strip()[:1200].replace("\n", " ")).split())


def shown_path(path: Path, folder: Path) -> str:
    """The path, relative to the folder where it lies in it."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def number_of(argument: str, what: str) -> int:
    """A whole number that was typed. Raises CommandError."""
    if not argument.isdecimal() or len(argument) > 9:
        raise CommandError(f"{words(argument)!r} is no {what}: give its number")
    return int(argument)
