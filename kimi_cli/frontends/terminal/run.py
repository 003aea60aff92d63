"""`kimi` on a terminal: puts the parts together, runs them, and leaves the terminal as it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit.filters import Condition
from prompt_toolkit.input import create_input
from prompt_toolkit.styles import Style

from kimi_cli.frontends.terminal.before import settle
from kimi_cli.frontends.terminal.controller import Controller, Open
from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.ink import Ink
from kimi_cli.frontends.terminal.input_box import complete_in, make_buffer
from kimi_cli.frontends.terminal.key_codes import DISABLE, ENABLE, register, type_characters
from kimi_cli.frontends.terminal.keys import make_keys
from kimi_cli.frontends.terminal.layout import make_layout
from kimi_cli.frontends.terminal.look import Look, find_look
from kimi_cli.frontends.terminal.output import OneWriteOutput
from kimi_cli.frontends.terminal.pastes import Pastes
from kimi_cli.frontends.terminal.screen import LiveApplication, reflows
from kimi_cli.frontends.terminal.scribe import Scribe
from kimi_cli.workspace.roots import project_root

if TYPE_CHECKING:
    from kimi_cli.agent import Setup

log = logging.getLogger(__name__)

ESCAPE_SECONDS = 0.05
"""A terminal sends the keys of one sequence together; a person does not type so fast."""


async def run(setup: Setup, open_session: Open, prompt: str = "") -> int:
    """Run until the user leaves; returns the exit code. Raises what ``open_session`` raises."""
    settled = await settle(setup, find_look(setup.env, sys.stdout.encoding))
    if settled is None:
        return 0
    setup = settled.setup
    look = find_look(setup.env, sys.stdout.encoding, settled.terminal.theme)
    output = OneWriteOutput(sys.stdout, term=setup.env.get("TERM", ""), colour=look.colour)
    controller = make_controller(setup, look, output, open_session)
    controller.notifies = settled.terminal.notify
    app = controller.app
    asyncio.get_running_loop().set_exception_handler(partial(_unexpected, controller))
    if prompt:
        controller.desk.queued.append(prompt)
    opening = asyncio.ensure_future(_open(controller, setup, open_session))
    working = asyncio.create_task(controller.work.run())
    ticking = asyncio.create_task(_tick(controller))
    opening.add_done_callback(lambda done: _opened(done, controller))
    try:
        code = await app.run_attached()
    finally:
        controller.keep_unsent()
        for task in (ticking, opening):
            task.cancel()
        controller.cancel_beside()
        with contextlib.suppress(asyncio.CancelledError):
            await controller.work.close()
        working.cancel()
    if opening.done() and not opening.cancelled() and (problem := opening.exception()):
        raise problem
    _goodbye(controller, look)
    return code


def make_controller(
    setup: Setup, look: Look, output: OneWriteOutput, open_session: Open
) -> Controller:
    """The parts of the terminal, joined and ready to run."""

    def size() -> tuple[int, int]:
        now = output.get_size()
        return now.columns, now.rows

    desk = Desk(Ink(look), Scribe(look, lambda: size()[0]))
    pastes = Pastes()
    cwd = setup.cwd or Path.cwd()
    buffer = make_buffer(setup.home, cwd, pastes, Condition(lambda: desk.menu is None))
    controller = Controller(desk, buffer, pastes, setup, open_session)
    complete_in(controller, cwd, [project_root(cwd)])
    register()
    source = create_input(sys.stdin)
    type_characters(source)
    controller.app = LiveApplication(
        output=output,
        reflows=reflows(setup.env),
        modes=(ENABLE, DISABLE),
        sign=Ink(look)(f"{look.user} ", "accent"),
        input=source,
        layout=make_layout(desk, buffer, controller.field, size),
        key_bindings=make_keys(controller),
        style=Style([]),
        include_default_pygments_style=False,
    )
    controller.app.ttimeoutlen = ESCAPE_SECONDS
    controller.app.timeoutlen = ESCAPE_SECONDS
    return controller


async def _open(controller: Controller, setup: Setup, open_session: Open) -> None:
    controller.desk.doing.opening()
    # Beside the first typing: what the session is made of takes longest to load.
    await asyncio.to_thread(import_module, "kimi_cli.agent.assemble")
    opened = await open_session(setup)
    controller.desk.doing.opening(over=True)
    await controller.work.take(opened)
    controller.work.wake()


def _opened(done: asyncio.Future[None], controller: Controller) -> None:
    """A session that can't be opened ends the program: the reason is told where it was started."""
    if not done.cancelled() and done.exception():
        controller.leave(1)


def _unexpected(
    controller: Controller, loop: asyncio.AbstractEventLoop, context: dict[str, Any]
) -> None:
    """What nobody caught is told in a line, not as a traceback across the screen."""
    problem = context.get("exception")
    log.error("unexpected: %s", context.get("message"), exc_info=problem)
    if isinstance(problem, Exception) and controller.app.is_running:
        controller.failed(problem)


async def _tick(controller: Controller) -> None:
    """Draw once a second what shows the time, only while something runs."""
    while True:
        await asyncio.sleep(1)
        if controller.work.busy or not controller.work.session:
            controller.frame()


def _goodbye(controller: Controller, look: Look) -> None:
    opened = controller.work.opened
    if opened and opened.kept:
        place = opened.session.place.name
        at = f" --local {place}" if place else ""
        sys.stdout.write(f"  resume with: kimi{at} -r {opened.session.id}\n")
        sys.stdout.flush()
